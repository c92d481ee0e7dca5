//! The way from the shards to the index's thread.
//!
//! A shard notes what its records change, and hands that over when a sync has covered it: the index never speaks of what a power
//! cut could take back. Handing over never waits. What does not fit makes the index stop for good, since an index with a gap would
//! claim what it does not know.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use super::{Batch, Change, Place};
use crate::record::Record;

/// Batches that may wait. Each is what one sync covered, so this is seconds of a disk that syncs a hundred times in one.
pub const BATCHES_WAITING_MAX: usize = 512;
/// Changes that may wait in all, about 100 B each: 6 MiB. A second of clients that come as fast as they can.
pub const CHANGES_WAITING_MAX: u64 = 65_536;

/// Whether the index still follows the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Following {
    /// It does.
    Yes,
    /// It could not keep up, and has stopped.
    Behind,
    /// It broke, or could not be opened, and has stopped.
    Broken,
}

/// The shards' end of the way. One per data directory; cheap to clone.
#[derive(Clone, Debug)]
pub struct Line {
    letters: SyncSender<Letter>,
    shared: Arc<Shared>,
}

/// The thread's end of the way.
#[derive(Debug)]
pub struct LineEnd {
    letters: Receiver<Letter>,
    shared: Arc<Shared>,
}

/// What goes over it.
#[derive(Debug)]
pub(super) enum Letter {
    Batch(Batch),
    Stop,
}

#[derive(Debug)]
struct Shared {
    following: AtomicU8,
    is_stopping: AtomicBool,
    /// Changes on their way.
    waiting: AtomicU64,
    /// The last frame of each shard that is on the disk and whose changes, and those of all before, have been handed over.
    stored: Box<[AtomicU64]>,
}

const YES: u8 = 0;
const BEHIND: u8 = 1;
const BROKEN: u8 = 2;

/// A way for the logs of so many shards.
#[must_use]
pub fn line(shard_count: u16) -> (Line, LineEnd) {
    let (sender, letters) = sync_channel(BATCHES_WAITING_MAX);
    let shared = Arc::new(Shared {
        following: AtomicU8::new(YES),
        is_stopping: AtomicBool::new(false),
        waiting: AtomicU64::new(0),
        stored: (0..shard_count).map(|_| AtomicU64::new(0)).collect(),
    });
    (Line { letters: sender, shared: Arc::clone(&shared) }, LineEnd { letters, shared })
}

impl Line {
    /// Whether the index still follows.
    #[must_use]
    pub fn following(&self) -> Following {
        self.shared.following()
    }

    /// Hands over what a sync has covered. Tells whether it was taken. Never blocks; costs a move.
    pub(super) fn offer(&self, batch: Batch) -> bool {
        if self.following() != Following::Yes {
            return false;
        }
        let count = count(&batch);
        let waiting = self.shared.waiting.fetch_add(count, Ordering::Relaxed);
        if waiting.saturating_add(count) > CHANGES_WAITING_MAX {
            self.shared.stop_following(BEHIND);
            return false;
        }
        match self.letters.try_send(Letter::Batch(batch)) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.shared.stop_following(BEHIND);
                false
            }
            Err(TrySendError::Disconnected(_)) => {
                self.shared.stop_following(BROKEN);
                false
            }
        }
    }

    /// Everything up to this frame of a shard has been handed over. The number of a shard that the line was not made for is ignored.
    fn note_stored(&self, shard: u16, sequence: u64) {
        if let Some(stored) = self.shared.stored.get(usize::from(shard)) {
            stored.store(sequence, Ordering::Release);
        }
    }

    /// Asks the thread to end as soon as it can: at once while it brings the index up to date, else when it has written what waits.
    pub(super) fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        // An error says that it has ended already, or has so much to do that it looks at the flag.
        drop(self.letters.try_send(Letter::Stop));
    }
}

impl LineEnd {
    /// Where letters arrive.
    pub(super) fn letters(&self) -> &Receiver<Letter> {
        &self.letters
    }

    /// A batch has been taken off the way.
    pub(super) fn note_taken(&self, batch: &Batch) {
        self.shared.waiting.fetch_sub(count(batch), Ordering::Relaxed);
    }

    /// Whether the index still follows.
    pub(super) fn following(&self) -> Following {
        self.shared.following()
    }

    /// It follows no more.
    pub(super) fn note_broken(&self) {
        self.shared.stop_following(BROKEN);
    }

    /// Whether the broker is ending.
    pub(super) fn is_stopping(&self) -> bool {
        self.shared.is_stopping.load(Ordering::Relaxed)
    }

    /// How far each shard has handed over. What it names has been sent before this returns.
    pub(super) fn stored(&self) -> Vec<u64> {
        self.shared.stored.iter().map(|stored| stored.load(Ordering::Acquire)).collect()
    }
}

