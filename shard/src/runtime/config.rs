//! Settings of the edge: sockets, rings, cores and waits. Protocol settings are in [`crate::config`].

use std::net::SocketAddr;

use crate::ids::ListenerId;

/// Settings of the edge of one process. Read once, at the start.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// The CPU that each shard is pinned to, in the order of the shards; `None` leaves a shard to the scheduler.
    pub cores: Vec<Option<usize>>,
    /// Where to listen. Every shard listens on each address (SO_REUSEPORT).
    pub listeners: Vec<Listener>,
    /// Connections of the whole process. One above is accepted and closed at once, and counted.
    pub connection_count_max: u32,
    /// Sizes of the rings.
    pub rings: RingConfig,
    /// How a shard sleeps.
    pub park: Park,
    /// A connection that was silent for this long gives its armed receive back and is watched by a poll, milliseconds.
    pub quiet_ms: u64,
    /// How long bytes of a connection that the core closed may take to leave, milliseconds.
    pub close_flush_ms_max: u64,
    /// How long a shard may take to end after [`crate::Control::Stop`], milliseconds.
    pub stop_ms_max: u64,
    /// How long appended records may wait for a sync, milliseconds. 0: one sync per tick, as fast as the disk goes.
    pub sync_every_ms: u64,
}

impl EdgeConfig {
    /// Shards of this process.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.cores.len()
    }
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            cores: vec![None],
            listeners: Vec::new(),
            connection_count_max: 1 << 20,
            rings: RingConfig::default(),
            park: Park::Ring,
            quiet_ms: 2_000,
            close_flush_ms_max: 2_000,
            stop_ms_max: 10_000,
            sync_every_ms: 0,
        }
    }
}

/// One address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its place in the configuration; comes back in [`crate::Event::Opened`].
    pub id: ListenerId,
    /// Address and port; port 0 takes a free one, the same for all shards ([`super::Runtime::listening`] tells it).
    pub address: SocketAddr,
    /// Connections that the kernel keeps until they are accepted; it cuts this at `net.core.somaxconn`.
    pub backlog: u32,
}

/// Sizes of a ring. A shard owns one ring per [`RingConfig::table_entries_max`] connections, made when needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Submission entries; one call to the kernel carries at most as many.
    pub submission_entries: u32,
    /// Completion entries; more completions than this wait in kernel memory and are counted.
    pub completion_entries: u32,
    /// Bytes of one receive buffer.
    pub buffer_bytes: u32,
    /// Receive buffers of a ring; a power of two, at most 32,768.
    pub buffer_count: u16,
    /// Most connections of one ring. The kernel's own bound is the smaller of RLIMIT_NOFILE and 1,048,576.
    pub table_entries_max: u32,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            submission_entries: 4_096,
            completion_entries: 16_384,
            buffer_bytes: 4_096,
            buffer_count: 1_024,
            table_entries_max: 1 << 20,
        }
    }
}

/// How an idle shard sleeps (ADR 0003 has the numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Park {
    /// In its own ring: one system call. Tasks that others put on the shard's executor run between ticks only.
    Ring,
    /// In the executor, which reads an eventfd that the rings ring: about six system calls, and other tasks of the
    /// executor run at any time.
    Executor,
}
