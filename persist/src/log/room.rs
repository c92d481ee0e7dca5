//! Room for a log to grow: spare segments taken, made and used again, and what is told when there is none.

use std::collections::VecDeque;

use crate::limits::{FULL_RETRY_POLLS, SPARE_COUNT};
use crate::log::Log;
use crate::log::segment::Blank;
use crate::sync::Job;
use crate::told::{StoreState, Told};

impl Log {
    /// A poll: a log that is full looks for room now and then.
    pub(crate) fn note_poll(&mut self, told: &mut VecDeque<Told>) {
        if self.state == StoreState::Full && !self.supply.is_making() {
            self.pace.note_commit();
            self.full_polls += 1;
            if self.full_polls >= FULL_RETRY_POLLS {
                self.full_polls = 0;
                self.supply.try_again();
                self.replenish();
            }
        }
        self.update_state(told);
    }

    /// A segment that was made ahead; waits for one that is being made.
    pub(super) fn take_spare(&mut self, told: &mut VecDeque<Told>) -> Option<Blank> {
        loop {
            if let Some(blank) = self.supply.take() {
                return Some(blank);
            }
            self.metrics.waited_rolls += 1;
            if !self.supply.is_making() {
                self.supply.try_again();
                self.replenish();
                if !self.supply.is_making() {
                    return None;
                }
            }
            while self.supply.is_making() && self.supply.ready_count() == 0 {
                let outcome = self.backstage.wait()?;
                // Only fetched messages come back; the store takes them later.
                let fetched = self.take_outcome(outcome, told);
                self.fetched.extend(fetched);
            }
            if self.supply.ready_count() == 0 {
                return None;
            }
        }
    }

    /// A segment for one record that is longer than a segment. Made on the spot: the one case in which a shard waits for a file.
    pub(super) fn make_large(&mut self, bytes: u64) -> Option<Blank> {
        let (number, overtaken) = self.supply.overtake();
        overtaken.into_iter().for_each(|blank| self.hand_back(blank));
        self.metrics.waited_rolls += 1;
        let side = self.backstage.side();
        Blank::make(&*side.disk, &side.log, number, bytes.next_multiple_of(4 << 10)).ok()
    }

    /// Asks for spare segments until there are enough or there is trouble.
    pub(super) fn replenish(&mut self) {
        while self.supply.trouble().is_none()
            && let Some(segment) = self.supply.next_to_make(self.held_bytes())
        {
            let job = Job::Prepare { segment, bytes: self.segment_bytes, recycle: None };
            self.backstage.ask(job, self.waker.as_ref());
        }
    }

    /// Makes a new spare of one that can no longer be used under its number.
    pub(super) fn hand_back(&mut self, blank: Blank) {
        let segment = blank.segment;
        drop(blank);
        self.reuse(segment);
    }

    /// Makes a spare of a file that is needed no more, or removes it.
    pub(super) fn reuse(&mut self, segment: u64) {
        let job = match self.supply.next_to_make(self.held_bytes()) {
            Some(number) => {
                Job::Prepare { segment: number, bytes: self.segment_bytes, recycle: Some(segment) }
            }
            None => Job::Remove { segment },
        };
        self.backstage.ask(job, self.waker.as_ref());
    }

    /// Bytes of segments that have begun.
    pub(super) fn held_bytes(&self) -> u64 {
        self.catalog.disk_bytes() + self.retiring.iter().map(|retiring| retiring.disk_bytes).sum::<u64>()
    }

    /// Tells whether the log has become full, or is so no more.
    pub(super) fn update_state(&mut self, told: &mut VecDeque<Told>) {
        let ready = self.supply.ready_count();
        let state = match self.state {
            StoreState::Failed => return,
            StoreState::Open if ready < SPARE_COUNT && self.supply.trouble().is_some() => StoreState::Full,
            StoreState::Full if ready >= SPARE_COUNT => StoreState::Open,
            StoreState::Open | StoreState::Full => return,
        };
        self.metrics.full_count += u64::from(state == StoreState::Full);
        self.state = state;
        told.push_back(Told::State(state));
    }
}
