//! The thread that writes the index behind the logs.
//!
//! Nothing waits for it. When its queue is full, or the index breaks, it stops following for good; the next start brings the index
//! up to date.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::line::{Letter, Line, LineEnd};
use super::{Batch, Following, Index, IndexError, Notice};

/// How long what was handed over may stay unsynced, and the marks behind the logs: the next start after a crash reads so much of the
/// logs again. A sync of the index costs the disk one of the log's, so not more often.
const FLUSH_AFTER: Duration = Duration::from_secs(5);

/// The index's thread. One per broker.
#[derive(Debug)]
pub struct Writer {
    line: Line,
    thread: JoinHandle<()>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// What the thread is given to open the index with: whether it shall give up, and where to tell what the operator should know.
pub struct Opening<'a> {
    /// Whether the broker is ending: opening shall end, too.
    pub is_stopping: &'a dyn Fn() -> bool,
    /// Hears what the program's log should say.
    pub tell: &'a mut dyn FnMut(Notice),
}

impl Writer {
    /// Starts the thread. It opens the index first, which may take as long as reading all logs, and then follows.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        (line, end): (Line, LineEnd),
        open: impl FnOnce(Opening<'_>) -> Option<Index> + Send + 'static,
        mut tell: impl FnMut(Notice) + Send + 'static,
    ) -> io::Result<Self> {
        let (ending, ended) = channel();
        let thread = thread::Builder::new().name("dunlin-index".to_owned()).spawn(move || {
            let _ends_with_the_thread: Sender<()> = ending;
            let opening = Opening { is_stopping: &|| end.is_stopping(), tell: &mut tell };
            match open(opening) {
                Some(index) => run(index, &end, &mut tell),
                None => end.note_broken(),
            }
        })?;
        Ok(Self { line, thread, ended })
    }

    /// Whether the index still follows.
    #[must_use]
    pub fn following(&self) -> Following {
        self.line.following()
    }

    /// Lets it write what waits, and ends it; call when the shards have ended. Blocks until the index is synced and closed, or for so
    /// long; tells whether it has ended. One that has not ends with the process, and the next start brings it up to date.
    pub fn stop(self, at_most: Duration) -> bool {
        self.line.stop();
        let has_ended = self.ended.recv_timeout(at_most) == Err(RecvTimeoutError::Disconnected);
        if has_ended {
            // A panic has been told by its own message, and the index is checked at the next start.
            drop(self.thread.join());
        }
        has_ended
    }
}

fn run(mut index: Index, end: &LineEnd, tell: &mut dyn FnMut(Notice)) {
    match follow(&mut index, end) {
        Ok(()) if end.following() == Following::Behind => {
            tell(Notice::Stopped {
                why: "the index could not keep up with the sessions that came and went".to_owned(),
            });
        }
        Ok(()) => {}
        Err(error) => {
            end.note_broken();
            tell(Notice::Stopped { why: error.to_string() });
        }
    }
}

