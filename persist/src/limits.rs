//! Bounds on everything that grows, with their derivations.

/// The usual length of a segment file: 16 MiB. A roll every few hundred milliseconds at 500,000 small records a second; zeros that
/// a slow disk writes in a fraction of a second at boot, and a small broker takes 50 MiB per shard rather than 200.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// The shortest segment: room for the largest usual packet (1 MiB) several times over.
pub const SEGMENT_BYTES_MIN: u64 = 4 << 20;

/// What the segments that are at hand may take together when there are many shards, divided among them: 512 MiB.
pub const SEGMENTS_BYTES: u64 = 512 << 20;

/// Fetched messages kept in memory per shard: 16 MiB. The pages that several hundred sessions read at the same time.
pub const FETCH_CACHE_BYTES: usize = 16 << 20;

/// The longest record taken: 1 GiB. A packet is at most 256 MiB; what is more is room for a session with millions of messages.
pub const RECORD_BYTES_MAX: u32 = 1 << 30;

/// Bytes read at once when a log is scanned: large enough that a disk reads at full speed, small enough to stay in a cache.
pub const SCAN_BYTES: usize = 1 << 20;

/// Places of moved messages that are kept apart before they are merged into their segment's sorted list: the list is then copied once
/// for a thousand of them.
pub const MOVED_PENDING_COUNT: usize = 1_024;

/// Bytes of the oldest segment that are read at once to clean it.
pub const CLEAN_BYTES: u64 = 256 << 10;

/// Segments that are made ready ahead of need. The first is used next; the second is the reserve: when it cannot be made, the store is
/// full, and there is room for a segment of acknowledgements and of what cleaning moves.
pub const SPARE_COUNT: usize = 2;

/// Segments that a log may have before it is cleaned at all.
pub const SEGMENTS_FREE_OF_CLEANING: u64 = 4;

/// Bytes of the oldest segment that may be cleaned for each byte appended, so that cleaning keeps up: with half of what is scanned
/// still needed, two keep the log's length; the third shortens it.
pub const CLEAN_BYTES_PER_APPENDED: u64 = 3;

/// Bytes that may be cleaned per commit even if nothing is appended.
pub const CLEAN_BYTES_PER_COMMIT: u64 = 16 << 10;

/// Bytes appended between two looks at whether cleaning is due, each of which walks over the segments: nothing compared with writing them.
pub const CLEANING_LOOK_BYTES: u64 = 64 << 10;

/// Polls of a full store between two attempts to make a segment.
pub const FULL_RETRY_POLLS: u32 = 64;

const _: () = assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES, "a clamp needs its bounds in order");
