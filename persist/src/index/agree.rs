//! Whether the index says what the log says, and how it is brought there.
//!
//! After a clean end the two agree, and one comparison per shard shows it. After a crash the index is behind: what the log says
//! after the index's mark is written into it. Sessions that it has and the log has not are struck out: a boot drops those whose
//! time is over without a word in the log. An index that does not have what it claims to have followed is not repaired: nobody
//! knows what else is wrong in it.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Header, Mark, Place, SegmentEntry, SessionEntry, Sum};
use super::{Batch, Change, Index, IndexError};
use crate::record::SessionNo;

/// What one shard's log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TruthOfShard {
    /// Whose log.
    pub shard: u16,
    /// Its last frame.
    pub last: u64,
    /// Its sessions.
    pub sum: Sum,
}

/// What the logs hold, as recovery found it.
pub trait Truth {
    /// Of which data directory.
    fn header(&self) -> Header;
    /// One for each shard.
    fn shards(&self) -> Vec<TruthOfShard>;
    /// Calls for each session: its shard, client, number and place.
    fn sessions(&self, each: &mut dyn FnMut(u16, &str, SessionNo, Place));
    /// Calls for each segment.
    fn segments(&self, each: &mut dyn FnMut(u16, SegmentEntry));
}

/// How the index stood to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// They said the same.
    Same,
    /// The index was empty and has been built.
    Built {
        /// Sessions that were written.
        sessions: u64,
    },
    /// The index was behind and has caught up.
    CaughtUp {
        /// Sessions that were written.
        written: u64,
        /// Sessions that were struck out.
        struck: u64,
    },
    /// The index contradicts the log, and was left as it is. The end of a sentence that begins with "it".
    Contradicts(String),
}

/// Compares the index with the log and brings it up to date where it is merely behind.
///
/// Cost: one read per shard when they agree, else one per session.
///
/// # Errors
/// The index is broken.
pub fn agree(index: &mut Index, truth: &dyn Truth) -> Result<Agreement, IndexError> {
    let wanted = truth.header();
    match index.header()? {
        None => {
            index.begin(wanted)?;
            let (sessions, _) = match bring_up(index, truth)? {
                Ok(counts) => counts,
                Err(why) => return Ok(Agreement::Contradicts(why)),
            };
            return Ok(Agreement::Built { sessions });
        }
        Some(header) if header != wanted => {
            return Ok(Agreement::Contradicts(format!(
                "is of epoch {} with {} shards, the log of epoch {} with {}",
                header.epoch, header.shard_count, wanted.epoch, wanted.shard_count
            )));
        }
        Some(_) => {}
    }
    let mut behind = false;
    for shard in truth.shards() {
        match stand(&index.mark(shard.shard)?, &shard) {
            Stand::Same => {}
            Stand::Behind => behind = true,
            Stand::Wrong(why) => return Ok(Agreement::Contradicts(why)),
        }
    }
    if !behind {
        return Ok(Agreement::Same);
    }
    Ok(match bring_up(index, truth)? {
        Ok((written, struck)) => Agreement::CaughtUp { written, struck },
        Err(why) => Agreement::Contradicts(why),
    })
}

/// Whether the index says what the log says; nothing is changed.
///
/// # Errors
/// The index is broken, or claims what cannot be.
pub fn stands(index: &Index, truth: &dyn Truth) -> Result<bool, IndexError> {
    if index.header()? != Some(truth.header()) {
        return Ok(false);
    }
    for shard in truth.shards() {
        match stand(&index.mark(shard.shard)?, &shard) {
            Stand::Same => {}
            Stand::Behind => return Ok(false),
            Stand::Wrong(why) => return Err(IndexError::Use(format!("it {why}"))),
        }
    }
    Ok(true)
}

enum Stand {
    Same,
    Behind,
    Wrong(String),
}

fn stand(mark: &Mark, truth: &TruthOfShard) -> Stand {
    let TruthOfShard { shard, last, sum } = *truth;
    if mark.up_to > last {
        return Stand::Wrong(format!(
            "has followed shard {shard} to record {}, and its log ends at {last}",
            mark.up_to
        ));
    }
    if mark.up_to == last && mark.sum == sum { Stand::Same } else { Stand::Behind }
}

/// Writes what the log says and the index does not. Returns how many sessions were written and struck out, or the contradiction.
fn bring_up(index: &mut Index, truth: &dyn Truth) -> Result<Result<(u64, u64), String>, IndexError> {
    let mut catcher = Catcher::new(index, truth)?;
    truth.sessions(&mut |shard, client_id, session, at| catcher.session(shard, client_id, session, at));
    if let Some(stopped) = catcher.stopped.take() {
        return stopped.map(Err);
    }
    catcher.strike(truth)?;
    catcher.segments(truth)?;
    let (written, struck) = catcher.finish(truth)?;
    for shard in truth.shards() {
        let mark = index.mark(shard.shard)?;
        if mark.sum != shard.sum {
            return Ok(Err(format!(
                "does not come to the same sessions as the log of shard {}",
                shard.shard
            )));
        }
    }
    index.flush()?;
    Ok(Ok((written, struck)))
}