/// Follows until it is stopped, or cannot keep up.
fn follow(index: &mut Index, end: &LineEnd) -> Result<(), IndexError> {
    let mut flush_at = now() + FLUSH_AFTER;
    let mut followed = Vec::new();
    loop {
        let left = flush_at.saturating_duration_since(now());
        match end.letters().recv_timeout(left) {
            Ok(Letter::Batch(batch)) => take(index, end, &batch)?,
            Ok(Letter::Stop) | Err(RecvTimeoutError::Disconnected) => {
                return settle(index, end, &mut followed);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if end.following() != Following::Yes || end.is_stopping() {
            return settle(index, end, &mut followed);
        }
        if flush_at <= now() {
            settle(index, end, &mut followed)?;
            flush_at = now() + FLUSH_AFTER;
        }
    }
}

fn take(index: &mut Index, end: &LineEnd, batch: &Batch) -> Result<(), IndexError> {
    end.note_taken(batch);
    index.follow(batch)
}

/// Writes what has been handed over, moves the marks there, and syncs, if there is anything new.
fn settle(index: &mut Index, end: &LineEnd, followed: &mut Vec<u64>) -> Result<(), IndexError> {
    // In this order: what these numbers name is on its way already.
    let stored = end.stored();
    let mut has_changes = false;
    while let Ok(Letter::Batch(batch)) = end.letters().try_recv() {
        take(index, end, &batch)?;
        has_changes = true;
    }
    if stored == *followed && !has_changes {
        return Ok(());
    }
    for (shard, up_to) in (0..).zip(&stored) {
        index.follow(&Batch { shard, up_to: *up_to, changes: Vec::new() })?;
    }
    *followed = stored;
    index.flush()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the index's thread decides when to sync; nothing else depends on it"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::index::line::{BATCHES_WAITING_MAX, line};
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

    /// A thread upon a table, the line to it, what the table held when it was flushed, and what was told.
    fn start(permits: Option<Receiver<bool>>) -> (Writer, Line, Receiver<MemoryTable>, Receiver<Notice>) {
        let (flushed, held) = channel();
        let (notice, notices) = channel();
        let index = Index::new(Box::new(Gated { inner: MemoryTable::default(), permits, flushed }));
        let (line, end) = line(1);
        let writer =
            Writer::start((line.clone(), end), |_| Some(index), move |told| drop(notice.send(told))).unwrap();
        (writer, line, held, notices)
    }

    #[test]
    fn what_was_offered_is_in_the_index_when_it_stops() {
        let (writer, line, held, notices) = start(None);
        for number in 1..=100 {
            assert!(line.offer(one(number)));
        }
        assert!(writer.stop(Duration::from_secs(30)));
        let index = Index::new(Box::new(held.try_iter().last().unwrap()));
        assert_eq!(index.verify(), Ok(100));
        assert_eq!(index.mark(0).unwrap().up_to, 100);
        assert_eq!(notices.try_iter().count(), 0);
    }

    #[test]
    fn an_index_that_cannot_keep_up_stops_before_its_gap_and_says_so() {
        let (permit, permits) = channel();
        let (writer, line, held, notices) = start(Some(permits));
        let offered = BATCHES_WAITING_MAX as u64 + 10;
        let taken = (1..=offered).filter(|number| line.offer(one(*number))).count() as u64;
        assert!(taken < offered);
        assert_eq!(line.following(), Following::Behind);
        drop(permit);
        // Room again, but there is a gap now.
        assert!(!line.offer(one(offered + 1)));
        assert!(writer.stop(Duration::from_secs(30)));
        let index = Index::new(Box::new(held.try_iter().last().unwrap()));
        assert_eq!(index.mark(0).unwrap().up_to, taken);
        assert_eq!(index.verify(), Ok(taken), "no gap");
        let told: Vec<_> = notices.try_iter().collect();
        assert!(matches!(&*told, [Notice::Stopped { why }] if why.contains("keep up")), "{told:?}");
    }

    #[test]
    fn an_index_that_breaks_says_so_and_nobody_waits_for_it() {
        let (permit, permits) = channel();
        let (writer, line, _held, notices) = start(Some(permits));
        permit.send(false).unwrap();
        // Slower than it fills: an index that is behind is another story.
        let told = loop {
            line.offer(one(1));
            if let Ok(told) = notices.recv_timeout(Duration::from_millis(10)) {
                break told;
            }
        };
        assert!(matches!(&told, Notice::Stopped { why } if why.contains("pulled out")), "{told:?}");
        assert_eq!(line.following(), Following::Broken);
        assert!(!line.offer(one(1)));
        assert!(writer.stop(Duration::from_secs(30)));
        assert_eq!(notices.try_iter().count(), 0);
    }

    #[test]
    fn an_index_that_does_not_open_is_done_without() {
        let (notice, notices) = channel();
        let (line, end) = line(1);
        let open = |opening: Opening<'_>| {
            (opening.tell)(Notice::Without { why: "no".to_owned() });
            None
        };
        let writer = Writer::start((line.clone(), end), open, move |told| drop(notice.send(told))).unwrap();
        assert_eq!(notices.recv().unwrap(), Notice::Without { why: "no".to_owned() });
        while line.offer(one(1)) {
            thread::yield_now();
        }
        assert!(writer.stop(Duration::from_secs(30)));
    }

    #[test]
    fn a_stop_ends_an_index_that_is_still_being_built() {
        let (line, end) = line(1);
        let (begun, has_begun) = channel();
        let open = move |opening: Opening<'_>| {
            begun.send(()).unwrap();
            while !(opening.is_stopping)() {
                thread::yield_now();
            }
            None
        };
        let writer = Writer::start((line, end), open, |_| {}).unwrap();
        has_begun.recv().unwrap();
        assert!(writer.stop(Duration::from_secs(30)));
    }
}
