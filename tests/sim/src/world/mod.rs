//! The world of a run: the broker's process with its shard cores, the edge around each, the lanes between them, its disk, the
//! network to the clients, and virtual time. One thread; what happens next is decided by the agenda alone.
//!
//! `edge.rs` drives the cores, `storage.rs` their logs, `process.rs` boots, stops and crashes all of it, `network.rs` is what
//! clients and the operator can do.

mod edge;
mod network;
mod process;
mod storage;

use std::collections::{BTreeMap, VecDeque};

use dunlin_shard::mesh::MeshMessage;
use dunlin_shard::metrics::{Gauges, Metrics};
use dunlin_shard::{Arrival, ConnId, Control, Peer, ShardCore, ShardId};

use crate::canary::Canary;
use crate::log::{Log, Moment};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::storage_plan::Trouble;

pub use self::process::Process;
use self::storage::{ShardLog, Storage};

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
    /// A shard's disk does one thing.
    Disk(usize),
    /// A shard's log is synced, at level `interval`.
    Commit(usize),
    /// Something befalls the process or its disk.
    Trouble(Trouble),
    /// The process starts.
    Boot,
    /// A graceful stop should be over by now.
    StopOver(u64),
    /// The operator has freed space on the disk.
    RoomAgain,
}

impl Item {
    /// The shard that has to be there for it.
    const fn shard(&self) -> Option<usize> {
        match self {
            Self::Tick(shard)
            | Self::Timer(shard)
            | Self::Lane(_, shard)
            | Self::Arrive(shard, ..)
            | Self::Disk(shard)
            | Self::Commit(shard) => Some(*shard),
            Self::ToServer(..)
            | Self::ToClient(..)
            | Self::ServerEnd(_)
            | Self::ClientEnd(_)
            | Self::Step(_)
            | Self::Trouble(_)
            | Self::Boot
            | Self::StopOver(_)
            | Self::RoomAgain => None,
        }
    }
}

/// What waits for a shard: an event that owns its bytes.
#[derive(Debug)]
enum Input {
    Opened {
        conn: ConnId,
        peer: Peer,
    },
    Arrived {
        conn: ConnId,
        arrival: Box<Arrival>,
    },
    Bytes {
        conn: ConnId,
        bytes: Vec<u8>,
    },
    Sent {
        conn: ConnId,
        bytes: u32,
    },
    Closed {
        conn: ConnId,
    },
    Mesh {
        from: ShardId,
        message: MeshMessage,
        sent_at: Moment,
    },
    Control(Control),
    Timer,
    /// Only to look at what the log has to tell.
    Wake,
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
    /// `None`: nothing outlives the process.
    log: Option<ShardLog>,
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
    /// Whether the broker runs.
    pub process: Process,
    /// Empty while it does not.
    shards: Vec<Shard>,
    pub(crate) links: Vec<Link>,
    lanes: BTreeMap<(usize, usize), Lane>,
    agenda: BTreeMap<(u64, u64), Item>,
    agenda_seq: u64,
    network: Rng,
    schedule: Rng,
    canary: Canary,
    seed: u64,
    /// Processes started so far.
    boots: u64,
    last_shard_count: u16,
    /// Virtual time at which the monotonic clock of this host stood at 0.
    mono_origin: u64,
    storage: Option<Storage>,
    /// When a log was last heard to take nothing new, or to take it again.
    refusing_at: Option<u64>,
    /// Connections were lost to the process's end; for the workload, which forgets nothing by itself.
    pub(crate) fallen: Vec<Fall>,
}

/// What is on its way from one shard to another.
#[derive(Debug, Default)]
struct Lane {
    /// When the last of it arrives.
    at: u64,
    messages: VecDeque<(Moment, MeshMessage)>,
}

/// An end of the process, as the clients' models need to know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fall {
    /// Whether the broker keeps nothing of its sessions.
    pub(crate) forgets_sessions: bool,
    /// Whether it could finish what it was doing.
    pub(crate) is_graceful: bool,
    /// Whether a disk took nothing new: Wills may have waited for room, in memory only if their sessions are.
    pub(crate) was_refusing: bool,
}

impl World {
    /// An empty world for a plan.
    #[must_use]
    pub fn new(seed: u64, plan: Plan, canary: Canary) -> Self {
        let storage = plan.storage.clone().map(|plan| Storage::new(seed, plan));
        let last_shard_count = plan.shard_count;
        let mut world = Self {
            now: NS_PER_MS,
            log: Log::default(),
            plan,
            healed: false,
            snapshots: Vec::new(),
            stopped_count: 0,
            process: Process::Down,
            shards: Vec::new(),
            links: Vec::new(),
            lanes: BTreeMap::new(),
            agenda: BTreeMap::new(),
            agenda_seq: 0,
            network: Rng::new(seed, "network"),
            schedule: Rng::new(seed, "schedule"),
            canary,
            seed,
            boots: 0,
            last_shard_count,
            mono_origin: 0,
            storage,
            refusing_at: None,
            fallen: Vec::new(),
        };
        world.boot();
        world.plan_troubles();
        world
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

    /// Performs an item that is not a client's. What was meant for a shard that is gone with its process is passed over.
    pub(crate) fn perform(&mut self, item: Item) {
        if item.shard().is_some_and(|shard| shard >= self.shards.len()) {
            return;
        }
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
            Item::Disk(shard) => self.disk_works(shard),
            Item::Commit(shard) => self.commit_due(shard),
            Item::Trouble(trouble) => self.trouble(trouble),
            Item::Boot => self.boot(),
            Item::StopOver(boot) => self.stop_over(boot),
            Item::RoomAgain => self.room_again(),
            Item::ToClient(..) | Item::ClientEnd(_) | Item::Step(_) => {}
        }
    }
}

/// Nanoseconds in a millisecond.
pub(crate) const NS_PER_MS: u64 = 1_000_000;
/// Wall-clock time at the start of a run.
const WALL_START_MS: u64 = 1_700_000_000_000;
