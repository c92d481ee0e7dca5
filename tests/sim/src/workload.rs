//! What clients do in a run, drawn from the seed; and the faults that befall them.

use dunlin_shard::Durability;
use dunlin_wire::{QoS, RetainHandling, SubscriptionOptions, Version};

use crate::client::{Client, NewMessage, State};
use crate::log::Log;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::storage_plan::StoragePlan;
use crate::world::{Item, NS_PER_MS, World};

/// All clients of a run, and what they do next.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) clients: Vec<Client>,
    steps_left: Vec<u32>,
    rng: Rng,
    /// When clients stay away for longer.
    absence: Rng,
    /// Until when each client stays away; `None`: not decided since it was last there.
    away_until: Vec<Option<u64>>,
    /// No more new messages; clients only finish what they began.
    draining: bool,
}

impl Workload {
    /// The clients of a plan. Client 0 only watches Wills, over a network without faults of its own.
    pub(crate) fn new(seed: u64, plan: &Plan) -> Self {
        let mut rng = Rng::new(seed, "workload");
        let is_durable = plan.config.durability != Durability::Memory;
        let mut clients = vec![Client::new(0, "watcher".into(), Version::V5, is_durable)];
        for index in 1..=plan.client_count {
            let version = if rng.chance(plan.v5_percent) {
                Version::V5
            } else if rng.chance(20) {
                Version::V31
            } else {
                Version::V311
            };
            let persistent = rng.chance(plan.persistent_percent);
            let mut client = Client::new(index, format!("client-{index}"), version, persistent);
            if version.is_v5() {
                if plan.features.small_windows {
                    client.receive_maximum = u16::try_from(rng.between(1, 4)).expect("at most 4");
                }
                if plan.features.aliases {
                    client.alias_max = u16::try_from(rng.between(0, 3)).expect("at most 3");
                }
                client.packet_bytes_max = rng.chance(20).then_some(256);
            }
            clients.push(client);
        }
        let may_be_refused = plan.storage.as_ref().is_some_and(StoragePlan::refuses);
        for client in &mut clients {
            client.may_be_refused = may_be_refused;
        }
        let steps_left = vec![plan.step_count; clients.len()];
        let (absence, away_until) = (Rng::new(seed, "absence"), vec![None; clients.len()]);
        Self { clients, steps_left, rng, absence, away_until, draining: false }
    }

    /// Puts the first step of each client on the agenda.
    pub(crate) fn begin(&mut self, world: &mut World) {
        for client in 0..self.clients.len() {
            let at = world.now + self.rng.between(10, 500) * NS_PER_MS;
            world.plan_at(at, Item::Step(client));
        }
    }

    /// Performs an item that concerns a client.
    pub(crate) fn perform(&mut self, item: Item, world: &mut World) {
        match item {
            Item::Step(client) => self.step(client, world),
            Item::ToClient(link, bytes) => self.receive(link, &bytes, world),
            Item::ClientEnd(link) => {
                let client = world.links[link].client;
                if self.clients[client].link == Some(link) {
                    world.client_closes(link);
                    self.clients[client].lost(&mut world.log);
                }
            }
            other @ (Item::Tick(_)
            | Item::Timer(_)
            | Item::Lane(..)
            | Item::ToServer(..)
            | Item::ServerEnd(_)
            | Item::Arrive(..)
            | Item::Disk(_)
            | Item::Commit(_)
            | Item::Trouble(_)
            | Item::Boot
            | Item::StopOver(_)
            | Item::RoomAgain) => world.perform(other),
        }
        self.see_falls(world);
    }

    /// The clients' models are told that the process has ended, before the clients see it.
    fn see_falls(&mut self, world: &mut World) {
        for fall in std::mem::take(&mut world.fallen) {
            for client in &mut self.clients {
                client.broker_fell(fall, &mut world.log);
            }
        }
    }

