//! The oldest end of a log: its first segment is offered record by record, then its file is given back.

use std::collections::VecDeque;

use crate::limits::CLEANING_LOOK_BYTES;
use crate::log::Log;
use crate::log::catalog::Place;
use crate::log::cleaning::Cleaning;
use crate::log::segment;
use crate::record::Record;
use crate::sync::Job;
use crate::told::StoreState;

/// A segment that has been cleaned. Its file is free when what was said again is on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retiring {
    /// Its number.
    pub(super) segment: u64,
    /// Length of its file.
    pub(super) disk_bytes: u64,
    /// The last frame that answered one of its records.
    pub(super) free_after_seq: u64,
}

impl Log {
    /// What was appended since the last call answered the last record; offers the next one.
    pub(crate) fn next_reclaimable(&mut self) -> Option<Record> {
        self.is_moving = false;
        if self.state == StoreState::Failed {
            return None;
        }
        if self.cleaning.is_none() {
            self.begin_cleaning();
        }
        loop {
            let cleaning = self.cleaning.as_mut()?;
            if !self.pace.has_credit() {
                return None;
            }
            let Some(scanned) = cleaning.records.pop_front() else {
                self.read_on();
                return None;
            };
            self.pace.pay(scanned.bytes);
            let segment = cleaning.segment;
            if let Record::Published(published) = &scanned.record
                && self.catalog.place(published.id) != Some(Place { segment, offset: scanned.offset })
            {
                // Nobody waits for the message, but its publisher's identifier may still wait for PUBREL.
                let Some((session, packet_id)) = published.arrived else { continue };
                self.is_moving = true;
                return Some(Record::Arrived { session, packet_id });
            }
            self.is_moving = true;
            return Some(scanned.record);
        }
    }

    /// Nothing is appended for a while: a log that is longer than it should be is cleaned on, as long as that makes it shorter. Whether
    /// there is more to do.
    pub(crate) fn note_rest(&mut self) -> bool {
        if self.state == StoreState::Failed || !self.is_worthwhile {
            return false;
        }
        if self.cleaning.is_none() {
            self.next_look_bytes = 0;
            self.begin_cleaning();
        }
        self.pace.note_rest();
        self.cleaning.is_some()
    }

    fn begin_cleaning(&mut self) {
        let is_full = self.state == StoreState::Full;
        if !is_full && self.metrics.appended_bytes < self.next_look_bytes {
            return;
        }
        self.next_look_bytes = self.metrics.appended_bytes + CLEANING_LOOK_BYTES;
        let [oldest, ..] = self.catalog.segments().as_slices().0 else { return };
        if oldest.number == self.writer.number()
            || !self.pace.is_due(self.catalog.used_bytes(), self.catalog.live_bytes(), is_full)
        {
            return;
        }
        self.cleaning = Some(Cleaning {
            segment: oldest.number,
            end: oldest.used_bytes,
            next: FIRST_FRAME,
            records: VecDeque::new(),
            is_reading: false,
            counted_bytes: oldest.live_bytes(),
            moved_bytes: 0,
        });
    }

    /// Asks for the next piece of the segment that is being cleaned, or finishes it.
    fn read_on(&mut self) {
        let Some(cleaning) = &mut self.cleaning else { return };
        if cleaning.is_reading {
            return;
        }
        if cleaning.next < cleaning.end {
            cleaning.is_reading = true;
            let job = Job::Scan { segment: cleaning.segment, from: cleaning.next, end: cleaning.end };
            self.backstage.ask(job, self.waker.as_ref());
            return;
        }
        self.is_worthwhile = cleaning.moved_bytes < cleaning.end / 2;
        self.pace.note_cleaned(cleaning.counted_bytes, cleaning.moved_bytes);
        self.next_look_bytes = 0;
        self.cleaning = None;
        if let Some(cleaned) = self.catalog.take_oldest() {
            self.metrics.cleaned_segments += 1;
            self.retiring.push_back(Retiring {
                segment: cleaned.number,
                disk_bytes: cleaned.disk_bytes,
                free_after_seq: self.appended_seq,
            });
        }
        if self.durable_seq == self.appended_seq {
            self.free_retiring();
        }
    }

    /// Gives back the files of cleaned segments whose records have all been said again on the disk.
    pub(super) fn free_retiring(&mut self) {
        while let Some(retiring) = self.retiring.front().copied()
            && retiring.free_after_seq <= self.durable_seq
        {
            self.retiring.pop_front();
            self.metrics.reclaimed_bytes += retiring.disk_bytes;
            let segment = retiring.segment;
            if retiring.disk_bytes == self.segment_bytes {
                self.reuse(segment);
            } else {
                self.backstage.ask(Job::Remove { segment }, self.waker.as_ref());
            }
        }
    }
}

/// Where the frames of a segment begin.
const FIRST_FRAME: u64 = 64;
const _: () = assert!(segment::SEGMENT_HEADER_BYTES == 64, "the first frame follows the header");
