//! One or two shard cores behind their public door: no bytes, no packets and no order of events make one panic, and when all
//! clients have gone nothing of them is left.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use dunlin_shard::config::Mqtt;
use dunlin_shard::core::Setup;
use dunlin_shard::hooks::{AccessRequest, Answer, Authorizer, HookOutcome};
use dunlin_shard::mesh::MeshMessage;
use dunlin_shard::metrics::Gauges;
use dunlin_shard::{
    Action, Actions, Arrival, Config, ConnId, Control, Event, Hooks, ListenerId, Mono, Now, Peer, ShardCore,
    ShardId, Token, WallMs,
};
use dunlin_wire::packet::{
    Ack, Connect, ConnectProperties, Packet, Publish, PublishProperties, Subscribe, SubscribeProperties,
    Subscription, Subscriptions, TopicFilters, Unsubscribe, UserProperties,
};
use dunlin_wire::{PacketId, QoS, SubscriptionOptions, Version};

use crate::build;

/// The first byte says how many cores there are and whether an authorizer sits on them; then one event after the other is
/// read.
///
/// # Panics
/// If a core names a connection that is not there, or keeps something of clients that have gone.
pub fn core_ops(data: &[u8]) {
    let (shape, rest) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let mut world = World::new(usize::from(shape & 1) + 1, shape & 2 != 0);
    let mut from = Script { data: rest };
    while !from.data.is_empty() {
        world.step(&mut from);
    }
    world.leave();
}

/// What is left of the input.
struct Script<'a> {
    data: &'a [u8],
}

impl<'a> Script<'a> {
    fn u8(&mut self) -> u8 {
        let Some((&first, rest)) = self.data.split_first() else { return 0 };
        self.data = rest;
        first
    }

    fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.u8() % 64).min(self.data.len());
        let (head, tail) = self.data.split_at(count);
        self.data = tail;
        head
    }
}

/// Says yes, no and later in turn.
struct Moody {
    shard: usize,
    turn: u32,
    open: Sender<(usize, Token)>,
}

impl Authorizer for Moody {
    fn check(&mut self, request: &AccessRequest<'_>) -> Answer<bool> {
        self.turn = self.turn.wrapping_add(1);
        match self.turn % 8 {
            3 => Answer::Now(false),
            6 => {
                // When the world is gone, nobody wants to know.
                let _ = self.open.send((self.shard, request.token));
                Answer::Pending
            }
            _ => Answer::Now(true),
        }
    }
}

/// Cores, clients and time.
struct World {
    cores: Vec<ShardCore>,
    now: Now,
    actions: Actions,
    ends: Vec<End>,
    /// By shard and slot: the generation in use and whose it is.
    slots: Vec<Vec<(u32, Option<usize>)>>,
    coming: VecDeque<Coming>,
    opened: Receiver<(usize, Token)>,
    questions: VecDeque<(usize, Token)>,
}

/// The client's end of a connection.
struct End {
    at: usize,
    conn: ConnId,
    version: usize,
    is_open: bool,
    is_clogged: bool,
    unsent_bytes: u32,
}

/// What follows from an event.
enum Coming {
    Mesh(ShardId, usize, MeshMessage),
    Sent(usize, ConnId, u32),
    Arrived(usize, usize, Box<Arrival>),
}

impl World {
    fn new(count: usize, has_authorizer: bool) -> Self {
        let (open, opened) = channel();
        let config = Arc::new(Config { mqtt: settings(), ..Config::default() });
        let core = |shard: usize| {
            let moody = Moody { shard, turn: 0, open: open.clone() };
            let authorizer = has_authorizer.then(|| Box::new(moody) as Box<dyn Authorizer>);
            ShardCore::new(Setup {
                shard: id(shard),
                shard_count: id(count).0,
                config: Arc::clone(&config),
                hooks: Hooks { authorizer, ..Hooks::default() },
                seed: 42,
            })
        };
        Self {
            cores: (0..count).map(core).collect(),
            now: Now { mono: Mono(1_000_000_000), wall: WallMs(1_700_000_000_000) },
            actions: Actions::default(),
            ends: Vec::new(),
            slots: vec![Vec::new(); count],
            coming: VecDeque::new(),
            opened,
            questions: VecDeque::new(),
        }
    }