    /// From now on clients only finish: reconnect where a session waits, answer all, ping.
    pub(crate) fn drain(&mut self, world: &mut World) {
        self.draining = true;
        for client in 0..self.clients.len() {
            world.plan_at(world.now + NS_PER_MS, Item::Step(client));
        }
    }

    /// All clients connect with a clean session that ends at once, and leave.
    pub(crate) fn leave(&mut self, world: &mut World) {
        for index in 0..self.clients.len() {
            if self.clients[index].state == State::Up {
                self.close_gracefully(index, false, world);
            }
            if self.clients[index].persistent {
                self.clients[index].persistent = false;
                let link = world.connect(index);
                self.clients[index].last_link = Some(link);
                let bytes = self.clients[index].connect(link, true, None, &mut world.log);
                world.client_writes(link, &bytes);
                self.close_gracefully(index, false, world);
            }
        }
    }

    fn receive(&mut self, link: usize, bytes: &[u8], world: &mut World) {
        let index = world.links[link].client;
        if !world.is_open(link) || self.clients[index].link != Some(link) {
            return;
        }
        let hold = !self.draining && self.rng.chance(30);
        let mut out = Vec::new();
        let was = self.clients[index].state;
        let open = self.clients[index].receive(bytes, hold, &mut out, &mut world.log);
        world.client_read(link, bytes.len());
        world.client_writes(link, &out);
        if !open {
            world.client_closes(link);
            self.clients[index].lost(&mut world.log);
        } else if index == 0
            && was == State::Connecting
            && self.clients[0].state == State::Up
            && !self.clients[0].has_filter("will/#", &world.log)
        {
            let bytes = self.clients[0].subscribe(
                "will/#",
                SubscriptionOptions::with_qos(QoS::AtLeastOnce),
                &mut world.log,
            );
            world.client_writes(link, &bytes);
        }
    }

    fn step(&mut self, index: usize, world: &mut World) {
        let wait = if self.draining { 4_000 } else { self.rng.between(5, 400) };
        if self.draining {
            self.finish(index, world);
        } else if self.steps_left[index] > 0 || index == 0 {
            self.steps_left[index] = self.steps_left[index].saturating_sub(1);
            self.act(index, world);
        }
        world.plan_at(world.now + wait * NS_PER_MS, Item::Step(index));
    }

    /// One step while the run drains.
    fn finish(&mut self, index: usize, world: &mut World) {
        match self.clients[index].state {
            State::Down if self.clients[index].persistent => self.reopen(index, world),
            State::Down => {}
            State::Connecting | State::Up => {
                let link = self.clients[index].link.expect("connected");
                if !world.is_open(link) {
                    self.clients[index].lost(&mut world.log);
                    return;
                }
                if self.clients[index].state == State::Up {
                    let mut bytes = self.clients[index].release_held();
                    bytes.extend(self.clients[index].ping());
                    world.client_writes(link, &bytes);
                }
            }
        }
    }

    /// One step of the busy part.
    fn act(&mut self, index: usize, world: &mut World) {
        match self.clients[index].state {
            State::Down => self.reopen(index, world),
            State::Connecting | State::Up if index == 0 => self.watch(world),
            State::Connecting => {
                self.maybe_break(index, world);
            }
            State::Up => {
                if !self.maybe_break(index, world) {
                    self.act_connected(index, world);
                }
            }
        }
    }

    /// The watcher only stays awake.
    fn watch(&self, world: &mut World) {
        let link = self.clients[0].link.expect("connecting or connected");
        let bytes = self.clients[0].ping();
        if self.clients[0].state == State::Up {
            world.client_writes(link, &bytes);
        }
    }

