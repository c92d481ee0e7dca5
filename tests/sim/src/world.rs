//! The world of a run: shard cores, the edge around each, the lanes between them, the network to the clients, and virtual
//! time. One thread; what happens next is decided by the agenda alone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dunlin_shard::home::shard_of_client;
use dunlin_shard::mesh::MeshMessage;
use dunlin_shard::metrics::{Gauges, Metrics};
use dunlin_shard::{
    Action, Actions, Answered, Arrival, ConnId, Control, Event, Hooks, ListenerId, Mono, Now, Peer, Setup,
    ShardCore, ShardId, Token, WallMs,
};

use crate::canary::Canary;
use crate::log::Log;
use crate::plan::Plan;
use crate::rng::Rng;

/// What stands on the agenda.
#[derive(Debug)]
pub(crate) enum Item {
    /// A shard drains its inbox.
    Tick(usize),
    /// A shard's deadline.
    Timer(usize),
    /// The front of a lane arrives.
    Lane(usize, usize),
    /// Bytes reach the broker's host.
    ToServer(usize, Vec<u8>),
    /// Bytes reach the client's host.
    ToClient(usize, Vec<u8>),
    /// The broker learns that the client's end is gone.
    ServerEnd(usize),
    /// The client learns that the broker's end is gone.
    ClientEnd(usize),
    /// A connection that is being handed over arrives.
    Arrive(usize, usize, Box<Arrival>),
    /// A client does its next step.
    Step(usize),
}

/// What waits for a shard: an event that owns its bytes.
#[derive(Debug)]
enum Input {
    Opened { conn: ConnId, peer: Peer },
    Arrived { conn: ConnId, arrival: Box<Arrival> },
    Bytes { conn: ConnId, bytes: Vec<u8> },
    Sent { conn: ConnId, bytes: u32 },
    Closed { conn: ConnId },
    Mesh { from: ShardId, message: MeshMessage },
    Control(Control),
    Timer,
}

/// A connection slot of a shard's edge.
#[derive(Clone, Debug, Default)]
struct Slot {
    generation: u32,
    link: Option<usize>,
    paused: bool,
}

/// A shard: its core and the edge around it.
#[derive(Debug)]
struct Shard {
    core: ShardCore,
    inbox: VecDeque<Input>,
    slots: Vec<Slot>,
    tick_planned: bool,
    timer_at: Option<u64>,
    stopped: bool,
}

/// One network connection between a client and the broker.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: usize,
    /// The slot that it is attached to; none during a handoff and after the end.
    at: Option<(usize, u32)>,
    server_open: bool,
    client_open: bool,
    /// The client is gone without a word: bytes to it are never read.
    vanished: bool,
    to_server_at: u64,
    to_client_at: u64,
    /// Arrived at the broker's host, not yet given to the core.
    arrived: Vec<u8>,
    /// Written by the core, not yet taken by the socket.
    unsent: VecDeque<u8>,
    /// Taken by the socket, not yet read by the client.
    unread: usize,
    close_when_sent: bool,
}

/// Everything but the clients.
#[derive(Debug)]
pub struct World {
    /// Virtual time, nanoseconds.
    pub now: u64,
    /// The run's records.
    pub log: Log,
    /// What this run exercises.
    pub plan: Plan,
    /// Faults are over: the network is fast and whole.
    pub healed: bool,
    /// Answers to questions of the control plane.
    pub snapshots: Vec<(Metrics, Gauges)>,
    /// Shards that reported that they had stopped.
    pub stopped_count: usize,
    shards: Vec<Shard>,
    pub(crate) links: Vec<Link>,
    lanes: BTreeMap<(usize, usize), (u64, VecDeque<MeshMessage>)>,
    agenda: BTreeMap<(u64, u64), Item>,
    agenda_seq: u64,
    network: Rng,
    schedule: Rng,
    canary: Canary,
}

impl World {
    /// An empty world for a plan.
    #[must_use]
    pub fn new(seed: u64, plan: Plan, canary: Canary) -> Self {
        let config = Arc::new(plan.config.clone());
        let shards = (0..plan.shard_count)
            .map(|index| Shard {
                core: ShardCore::new(Setup {
                    shard: ShardId(index),
                    shard_count: plan.shard_count,
                    config: Arc::clone(&config),
                    hooks: Hooks::default(),
                    seed,
                }),
                inbox: VecDeque::new(),
                slots: Vec::new(),
                tick_planned: false,
                timer_at: None,
                stopped: false,
            })
            .collect();
        Self {
            now: NS_PER_MS,
            log: Log::default(),
            plan,
            healed: false,
            snapshots: Vec::new(),
            stopped_count: 0,
            shards,
            links: Vec::new(),
            lanes: BTreeMap::new(),
            agenda: BTreeMap::new(),
            agenda_seq: 0,
            network: Rng::new(seed, "network"),
            schedule: Rng::new(seed, "schedule"),
            canary,
        }
    }

