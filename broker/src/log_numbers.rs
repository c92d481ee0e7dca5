//! What the shards' logs have done, under the names of `$SYS` and of a dump.

use dunlin_persist::StoreMetrics;
use dunlin_persist::metrics::Histogram;

use crate::sys_topics::Entry;

/// Sizes now.
pub(crate) fn gauges(logs: &[StoreMetrics]) -> Vec<Entry> {
    sums(logs, &GAUGES)
}

/// Counts since the start, and how the syncs went.
pub(crate) fn counters(logs: &[StoreMetrics]) -> Vec<Entry> {
    let mut entries = sums(logs, &COUNTERS);
    if logs.is_empty() {
        return entries;
    }
    let (mut sync_us, mut group) = (Histogram::default(), Histogram::default());
    for log in logs {
        merge(&mut sync_us, &log.sync_us);
        merge(&mut group, &log.group_records);
    }
    entries.extend([
        ("store.sync_us.p50", quantile(&sync_us, 500)),
        ("store.sync_us.p99", quantile(&sync_us, 990)),
        ("store.sync_us.max", sync_us.max),
        ("store.sync_records.p50", quantile(&group, 500)),
        ("store.sync_records.p99", quantile(&group, 990)),
        ("store.sync_records.max", group.max),
    ]);
    entries
}

fn sums(logs: &[StoreMetrics], fields: &[Field]) -> Vec<Entry> {
    if logs.is_empty() {
        return Vec::new();
    }
    fields.iter().map(|(name, field)| (*name, logs.iter().map(field).sum())).collect()
}

fn merge(into: &mut Histogram, from: &Histogram) {
    for (bucket, more) in into.buckets.iter_mut().zip(from.buckets) {
        *bucket = bucket.saturating_add(more);
    }
    into.sum = into.sum.saturating_add(from.sum);
    into.max = into.max.max(from.max);
}

/// The value that so many thousandths do not pass: the upper end of its bucket, a power of two, and never more than the largest.
fn quantile(histogram: &Histogram, thousandths: u64) -> u64 {
    let wanted = histogram.count().saturating_mul(thousandths).div_ceil(1_000);
    let mut seen = 0;
    for (bits, count) in (0_u32..).zip(histogram.buckets) {
        seen += count;
        if seen >= wanted {
            return 1_u64.checked_shl(bits).map_or(histogram.max, |end| (end - 1).min(histogram.max));
        }
    }
    histogram.max
}

/// A name, and where its number stands.
type Field = (&'static str, fn(&StoreMetrics) -> u64);

const GAUGES: [Field; 5] = [
    ("store.segments.count", |log| log.segments),
    ("store.spare_segments.count", |log| log.spare_segments),
    ("store.disk_bytes.count", |log| log.disk_bytes),
    ("store.live_bytes.count", |log| log.live_bytes),
    ("store.messages.count", |log| log.messages),
];

const COUNTERS: [Field; 12] = [
    ("store.appended_records", |log| log.appended_records),
    ("store.appended_bytes", |log| log.appended_bytes),
    ("store.moved_bytes", |log| log.moved_bytes),
    ("store.reclaimed_bytes", |log| log.reclaimed_bytes),
    ("store.syncs", |log| log.syncs),
    ("store.sync_failures", |log| log.sync_failures),
    ("store.synced_records", |log| log.group_records.sum),
    ("store.fetched_messages", |log| log.fetched_messages),
    ("store.fetched_from_cache", |log| log.fetched_from_cache),
    ("store.lost_messages", |log| log.lost_messages),
    ("store.became_full", |log| log.full_count),
    ("store.index_stopped", |log| log.index_stopped),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_logs_there_is_nothing_to_tell() {
        assert!(gauges(&[]).is_empty() && counters(&[]).is_empty());
    }

    #[test]
    fn logs_are_summed_and_their_syncs_are_one_distribution() {
        let log = |us: u64| {
            let mut log = StoreMetrics { appended_records: 5, segments: 2, ..StoreMetrics::default() };
            log.sync_us.add(us);
            log
        };
        let logs: Vec<StoreMetrics> = [100, 100, 100, 5_000].map(log).into();
        let told = |entries: Vec<Entry>, name| {
            entries.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        assert_eq!(told(gauges(&logs), "store.segments.count"), Some(8));
        assert_eq!(told(counters(&logs), "store.appended_records"), Some(20));
        assert_eq!(told(counters(&logs), "store.sync_us.p50"), Some(127), "the end of the bucket of 100");
        assert_eq!(told(counters(&logs), "store.sync_us.p99"), Some(5_000), "never beyond the largest");
        assert_eq!(told(counters(&logs), "store.sync_us.max"), Some(5_000));
        assert_eq!(told(counters(&logs), "store.sync_records.p50"), Some(0));
    }
}
