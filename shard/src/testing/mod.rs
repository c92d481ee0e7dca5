//! An in-memory edge for tests: clients that speak packets, one or more cores, virtual time.
//!
//! What a core asks for is done at once: bytes reach the client's inbox, mesh messages the other core, a handoff arrives. The
//! socket takes all bytes at once unless a test clogs it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use dunlin_persist::{FetchedMessage, MessageId, SessionNo};
use dunlin_wire::packet::{ConnAck, Connect, ConnectProperties, Packet};
use dunlin_wire::types::Version;
use dunlin_wire::{Limits, decoder};

use crate::action::{Action, Actions, Arrival};
use crate::config::{Config, Durability, Mqtt};
use crate::control::{Answered, Control};
use crate::core::{Setup, ShardCore};
use crate::event::Event;
use crate::hooks::{HookOutcome, Hooks};
use crate::ids::{ConnId, ListenerId, ShardId, Token};
use crate::mesh::MeshMessage;
use crate::peer::Peer;
use crate::time::{Mono, NS_PER_MS, Now, WallMs};

mod core_ops;
pub(crate) mod log;
pub(crate) mod mechanism;

use self::log::Log;

/// Names a client of a [`World`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client(usize);

/// Cores, clients and time.
pub(crate) struct World {
    pub(crate) cores: Vec<ShardCore>,
    pub(crate) now: Now,
    ends: Vec<End>,
    slots: Vec<Slots>,
    actions: Actions,
    mesh: VecDeque<(ShardId, ShardId, MeshMessage)>,
    arriving: VecDeque<(Client, ShardId, Box<Arrival>)>,
    pub(crate) answers: Vec<(Token, Answered)>,
    pub(crate) stopped: Vec<ShardId>,
    /// What the cores appended.
    pub(crate) logs: Vec<Log>,
    fetched: VecDeque<(ShardId, SessionNo, Vec<FetchedMessage>)>,
    config: Arc<Config>,
}

/// The client's end of a connection.
#[derive(Debug)]
struct End {
    at: ShardId,
    conn: ConnId,
    inbox: Vec<u8>,
    version: Version,
    has_greeted: bool,
    is_closed: bool,
    is_paused: bool,
    is_clogged: bool,
    clogged_bytes: u32,
}

/// Which client has which slot of a core, and the next generation of it.
#[derive(Debug, Default)]
struct Slots {
    clients: Vec<Option<Client>>,
    generations: Vec<u32>,
}

/// What a client received, and what has been decoded of it.
#[derive(Debug)]
pub(crate) struct Heard {
    bytes: Vec<u8>,
    version: Version,
}

