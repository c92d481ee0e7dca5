//! The thread that writes the index behind the logs.
//!
//! Nothing waits for it. When its queue is full, or the index breaks, it stops following for good: an index with a gap would
//! claim what it does not know. The next start brings it up to date.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Batch, Index, IndexError};

/// Batches that may wait. Each is what one sync covered, so this is seconds of a disk that syncs a hundred times in one.
pub const BATCHES_WAITING_MAX: usize = 512;
/// How long what was written may stay unsynced. It only saves the next start some work.
const FLUSH_AFTER: Duration = Duration::from_secs(1);

/// Whether the index still follows the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Following {
    /// It does.
    Yes,
    /// It could not keep up, and has stopped.
    Behind,
    /// It broke, and has stopped.
    Broken,
}

/// The way to the index's thread. One per broker; any thread may use it.
pub struct Writer {
    batches: SyncSender<Told>,
    following: Arc<AtomicU8>,
    thread: JoinHandle<Result<(), IndexError>>,
}

enum Told {
    Batch(Batch),
    Stop,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(index: Index) -> std::io::Result<Self> {
        let (batches, told) = sync_channel(BATCHES_WAITING_MAX);
        let following = Arc::new(AtomicU8::new(YES));
        let seen = Arc::clone(&following);
        let thread = thread::Builder::new().name("dunlin-index".to_owned()).spawn(move || {
            let outcome = follow(index, &told);
            if outcome.is_err() {
                seen.store(BROKEN, Ordering::Relaxed);
            }
            outcome
        })?;
        Ok(Self { batches, following, thread })
    }

    /// Hands over what a sync has covered. Never blocks; costs a move.
    pub fn offer(&self, batch: Batch) {
        if self.following.load(Ordering::Relaxed) != YES {
            return;
        }
        match self.batches.try_send(Told::Batch(batch)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.following.store(BEHIND, Ordering::Relaxed),
            Err(TrySendError::Disconnected(_)) => self.following.store(BROKEN, Ordering::Relaxed),
        }
    }

    /// Whether the index still follows.
    #[must_use]
    pub fn following(&self) -> Following {
        match self.following.load(Ordering::Relaxed) {
            YES => Following::Yes,
            BEHIND => Following::Behind,
            _ => Following::Broken,
        }
    }

    /// Lets it write what waits, and ends it. Blocks until the index is synced and closed.
    ///
    /// # Errors
    /// Why the index broke.
    pub fn stop(self) -> Result<(), IndexError> {
        let Self { batches, thread, .. } = self;
        drop(batches.send(Told::Stop));
        drop(batches);
        thread.join().unwrap_or_else(|_| Err(IndexError::Panicked("its thread ended".to_owned())))
    }
}

const YES: u8 = 0;
const BEHIND: u8 = 1;
const BROKEN: u8 = 2;

fn follow(mut index: Index, told: &Receiver<Told>) -> Result<(), IndexError> {
    let mut unsynced = false;
    loop {
        match told.recv_timeout(FLUSH_AFTER) {
            Ok(Told::Batch(batch)) => {
                index.follow(&batch)?;
                unsynced = true;
            }
            Ok(Told::Stop) | Err(RecvTimeoutError::Disconnected) => return index.flush(),
            Err(RecvTimeoutError::Timeout) => {
                if std::mem::take(&mut unsynced) {
                    index.flush()?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::index::tests::{batch, begun};
    use crate::index::{MemoryTable, Table};

    /// A table whose writes wait for a permit, and that hands what it holds out when it is flushed.
    struct Gated {
        inner: MemoryTable,
        permits: Option<Receiver<bool>>,
        flushed: Sender<MemoryTable>,
    }

    impl Table for Gated {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
            self.inner.get(key)
        }

        fn write(&mut self, pairs: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Result<(), IndexError> {
            let allowed = self.permits.as_ref().is_none_or(|permits| permits.recv().unwrap_or(true));
            if allowed { self.inner.write(pairs) } else { Err(IndexError::Use("pulled out".to_owned())) }
        }

        fn scan(&self, prefix: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), IndexError> {
            self.inner.scan(prefix, each)
        }

        fn flush(&mut self) -> Result<(), IndexError> {
            drop(self.flushed.send(self.inner.clone()));
            Ok(())
        }
    }

    fn one(number: u64) -> Batch {
        batch(0, number, &[begun(&format!("client{number}"), number, number)])
    }

    #[test]
    fn what_was_offered_is_in_the_index_when_it_stops() {
        let (flushed, last) = channel();
        let table = Gated { inner: MemoryTable::default(), permits: None, flushed };
        let writer = Writer::start(Index::new(Box::new(table))).unwrap();
        for number in 1..=100 {
            writer.offer(one(number));
        }
        assert_eq!(writer.following(), Following::Yes);
        writer.stop().unwrap();
        let index = Index::new(Box::new(last.try_iter().last().unwrap()));
        assert_eq!(index.verify(), Ok(100));
        assert_eq!(index.mark(0).unwrap().up_to, 100);
    }

    #[test]
    fn an_index_that_cannot_keep_up_stops_before_its_gap() {
        let (permit, permits) = channel();
        let (flushed, last) = channel();
        let table = Gated { inner: MemoryTable::default(), permits: Some(permits), flushed };
        let writer = Writer::start(Index::new(Box::new(table))).unwrap();
        let offered = BATCHES_WAITING_MAX as u64 + 10;
        for number in 1..=offered {
            writer.offer(one(number));
        }
        assert_eq!(writer.following(), Following::Behind);
        drop(permit);
        // Room again, but there is a gap now.
        writer.offer(one(offered + 1));
        writer.stop().unwrap();
        let index = Index::new(Box::new(last.try_iter().last().unwrap()));
        let followed = index.mark(0).unwrap().up_to;
        assert!(followed <= BATCHES_WAITING_MAX as u64 + 1, "{followed}");
        assert_eq!(index.verify(), Ok(followed), "no gap");
    }

    #[test]
    fn an_index_that_breaks_says_so_and_nobody_waits_for_it() {
        let (permit, permits) = channel();
        let (flushed, _last) = channel();
        let table = Gated { inner: MemoryTable::default(), permits: Some(permits), flushed };
        let writer = Writer::start(Index::new(Box::new(table))).unwrap();
        permit.send(false).unwrap();
        while writer.following() == Following::Yes {
            writer.offer(one(1));
            thread::yield_now();
        }
        assert_eq!(writer.stop(), Err(IndexError::Use("pulled out".to_owned())));
    }
}