    /// Puts an item on the agenda.
    pub(crate) fn plan_at(&mut self, at: u64, item: Item) {
        self.agenda_seq += 1;
        self.agenda.insert((at.max(self.now), self.agenda_seq), item);
    }

    /// The next item, with the clock set to its time; none after `until`.
    pub(crate) fn next_item(&mut self, until: u64) -> Option<Item> {
        let (&(at, seq), _) = self.agenda.first_key_value()?;
        if at > until {
            return None;
        }
        self.now = at;
        self.agenda.remove(&(at, seq))
    }

    /// Performs an item that is not a client's.
    pub(crate) fn perform(&mut self, item: Item) {
        match item {
            Item::Tick(shard) => self.tick(shard),
            Item::Timer(shard) => {
                if self.shards[shard].timer_at.is_some_and(|at| at <= self.now) {
                    self.shards[shard].timer_at = None;
                    self.push(shard, Input::Timer);
                }
            }
            Item::Lane(from, to) => self.lane_arrives(from, to),
            Item::ToServer(link, bytes) => {
                self.links[link].arrived.extend_from_slice(&bytes);
                self.pump_in(link);
            }
            Item::ServerEnd(link) => self.server_end(link),
            Item::Arrive(shard, link, arrival) => self.arrive(shard, link, arrival),
            Item::ToClient(..) | Item::ClientEnd(_) | Item::Step(_) => {}
        }
    }

    // ---- the client's side of the network

