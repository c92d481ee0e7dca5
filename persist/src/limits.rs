//! Bounds on everything that grows, with their derivations.

/// The usual length of a segment file: 64 MiB. A roll every second or so at 500,000 small records a second, and half a second of
/// zeros to write when one is made.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// The shortest segment: room for the largest usual packet (1 MiB) several times over.
pub const SEGMENT_BYTES_MIN: u64 = 4 << 20;

/// What the segments that are at hand may take together when there are many shards, divided among them: 512 MiB.
pub const SEGMENTS_BYTES: u64 = 512 << 20;

/// Fetched messages kept in memory per shard: 16 MiB. The pages that several hundred sessions read at the same time.
pub const FETCH_CACHE_BYTES: usize = 16 << 20;

const _: () = assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES, "a clamp needs its bounds in order");