impl Heard {
    /// The packets in order.
    pub(crate) fn packets(&self) -> Vec<Packet<'_>> {
        let mut packets = Vec::new();
        let mut rest = &self.bytes[..];
        while !rest.is_empty() {
            let (packet, bytes) = decoder::decode_one(rest, self.version, &Limits::CLIENT)
                .expect("the server's packets are well-formed")
                .expect("the server sends whole packets");
            packets.push(packet);
            rest = &rest[bytes..];
        }
        packets
    }

    /// The only packet.
    pub(crate) fn only(&self) -> Packet<'_> {
        let packets = self.packets();
        assert_eq!(packets.len(), 1, "{packets:?}");
        packets[0]
    }

    /// The only packet, which is a CONNACK.
    pub(crate) fn connack(&self) -> ConnAck<'_> {
        let packet = self.only();
        let Packet::ConnAck(connack) = packet else { panic!("{packet:?} is no CONNACK") };
        connack
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the bytes as another version's, for a test that wrote its CONNECT by hand.
    pub(crate) const fn read_as(&mut self, version: Version) {
        self.version = version;
    }

    /// Whether nothing was received.
    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl World {
    /// One core with default settings and no hooks.
    pub(crate) fn new() -> Self {
        Self::with(Mqtt::default())
    }

    /// One core with these settings and no hooks.
    pub(crate) fn with(mqtt: Mqtt) -> Self {
        Self::with_hooks(mqtt, Hooks::default())
    }

    /// One core with these settings and hooks.
    pub(crate) fn with_hooks(mqtt: Mqtt, hooks: Hooks) -> Self {
        Self::of_cores(mqtt, vec![hooks])
    }

    /// As many cores as sets of hooks.
    pub(crate) fn of_cores(mqtt: Mqtt, hooks: Vec<Hooks>) -> Self {
        Self::with_config(Config { mqtt, ..Config::default() }, hooks)
    }

    /// Cores that store what must not be lost, and answer when it is safe.
    pub(crate) fn durable(mqtt: Mqtt, shard_count: usize) -> Self {
        let config = Config { mqtt, durability: Durability::Commit };
        let mut world = Self::with_config(config, (0..shard_count).map(|_| Hooks::default()).collect());
        world.begin();
        world
    }

    /// As many cores as sets of hooks, with these settings. Durable ones have not begun.
    pub(crate) fn with_config(config: Config, hooks: Vec<Hooks>) -> Self {
        let config = Arc::new(config);
        let cores = cores_of(&config, hooks);
        let logs = cores.iter().map(|_| Log::default()).collect();
        let slots = cores.iter().map(|_| Slots::default()).collect();
        let now = Now { mono: Mono(1_000 * NS_PER_MS), wall: WallMs(1_700_000_000_000) };
        Self {
            cores,
            now,
            ends: Vec::new(),
            slots,
            actions: Actions::default(),
            mesh: VecDeque::new(),
            arriving: VecDeque::new(),
            answers: Vec::new(),
            stopped: Vec::new(),
            logs,
            fetched: VecDeque::new(),
            config,
        }
    }

    /// Lets the cores begin with what their logs say.
    pub(crate) fn begin(&mut self) {
        let all: Vec<log::Found> = self.logs.iter().map(Log::replay).collect();
        let living: Vec<SessionNo> = all.iter().flat_map(|found| found.sessions.keys().copied()).collect();
        for (shard, found) in all.into_iter().enumerate() {
            let first = u64::try_from(shard).unwrap() << 48 | 1;
            let core = &mut self.cores[shard];
            core.restore_ids(SessionNo(found.next_session.max(first)), MessageId(found.next_message));
            for session in found.sessions.into_values() {
                core.restore_session(session, self.now);
            }
            for (session, packet_id) in
                found.taken.into_iter().filter(|(session, _)| living.contains(session))
            {
                core.restore_taken(session, packet_id);
            }
            for message in found.retained.values() {
                core.restore_retained(message);
            }
        }
        for shard in 0..self.cores.len() {
            self.cores[shard].finish_restore(self.now, &mut self.actions);
            self.perform(shard_id(shard));
        }
        self.settle();
    }

    /// The process dies and starts again: all connections are gone, and what was not safe.
    pub(crate) fn crash(&mut self) {
        self.kill(Vec::new());
    }

    /// As [`Self::crash`]; the process is down for so long.
    pub(crate) fn crash_for(&mut self, seconds: u64) {
        self.set_mono(self.now.mono.plus_ms(seconds * 1_000));
        self.crash();
    }

    /// As [`Self::crash`], with hooks for the new cores.
    pub(crate) fn kill(&mut self, mut hooks: Vec<Hooks>) {
        hooks.resize_with(self.cores.len(), Hooks::default);
        self.cores = cores_of(&self.config, hooks);
        self.mesh.clear();
        self.arriving.clear();
        self.fetched.clear();
        self.actions.clear();
        for end in &mut self.ends {
            end.is_closed = true;
        }
        for slots in &mut self.slots {
            *slots = Slots::default();
        }
        for log in &mut self.logs {
            log.crash();
        }
        self.begin();
    }

    /// The log of a shard frees its oldest records, as far as they are safe; what still holds is said again before.
    pub(crate) fn reclaim(&mut self, shard: usize, count: usize) {
        for _ in 0..count {
            let Some(record) = self.logs[shard].next_reclaimable() else { break };
            self.handle(shard_id(shard), Event::Reclaim(Box::new(record)));
        }
        self.logs[shard].free_offered();
    }

    /// Syncs are held back, or no longer.
    pub(crate) fn hold_syncs(&mut self, is_held: bool) {
        for log in &mut self.logs {
            log.is_held = is_held;
        }
        self.settle();
    }

    /// The only core.
    pub(crate) fn core(&mut self) -> &mut ShardCore {
        assert_eq!(self.cores.len(), 1);
        &mut self.cores[0]
    }

    /// A socket is accepted on shard 0.
    pub(crate) fn open(&mut self) -> Client {
        self.open_at(ShardId(0))
    }

    /// A socket is accepted on a shard.
    pub(crate) fn open_at(&mut self, shard: ShardId) -> Client {
        let client = Client(self.ends.len());
        let conn = self.slots[usize::from(shard.0)].take(client);
        self.ends.push(End {
            at: shard,
            conn,
            inbox: Vec::new(),
            version: Version::V311,
            has_greeted: false,
            is_closed: false,
            is_paused: false,
            is_clogged: false,
            clogged_bytes: 0,
        });
        self.handle(shard, Event::Opened { conn, peer: peer_of(client), listener: ListenerId(0) });
        client
    }

    /// A client sends bytes.
    pub(crate) fn raw(&mut self, client: Client, bytes: &[u8]) {
        let end = &self.ends[client.0];
        if !end.is_closed && !bytes.is_empty() {
            let (at, conn) = (end.at, end.conn);
            self.handle(at, Event::Bytes { conn, bytes });
        }
    }

    /// A client sends a packet in its version.
    pub(crate) fn send(&mut self, client: Client, packet: &Packet<'_>) {
        if let Packet::Connect(connect) = packet
            && !self.ends[client.0].has_greeted
        {
            self.ends[client.0].version = connect.version;
            self.ends[client.0].has_greeted = true;
        }
        let mut bytes = Vec::new();
        let version =
            if let Packet::Connect(connect) = packet { connect.version } else { self.version(client) };
        packet.encode(version, &mut bytes).unwrap();
        self.raw(client, &bytes);
    }

    /// A client connects and hears what it hears.
    pub(crate) fn connect(&mut self, connect: &Connect<'_>) -> (Client, Heard) {
        let client = self.open();
        self.send(client, &Packet::Connect(*connect));
        let heard = self.heard(client);
        (client, heard)
    }

    /// A client connects and is welcome.
    pub(crate) fn join(&mut self, version: Version, client_id: &str) -> Client {
        let (client, heard) = self.connect(&connect(version, client_id));
        assert!(!heard.connack().code.is_error(), "{:?}", heard.connack());
        client
    }

    /// What a client received since it was asked last.
    pub(crate) fn heard(&mut self, client: Client) -> Heard {
        let end = &mut self.ends[client.0];
        Heard { bytes: std::mem::take(&mut end.inbox), version: end.version }
    }

    /// Whether the server closed the connection.
    pub(crate) fn is_closed(&self, client: Client) -> bool {
        self.ends[client.0].is_closed
    }

    /// Whether the server stopped reading.
    pub(crate) fn is_paused(&self, client: Client) -> bool {
        self.ends[client.0].is_paused
    }

    /// The core's name of a client's connection.
    pub(crate) fn conn(&self, client: Client) -> ConnId {
        self.ends[client.0].conn
    }

    /// What a client speaks.
    pub(crate) fn version(&self, client: Client) -> Version {
        self.ends[client.0].version
    }

    /// Where a client's connection is.
    pub(crate) fn shard_of(&self, client: Client) -> ShardId {
        self.ends[client.0].at
    }

    /// The network takes a client away without a word.
    pub(crate) fn drop_client(&mut self, client: Client) {
        let end = &mut self.ends[client.0];
        if !end.is_closed {
            end.is_closed = true;
            let (at, conn) = (end.at, end.conn);
            self.slots[usize::from(at.0)].clients[conn.slot as usize] = None;
            self.handle(at, Event::Closed { conn });
        }
    }

    /// The socket takes no bytes of a client any more, or takes them again.
    pub(crate) fn clog(&mut self, client: Client, is_clogged: bool) {
        let end = &mut self.ends[client.0];
        end.is_clogged = is_clogged;
        if !is_clogged && !end.is_closed && end.clogged_bytes > 0 {
            let (at, conn, bytes) = (end.at, end.conn, std::mem::take(&mut end.clogged_bytes));
            self.handle(at, Event::Sent { conn, bytes });
        }
    }

    /// Time passes; what becomes due is done when it is due.
    pub(crate) fn advance_ms(&mut self, ms: u64) {
        let end = self.now.mono.plus_ms(ms);
        loop {
            let next = self.cores.iter().filter_map(ShardCore::next_deadline).min();
            let Some(due) = next.filter(|due| *due <= end) else {
                break;
            };
            self.set_mono(due.max(self.now.mono));
            for shard in 0..self.cores.len() {
                if self.cores[shard].next_deadline().is_some_and(|due| due <= self.now.mono) {
                    self.handle(ShardId(u16::try_from(shard).unwrap()), Event::Timer);
                }
            }
        }
        self.set_mono(end);
    }

    /// Seconds pass.
    pub(crate) fn advance(&mut self, seconds: u64) {
        self.advance_ms(seconds * 1_000);
    }

    fn set_mono(&mut self, mono: Mono) {
        self.now.wall.0 += mono.since(self.now.mono) / NS_PER_MS;
        self.now.mono = mono;
    }

    /// The control plane speaks to shard 0.
    pub(crate) fn control(&mut self, control: Control) {
        self.handle(ShardId(0), Event::Control(control));
    }

    /// A hook of shard 0 has decided late.
    pub(crate) fn hook_done(&mut self, token: Token, outcome: HookOutcome) {
        self.handle(ShardId(0), Event::HookDone { token, outcome });
    }

    /// An event happens to a core, and all that follows from it.
    pub(crate) fn handle(&mut self, shard: ShardId, event: Event<'_>) {
        self.cores[usize::from(shard.0)].handle(event, self.now, &mut self.actions);
        self.perform(shard);
        self.settle();
    }

    /// All that follows from what the cores asked for.
    pub(crate) fn settle(&mut self) {
        loop {
            if let Some((from, to, message)) = self.mesh.pop_front() {
                let core = &mut self.cores[usize::from(to.0)];
                core.handle(Event::Mesh { from, message }, self.now, &mut self.actions);
                self.perform(to);
            } else if let Some((shard, session, messages)) = self.fetched.pop_front() {
                let core = &mut self.cores[usize::from(shard.0)];
                core.handle(Event::Fetched { session, messages }, self.now, &mut self.actions);
                self.perform(shard);
            } else if let Some((shard, seq)) = self.sync() {
                self.cores[shard].handle(Event::Stored { seq }, self.now, &mut self.actions);
                self.perform(shard_id(shard));
            } else {
                break;
            }
        }
        while let Some((client, to, arrival)) = self.arriving.pop_front() {
            let conn = self.slots[usize::from(to.0)].take(client);
            let end = &mut self.ends[client.0];
            (end.at, end.conn) = (to, conn);
            self.handle(to, Event::Arrived { conn, arrival });
        }
    }

    /// The next log that has something to make safe.
    fn sync(&mut self) -> Option<(usize, u64)> {
        self.logs.iter_mut().enumerate().find_map(|(shard, log)| Some((shard, log.sync()?)))
    }

    fn perform(&mut self, shard: ShardId) {
        let mut actions = std::mem::take(&mut self.actions);
        let mut sent = Vec::new();
        for action in actions.list.drain(..) {
            match action {
                Action::Send { conn, head, payload } => {
                    let end = self.end_of(shard, conn);
                    let before = end.inbox.len();
                    end.inbox.extend_from_slice(&actions.arena[head.start as usize..head.end as usize]);
                    end.inbox.extend_from_slice(payload.as_ref().map_or(&[], |message| message.payload()));
                    let bytes = u32::try_from(end.inbox.len() - before).unwrap();
                    if end.is_clogged {
                        end.clogged_bytes += bytes;
                    } else {
                        sent.push((conn, bytes));
                    }
                }
                Action::Close { conn, .. } => {
                    self.end_of(shard, conn).is_closed = true;
                    self.slots[usize::from(shard.0)].clients[conn.slot as usize] = None;
                    sent.retain(|(other, _)| *other != conn);
                }
                Action::PauseRead { conn } => {
                    assert!(
                        !std::mem::replace(&mut self.end_of(shard, conn).is_paused, true),
                        "paused twice"
                    );
                }
                Action::ResumeRead { conn } => {
                    assert!(
                        std::mem::replace(&mut self.end_of(shard, conn).is_paused, false),
                        "resumed twice"
                    );
                }
                Action::Handoff { conn, to, arrival } => {
                    let slot = &mut self.slots[usize::from(shard.0)].clients[conn.slot as usize];
                    let client = slot.take().expect("only a live connection is handed off");
                    sent.retain(|(other, _)| *other != conn);
                    self.arriving.push_back((client, to, arrival));
                }
                Action::Mesh { to, message } => self.mesh.push_back((shard, to, message)),
                Action::Append { seq, record } => self.logs[usize::from(shard.0)].append(seq, *record),
                Action::Fetch { session, messages } => {
                    let log = &self.logs[usize::from(shard.0)];
                    let messages = messages.iter().map(|id| log.fetch(session, *id)).collect();
                    self.fetched.push_back((shard, session, messages));
                }
                Action::Answer { token, answer } => self.answers.push((token, *answer)),
                Action::Stopped => self.stopped.push(shard),
            }
        }
        actions.clear();
        self.actions = actions;
        for (conn, bytes) in sent {
            if self.slots[usize::from(shard.0)].clients[conn.slot as usize].is_some() {
                self.handle(shard, Event::Sent { conn, bytes });
            }
        }
    }

    /// The client of a live connection. A core never names another.
    fn end_of(&mut self, shard: ShardId, conn: ConnId) -> &mut End {
        let client = self.slots[usize::from(shard.0)].clients[conn.slot as usize]
            .expect("the core names live connections");
        let end = &mut self.ends[client.0];
        assert_eq!((end.at, end.conn), (shard, conn), "the core names connections by their last generation");
        assert!(!end.is_closed, "nothing is asked for a connection that is closed");
        end
    }
}