    /// A client opens a connection; it lands on any shard, as with SO_REUSEPORT.
    pub(crate) fn connect(&mut self, client: usize) -> usize {
        let shard = self.network.index(self.shards.len());
        let link = self.links.len();
        let slot = self.free_slot(shard);
        self.links.push(Link {
            client,
            at: Some((shard, slot)),
            server_open: true,
            client_open: true,
            vanished: false,
            to_server_at: self.now,
            to_client_at: self.now,
            arrived: Vec::new(),
            unsent: VecDeque::new(),
            unread: 0,
            close_when_sent: false,
        });
        let conn = self.attach(shard, slot, link);
        let port = u16::try_from(link % 60_000).expect("below 60,000") + 1_024;
        let peer = Peer::from(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
        self.push(shard, Input::Opened { conn, peer });
        link
    }

    /// A client writes bytes.
    pub(crate) fn client_writes(&mut self, link: usize, mut bytes: &[u8]) {
        if !self.links[link].client_open || self.links[link].vanished || bytes.is_empty() {
            return;
        }
        self.log.note(format!(
            "{} client {} link {link} writes {}",
            self.now,
            self.links[link].client,
            hex(bytes)
        ));
        while !bytes.is_empty() {
            let chunked = !self.healed && self.network.chance(self.plan.faults.chunk_percent);
            let count = if chunked { 1 + self.network.index(bytes.len().min(40)) } else { bytes.len() };
            let (chunk, rest) = bytes.split_at(count.min(bytes.len()));
            let at = (self.now + self.latency()).max(self.links[link].to_server_at);
            self.links[link].to_server_at = at;
            let mut chunk = chunk.to_vec();
            self.canary.on_bytes(&mut chunk);
            self.plan_at(at, Item::ToServer(link, chunk));
            bytes = rest;
        }
    }

    /// A client has read bytes that were delivered to it.
    pub(crate) fn client_read(&mut self, link: usize, count: usize) {
        self.links[link].unread -= count;
        self.pump_out(link);
    }

    /// A client closes its end; what it wrote before still arrives.
    pub(crate) fn client_closes(&mut self, link: usize) {
        if !self.links[link].client_open {
            return;
        }
        self.links[link].client_open = false;
        let at = (self.now + self.latency()).max(self.links[link].to_server_at);
        self.links[link].to_server_at = at;
        if !self.links[link].vanished {
            self.plan_at(at, Item::ServerEnd(link));
        }
    }

    /// A client vanishes without a word: no end ever reaches the broker.
    pub(crate) fn client_vanishes(&mut self, link: usize) {
        self.links[link].vanished = true;
    }

    /// Whether the client may still use the link.
    pub(crate) fn is_open(&self, link: usize) -> bool {
        self.links[link].client_open && !self.links[link].vanished
    }

    /// Whether all that the client wrote has reached the broker's host, and a handoff behind it is over.
    pub(crate) fn has_delivered(&self, link: usize) -> bool {
        self.now > self.links[link].to_server_at + 50 * NS_PER_MS
    }

    /// Whether the broker has seen the end of the link, or all that a client wrote who vanished from it.
    pub(crate) fn is_over(&self, link: usize) -> bool {
        !self.links[link].server_open || (self.links[link].vanished && self.has_delivered(link))
    }

    /// Says something to all shards from the control plane.
    pub(crate) fn control(&mut self, make: impl Fn() -> Control) {
        for shard in 0..self.shards.len() {
            self.push(shard, Input::Control(make()));
        }
    }

    /// The operator ends a client's connection; only its home shard is told.
    pub(crate) fn kick(&mut self, client_id: &str) {
        let home = shard_of_client(client_id, self.plan.shard_count);
        self.push(usize::from(home.0), Input::Control(Control::Kick { client_id: client_id.into() }));
    }

    /// Asks all shards for their numbers; the answers come to `snapshots`.
    pub(crate) fn ask_snapshots(&mut self) {
        self.snapshots.clear();
        self.control(|| Control::Snapshot { token: Token(1) });
    }

    /// The faults are over: the network is fast and whole, and what waits flows.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        for link in 0..self.links.len() {
            self.pump_out(link);
        }
    }

    fn latency(&mut self) -> u64 {
        if self.healed {
            return NS_PER_MS;
        }
        let stalled = self.network.chance(self.plan.faults.stall_percent);
        let most = self.plan.faults.latency_ms_max * if stalled { 50 } else { 1 };
        self.network.between(0, most.min(3_000)) * NS_PER_MS
    }

    // ---- the edge

    fn free_slot(&mut self, shard: usize) -> u32 {
        let slots = &mut self.shards[shard].slots;
        let index = slots.iter().position(|slot| slot.link.is_none()).unwrap_or_else(|| {
            slots.push(Slot::default());
            slots.len() - 1
        });
        u32::try_from(index).expect("a run has few connections")
    }

    fn attach(&mut self, shard: usize, slot: u32, link: usize) -> ConnId {
        let entry = &mut self.shards[shard].slots[slot as usize];
        entry.generation += 1;
        entry.link = Some(link);
        entry.paused = false;
        self.links[link].at = Some((shard, slot));
        ConnId { slot, generation: entry.generation }
    }

    fn detach(&mut self, shard: usize, conn: ConnId) -> Option<usize> {
        let entry = self.shards[shard].slots.get_mut(conn.slot as usize)?;
        if entry.generation != conn.generation {
            return None;
        }
        let link = entry.link.take()?;
        self.links[link].at = None;
        Some(link)
    }

    fn link_of(&self, shard: usize, conn: ConnId) -> Option<usize> {
        let entry = self.shards[shard].slots.get(conn.slot as usize)?;
        if entry.generation == conn.generation { entry.link } else { None }
    }

    fn conn_of(&self, link: usize) -> Option<(usize, ConnId)> {
        let (shard, slot) = self.links[link].at?;
        let generation = self.shards[shard].slots[slot as usize].generation;
        Some((shard, ConnId { slot, generation }))
    }

    fn push(&mut self, shard: usize, input: Input) {
        if self.shards[shard].stopped {
            return;
        }
        self.shards[shard].inbox.push_back(input);
        if !self.shards[shard].tick_planned {
            self.shards[shard].tick_planned = true;
            let at = self.now + self.schedule.below(300) * 1_000;
            self.plan_at(at, Item::Tick(shard));
        }
    }

    fn pump_in(&mut self, link: usize) {
        let Some((shard, conn)) = self.conn_of(link) else { return };
        let paused = self.shards[shard].slots[conn.slot as usize].paused;
        if paused || self.links[link].arrived.is_empty() || !self.links[link].server_open {
            return;
        }
        let bytes = std::mem::take(&mut self.links[link].arrived);
        self.push(shard, Input::Bytes { conn, bytes });
    }

    fn pump_out(&mut self, link: usize) {
        let window = if self.healed { 1 << 20 } else { self.plan.faults.window_bytes };
        let entry = &mut self.links[link];
        let count = window.saturating_sub(entry.unread).min(entry.unsent.len());
        if count > 0 {
            let bytes: Vec<u8> = entry.unsent.drain(..count).collect();
            entry.unread += count;
            let at = (self.now + self.latency()).max(self.links[link].to_client_at);
            self.links[link].to_client_at = at;
            self.plan_at(at, Item::ToClient(link, bytes));
            if let Some((shard, conn)) = self.conn_of(link) {
                let bytes = u32::try_from(count).expect("a window is small");
                self.push(shard, Input::Sent { conn, bytes });
            }
        }
        let entry = &mut self.links[link];
        if entry.close_when_sent && entry.unsent.is_empty() {
            entry.close_when_sent = false;
            let at = (self.now + NS_PER_MS).max(entry.to_client_at);
            self.plan_at(at, Item::ClientEnd(link));
        }
    }

    fn server_end(&mut self, link: usize) {
        if !self.links[link].server_open {
            return;
        }
        let waiting = !self.links[link].arrived.is_empty();
        if let Some((shard, conn)) = self.conn_of(link)
            && !waiting
        {
            self.links[link].server_open = false;
            self.push(shard, Input::Closed { conn });
        } else {
            // Reading is paused, so the end behind the waiting bytes is not seen yet; or:
            // On its way to its home: the end is seen there.
            self.plan_at(self.now + NS_PER_MS, Item::ServerEnd(link));
        }
    }

    fn arrive(&mut self, shard: usize, link: usize, mut arrival: Box<Arrival>) {
        arrival.unread.append(&mut self.links[link].arrived);
        let slot = self.free_slot(shard);
        let conn = self.attach(shard, slot, link);
        self.push(shard, Input::Arrived { conn, arrival });
    }

    fn lane_arrives(&mut self, from: usize, to: usize) {
        let lane = self.lanes.get_mut(&(from, to)).expect("planned when the lane was filled");
        let Some(message) = lane.1.pop_front() else { return };
        if self.canary.loses_mesh_message() {
            return;
        }
        let from = ShardId(u16::try_from(from).expect("few shards"));
        self.push(to, Input::Mesh { from, message });
    }

    // ---- the tick

    fn tick(&mut self, index: usize) {
        let now = Now { mono: Mono(self.now), wall: WallMs(WALL_START_MS + self.now / NS_PER_MS) };
        let mut actions = Actions::default();
        let mut ended = Vec::new();
        let batch = 1 + self.schedule.index(12);
        for _ in 0..batch {
            let Some(input) = self.shards[index].inbox.pop_front() else { break };
            self.log.note(describe(self.now, index, &input));
            let core = &mut self.shards[index].core;
            match input {
                Input::Opened { conn, peer } => {
                    core.handle(Event::Opened { conn, peer, listener: ListenerId(0) }, now, &mut actions);
                }
                Input::Arrived { conn, arrival } => {
                    core.handle(Event::Arrived { conn, arrival }, now, &mut actions);
                }
                Input::Bytes { conn, bytes } => {
                    core.handle(Event::Bytes { conn, bytes: &bytes }, now, &mut actions);
                }
                Input::Sent { conn, bytes } => core.handle(Event::Sent { conn, bytes }, now, &mut actions),
                Input::Closed { conn } => {
                    ended.push(conn);
                    core.handle(Event::Closed { conn }, now, &mut actions);
                }
                Input::Mesh { from, message } => {
                    core.handle(Event::Mesh { from, message }, now, &mut actions);
                }
                Input::Control(control) => core.handle(Event::Control(control), now, &mut actions),
                Input::Timer => core.handle(Event::Timer, now, &mut actions),
            }
        }
        self.act(index, actions, &ended);
        for conn in ended {
            self.detach(index, conn);
        }
        self.after_tick(index);
    }

    fn after_tick(&mut self, index: usize) {
        self.shards[index].tick_planned = !self.shards[index].inbox.is_empty();
        if self.shards[index].tick_planned {
            self.plan_at(self.now + 1_000, Item::Tick(index));
        }
        let Some(deadline) = self.shards[index].core.next_deadline() else { return };
        // A deadline in the past is asked for again a little later: a core that never moves on shows as a livelock.
        let at = deadline.0.max(self.now + 1_000);
        if self.shards[index].timer_at.is_none_or(|planned| at < planned) {
            self.shards[index].timer_at = Some(at);
            self.plan_at(at, Item::Timer(index));
        }
    }

    fn act(&mut self, index: usize, mut actions: Actions, ended: &[ConnId]) {
        let list = std::mem::take(&mut actions.list);
        for action in list {
            let named = match &action {
                Action::Send { conn, .. }
                | Action::Close { conn, .. }
                | Action::PauseRead { conn }
                | Action::ResumeRead { conn }
                | Action::Handoff { conn, .. } => Some(*conn),
                Action::Mesh { .. }
                | Action::Append { .. }
                | Action::Fetch { .. }
                | Action::Answer { .. }
                | Action::Stopped => None,
            };
            if let Some(conn) = named {
                if self.link_of(index, conn).is_none() {
                    self.log
                        .violation(format!("shard {index} names the dead connection {conn:?}: {action:?}"));
                    continue;
                }
                let moves = matches!(action, Action::Handoff { .. });
                if ended.contains(&conn) && moves {
                    // The end came in the tick of the handoff: it is seen again at the home, behind the bytes.
                    let link = self.link_of(index, conn).expect("checked above");
                    self.links[link].server_open = true;
                    self.plan_at(self.now + NS_PER_MS, Item::ServerEnd(link));
                } else if ended.contains(&conn) {
                    continue;
                }
            }
            self.act_one(index, action, &actions.arena);
        }
    }

    fn act_one(&mut self, index: usize, action: Action, arena: &[u8]) {
        match action {
            Action::Send { conn, head, payload } => {
                let Some(link) = self.link_of(index, conn) else { return };
                let bytes = &arena[head.start as usize..head.end as usize];
                self.links[link].unsent.extend(bytes);
                if let Some(message) = payload {
                    self.links[link].unsent.extend(message.payload());
                }
                self.pump_out(link);
            }
            Action::Close { conn, flush } => {
                let Some(link) = self.detach(index, conn) else { return };
                self.log.note(format!("{} shard {index} closes link {link}", self.now));
                self.links[link].server_open = false;
                if !flush {
                    self.links[link].unsent.clear();
                }
                self.links[link].close_when_sent = true;
                self.pump_out(link);
            }
            Action::PauseRead { conn } => self.shards[index].slots[conn.slot as usize].paused = true,
            Action::ResumeRead { conn } => {
                self.shards[index].slots[conn.slot as usize].paused = false;
                if let Some(link) = self.link_of(index, conn) {
                    self.pump_in(link);
                }
            }
            Action::Handoff { conn, to, arrival } => {
                let Some(link) = self.detach(index, conn) else { return };
                let at = self.now + self.schedule.below(1_000) * 1_000;
                self.plan_at(at, Item::Arrive(usize::from(to.0), link, arrival));
            }
            Action::Mesh { to, message } => self.send_mesh(index, usize::from(to.0), message),
            // Only a core whose durability is not `Memory` asks for these.
            Action::Append { .. } | Action::Fetch { .. } => {}
            Action::Answer { answer, .. } => {
                let Answered::Snapshot { metrics, gauges } = *answer;
                self.snapshots.push((metrics, gauges));
            }
            Action::Stopped => {
                self.shards[index].stopped = true;
                self.stopped_count += 1;
            }
        }
    }

    fn send_mesh(&mut self, from: usize, to: usize, message: MeshMessage) {
        if from == to || to >= self.shards.len() {
            self.log.violation(format!("shard {from} speaks to shard {to}"));
            return;
        }
        let most = if self.healed { 0 } else { self.plan.faults.lane_ms_max };
        let delay = self.schedule.between(0, most * 1_000) * 1_000;
        let lane = self.lanes.entry((from, to)).or_default();
        let at = (self.now + delay).max(lane.0);
        lane.0 = at;
        lane.1.push_back(message);
        self.plan_at(at, Item::Lane(from, to));
    }
}

/// One line of the trace.
fn describe(now: u64, shard: usize, input: &Input) -> String {
    match input {
        Input::Bytes { conn, bytes } => format!("{now} shard {shard} {conn:?} bytes {}", hex(bytes)),
        Input::Arrived { conn, arrival } => {
            format!("{now} shard {shard} {conn:?} arrived with {} bytes", arrival.unread.len())
        }
        Input::Opened { .. }
        | Input::Sent { .. }
        | Input::Closed { .. }
        | Input::Mesh { .. }
        | Input::Control(_)
        | Input::Timer => format!("{now} shard {shard} {input:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in bytes.iter().take(64) {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
    }
    if bytes.len() > 64 {
        text.push('…');
    }
    text
}

/// Nanoseconds in a millisecond.
pub(crate) const NS_PER_MS: u64 = 1_000_000;
/// Wall-clock time at the start of a run.
const WALL_START_MS: u64 = 1_700_000_000_000;
