//! Cleaning: the oldest segment is read record by record, what still holds is said again at the end of the log, and the file is free.
//!
//! The pace follows from two numbers. The log may be as long as four segments, or twice what is estimated to be still needed;
//! while it is longer, three bytes are cleaned for each byte appended. What is needed is estimated by counting (messages with
//! nobody left to hold them are not needed) and corrected by what the last cleanings found.

use std::collections::VecDeque;
use std::ops::Range;

use crate::disk::Disk;
use crate::limits::{
    CLEAN_BYTES, CLEAN_BYTES_PER_APPENDED, CLEAN_BYTES_PER_COMMIT, SEGMENTS_FREE_OF_CLEANING,
};
use crate::log::reader::Reader;
use crate::log::segment::LogId;
use crate::record::Record;
use crate::record::decode::decode;
use crate::record::kind::Kind;

/// A piece of the oldest segment as it was read.
pub(crate) struct Scanned {
    /// Of which segment.
    pub segment: u64,
    /// Records that may still hold, tombstones left out.
    pub records: Vec<ScannedRecord>,
    /// Where the next piece begins; the end of the segment if there is none.
    pub next: u64,
    /// Bytes that are no sound frame.
    pub unreadable_bytes: u64,
}

/// A record of the oldest segment.
pub(crate) struct ScannedRecord {
    /// Where its frame begins.
    pub offset: u64,
    /// Length of its frame.
    pub bytes: u64,
    /// What it says.
    pub record: Record,
}

/// Reads a piece of a segment. Blocks. A file that cannot be opened counts as unreadable to its end.
pub(crate) fn scan(disk: &dyn Disk, log: &LogId, segment: u64, range: Range<u64>, bytes_max: u64) -> Scanned {
    let mut scanned = Scanned { segment, records: Vec::new(), next: range.end, unreadable_bytes: 0 };
    let Ok(file) = disk.open(&log.path(segment)) else {
        scanned.unreadable_bytes = range.end.saturating_sub(range.start);
        return scanned;
    };
    let window = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let mut reader = Reader::new(file, log.seed(segment)).with_window(window);
    let mut offset = range.start;
    while offset < range.end && offset.saturating_sub(range.start) < bytes_max {
        let Some(sound) = reader.frame(offset) else {
            let next = reader.find(offset, 1..u64::MAX).map_or(range.end, |(next, _)| next.min(range.end));
            scanned.unreadable_bytes += next.saturating_sub(offset);
            offset = next;
            continue;
        };
        let bytes = u64::try_from(sound.header.frame_bytes()).unwrap_or(u64::MAX);
        let is_tombstone = Kind::from_byte(sound.header.kind).is_some_and(Kind::is_tombstone);
        if !is_tombstone
            && let Ok(view) = decode(sound.header.kind, sound.header.version, sound.archive, sound.payload)
        {
            scanned.records.push(ScannedRecord { offset, bytes, record: view.into_record() });
        }
        offset = offset.saturating_add(bytes);
    }
    scanned.next = offset.min(range.end);
    scanned
}

/// When to clean and how fast. One per store.
#[derive(Debug)]
pub(crate) struct Pace {
    segment_bytes: u64,
    /// Bytes that may be cleaned now.
    credit: u64,
    /// How much of what was thought to be needed was, in the last cleanings; 1,024ths.
    yield_1024: u64,
    /// Bytes appended since the last segment was cleaned.
    appended_since: u64,
}

impl Pace {
    /// For segments of this length.
    pub(crate) fn new(segment_bytes: u64) -> Self {
        Self { segment_bytes, credit: 0, yield_1024: 1_024, appended_since: 0 }
    }

    /// Bytes were appended.
    pub(crate) fn note_appended(&mut self, bytes: u64) {
        self.appended_since += bytes;
        self.earn(bytes * CLEAN_BYTES_PER_APPENDED);
    }

    /// A commit was asked for.
    pub(crate) fn note_commit(&mut self) {
        self.earn(CLEAN_BYTES_PER_COMMIT);
    }

