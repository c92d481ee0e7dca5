//! The edge: the only folder with IO. One pinned executor per shard hosts the shard's own rings.
//!
//! [`start`] makes the lanes between the shards, starts a thread per shard, and binds the listeners when every core has what its
//! log brought back. A shard's thread runs
//! ticks (`executor.rs`): take what the rings, the lanes, the inbox and the clock have, tell the core, and let everything that
//! the core wants leave at once. Nothing here decides anything about MQTT.
//!
//! Reading order: `executor.rs`, `edge.rs`, `tcp.rs`, `sending.rs`, `listener.rs`, `handoff.rs`, `mesh.rs`, `inbox.rs`, `disk.rs`;
//! and `ring.rs` for what the kernel is asked.

mod arrivals;
mod buffers;
mod clock;
mod config;
mod connection;
mod contain;
mod disk;
mod edge;
mod executor;
mod handoff;
mod inbox;
mod listener;
mod mesh;
mod metrics;
mod output;
mod park;
mod ring;
pub mod selfcheck;
mod sending;
mod sys;
mod tag;
mod tcp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crossbeam_channel::{Receiver, Sender, bounded};
use dunlin_persist::{Recovered, Store};
use glommio::{CpuSet, ExecutorJoinHandle, LocalExecutorBuilder, Placement};

pub use config::{EdgeConfig, Listener, Park, RingConfig};
pub use contain::Core;
pub use disk::{LogNotice, ShardLog};
pub use inbox::{INBOX_LETTERS, InboxError, ShardAnswer, ShardHandle};
pub use metrics::EdgeMetrics;

use crate::config::Durability;
use crate::control::Control;
use crate::core::{Setup, ShardCore};
use crate::ids::{ListenerId, ShardId};
use clock::Clock;
use edge::Parts;
use executor::Start;
use listener::{Listeners, Listening};

/// A running set of shards. Dropping it leaves them running: call [`Runtime::stop`] and [`Runtime::join`].
#[derive(Debug)]
pub struct Runtime {
    handles: Vec<ShardHandle>,
    listening: Vec<(ListenerId, SocketAddr)>,
    answers: Receiver<ShardAnswer>,
    ended: Receiver<ShardId>,
    notices: Receiver<LogNotice>,
    threads: Vec<ShardThread>,
}

type Outcome = Result<EdgeMetrics, String>;
type ShardThread = ExecutorJoinHandle<Outcome>;

impl Runtime {
    /// The way into each shard, in order.
    #[must_use]
    pub fn shards(&self) -> &[ShardHandle] {
        &self.handles
    }

    /// Where the process listens: the configured addresses, with the port that a 0 became.
    #[must_use]
    pub fn listening(&self) -> &[(ListenerId, SocketAddr)] {
        &self.listening
    }

    /// What shards answer to [`Control::Snapshot`]. 1,024 answers may wait; more are dropped and counted.
    #[must_use]
    pub fn answers(&self) -> &Receiver<ShardAnswer> {
        &self.answers
    }

    /// Names each shard once, when it has ended. One that ends before [`Runtime::stop`] has failed: the process should stop,
    /// and [`Runtime::join`] tells why.
    #[must_use]
    pub fn ended(&self) -> &Receiver<ShardId> {
        &self.ended
    }

    /// Tells when a log becomes full, has room again, or fails. 256 notices may wait; more are dropped.
    #[must_use]
    pub fn notices(&self) -> &Receiver<LogNotice> {
        &self.notices
    }

    /// Asks all shards to stop: no new connections, DISCONNECT, wills, and an end within
    /// [`EdgeConfig::stop_ms_max`]. Safe to call twice; returns at once.
    pub fn stop(&self) {
        for handle in &self.handles {
            // A full inbox is tried again by the next call; a shard that has ended needs no telling.
            let _told = handle.send(Control::Stop);
        }
    }

