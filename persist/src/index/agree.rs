//! Whether the index says what the logs say, and how it is brought there.
//!
//! After a clean end the two agree, and one comparison per shard shows it. After a crash the index is behind: what the log says
//! behind the index's mark is written into it. Then both must come to the same sessions. If they do not, one of them has lost
//! something, and if the index knows what the log does not, that is the log: the operator hears of it ([`Lack`]). Such an index is
//! not repaired but built again, since nobody knows what else is wrong in it.

use std::fmt;

use super::entry::{Header, Sum};
use super::{Batch, Change, Index, IndexError};

/// What one shard's log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TruthOfShard {
    /// Whose log.
    pub shard: u16,
    /// Its oldest frame; 0 if it has none.
    pub first: u64,
    /// Its last frame.
    pub last: u64,
    /// Its sessions.
    pub sum: Sum,
}

/// What the logs hold, as a boot has found it.
pub trait Truth: Send {
    /// Of which data directory.
    fn header(&self) -> Header;

    /// One for each shard.
    fn shards(&self) -> Vec<TruthOfShard>;

    /// Calls for each change behind the frame `after` of a shard's log, up to [`TruthOfShard::last`], in the order of the log, with
    /// the number of its frame, until the callee says `false`.
    ///
    /// # Errors
    /// [`IndexError::Log`].
    fn changes(
        &self,
        shard: u16,
        after: u64,
        each: &mut dyn FnMut(u64, Change) -> bool,
    ) -> Result<(), IndexError>;

    /// Whether the log has freed records since it was read, so that what [`Truth::changes`] shows may not be all.
    fn has_moved_on(&self, shard: u16) -> bool;
}

/// What a log once had and has no more, as its index remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Records at its end.
    End {
        /// Whose log.
        shard: u16,
        /// Its last frame.
        last: u64,
        /// The last frame that was on the disk.
        followed: u64,
    },
    /// Sessions whose records stood before the oldest that is left.
    Beginning {
        /// Whose log.
        shard: u16,
        /// Its oldest frame.
        first: u64,
        /// How many sessions.
        sessions: u64,
        /// Some of their clients.
        clients: Vec<Box<str>>,
    },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End { shard, last, followed } => write!(
                f,
                "the log of shard {shard} ends at record {last}, and record {followed} had been on the disk: {} records are missing",
                followed.saturating_sub(*last)
            ),
            Self::Beginning { shard, first, sessions, clients } => {
                let more = if u64::try_from(clients.len()).unwrap_or(0) < *sessions { ", …" } else { "" };
                let names: Vec<_> = clients.iter().map(|client| format!("{client:?}")).collect();
                write!(
                    f,
                    "the log of shard {shard} begins at record {first}, and {sessions} sessions that stood before it are missing \
                     ({}{more})",
                    names.join(", ")
                )
            }
        }
    }
}

/// How the index stood to the logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// They said the same.
    Same,
    /// The index was empty and has been built.
    Built {
        /// Sessions in it.
        sessions: u64,
    },
    /// The index was behind and has caught up.
    CaughtUp {
        /// Changes that were taken over.
        changes: u64,
    },
    /// The index is of logs that are no more, such as those for another number of shards; nothing is wrong with that.
    OfOtherLogs,
    /// The index knows what a log has lost.
    LogLacks(Lack),
    /// The index contradicts the log. The end of a sentence that begins with "it".
    Contradicts(String),
}

/// Compares the index with the logs and brings it up to date where it is merely behind.
///
/// Cost: one read per shard when they agree, else one for each change that it has not followed.
///
/// # Errors
/// The index is broken, or a log cannot be read; [`IndexError::Stopped`] when `is_stopping` says so.
pub fn agree(
    index: &mut Index,
    truth: &dyn Truth,
    is_stopping: &dyn Fn() -> bool,
) -> Result<Agreement, IndexError> {
    match index.header()? {
        None => return build(index, truth, is_stopping),
        Some(header) if header != truth.header() => return Ok(Agreement::OfOtherLogs),
        Some(_) => {}
    }
    let mut taken = 0;
    for shard in truth.shards() {
        let followed = index.mark(shard.shard)?.up_to;
        if followed > shard.last {
            return Ok(Agreement::LogLacks(Lack::End { shard: shard.shard, last: shard.last, followed }));
        }
        taken += catch_up(index, truth, &shard, is_stopping)?;
        if index.mark(shard.shard)?.sum != shard.sum {
            return why_not(index, truth, &shard);
        }
    }
    if taken == 0 {
        return Ok(Agreement::Same);
    }
    index.flush()?;
    Ok(Agreement::CaughtUp { changes: taken })
}