    /// Nothing was appended for a while.
    pub(crate) fn note_rest(&mut self) {
        self.earn(CLEAN_BYTES);
    }

    /// Takes the price of a record, if there is credit at all.
    pub(crate) fn pay(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_sub(bytes);
    }

    /// Whether there is credit.
    pub(crate) fn has_credit(&self) -> bool {
        self.credit > 0
    }

    /// Whether the oldest segment should be cleaned. A log that grows without anything being cleaned is probed now and then, so
    /// that an estimate that is too high does not stay so.
    pub(crate) fn is_due(&self, used_bytes: u64, counted_live_bytes: u64, is_full: bool) -> bool {
        let free = SEGMENTS_FREE_OF_CLEANING * self.segment_bytes;
        let live = self.live_bytes(counted_live_bytes);
        if is_full {
            return live < used_bytes / 10 * 9;
        }
        used_bytes > free && (used_bytes > 2 * live || self.appended_since > used_bytes / 4)
    }

    /// Bytes that are still needed, as far as is known.
    pub(crate) fn live_bytes(&self, counted_live_bytes: u64) -> u64 {
        u64::try_from(u128::from(counted_live_bytes) * u128::from(self.yield_1024) / 1_024)
            .unwrap_or(u64::MAX)
    }

    /// A segment was cleaned: so much was thought to be needed in it, so much was said again.
    pub(crate) fn note_cleaned(&mut self, counted_bytes: u64, moved_bytes: u64) {
        self.appended_since = 0;
        if let Some(found) = moved_bytes.saturating_mul(1_024).checked_div(counted_bytes) {
            self.yield_1024 = (self.yield_1024 * 3 + found.min(1_024)) / 4;
        }
    }

    /// Credit is at most what a segment costs: a pause is not made up for in one go.
    fn earn(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_add(bytes).min(self.segment_bytes);
    }
}

/// The oldest segment while it is cleaned.
#[derive(Debug)]
pub(crate) struct Cleaning {
    /// Its number.
    pub segment: u64,
    /// Where its frames end.
    pub end: u64,
    /// Where the next piece begins.
    pub next: u64,
    /// Read and not yet offered.
    pub records: VecDeque<ScannedRecord>,
    /// Whether a piece is being read.
    pub is_reading: bool,
    /// Bytes in it that were thought to be needed when it began.
    pub counted_bytes: u64,
    /// Bytes that were said again so far.
    pub moved_bytes: u64,
}

impl std::fmt::Debug for ScannedRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ScannedRecord(at {}, {} bytes)", self.offset, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_of_live_messages_is_left_alone_and_one_of_dead_ones_is_not() {
        let pace = Pace::new(100);
        assert!(!pace.is_due(400, 0, false), "four segments are free");
        assert!(!pace.is_due(1_000, 600, false), "less than twice what is needed");
        assert!(pace.is_due(1_000, 400, false));
        assert!(pace.is_due(100, 0, true), "when full, anything helps");
        assert!(!pace.is_due(100, 95, true), "but moving everything does not");
    }

    #[test]
    fn an_estimate_that_was_too_high_comes_down() {
        let mut pace = Pace::new(100);
        pace.note_appended(300);
        assert!(pace.is_due(1_000, 1_000, false), "probed");
        for _ in 0..8 {
            pace.note_cleaned(100, 0);
        }
        assert!(pace.live_bytes(1_000) < 150);
        assert!(pace.is_due(1_000, 1_000, false));
    }

    #[test]
    fn credit_comes_from_appending_and_is_bounded() {
        let mut pace = Pace::new(1_000);
        assert!(!pace.has_credit());
        pace.note_appended(10);
        pace.pay(29);
        assert!(pace.has_credit());
        pace.pay(29);
        assert!(!pace.has_credit());
        pace.note_appended(1 << 40);
        pace.pay(1_000);
        assert!(!pace.has_credit());
    }
}