    /// Waits until all shards have ended, and gives their last counters in order. Shards end together: when one fails, the
    /// others are asked to stop.
    ///
    /// # Errors
    /// The first shard that did not end as it should.
    pub fn join(self) -> Result<Vec<EdgeMetrics>, RunError> {
        // An error says that all have ended and somebody else took the news.
        let _first = self.ended.recv();
        self.stop();
        let mut counters = Vec::with_capacity(self.threads.len());
        let mut failure = None;
        for (shard, thread) in (0..).map(ShardId).zip(self.threads) {
            let outcome = thread.join().unwrap_or_else(|error| Err(error.to_string()));
            match outcome {
                Ok(metrics) => counters.push(metrics),
                Err(reason) => failure = failure.or(Some(RunError::Shard { shard, reason })),
            }
        }
        failure.map_or(Ok(counters), Err)
    }
}

/// Why the edge did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A shard could not start.
    #[error("shard {} cannot start: {reason}; `dunlin check` looks at what the host allows", shard.0)]
    Shard {
        /// Which shard.
        shard: ShardId,
        /// What went wrong.
        reason: String,
    },
    /// There are no shards, or not one set-up per core.
    #[error("{setups} cores were made for {shards} shards; there must be as many, and at least one")]
    Count {
        /// Set-ups given.
        setups: usize,
        /// Entries of [`EdgeConfig::cores`].
        shards: usize,
    },
}

/// Why a shard ended when nobody had asked it to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The kernel refused to go on, or the edge failed.
    #[error("shard {} ended: {reason}", shard.0)]
    Shard {
        /// Which shard.
        shard: ShardId,
        /// What went wrong.
        reason: String,
    },
}

/// Starts the edge: one thread per shard with a core made of its set-up and of what its log brought back, then all listeners.
/// Returns when every shard accepts connections. `logs` has one entry per shard, or none: nothing outlives the process then.
///
/// # Errors
/// When a shard cannot start or an address cannot be bound; nothing runs then.
pub fn start(config: EdgeConfig, setups: Vec<Setup>, logs: Vec<ShardLog>) -> Result<Runtime, StartError> {
    let mut logs = logs.into_iter();
    let (mut makers, mut stores) = (Vec::new(), Vec::new());
    for setup in setups {
        let (store, recovered) = logs.next().map(|log| (log.store, log.recovered)).unzip();
        stores.push(store);
        makers.push(move || restored(setup, recovered));
    }
    start_shards(config, makers, stores)
}

/// [`start`] for any core without a log: each is made on the thread of its shard.
///
/// # Errors
/// As [`start`].
pub fn start_with<C, F>(config: EdgeConfig, makers: Vec<F>) -> Result<Runtime, StartError>
where
    C: Core + 'static,
    F: FnOnce() -> C + Send + 'static,
{
    let stores = makers.iter().map(|_| None).collect();
    start_shards(config, makers, stores)
}

/// A core with what was stored of its sessions and retained messages.
fn restored(setup: Setup, recovered: Option<Recovered>) -> ShardCore {
    let is_durable = setup.config.durability != Durability::Memory;
    assert_eq!(is_durable, recovered.is_some(), "a core has a log exactly if it records something");
    let mut core = ShardCore::new(setup);
    if let Some(Recovered { sessions, retained, taken, next_session, next_message }) = recovered {
        core.restore_ids(next_session, next_message);
        let now = Clock::new().now();
        for session in sessions {
            core.restore_session(*session, now);
        }
        for message in &retained {
            core.restore_retained(message);
        }
        for (session, packet_id) in taken {
            core.restore_taken(session, packet_id);
        }
    }
    core
}