/// How the index stands to one shard's log; nothing is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It says the same.
    Same,
    /// It has not followed the last records.
    Behind {
        /// So many.
        records: u64,
    },
    /// It is of logs that are no more.
    OfOtherLogs,
    /// The log lacks what the index knows.
    LogLacks(Lack),
    /// It has followed the log to its end and does not come to the same sessions.
    Differs,
}

/// How the index stands to a shard's log of this directory.
///
/// # Errors
/// The index is broken.
pub fn stand(index: &Index, header: Header, shard: &TruthOfShard) -> Result<Stand, IndexError> {
    if index.header()? != Some(header) {
        return Ok(Stand::OfOtherLogs);
    }
    let mark = index.mark(shard.shard)?;
    let (last, followed) = (shard.last, mark.up_to);
    Ok(if followed > last {
        Stand::LogLacks(Lack::End { shard: shard.shard, last, followed })
    } else if followed < last {
        Stand::Behind { records: last - followed }
    } else if mark.sum == shard.sum {
        Stand::Same
    } else {
        before(index, shard)?.map_or(Stand::Differs, Stand::LogLacks)
    })
}

/// Writes all that the logs say into an empty index. What it then says is not compared: the logs may go on being cleaned meanwhile,
/// and what is freed unread is said again behind what is read here, for the index to follow.
fn build(
    index: &mut Index,
    truth: &dyn Truth,
    is_stopping: &dyn Fn() -> bool,
) -> Result<Agreement, IndexError> {
    index.begin(truth.header())?;
    let mut sessions = 0;
    for shard in truth.shards() {
        catch_up(index, truth, &shard, is_stopping)?;
        sessions += index.mark(shard.shard)?.sum.sessions;
    }
    index.flush()?;
    Ok(Agreement::Built { sessions })
}

/// Follows a log from the index's mark to its end. Returns the number of changes.
fn catch_up(
    index: &mut Index,
    truth: &dyn Truth,
    shard: &TruthOfShard,
    is_stopping: &dyn Fn() -> bool,
) -> Result<u64, IndexError> {
    let after = index.mark(shard.shard)?.up_to;
    if after == shard.last {
        return Ok(0);
    }
    let mut batch = Batch { shard: shard.shard, up_to: after, changes: Vec::new() };
    let (mut taken, mut unsynced, mut outcome) = (0, 0, Ok(()));
    truth.changes(shard.shard, after, &mut |number, change| {
        batch.up_to = number;
        batch.changes.push(change);
        taken += 1;
        if batch.changes.len() < CHANGES_AT_ONCE {
            return true;
        }
        outcome = if is_stopping() { Err(IndexError::Stopped) } else { index.follow(&batch) };
        batch.changes.clear();
        unsynced += 1;
        if unsynced == BATCHES_UNSYNCED_MAX && outcome.is_ok() {
            unsynced = 0;
            outcome = index.flush();
        }
        outcome.is_ok()
    })?;
    outcome?;
    index.follow(&Batch { up_to: shard.last, ..batch })?;
    Ok(taken)
}

/// Most changes that are written at once, so that catching up needs little memory.
const CHANGES_AT_ONCE: usize = 1_024;
/// Most of those before the index is synced: what is written and unsynced stays in memory.
const BATCHES_UNSYNCED_MAX: u32 = 16;

/// What to make of an index that has followed a log to its end and does not come to the same sessions.
fn why_not(index: &Index, truth: &dyn Truth, shard: &TruthOfShard) -> Result<Agreement, IndexError> {
    if truth.has_moved_on(shard.shard) {
        // Cleaning was quicker: what it freed was said again where this was not looked for. No one is to blame.
        return Ok(Agreement::OfOtherLogs);
    }
    Ok(before(index, shard)?.map_or_else(
        || {
            Agreement::Contradicts(format!(
                "does not come to the same sessions as the log of shard {}",
                shard.shard
            ))
        },
        Agreement::LogLacks,
    ))
}

