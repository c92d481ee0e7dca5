//! Segments made ready ahead of need, so that a roll never waits and a full disk is met before anything is written.

use std::collections::VecDeque;

use crate::limits::SPARE_COUNT;
use crate::log::segment::Blank;

/// The spare segments of a log. One per store.
#[derive(Debug)]
pub(crate) struct Supply {
    blanks: VecDeque<Blank>,
    /// The number that the next segment to be made gets.
    next_number: u64,
    /// Segments with lower numbers came too late.
    usable_from: u64,
    /// Segments that are being made.
    making_count: usize,
    segment_bytes: u64,
    /// What this log may take on the disk; `None`: what there is.
    quota_bytes: Option<u64>,
    /// Why the last one could not be made.
    trouble: Option<String>,
}

impl Supply {
    /// An empty one that gives numbers from `next_number` on.
    pub(crate) fn new(next_number: u64, segment_bytes: u64, quota_bytes: Option<u64>) -> Self {
        Self {
            blanks: VecDeque::new(),
            next_number,
            usable_from: 0,
            making_count: 0,
            segment_bytes,
            quota_bytes,
            trouble: None,
        }
    }

    /// A number for the next segment, if one is wanted and its bytes are within the quota beside `held_bytes` of begun ones.
    pub(crate) fn next_to_make(&mut self, held_bytes: u64) -> Option<u64> {
        if self.blanks.len() + self.making_count >= SPARE_COUNT {
            return None;
        }
        if !self.is_within_quota(held_bytes.saturating_add(self.segment_bytes)) {
            self.trouble.get_or_insert_with(|| "the storage quota is used up".to_owned());
            return None;
        }
        self.making_count += 1;
        Some(self.take_number())
    }

    /// A number beyond all that were given. Segments that have lower ones can no longer be used; they are handed back.
    pub(crate) fn overtake(&mut self) -> (u64, Vec<Blank>) {
        let number = self.take_number();
        self.usable_from = number;
        (number, self.blanks.drain(..).collect())
    }

    /// A segment was made, or not. One that was overtaken meanwhile is handed back.
    pub(crate) fn note_made(&mut self, made: Result<Blank, String>) -> Option<Blank> {
        self.making_count = self.making_count.saturating_sub(1);
        match made {
            Ok(blank) if blank.segment < self.usable_from => return Some(blank),
            Ok(blank) => {
                self.trouble = None;
                self.blanks.push_back(blank);
            }
            Err(error) => self.trouble = Some(error),
        }
        None
    }

    fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// The next segment to write into.
    pub(crate) fn take(&mut self) -> Option<Blank> {
        self.blanks.pop_front()
    }

    /// How many are ready.
    pub(crate) fn ready_count(&self) -> usize {
        self.blanks.len()
    }

    /// Whether any is being made.
    pub(crate) fn is_making(&self) -> bool {
        self.making_count > 0
    }

    /// Bytes of spare segments, those that are being made included.
    pub(crate) fn bytes(&self) -> u64 {
        let count = u64::try_from(self.blanks.len() + self.making_count).unwrap_or(u64::MAX);
        count.saturating_mul(self.segment_bytes)
    }

    /// Why there are too few, if that is so.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Forgets the last trouble, before another attempt.
    pub(crate) fn try_again(&mut self) {
        self.trouble = None;
    }

    fn is_within_quota(&self, held_bytes: u64) -> bool {
        self.quota_bytes.is_none_or(|quota| held_bytes.saturating_add(self.bytes()) <= quota)
    }
}