/// Most changes that are written at once, so that catching up needs little memory.
const CHANGES_AT_ONCE: usize = 4_096;

/// An index on its way to what the log says.
struct Catcher<'a> {
    index: &'a mut Index,
    /// How far each shard had been followed at the beginning.
    marks: BTreeMap<u16, u64>,
    waiting: BTreeMap<u16, Vec<Change>>,
    written: u64,
    struck: u64,
    /// Why it cannot go on: a contradiction, or an error.
    stopped: Option<Result<String, IndexError>>,
}

impl<'a> Catcher<'a> {
    fn new(index: &'a mut Index, truth: &dyn Truth) -> Result<Self, IndexError> {
        let mut marks = BTreeMap::new();
        for shard in truth.shards() {
            marks.insert(shard.shard, index.mark(shard.shard)?.up_to);
        }
        Ok(Self { index, marks, waiting: BTreeMap::new(), written: 0, struck: 0, stopped: None })
    }

    fn session(&mut self, shard: u16, client_id: &str, session: SessionNo, at: Place) {
        if self.stopped.is_some() {
            return;
        }
        let wanted = SessionEntry { shard, session, at };
        let outcome = match self.index.session(client_id) {
            Ok(Some(found)) if found == wanted => return,
            Ok(_) if at.sequence <= self.marks.get(&shard).copied().unwrap_or_default() => {
                self.stopped = Some(Ok(format!("does not say where session {client_id:?} stands")));
                return;
            }
            Ok(_) => {
                self.written += 1;
                self.push(shard, Change::Image { client_id: client_id.into(), session, at })
            }
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            self.stopped = Some(Err(error));
        }
    }

    fn push(&mut self, shard: u16, change: Change) -> Result<(), IndexError> {
        let waiting = self.waiting.entry(shard).or_default();
        waiting.push(change);
        if waiting.len() < CHANGES_AT_ONCE {
            return Ok(());
        }
        let changes = std::mem::take(waiting);
        self.index.follow(&Batch { shard, up_to: 0, changes })
    }

    /// Writes all that waits, without moving a mark.
    fn settle(&mut self) -> Result<(), IndexError> {
        for (shard, changes) in std::mem::take(&mut self.waiting) {
            self.index.follow(&Batch { shard, up_to: 0, changes })?;
        }
        Ok(())
    }

    /// Strikes out the sessions that the log no longer has.
    fn strike(&mut self, truth: &dyn Truth) -> Result<(), IndexError> {
        self.settle()?;
        let mut sums = BTreeMap::new();
        for shard in truth.shards() {
            sums.insert(shard.shard, shard.sum);
        }
        let mut surplus = false;
        for (shard, sum) in &sums {
            surplus |= self.index.mark(*shard)?.sum != *sum;
        }
        if !surplus {
            return Ok(());
        }
        let mut alive = BTreeSet::new();
        truth.sessions(&mut |_, _, session, _| {
            alive.insert(session);
        });
        let mut gone = Vec::new();
        self.index.sessions(&mut |_, entry| {
            if !alive.contains(&entry.session) {
                gone.push((entry.shard, entry.session));
            }
            true
        })?;
        for (shard, session) in gone {
            self.struck += 1;
            self.push(shard, Change::Ended { session })?;
        }
        Ok(())
    }

    fn segments(&mut self, truth: &dyn Truth) -> Result<(), IndexError> {
        let mut known: BTreeMap<(u16, u64), SegmentEntry> = BTreeMap::new();
        for (shard, segment) in self.index.segments()? {
            known.insert((shard, segment.segment), segment);
        }
        let mut new = Vec::new();
        truth.segments(&mut |shard, segment| {
            if known.remove(&(shard, segment.segment)) != Some(segment) {
                new.push((shard, Change::Segment(segment)));
            }
        });
        for (shard, segment) in known.into_keys() {
            self.push(shard, Change::Freed { segment })?;
        }
        for (shard, change) in new {
            self.push(shard, change)?;
        }
        Ok(())
    }