    /// A fault befalls the connection, perhaps.
    fn maybe_break(&mut self, index: usize, world: &mut World) -> bool {
        let link = self.clients[index].link.expect("connecting or connected");
        if self.rng.chance(world.plan.faults.cut_percent) {
            world.client_closes(link);
            self.clients[index].lost(&mut world.log);
            return true;
        }
        if self.rng.chance(world.plan.faults.vanish_percent) {
            world.client_vanishes(link);
            self.clients[index].lost(&mut world.log);
            return true;
        }
        let up = self.clients[index].state == State::Up;
        if up
            && world.is_up()
            && world.plan.features.takeover
            && world.has_delivered(link)
            && self.rng.chance(4)
        {
            // The old connection still stands when the new one comes.
            let old = link;
            self.clients[index].lost(&mut world.log);
            self.open(index, world);
            world.log.note(format!("client {index} takes over link {old}"));
            return true;
        }
        false
    }

    fn act_connected(&mut self, index: usize, world: &mut World) {
        let link = self.clients[index].link.expect("connected");
        let features = world.plan.features;
        let bytes = match self.rng.below(100) {
            0..55 => self.publish(index, world),
            55..75 => {
                let filter = self.filter(world.plan.topic_width, features.wildcards, features.shared);
                let options = self.options(&filter, world);
                self.clients[index].subscribe(&filter, options, &mut world.log)
            }
            75..80 if features.unsubscribe => {
                let filter = self.clients[index].filters.keys().next().cloned();
                filter
                    .map(|filter| self.clients[index].unsubscribe(&filter, &mut world.log))
                    .unwrap_or_default()
            }
            80..84 => {
                let with_will = self.rng.chance(30);
                self.close_gracefully(index, with_will, world);
                return;
            }
            84..87 => self.clients[index].ping(),
            87..88 if features.kicks => {
                // A 3.1 client does not hear that its session is gone.
                if self.clients[index].version != Version::V31 {
                    self.clients[index].be_kicked(&mut world.log);
                    world.kick(&self.clients[index].id);
                }
                return;
            }
            _ => self.clients[index].release_held(),
        };
        world.client_writes(link, &bytes);
    }

    fn publish(&mut self, index: usize, world: &mut World) -> Vec<u8> {
        let mut qos = self.qos(world.plan.qos_max);
        let retain = world.plan.features.retained && self.rng.chance(25);
        let width = world.plan.topic_width;
        let number = self.rng.below(width);
        if retain {
            // One publisher and one QoS per retained topic, so that "the last one" has a meaning: order is promised per
            // QoS only (§4.6).
            qos = QoS::from_u8(u8::try_from(number).unwrap_or(0).min(world.plan.qos_max)).unwrap_or_default();
        }
        if !self.clients[index].may_publish(qos) {
            return self.clients[index].release_held();
        }
        let topic = if retain {
            format!("kept/{index}/{number}")
        } else {
            format!("t/{}/{}", self.rng.below(width), self.rng.below(width))
        };
        let padding = match self.rng.below(20) {
            0 => 5_000,
            1..4 => 300,
            _ => 0,
        };
        let message = NewMessage {
            topic,
            qos,
            retain,
            clear: retain && self.rng.chance(20),
            alias: world.plan.features.aliases && self.rng.chance(50),
            padding,
        };
        self.clients[index].publish(&message, &mut world.log)
    }

    /// Connects anew once the broker has seen all of the last connection: two connections of one client that overtake each
    /// other on the way would leave open what the broker should have done.
    fn reopen(&mut self, index: usize, world: &mut World) {
        if !world.is_up() || self.stays_away(index, world) {
            return;
        }
        if self.clients[index].last_link.is_none_or(|link| world.is_over(link)) {
            self.open(index, world);
        }
    }

    /// Where sessions outlive connections for long, clients do not always come back at once.
    fn stays_away(&mut self, index: usize, world: &World) -> bool {
        let client = &self.clients[index];
        if world.plan.storage.is_none() || self.draining || index == 0 || !client.persistent {
            return false;
        }
        let absence = &mut self.absence;
        let until = *self.away_until[index].get_or_insert_with(|| {
            if absence.chance(30) { world.now + absence.between(500, 6_000) * NS_PER_MS } else { world.now }
        });
        world.now < until
    }