impl Slots {
    fn take(&mut self, client: Client) -> ConnId {
        let free = self.clients.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.clients.push(None);
            self.generations.push(0);
            self.clients.len() - 1
        });
        self.clients[slot] = Some(client);
        self.generations[slot] += 1;
        ConnId { slot: u32::try_from(slot).unwrap(), generation: self.generations[slot] }
    }
}

/// A CONNECT without anything special: clean start, no Keep Alive.
pub(crate) fn connect(version: Version, client_id: &str) -> Connect<'_> {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive_seconds: 0,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

fn cores_of(config: &Arc<Config>, hooks: Vec<Hooks>) -> Vec<ShardCore> {
    let shard_count = u16::try_from(hooks.len()).unwrap();
    hooks
        .into_iter()
        .enumerate()
        .map(|(shard, hooks)| {
            let config = Arc::clone(config);
            ShardCore::new(Setup { shard: shard_id(shard), shard_count, config, hooks, seed: 42 })
        })
        .collect()
}

fn shard_id(shard: usize) -> ShardId {
    ShardId(u16::try_from(shard).unwrap())
}

fn peer_of(client: Client) -> Peer {
    let port = u16::try_from(10_000 + client.0 % 50_000).unwrap();
    Peer::from(SocketAddr::from(([127, 0, 0, 1], port)))
}
