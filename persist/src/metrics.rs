//! Counters and gauges of one store: plain numbers without atomics, summed by whoever reads a copy.

/// What one shard's store has done and holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreMetrics {
    /// Records appended.
    pub appended_records: u64,
    /// Bytes appended, frames and padding included.
    pub appended_bytes: u64,
    /// Of those, bytes appended again because the oldest segment was cleaned.
    pub moved_bytes: u64,
    /// Syncs that succeeded.
    pub syncs: u64,
    /// Syncs that failed: 0 or 1, since none is tried again.
    pub sync_failures: u64,
    /// How many records a sync made durable.
    pub group_records: Histogram,
    /// How long a sync took, microseconds, waiting for the disk thread included.
    pub sync_us: Histogram,
    /// Segment files that hold records.
    pub segments: u64,
    /// Segment files that are made and wait for use.
    pub spare_segments: u64,
    /// Bytes of all segment files.
    pub disk_bytes: u64,
    /// Bytes of records that may still be needed.
    pub live_bytes: u64,
    /// Bytes given back by cleaning.
    pub reclaimed_bytes: u64,
    /// Segments cleaned.
    pub cleaned_segments: u64,
    /// Bytes that cleaning found damaged.
    pub unreadable_bytes: u64,
    /// Cleaned files that could not be removed; the next start finds them.
    pub remove_failures: u64,
    /// Rolls that had to wait for a segment to be made.
    pub waited_rolls: u64,
    /// Messages whose place in the log is known: 16 B of memory each.
    pub messages: u64,
    /// Messages fetched for sessions.
    pub fetched_messages: u64,
    /// Of those, found in memory.
    pub fetched_from_cache: u64,
    /// Of those, lost: their place is unknown, or what stands there fails its check.
    pub lost_messages: u64,
    /// How often the store became full.
    pub full_count: u64,
    /// Whether the index has stopped following this log: 0 or 1, since it does not begin again before the next start.
    pub index_stopped: u64,
}

/// Counts by power of two: bucket `i` holds values below 2^i that no smaller bucket holds, the last one all the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many values fell into each bucket.
    pub buckets: [u64; 32],
    /// Their sum.
    pub sum: u64,
    /// The largest.
    pub max: u64,
}

impl Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        let bits = u64::BITS.saturating_sub(value.leading_zeros());
        let index = usize::try_from(bits).map_or(31, |bits| bits.min(31));
        self.buckets[index] = self.buckets[index].saturating_add(1);
        self.sum = self.sum.saturating_add(value);
        self.max = self.max.max(value);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_powers_of_two() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4, u64::MAX] {
            histogram.add(value);
        }
        assert_eq!(histogram.buckets[..4], [1, 1, 2, 1]);
        assert_eq!(histogram.buckets[31], 1);
        assert_eq!((histogram.count(), histogram.max), (6, u64::MAX));
    }
}
