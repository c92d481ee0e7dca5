//! What survives a restart, a kill and a power cut: one append log per shard, and an index that can be rebuilt from it.
//!
//! This crate knows records, files and syncs; it does not know what a session may do. `dunlin-shard` decides what is
//! recorded and what waits for it (ADR 0020).

pub mod record;

pub use self::record::{MessageId, Record, SessionNo};