    fn open(&mut self, index: usize, world: &mut World) {
        self.away_until[index] = None;
        // In 3.x a clean session also ends with its connection, so only 5.0 clients begin a lasting session anew.
        let lasting = self.clients[index].persistent && self.clients[index].version.is_v5();
        let clean = !self.draining && lasting && self.rng.chance(5);
        let will = (world.plan.features.wills && !self.draining && index > 0 && self.rng.chance(60))
            .then(|| self.qos(world.plan.qos_max));
        let link = world.connect(index);
        self.clients[index].last_link = Some(link);
        let bytes = self.clients[index].connect(link, clean, will, &mut world.log);
        world.client_writes(link, &bytes);
    }

    fn close_gracefully(&mut self, index: usize, with_will: bool, world: &mut World) {
        let Some(link) = self.clients[index].link else { return };
        let bytes = self.clients[index].disconnect(with_will, &mut world.log);
        world.client_writes(link, &bytes);
        world.client_closes(link);
        self.clients[index].lost(&mut world.log);
    }

    /// Options of a new subscription; No Local is a protocol error on a shared one.
    fn options(&mut self, filter: &str, world: &World) -> SubscriptionOptions {
        let mut options = SubscriptionOptions::with_qos(self.qos(world.plan.qos_max));
        if world.plan.features.options {
            options.no_local = self.rng.chance(20) && !filter.starts_with('$');
            options.retain_as_published = self.rng.chance(20);
            options.retain_handling =
                RetainHandling::from_u8(u8::try_from(self.rng.below(3)).unwrap_or(0)).unwrap_or_default();
        }
        options
    }

    fn qos(&mut self, most: u8) -> QoS {
        let number = u8::try_from(self.rng.between(0, u64::from(most))).expect("at most 2");
        QoS::from_u8(number).expect("at most 2")
    }

    fn filter(&mut self, width: u64, wildcards: bool, shared: bool) -> String {
        let (a, b) = (self.rng.below(width), self.rng.below(width));
        let plain = match self.rng.below(if wildcards { 8 } else { 3 }) {
            0..2 => format!("t/{a}/{b}"),
            2 => format!("kept/{}/{b}", a + 1),
            3 => format!("t/+/{b}"),
            4 => format!("t/{a}/#"),
            5 => "t/#".to_owned(),
            6 => "+/+/+".to_owned(),
            _ => "kept/#".to_owned(),
        };
        if shared && self.rng.chance(35) { format!("$share/g{}/{plain}", self.rng.below(2)) } else { plain }
    }

    /// Whether every connected client has finished what it began.
    pub(crate) fn is_quiet(&self, is_weak: bool) -> bool {
        self.clients.iter().all(|client| match client.state {
            State::Up => client.is_quiet(is_weak),
            State::Connecting => false,
            State::Down => !client.persistent,
        })
    }

    /// A fresh client subscribes to a filter in a drained world: for what is retained.
    pub(crate) fn ask_retained(&mut self, world: &mut World) -> usize {
        let index = self.clients.len();
        self.clients.push(Client::new(index, "checker".into(), Version::V311, false));
        self.steps_left.push(0);
        self.away_until.push(None);
        let link = world.connect(index);
        let mut bytes = self.clients[index].connect(link, false, None, &mut world.log);
        bytes.extend(self.clients[index].subscribe(
            "kept/#",
            SubscriptionOptions::with_qos(QoS::ExactlyOnce),
            &mut world.log,
        ));
        world.client_writes(link, &bytes);
        world.plan_at(world.now + NS_PER_MS, Item::Step(index));
        index
    }
}

/// Whether anything of interest is left in the log; used by the report.
pub(crate) fn summary(log: &Log) -> String {
    format!(
        "{} messages published, {} received, {} subscriptions, {} sessions, {} ends of the process",
        log.publications.len(),
        log.receipts.len(),
        log.subscriptions.len(),
        log.epochs.len(),
        log.falls.len()
    )
}
