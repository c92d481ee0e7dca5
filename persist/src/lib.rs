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
mod fetch;
pub mod index;
pub mod inspect;
pub mod limits;
mod log;
mod manifest;
pub mod metrics;
pub mod open;
pub mod overlay;
#[cfg(feature = "files")]
pub mod real;
pub mod record;
mod rehome;
pub mod report;
mod state;
pub mod store;
mod sync;
pub mod told;

pub use self::config::{Options, SyncMode, Waker};
pub use self::disk::{Disk, DiskFile, Region};
pub use self::error::{AppendError, OpenError};
pub use self::metrics::StoreMetrics;
pub use self::open::{Opened, compact, open};
#[cfg(feature = "files")]
pub use self::real::RealDisk;
pub use self::record::{MessageId, Record, SessionNo};
pub use self::report::{Progress, Recovered, Report};
pub use self::store::Store;
pub use self::told::{FetchedMessage, FoundMessage, StoreState, Told};
