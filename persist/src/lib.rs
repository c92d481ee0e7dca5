//! What survives a restart, a kill and a power cut: one append log per shard, and an index that can be rebuilt from it.
//!
//! This crate knows records, files and syncs; it does not know what a session may do. `dunlin-shard` decides what is
//! recorded and what waits for it (ADR 0020).
//!
//! Begin with [`Store`], what a shard sees; then [`record`], what it says; then [`disk`], what all of it stands upon.

pub mod config;
pub mod disk;
pub mod error;
pub mod fault;
pub mod index;
pub mod limits;
pub mod metrics;
pub mod record;
pub mod report;
pub mod store;
pub mod told;

pub use self::config::{Options, SyncMode, Waker};
pub use self::disk::{Disk, DiskFile, Region};
pub use self::error::{AppendError, OpenError};
pub use self::metrics::StoreMetrics;
pub use self::record::{MessageId, Record, SessionNo};
pub use self::report::{Progress, Recovered, Report};
pub use self::store::{Opened, Store, open};
pub use self::told::{FetchedMessage, FoundMessage, StoreState, Told};
