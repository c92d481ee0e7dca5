//! Settings of a data directory's stores.

use std::sync::Arc;

use crate::index::Line;
use crate::limits;

/// Which shard of so many has a client id, or a topic. The same at every boot: stored sessions are found by it.
pub type Home = fn(name: &str, shard_count: u16) -> u16;

/// Settings of [`crate::open`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Shards that will run. Another number than last time re-homes all sessions at boot.
    pub shard_count: u16,
    /// The shard of a client id.
    pub client_home: Home,
    /// The shard of a topic, for retained messages.
    pub topic_home: Home,
    /// The wall clock, milliseconds since 1970: sessions whose time ran out while nobody ran are dropped, and those that were
    /// connected at a crash count as detached from now on.
    pub now_ms: u64,
    /// Length of a segment file. [`Options::segment_bytes_for`] says how it follows from the number of shards.
    pub segment_bytes: u64,
    /// Bytes that all logs together may take on the disk, spare segments included; `None`: as many as there are.
    pub quota_bytes: Option<u64>,
    /// Bytes of messages that are kept in memory after they were fetched, per shard, for other sessions that wait for the same.
    pub fetch_cache_bytes: usize,
    /// Who works on the disk.
    pub sync_mode: SyncMode,
    /// The way to an index that shall follow the logs; `None`: there is none.
    pub index: Option<Line>,
}

impl Options {
    /// The defaults for so many shards. `quota_bytes`: none; two homes must be given because only the shards know them.
    #[must_use]
    pub fn new(shard_count: u16, client_home: Home, topic_home: Home) -> Self {
        Self {
            shard_count,
            client_home,
            topic_home,
            now_ms: 0,
            segment_bytes: Self::segment_bytes_for(shard_count),
            quota_bytes: None,
            fetch_cache_bytes: limits::FETCH_CACHE_BYTES,
            sync_mode: SyncMode::Manual,
            index: None,
        }
    }

    /// A segment's length for so many shards: 16 MiB, and less where many shards would hold gigabytes in spare segments alone.
    #[must_use]
    pub fn segment_bytes_for(shard_count: u16) -> u64 {
        let share = limits::SEGMENTS_BYTES / u64::from(shard_count.max(1));
        (1 << share.max(1).ilog2()).clamp(limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES)
    }
}

/// Who does what blocks: syncs, reads, the making of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// Nobody, until the driver calls [`crate::Store::disk_step`]: for simulators and tests.
    #[default]
    Manual,
    /// Threads of the data directory, one for syncs and one for the rest. They call each store's [`Waker`].
    #[cfg(feature = "files")]
    Threads,
}

/// Called on a disk thread when [`crate::Store::poll`] has something to tell. Must be quick and must not block.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// Calls this function.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Calls it.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}
