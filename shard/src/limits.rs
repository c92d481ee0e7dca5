//! Bounds on everything that grows, with their derivations.

/// The edge performs the actions of a tick early when the arena passes this, bytes. One L2 cache of a server core and a
/// bit: large enough for a fan-out of 1,000 × 8 messages of 128 B, small enough to stay warm.
pub const TICK_ARENA_BYTES: usize = 4 << 20;

/// Payloads of at least this many bytes are sent from the message itself instead of being copied into the arena of the
/// tick once per subscriber. Below, a copy is cheaper than a second piece in the send.
pub const PAYLOAD_SHARE_BYTES: usize = 4 << 10;

/// Hash slots that client ids and topics fall into; each slot has a home shard. Fixed for ever: stored with durable
/// records.
pub const SLOT_COUNT: u16 = 4_096;

/// Shards of one process. One bit each in the sets that a publish walks.
pub const SHARD_COUNT_MAX: u16 = 1_024;