fn start_shards<C, F>(
    config: EdgeConfig,
    makers: Vec<F>,
    stores: Vec<Option<Store>>,
) -> Result<Runtime, StartError>
where
    C: Core + 'static,
    F: FnOnce() -> C + Send + 'static,
{
    let shards = config.shard_count();
    if makers.len() != shards || shards == 0 || u16::try_from(shards).is_err() {
        return Err(StartError::Count { setups: makers.len(), shards });
    }
    for Listener { address, .. } in &config.listeners {
        sys::check_free(*address).map_err(|source| StartError::Listen { address: *address, source })?;
    }
    // Before the shards' heaps are made. A kernel that knows no huge pages has none to refuse.
    let _refused = sys::refuse_huge_pages();
    let (nofile, _) = sys::raise_nofile();
    let table_entries = u32::try_from(nofile).unwrap_or(u32::MAX).min(config.rings.table_entries_max);
    let mut handles = Vec::new();
    let mut inboxes = Vec::new();
    for shard in (0..).map(ShardId).take(shards) {
        let failed = |error: io::Error| StartError::Shard { shard, reason: error.to_string() };
        let (handle, inbox) = inbox::inbox(shard, config.park).map_err(failed)?;
        handles.push(handle);
        inboxes.push(inbox);
    }
    let doorbells: Vec<_> = inboxes.iter().map(|inbox| Arc::clone(&inbox.doorbell)).collect();
    let lanes = mesh::lanes(&doorbells);
    let config = Arc::new(config);
    let (answer, answers) = bounded(ANSWERS_MAX);
    let (notice, notices) = bounded(disk::NOTICES_MAX);
    let (end, ended) = bounded(shards);
    let open_count = Arc::new(AtomicU32::new(0));
    let mut runtime =
        Runtime { handles, listening: Vec::new(), answers, ended, notices, threads: Vec::new() };
    let mut starting = Vec::new();
    for (((inbox, lanes), (maker, store)), shard) in
        inboxes.into_iter().zip(lanes).zip(makers.into_iter().zip(stores)).zip((0..).map(ShardId))
    {
        let parts = Parts {
            shard,
            config: Arc::clone(&config),
            table_entries,
            accept_burst_max: accept_burst_max(&config, sys::backlog_max()),
            lanes,
            letters: inbox.letters,
            answers: answer.clone(),
            store,
            notices: notice.clone(),
            doorbell: inbox.doorbell,
            open_count: Arc::clone(&open_count),
        };
        starting.push((shard, spawn(parts, maker, end.clone(), &mut runtime.threads)));
    }
    // From here on only the shards hold them, so that their end can be seen.
    drop((answer, notice, end));
    match open_doors(&config, starting) {
        Ok(listening) => {
            runtime.listening = listening;
            Ok(runtime)
        }
        Err(error) => {
            runtime.stop();
            // The others end by themselves; what they would say matters less than why one did not start.
            let _ended = runtime.join();
            Err(error)
        }
    }
}

/// Waits until all cores are made, gives the shards their listeners, and waits until they accept.
fn open_doors(config: &EdgeConfig, starting: Vec<(ShardId, Spawned)>) -> Result<Listened, StartError> {
    let mut doors = Vec::new();
    for (shard, spawned) in starting {
        let door = spawned.map_err(|reason| StartError::Shard { shard, reason })?;
        doors.push((shard, door));
    }
    for (shard, door) in &doors {
        door.next_word(*shard)?;
    }
    let (listening, sockets) = listen(config)?;
    for ((_, door), sockets) in doors.iter().zip(sockets) {
        // A shard that has ended says so next.
        let _told = door.listeners.send(Listeners::new(sockets));
    }
    for (shard, door) in &doors {
        door.next_word(*shard)?;
    }
    Ok(listening)
}

/// The way to a shard that starts.
struct Door {
    words: Receiver<Result<(), String>>,
    listeners: Sender<Listeners>,
}

impl Door {
    fn next_word(&self, shard: ShardId) -> Result<(), StartError> {
        let word = self.words.recv().unwrap_or_else(|_| Err("its thread ended".to_owned()));
        word.map_err(|reason| StartError::Shard { shard, reason })
    }
}