    /// One event, as the input says.
    fn step(&mut self, from: &mut Script<'_>) {
        let kind = from.u8() % 16;
        let who = usize::from(from.u8());
        match kind {
            0 => self.open(who),
            1 | 2 => {
                self.open(who);
                let (last, flags) = (self.ends.len() - 1, from.u8());
                self.join(last, flags);
            }
            3 => self.control(who),
            4 => self.advance(1 << (who % 18)),
            5 => {
                self.questions.extend(self.opened.try_iter());
                if let Some((shard, token)) = self.questions.pop_front() {
                    self.handle(shard, Event::HookDone { token, outcome: HookOutcome::Access(who > 50) });
                }
            }
            _ if self.ends.is_empty() => {}
            6 => self.drop_client(who % self.ends.len()),
            7 => self.clog(who % self.ends.len()),
            8 => self.bytes(who % self.ends.len(), from.bytes()),
            9..=13 => self.traffic(who % self.ends.len(), from.u8(), from.u8()),
            _ => self.packet(who % self.ends.len(), from.bytes()),
        }
    }

    fn open(&mut self, who: usize) {
        let (at, client) = (who % self.cores.len(), self.ends.len());
        let conn = self.take_slot(at, client);
        self.ends.push(End { at, conn, version: 1, is_open: true, is_clogged: false, unsent_bytes: 0 });
        let address = if who < 200 { [127, 0, 0, 1] } else { [192, 0, 2, 1] };
        let peer = Peer::from(SocketAddr::from((address, 1_000)));
        self.handle(at, Event::Opened { conn, peer, listener: ListenerId(0) });
    }

    /// A CONNECT that is taken.
    fn join(&mut self, client: usize, flags: u8) {
        self.ends[client].version = usize::from(flags) % 3;
        let version = Version::ALL[self.ends[client].version];
        let mut properties = ConnectProperties::default();
        if version == Version::V5 {
            properties.session_expiry_interval = Some(u32::from(flags >> 4) * 10);
            properties.topic_alias_maximum = Some(u16::from(flags >> 6));
        }
        let connect = Connect {
            version,
            bridge: false,
            clean_start: flags & 4 != 0,
            keep_alive_seconds: u16::from(flags >> 5),
            client_id: ["a", "b", "c", "+/#"][usize::from(flags >> 3) % 4],
            will: None,
            user_name: None,
            password: None,
            properties,
        };
        let mut bytes = Vec::new();
        if Packet::Connect(connect).encode(version, &mut bytes).is_ok() {
            self.bytes(client, &bytes);
        }
    }

    /// A packet of the usual kinds that its client may send.
    fn traffic(&mut self, client: usize, kind: u8, flags: u8) {
        let version = Version::ALL[self.ends[client].version];
        let packet_id = PacketId::new(u16::from(flags >> 6) + 1).unwrap_or(PacketId::FIRST);
        let qos = QoS::from_u8(flags % 3).unwrap_or_default();
        let list = [Subscription {
            filter: FILTERS[usize::from(flags >> 2) % FILTERS.len()],
            options: SubscriptionOptions::with_qos(qos),
        }];
        let filters = [list[0].filter];
        let packet = match kind % 8 {
            0 | 1 => Packet::Subscribe(Subscribe {
                packet_id,
                properties: SubscribeProperties::default(),
                subscriptions: Subscriptions::from_slice(&list),
            }),
            2 => Packet::Unsubscribe(Unsubscribe {
                packet_id,
                user_properties: UserProperties::NONE,
                filters: TopicFilters::from_slice(&filters),
            }),
            3 => {
                let ack = Ack::success(packet_id);
                [Packet::PubAck, Packet::PubRec, Packet::PubRel, Packet::PubComp][usize::from(flags) % 4](ack)
            }
            _ => Packet::Publish(Publish {
                dup: false,
                qos,
                retain: flags & 32 != 0,
                topic: ["a", "a/b", "a/b/c", "x"][usize::from(flags >> 3) % 4],
                packet_id: (qos > QoS::AtMostOnce).then_some(packet_id),
                properties: PublishProperties::default(),
                payload: &[7; 200][..usize::from(flags) % 200],
            }),
        };
        let mut bytes = Vec::new();
        if packet.encode(version, &mut bytes).is_ok() {
            self.bytes(client, &bytes);
        }
    }