/// Sessions of which the index knows only what stood before the oldest frame.
fn before(index: &Index, shard: &TruthOfShard) -> Result<Option<Lack>, IndexError> {
    let (mut sessions, mut clients) = (0, Vec::new());
    index.sessions(&mut |client_id, entry| {
        if entry.shard == shard.shard && entry.at.sequence < shard.first {
            sessions += 1;
            if clients.len() < CLIENTS_NAMED {
                clients.push(client_id.into());
            }
        }
        true
    })?;
    let lack = Lack::Beginning { shard: shard.shard, first: shard.first, sessions, clients };
    Ok((sessions > 0).then_some(lack))
}

/// Clients that a notice names.
const CLIENTS_NAMED: usize = 5;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::index::MemoryTable;
    use crate::index::tests::{batch, begun, ended, image, place};

    /// Logs of two shards, as changes with the numbers of their frames.
    #[derive(Clone)]
    pub(crate) struct Log {
        pub(crate) header: Header,
        pub(crate) shards: [Vec<(u64, Change)>; 2],
        /// The last frame of each.
        pub(crate) last: [u64; 2],
        /// Frames before this one are gone from the first.
        pub(crate) first: u64,
        pub(crate) has_moved_on: bool,
    }

    impl Log {
        pub(crate) fn new(batches: &[Batch]) -> Self {
            let header = Header { epoch: 1, shard_count: 2, logs: 9 };
            let mut log =
                Self { header, shards: [vec![], vec![]], last: [0, 0], first: 1, has_moved_on: false };
            for batch in batches {
                let shard = usize::from(batch.shard);
                for change in &batch.changes {
                    let number = match change {
                        Change::Image { at, .. } | Change::Begun { at, .. } => at.sequence,
                        Change::Ended { .. } => batch.up_to,
                    };
                    log.shards[shard].push((number, change.clone()));
                }
                log.last[shard] = batch.up_to;
            }
            log
        }

        /// What an index says that has followed what is left of it.
        fn index(&self) -> Index {
            let mut index = Index::new(Box::new(MemoryTable::default()));
            for (shard, changes) in (0..).zip(&self.shards) {
                let from = if shard == 0 { self.first } else { 1 };
                let left = changes.iter().filter(|(number, _)| *number >= from);
                let changes: Vec<_> = left.map(|(_, change)| change.clone()).collect();
                index.follow(&batch(shard, self.last[usize::from(shard)], &changes)).unwrap();
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
                let first = if shard == 0 { self.first } else { 1 };
                TruthOfShard { shard, first, last: mark.up_to, sum: mark.sum }
            };
            (0..self.header.shard_count).map(shard).collect()
        }

        fn changes(
            &self,
            shard: u16,
            after: u64,
            each: &mut dyn FnMut(u64, Change) -> bool,
        ) -> Result<(), IndexError> {
            let from = if shard == 0 { self.first } else { 1 };
            for (number, change) in &self.shards[usize::from(shard)] {
                if *number > after && *number >= from && !each(*number, change.clone()) {
                    break;
                }
            }
            Ok(())
        }

        fn has_moved_on(&self, _: u16) -> bool {
            self.has_moved_on
        }
    }

    fn story() -> Vec<Batch> {
        vec![
            batch(0, 3, &[begun("a", 1, 1), begun("b", 2, 2), image("a", 1, 3)]),
            batch(1, 2, &[begun("c", 3, 1), begun("d", 4, 2)]),
            batch(0, 6, &[begun("b", 5, 4), image("b", 5, 5), ended(2)]),
            batch(1, 4, &[image("d", 4, 3), ended(3)]),
            batch(0, 8, &[begun("e", 6, 7), ended(1)]),
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

    fn agreed(index: &mut Index, log: &Log) -> Agreement {
        agree(index, log, &|| false).unwrap()
    }

    fn stands(index: &Index, log: &Log, shard: u16) -> Stand {
        stand(index, log.header(), &log.shards()[usize::from(shard)]).unwrap()
    }

    #[test]
    fn an_index_that_stopped_anywhere_catches_up_and_then_agrees() {
        let log = Log::new(&story());
        for stopped in 0..story().len() {
            let mut index = following(&story()[..stopped], log.header);
            let first = agreed(&mut index, &log);
            assert!(matches!(first, Agreement::CaughtUp { .. }), "{stopped}: {first:?}");
            assert_eq!(agreed(&mut index, &log), Agreement::Same, "{stopped}");
            assert_eq!((stands(&index, &log, 0), stands(&index, &log, 1)), (Stand::Same, Stand::Same));
            assert_eq!(index.verify(), Ok(3));
            assert_eq!(index.session("a").unwrap(), None);
            assert_eq!(index.session("b").unwrap().unwrap().at, place(5));
        }
    }

    #[test]
    fn an_empty_index_is_built() {
        let log = Log::new(&story());
        let mut index = Index::new(Box::new(MemoryTable::default()));
        assert_eq!(agreed(&mut index, &log), Agreement::Built { sessions: 3 });
        assert_eq!(agreed(&mut index, &log), Agreement::Same);
    }

    #[test]
    fn an_index_whose_building_was_stopped_is_finished_by_the_next_start() {
        let many: Vec<_> = (1..=5_000).map(|n| begun(&format!("client{n}"), n, n)).collect();
        let log = Log::new(&[batch(0, 5_000, &many)]);
        let mut index = Index::new(Box::new(MemoryTable::default()));
        let asked = std::cell::Cell::new(0);
        let stop_at_third = || {
            asked.set(asked.get() + 1);
            asked.get() == 3
        };
        assert_eq!(agree(&mut index, &log, &stop_at_third), Err(IndexError::Stopped));
        assert_eq!(index.verify(), Ok(2 * CHANGES_AT_ONCE as u64));
        let left = 5_000 - 2 * CHANGES_AT_ONCE as u64;
        assert_eq!(agreed(&mut index, &log), Agreement::CaughtUp { changes: left });
    }

    #[test]
    fn an_index_of_other_logs_is_no_contradiction() {
        let log = Log::new(&story());
        for other in [
            Header { epoch: 2, ..log.header },
            Header { shard_count: 3, ..log.header },
            Header { logs: 8, ..log.header },
        ] {
            let mut index = following(&story(), other);
            assert_eq!(agreed(&mut index, &log), Agreement::OfOtherLogs);
            assert_eq!(stands(&index, &log, 0), Stand::OfOtherLogs);
        }
    }

    #[test]
    fn a_log_that_lost_its_end_is_told_by_an_index_that_was_further() {
        let log = Log::new(&story());
        let mut ahead = following(&story(), log.header);
        ahead.follow(&batch(0, 9, &[])).unwrap();
        let lack = Lack::End { shard: 0, last: 8, followed: 9 };
        assert_eq!(stands(&ahead, &log, 0), Stand::LogLacks(lack.clone()));
        assert!(lack.to_string().contains("ends at record 8") && lack.to_string().contains("1 records"));
        assert_eq!(agreed(&mut ahead, &log), Agreement::LogLacks(lack));
    }

    #[test]
    fn a_log_that_lost_its_beginning_is_told_by_an_index_that_knows_whose() {
        let mut log = Log::new(&story());
        let mut index = following(&story(), log.header);
        log.first = 7;
        let clients = vec!["b".into()];
        let lack = Lack::Beginning { shard: 0, first: 7, sessions: 1, clients };
        assert_eq!(stands(&index, &log, 0), Stand::LogLacks(lack.clone()));
        assert!(lack.to_string().contains("1 sessions") && lack.to_string().contains("(\"b\")"), "{lack}");
        assert_eq!(agreed(&mut index, &log), Agreement::LogLacks(lack));
        // What cleaning frees while the two are compared is no loss.
        log.has_moved_on = true;
        assert_eq!(agreed(&mut index, &log), Agreement::OfOtherLogs);
    }

    #[test]
    fn an_index_that_contradicts_is_not_repaired() {
        let log = Log::new(&story());
        let mut others = following(&story()[..4], log.header);
        others.follow(&batch(0, 8, &[begun("x", 9, 7), ended(1)])).unwrap();
        assert_eq!(stands(&others, &log, 0), Stand::Differs);
        let Agreement::Contradicts(why) = agreed(&mut others, &log) else { panic!("it contradicts") };
        assert!(why.contains("shard 0"), "{why}");
        // Behind, and wrong about what it claims to have followed.
        let mut wrong = following(&story()[..2], log.header);
        wrong.follow(&batch(0, 6, &[ended(2), begun("b", 5, 4), begun("y", 7, 5)])).unwrap();
        assert_eq!(stands(&wrong, &log, 0), Stand::Behind { records: 2 });
        assert!(matches!(agreed(&mut wrong, &log), Agreement::Contradicts(_)));
    }
}