    fn finish(mut self, truth: &dyn Truth) -> Result<(u64, u64), IndexError> {
        self.settle()?;
        for shard in truth.shards() {
            self.index.follow(&Batch { shard: shard.shard, up_to: shard.last, changes: Vec::new() })?;
        }
        Ok((self.written, self.struck))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::index::MemoryTable;
    use crate::index::tests::{batch, begun, ended, image, place};

    /// A log of one or more shards, as changes.
    #[derive(Clone)]
    pub(crate) struct Log {
        pub(crate) header: Header,
        pub(crate) batches: Vec<Batch>,
    }

    impl Log {
        pub(crate) fn new(batches: &[Batch]) -> Self {
            Self { header: Header { epoch: 1, shard_count: 2 }, batches: batches.to_vec() }
        }

        /// What an index that followed all of it says.
        fn index(&self) -> Index {
            let mut index = Index::new(Box::new(MemoryTable::default()));
            for batch in &self.batches {
                index.follow(batch).unwrap();
            }
            index
        }
    }

    impl Truth for Log {
        fn header(&self) -> Header {
            self.header
        }

        fn shards(&self) -> Vec<TruthOfShard> {
            let index = self.index();
            let shard = |shard| {
                let mark = index.mark(shard).unwrap();
                TruthOfShard { shard, last: mark.up_to, sum: mark.sum }
            };
            (0..self.header.shard_count).map(shard).collect()
        }

        fn sessions(&self, each: &mut dyn FnMut(u16, &str, SessionNo, Place)) {
            let visit = &mut |client: &str, entry: SessionEntry| {
                each(entry.shard, client, entry.session, entry.at);
                true
            };
            self.index().sessions(visit).unwrap();
        }

        fn segments(&self, each: &mut dyn FnMut(u16, SegmentEntry)) {
            for (shard, segment) in self.index().segments().unwrap() {
                each(shard, segment);
            }
        }
    }

    fn story() -> Vec<Batch> {
        let segment =
            |segment| Change::Segment(SegmentEntry { segment, bytes: 640, records: 3, first: 1, last: 3 });
        vec![
            batch(0, 3, &[segment(1), begun("a", 1, 1), begun("b", 2, 2), image("a", 1, 3)]),
            batch(1, 2, &[begun("c", 3, 1), begun("d", 4, 2)]),
            batch(0, 5, &[ended(2), begun("b", 5, 4), image("b", 5, 5), segment(2)]),
            batch(1, 4, &[ended(3), image("d", 4, 4), Change::Freed { segment: 1 }]),
            batch(0, 8, &[begun("e", 6, 7), ended(1), Change::Freed { segment: 1 }]),
        ]
    }

    fn following(batches: &[Batch], header: Header) -> Index {
        let mut index = Index::new(Box::new(MemoryTable::default()));
        index.begin(header).unwrap();
        for batch in batches {
            index.follow(batch).unwrap();
        }
        index
    }

    #[test]
    fn an_index_that_stopped_anywhere_catches_up_and_then_agrees() {
        let log = Log::new(&story());
        for stopped in 0..story().len() {
            let mut index = following(&story()[..stopped], log.header);
            let first = agree(&mut index, &log).unwrap();
            assert!(matches!(first, Agreement::CaughtUp { .. }), "{stopped}: {first:?}");
            assert_eq!(agree(&mut index, &log), Ok(Agreement::Same), "{stopped}");
            assert_eq!(index.verify(), Ok(3));
            assert_eq!(index.session("a").unwrap(), None);
            assert_eq!(index.session("b").unwrap().unwrap().at, place(5));
            assert_eq!(index.segments().unwrap(), log.index().segments().unwrap());
        }
    }

    #[test]
    fn an_empty_index_is_built() {
        let log = Log::new(&story());
        let mut index = Index::new(Box::new(MemoryTable::default()));
        assert_eq!(agree(&mut index, &log), Ok(Agreement::Built { sessions: 3 }));
        assert_eq!(agree(&mut index, &log), Ok(Agreement::Same));
    }

    #[test]
    fn sessions_that_ended_without_a_word_are_struck_out() {
        let log = Log::new(&story());
        let mut index = following(&story(), log.header);
        index.follow(&batch(1, 4, &[begun("late", 99, 3)])).unwrap();
        assert_eq!(agree(&mut index, &log), Ok(Agreement::CaughtUp { written: 0, struck: 1 }));
        assert_eq!(index.session("late"), Ok(None));
        assert_eq!(agree(&mut index, &log), Ok(Agreement::Same));
    }

    #[test]
    fn an_index_that_contradicts_is_not_repaired() {
        let log = Log::new(&story());
        let contradiction = |index: &mut Index| match agree(index, &log) {
            Ok(Agreement::Contradicts(why)) => why,
            other => panic!("{other:?}"),
        };
        // Of another directory.
        let other = Header { epoch: 2, shard_count: 2 };
        assert!(contradiction(&mut following(&story(), other)).contains("epoch 2"));
        // Ahead of the log, which lost its tail.
        let mut ahead = following(&story(), log.header);
        ahead.follow(&batch(0, 9, &[])).unwrap();
        assert!(contradiction(&mut ahead).contains("to record 9, and its log ends at 8"));
        // Other sessions at the same record.
        let mut others = following(&story()[..4], log.header);
        others.follow(&batch(0, 8, &[begun("x", 9, 7)])).unwrap();
        assert!(contradiction(&mut others).contains("session \"e\""));
        // Behind, and wrong about what it claims to have followed.
        let mut wrong = following(&story()[..2], log.header);
        wrong.follow(&batch(0, 5, &[ended(2), begun("b", 5, 4), image("b", 5, 4)])).unwrap();
        assert!(contradiction(&mut wrong).contains("session \"b\""));
    }
}