    /// A packet in the client's version, built from the input.
    fn packet(&mut self, client: usize, choices: &[u8]) {
        let mut choices = choices.to_vec();
        if let Some(first) = choices.first_mut() {
            // The builder takes the version from its first choice.
            *first = self.ends[client].version as u8;
        }
        let mut bytes = Vec::new();
        build::packet(&choices, |version, packet| {
            if packet.encode(version, &mut bytes).is_err() {
                bytes.clear();
            }
        });
        self.bytes(client, &bytes);
    }

    fn bytes(&mut self, client: usize, bytes: &[u8]) {
        let End { at, conn, is_open, .. } = self.ends[client];
        if is_open && !bytes.is_empty() {
            self.handle(at, Event::Bytes { conn, bytes });
        }
    }

    fn control(&mut self, what: usize) {
        for shard in 0..self.cores.len() {
            let client_id: Box<str> = ["a", "b", "c", "+/#"][what / 8 % 4].into();
            let control = match what % 8 {
                0 => Control::Kick { client_id },
                1 => Control::Reauthorize { client_id: Some(client_id) },
                2 => Control::Reauthorize { client_id: None },
                3 if what > 250 => Control::Stop,
                4 => {
                    let mqtt = Mqtt { max_packet_size: 20 + what as u32, ..settings() };
                    Control::Reconfigure(Arc::new(Config { mqtt, ..Config::default() }))
                }
                _ => Control::Snapshot { token: Token(1) },
            };
            self.handle(shard, Event::Control(control));
        }
    }

    fn drop_client(&mut self, client: usize) {
        let End { at, conn, is_open, .. } = self.ends[client];
        if is_open {
            self.forget(at, conn);
            self.handle(at, Event::Closed { conn });
        }
    }

    fn clog(&mut self, client: usize) {
        let end = &mut self.ends[client];
        end.is_clogged = !end.is_clogged;
        let bytes = std::mem::take(&mut end.unsent_bytes);
        let (at, conn, is_open) = (end.at, end.conn, end.is_open);
        if bytes > 0 && is_open {
            self.handle(at, Event::Sent { conn, bytes });
        }
    }

    fn advance(&mut self, ms: u64) {
        let end = Mono(self.now.mono.0 + ms * 1_000_000);
        while let Some(due) = self.cores.iter().filter_map(ShardCore::next_deadline).min()
            && due <= end
        {
            self.set_time(due.max(self.now.mono));
            for shard in 0..self.cores.len() {
                self.handle(shard, Event::Timer);
            }
        }
        self.set_time(end);
    }

    fn set_time(&mut self, mono: Mono) {
        self.now.wall.0 += (mono.0 - self.now.mono.0) / 1_000_000;
        self.now.mono = mono;
    }

    /// An event happens to a core, and all that follows from it.
    fn handle(&mut self, shard: usize, event: Event<'_>) {
        self.cores[shard].handle(event, self.now, &mut self.actions);
        self.perform(shard);
        while let Some(coming) = self.coming.pop_front() {
            let (shard, event) = match coming {
                Coming::Mesh(from, to, message) => (to, Event::Mesh { from, message }),
                Coming::Sent(at, conn, bytes) if self.client_of(at, conn).is_some() => {
                    (at, Event::Sent { conn, bytes })
                }
                Coming::Sent(..) => continue,
                Coming::Arrived(client, to, arrival) => {
                    let conn = self.take_slot(to, client);
                    (self.ends[client].at, self.ends[client].conn) = (to, conn);
                    self.ends[client].is_open = true;
                    (to, Event::Arrived { conn, arrival })
                }
            };
            self.cores[shard].handle(event, self.now, &mut self.actions);
            self.perform(shard);
        }
    }