impl Shared {
    fn following(&self) -> Following {
        match self.following.load(Ordering::Relaxed) {
            YES => Following::Yes,
            BEHIND => Following::Behind,
            _ => Following::Broken,
        }
    }

    /// The first reason stays.
    fn stop_following(&self, why: u8) {
        let _earlier_reason = self.following.compare_exchange(YES, why, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn count(batch: &Batch) -> u64 {
    u64::try_from(batch.changes.len()).unwrap_or(u64::MAX)
}

/// What one shard's log has to tell the index. Owned by the log, on the shard's thread.
#[derive(Debug)]
pub(crate) struct Feed {
    shard: u16,
    line: Line,
    /// Changes of records that are not on the disk yet, by their numbers.
    waiting: VecDeque<(u64, Change)>,
    is_off: bool,
}

impl Feed {
    /// Of this shard, over this line.
    pub(crate) fn new(shard: u16, line: Line) -> Self {
        Self { shard, line, waiting: VecDeque::new(), is_off: false }
    }

    /// A record was appended here. Nearly all change nothing: two comparisons.
    pub(crate) fn note(&mut self, record: &Record, at: Place) {
        if self.is_off {
            return;
        }
        if let Some(change) = Change::of(record, at) {
            self.waiting.push_back((at.sequence, change));
        }
    }

    /// Everything up to this frame is on the disk.
    pub(crate) fn note_stored(&mut self, sequence: u64) {
        if self.is_off {
            return;
        }
        let covered = self.waiting.partition_point(|(number, _)| *number <= sequence);
        if covered > 0 {
            let changes = self.waiting.drain(..covered).map(|(_, change)| change).collect();
            if !self.line.offer(Batch { shard: self.shard, up_to: sequence, changes }) {
                self.turn_off();
                return;
            }
        }
        self.line.note_stored(self.shard, sequence);
    }

    /// Whether the index has stopped following.
    pub(crate) fn has_stopped(&self) -> bool {
        self.is_off || self.line.following() != Following::Yes
    }

    fn turn_off(&mut self) {
        self.is_off = true;
        self.waiting = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SessionNo;

    fn ended(session: u64) -> Record {
        Record::SessionEnded { session: SessionNo(session) }
    }

    fn at(sequence: u64) -> Place {
        Place { segment: 1, offset: sequence * 64, sequence }
    }

    fn arrived(end: &LineEnd) -> Option<Batch> {
        match end.letters().try_recv() {
            Ok(Letter::Batch(batch)) => Some(batch),
            Ok(Letter::Stop) | Err(_) => None,
        }
    }

    #[test]
    fn only_what_a_sync_has_covered_is_handed_over() {
        let (line, end) = line(2);
        let mut feed = Feed::new(1, line);
        feed.note(&ended(7), at(1));
        feed.note(&Record::WillGone { session: SessionNo(7) }, at(2));
        feed.note(&ended(8), at(3));
        feed.note_stored(2);
        let change = |session| Change::Ended { session: SessionNo(session) };
        assert_eq!(arrived(&end), Some(Batch { shard: 1, up_to: 2, changes: vec![change(7)] }));
        assert_eq!(end.stored(), [0, 2]);
        feed.note_stored(3);
        assert_eq!(arrived(&end).unwrap().changes, [change(8)]);
        // What changes nothing costs the thread nothing: only the mark moves.
        feed.note_stored(9);
        assert_eq!((arrived(&end), end.stored()), (None, vec![0, 9]));
    }

    #[test]
    fn what_does_not_fit_ends_it_and_no_mark_passes_the_gap() {
        let (line, end) = line(1);
        let mut feed = Feed::new(0, line.clone());
        let many = CHANGES_WAITING_MAX;
        for number in 1..=many {
            feed.note(&ended(number), at(number));
        }
        feed.note_stored(many - 1);
        assert_eq!(line.following(), Following::Yes);
        for number in many + 1..=many + 2 {
            feed.note(&ended(number), at(number));
        }
        feed.note_stored(many + 2);
        assert_eq!(line.following(), Following::Behind);
        assert!(feed.has_stopped() && feed.waiting.is_empty());
        assert_eq!(end.stored(), [many - 1]);
        // Room again does not help: there is a gap now.
        end.note_taken(&arrived(&end).unwrap());
        feed.note(&ended(1), at(many + 3));
        feed.note_stored(many + 3);
        assert_eq!((arrived(&end), end.stored()), (None, vec![many - 1]));
    }

    #[test]
    fn a_thread_that_has_gone_is_noticed() {
        let (line, end) = line(1);
        let mut feed = Feed::new(0, line.clone());
        drop(end);
        feed.note(&ended(1), at(1));
        feed.note_stored(1);
        assert_eq!(line.following(), Following::Broken);
    }
}