type Listened = Vec<(ListenerId, SocketAddr)>;
type Spawned = Result<Door, String>;

/// Starts the thread of one shard.
fn spawn<C, F>(parts: Parts, maker: F, end: Sender<ShardId>, threads: &mut Vec<ShardThread>) -> Spawned
where
    C: Core + 'static,
    F: FnOnce() -> C + Send + 'static,
{
    let shard = parts.shard;
    let core = parts.config.cores.get(usize::from(shard.0)).copied().flatten();
    // The executor reads the host's CPUs from /sys and panics where that is not mounted; there the thread binds itself.
    let own_core = core.filter(|_| CpuSet::online().is_err());
    let placement = core.filter(|_| own_core.is_none()).map_or(Placement::Unbound, Placement::Fixed);
    let (words, heard) = bounded(2);
    let (listeners, given) = bounded(1);
    let start = Start { words, listeners: given };
    let thread = LocalExecutorBuilder::new(placement)
        .name(&format!("shard-{}", shard.0))
        .io_memory(EXECUTOR_IO_BYTES)
        .spawn(move || async move {
            let outcome = match bind(own_core) {
                Ok(()) => executor::run(parts, maker, start).await,
                Err(reason) => {
                    let _told = start.words.send(Err(reason.clone()));
                    Err(reason)
                }
            };
            let _told = end.try_send(shard);
            outcome
        })
        .map_err(|error| error.to_string())?;
    threads.push(thread);
    Ok(Door { words: heard, listeners })
}

/// Binds this thread to a CPU, if one is given.
fn bind(core: Option<usize>) -> Result<(), String> {
    let Some(core) = core else { return Ok(()) };
    sys::bind_to_cpu(core).map_err(|error| format!("its thread cannot be bound to CPU {core}: {error}"))
}

type Sockets = Vec<Vec<Listening>>;

/// Binds every address once per shard. All shards share a port.
fn listen(config: &EdgeConfig) -> Result<(Listened, Sockets), StartError> {
    let mut per_shard: Sockets = (0..config.shard_count()).map(|_| Vec::new()).collect();
    let mut listening = Vec::new();
    for listener in &config.listeners {
        let mut address = listener.address;
        for sockets in &mut per_shard {
            let failed = |source| StartError::Listen { address, source };
            let socket = sys::listen(address, listener.backlog).map_err(failed)?;
            address = socket.local_addr().map_err(failed)?;
            sockets.push(Listening::new(listener.id, socket, address.is_ipv6()));
        }
        listening.push((listener.id, address));
    }
    Ok((listening, per_shard))
}

/// Memory that an executor registers for direct file IO, bytes. The shards do none: the least that works.
const EXECUTOR_IO_BYTES: usize = 64 << 10;

/// Answers that may wait for the control plane.
const ANSWERS_MAX: usize = 1_024;

/// Connections that one entry into the kernel may accept on one shard: as many as its listening sockets keep.
fn accept_burst_max(config: &EdgeConfig, backlog_max: u32) -> u32 {
    // The kernel keeps one more than it was told.
    let kept = config.listeners.iter().map(|listener| listener.backlog.min(backlog_max).saturating_add(1));
    kept.fold(0, u32::saturating_add)
}

/// Connections that one shard may have: its part of all and a quarter more, because neither the kernel's spreading of
/// connections nor the hashing of client ids is even.
fn capacity_per_shard(config: &EdgeConfig) -> u32 {
    let shards = u32::try_from(config.shard_count()).unwrap_or(u32::MAX).max(1);
    if shards == 1 {
        return config.connection_count_max.max(1);
    }
    let even = config.connection_count_max.div_ceil(shards);
    even.saturating_add(even / 4).saturating_add(CAPACITY_SLACK).min(config.connection_count_max).max(1)
}

/// Room on each shard for chance, where an even part is small.
const CAPACITY_SLACK: u32 = 64;
