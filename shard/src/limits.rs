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

/// Bytes that a connection may hold before its CONNECT is accepted, without drawing on the shard's pool. A CONNECT with a
/// client id, a user name and a token of the usual sizes fits.
pub const GREETING_BYTES: usize = 4 << 10;

/// Bytes that all connections of a shard may hold beyond [`GREETING_BYTES`] each before their CONNECT is accepted. Room
/// for a few dozen of the largest CONNECT packets at once.
pub const GREETING_POOL_BYTES: usize = 16 << 20;

/// The largest CONNECT taken, bytes: five fields of 65,535 bytes (client id, Will topic, Will payload, user name, password)
/// and as much again as one for properties.
pub const CONNECT_BYTES_MAX: u32 = 6 * 65_535;

/// Bytes that may come for a connection on hold: what was on its way when reading was paused. Four of the edge's largest
/// receive buffers and the largest packet on top (added by the caller).
pub const HELD_BYTES: usize = 256 << 10;

/// Sessions or connections that one step of stopping takes, so that other shards' messages are handled in between.
pub const STOP_STEP_COUNT: u32 = 1_000;

/// How long connections live on after the Wills of a stopping shard, so that other shards' Wills still reach them,
/// milliseconds. Far more than a hop takes, far less than anybody waits for a stop.
pub const STOP_WILL_LINGER_MS: u64 = 100;

/// Deadlines that one [`crate::Event::Timer`] acts on: about a millisecond of work, so that packets are not kept waiting
/// when many deadlines fall together.
pub const DUE_COUNT_PER_TIMER: usize = 4_096;

/// Subscriptions asked for again, or sessions looked at for any, in one step after rights have changed: about a
/// millisecond with an authorizer that answers at once. Steps are a tick of the timing wheel apart.
pub const REVIEW_STEP_COUNT: u32 = 4_096;

/// Draws of a client id until one has its home on this shard: the chance to fail with n shards is below e⁻⁶⁴ at
/// 64 × n draws.
pub const CLIENT_ID_DRAWS_PER_SHARD: u32 = 64;

/// Messages read back from the disk for one session at once: a page keeps a socket busy while the next is read.
pub const FETCH_COUNT: usize = 64;

const _: () =
    assert!(GREETING_BYTES < CONNECT_BYTES_MAX as usize, "the pool is for what the allowance does not cover");
const _: () =
    assert!(GREETING_POOL_BYTES > 16 * CONNECT_BYTES_MAX as usize, "the pool takes several large CONNECTs");
