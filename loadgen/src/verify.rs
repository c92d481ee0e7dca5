//! The oracle: has each receiver got each message exactly once, in order, unharmed, and nothing else?
//!
//! A *stream* is what one receiver should see of one publisher: sequences 0, 1, 2 … . The ledger keeps the next
//! sequence of each stream (four bytes), and what is missing only when something is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

/// What has been found wrong, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Violations {
    /// Messages that never came.
    pub(crate) lost: u64,
    /// Messages that came again.
    pub(crate) duplicated: u64,
    /// Messages that came after a later one of the same stream.
    pub(crate) reordered: u64,
    /// Messages that came to somebody they were not for.
    pub(crate) misdelivered: u64,
    /// Payloads that are damaged or not from this run.
    pub(crate) corrupted: u64,
    /// Retained messages that are not the last that was stored on their topic.
    pub(crate) stale: u64,
}

impl Violations {
    /// Whether nothing is wrong.
    pub(crate) fn is_clean(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "lost {}  duplicated {}  reordered {}  misdelivered {}  corrupted {}",
            self.lost, self.duplicated, self.reordered, self.misdelivered, self.corrupted
        )?;
        if self.stale > 0 { write!(formatter, "  stale {}", self.stale) } else { Ok(()) }
    }
}

/// The ledger of all streams of a run.
#[derive(Debug)]
pub(crate) struct Ledger {
    expected: Vec<u32>,
    missing: BTreeMap<usize, BTreeSet<u32>>,
    missing_count: u64,
    found: Violations,
}

impl Ledger {
    /// A ledger of `streams` streams, each beginning at sequence 0.
    pub(crate) fn new(streams: usize) -> Self {
        Self {
            expected: vec![0; streams],
            missing: BTreeMap::new(),
            missing_count: 0,
            found: Violations::default(),
        }
    }

    /// Notes that `sequence` has come in on `stream`; true if it is the first time.
    pub(crate) fn arrived(&mut self, stream: usize, sequence: u32) -> bool {
        let Some(expected) = self.expected.get_mut(stream) else {
            self.found.misdelivered += 1;
            return false;
        };
        if sequence == *expected {
            *expected += 1;
            return true;
        }
        if sequence > *expected {
            let gap = *expected..sequence;
            *expected = sequence + 1;
            self.note_gap(stream, gap);
            return true;
        }
        self.arrived_late(stream, sequence)
    }

    /// The sequence that comes next on a stream; 0 for one that is not known.
    pub(crate) fn next(&self, stream: usize) -> u32 {
        self.expected.get(stream).copied().unwrap_or(0)
    }

    /// Notes a message that is not for its receiver.
    pub(crate) fn misdelivered(&mut self) {
        self.found.misdelivered += 1;
    }

    /// Notes a payload that can't be trusted.
    pub(crate) fn corrupted(&mut self) {
        self.found.corrupted += 1;
    }

    /// Closes the books: `sent(stream)` is how many messages were sent on it.
    pub(crate) fn close(&self, mut sent: impl FnMut(usize) -> u32) -> Violations {
        let tails: u64 = self
            .expected
            .iter()
            .enumerate()
            .map(|(stream, expected)| u64::from(sent(stream).saturating_sub(*expected)))
            .sum();
        Violations { lost: self.missing_count + tails, ..self.found }
    }

    #[cold]
    fn note_gap(&mut self, stream: usize, gap: std::ops::Range<u32>) {
        self.missing_count += u64::from(gap.end - gap.start);
        let kept = self.missing.entry(stream).or_default();
        // A stream that has lost this much is not coming back in order; counting goes on, listing does not.
        kept.extend(gap.take(MISSING_LISTED_MAX.saturating_sub(kept.len())));
    }

    #[cold]
    fn arrived_late(&mut self, stream: usize, sequence: u32) -> bool {
        let was_missing = self.missing.get_mut(&stream).is_some_and(|missing| missing.remove(&sequence));
        if was_missing {
            self.missing_count -= 1;
            self.found.reordered += 1;
        } else {
            self.found.duplicated += 1;
        }
        was_missing
    }
}

/// Missing sequences remembered per stream, to tell a late message from a duplicate: about 40 bytes each.
const MISSING_LISTED_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger_of(sequences: &[u32], sent: u32) -> Violations {
        let mut ledger = Ledger::new(1);
        for sequence in sequences {
            ledger.arrived(0, *sequence);
        }
        ledger.close(|_| sent)
    }

    #[test]
    fn in_order_is_clean() {
        assert!(ledger_of(&[0, 1, 2], 3).is_clean());
    }

    #[test]
    fn a_gap_and_a_missing_tail_are_losses() {
        assert_eq!(ledger_of(&[0, 3], 6), Violations { lost: 4, ..Violations::default() });
    }

    #[test]
    fn a_second_time_is_a_duplicate() {
        assert_eq!(ledger_of(&[0, 1, 1, 0], 2), Violations { duplicated: 2, ..Violations::default() });
    }

    #[test]
    fn a_late_one_is_reordered_and_not_lost() {
        assert_eq!(ledger_of(&[0, 2, 1], 3), Violations { reordered: 1, ..Violations::default() });
    }

    #[test]
    fn an_unknown_stream_is_a_wrong_recipient() {
        let mut ledger = Ledger::new(1);
        assert!(!ledger.arrived(1, 0));
        assert_eq!(ledger.close(|_| 0), Violations { misdelivered: 1, ..Violations::default() });
    }
}