    fn perform(&mut self, shard: usize) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.list.drain(..) {
            if let Some(conn) = action.conn() {
                assert!(self.client_of(shard, conn).is_some(), "{action:?} names nobody");
            }
            match action {
                Action::Send { conn, head, payload } => {
                    assert!(head.start <= head.end && head.end as usize <= actions.arena.len());
                    let more = payload.as_ref().map_or(0, |message| message.payload().len());
                    let bytes = head.end - head.start + more as u32;
                    let Some(client) = self.client_of(shard, conn) else { continue };
                    if self.ends[client].is_clogged {
                        self.ends[client].unsent_bytes += bytes;
                    } else if bytes > 0 {
                        self.coming.push_back(Coming::Sent(shard, conn, bytes));
                    }
                }
                Action::Close { conn, .. } => self.forget(shard, conn),
                Action::Handoff { conn, to, arrival } => {
                    if let Some(client) = self.client_of(shard, conn) {
                        self.forget(shard, conn);
                        self.coming.push_back(Coming::Arrived(client, usize::from(to.0), arrival));
                    }
                }
                Action::Mesh { to, message } => {
                    self.coming.push_back(Coming::Mesh(id(shard), usize::from(to.0), message));
                }
                Action::PauseRead { .. }
                | Action::ResumeRead { .. }
                | Action::Append { .. }
                | Action::Fetch { .. }
                | Action::Answer { .. }
                | Action::Stopped => {}
            }
        }
        actions.clear();
        self.actions = actions;
    }

    /// All clients go, all questions are answered, and time passes until every session has ended.
    fn leave(&mut self) {
        for client in 0..self.ends.len() {
            self.drop_client(client);
        }
        for _ in 0..20 {
            self.questions.extend(self.opened.try_iter());
            while let Some((shard, token)) = self.questions.pop_front() {
                self.handle(shard, Event::HookDone { token, outcome: HookOutcome::Access(true) });
                self.questions.extend(self.opened.try_iter());
            }
            self.advance(20_000);
        }
        for core in &self.cores {
            let gauges = core.gauges();
            let Gauges { retained, retained_bytes, .. } = gauges;
            assert_eq!(gauges, Gauges { retained, retained_bytes, ..Gauges::default() }, "all have gone");
        }
    }

    fn take_slot(&mut self, shard: usize, client: usize) -> ConnId {
        let slots = &mut self.slots[shard];
        let slot = slots.iter().position(|(_, of)| of.is_none()).unwrap_or_else(|| {
            slots.push((0, None));
            slots.len() - 1
        });
        slots[slot].0 += 1;
        slots[slot].1 = Some(client);
        ConnId { slot: slot as u32, generation: slots[slot].0 }
    }

    /// The client of a live connection.
    fn client_of(&self, shard: usize, conn: ConnId) -> Option<usize> {
        let (generation, client) = self.slots[shard].get(conn.slot as usize)?;
        client.filter(|_| *generation == conn.generation)
    }

    fn forget(&mut self, shard: usize, conn: ConnId) {
        if let Some(client) = self.client_of(shard, conn) {
            self.ends[client].is_open = false;
            self.ends[client].unsent_bytes = 0;
            self.slots[shard][conn.slot as usize].1 = None;
        }
    }
}

fn id(shard: usize) -> ShardId {
    ShardId(shard as u16)
}

const FILTERS: [&str; 8] = ["a", "a/+", "#", "+/b/#", "$share/g/a/#", "$queue/a", "$exclusive/a/b", "$SYS/#"];

/// Small bounds, so that a short input reaches them.
fn settings() -> Mqtt {
    Mqtt {
        session_expiry_interval: 60,
        max_session_expiry_interval: Some(90),
        max_mqueue_len: Some(4),
        max_inflight: 2,
        receive_maximum: 3,
        max_awaiting_rel: 2,
        max_topic_alias: 3,
        max_greeting_connections: 6,
        max_conn_rate_per_address: Some(50),
        max_conn_burst_per_address: 40,
        exclusive_subscription: true,
        outbound_bytes_high: 300,
        retry_interval_ms: Some(3_000),
        ..Mqtt::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::Mutator;

    #[test]
    fn inputs_reach_connected_clients_that_subscribe_and_publish() {
        let mut mutator = Mutator::new(3, crate::seeds::noise());
        let (mut connected, mut subscriptions, mut delivered) = (0, 0, 0);
        for _ in 0..300 {
            let input = mutator.input();
            let mut world = World::new(1, false);
            let mut from = Script { data: &input };
            while !from.data.is_empty() {
                world.step(&mut from);
            }
            let metrics = world.cores[0].metrics();
            let get = |counter| metrics.get(counter);
            connected += get(dunlin_shard::metrics::Counter::ClientConnected);
            subscriptions += get(dunlin_shard::metrics::Counter::ClientSubscribe);
            delivered += get(dunlin_shard::metrics::Counter::MessagesPublish);
        }
        assert!(
            connected > 300 && subscriptions > 50 && delivered > 50,
            "{connected} {subscriptions} {delivered}"
        );
    }
}
