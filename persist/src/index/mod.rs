//! The index: where in the logs each client's session stands.
//!
//! It is never the truth: no start reads it. Everything in it can be read again from the logs, and is, whenever it cannot be opened
//! or does not say what they say ([`agree`]). Nothing waits for it: each shard tells what its log has got on the disk ([`line`](mod@line)), a
//! thread of its own writes that down ([`writer`]), and when that thread cannot keep up, or the index breaks, the broker goes on
//! without, and the next start brings it up to date.
//!
//! It serves two: tools, which find a client without reading all logs; and the operator, who hears from it when a log has lost
//! what it once had, such as a segment that somebody removed.
//!
//! Keys and values are bytes here ([`entry`]); what keeps them is behind [`Table`]: sled on the disk, a map in memory.

pub mod agree;
mod change;
mod entry;
pub mod line;
pub(crate) mod logs;
mod memory;
mod notice;
#[cfg(feature = "sled")]
mod sled;
pub mod writer;

use std::collections::BTreeMap;

use thiserror::Error;

pub use self::agree::{Agreement, Lack, Stand, Truth, TruthOfShard, agree, stand};
pub use self::change::{Batch, Change};
pub use self::entry::{Header, Mark, Place, SessionEntry, Sum};
pub(crate) use self::line::Feed;
pub use self::line::{Following, Line, LineEnd, line};
pub use self::logs::Logs;
pub use self::memory::MemoryTable;
pub use self::notice::Notice;
#[cfg(feature = "sled")]
pub use self::sled::{look, open_beside};
pub use self::writer::Writer;
use crate::record::SessionNo;

/// Pairs of bytes in the order of their keys: all that the index asks of what keeps it.
pub trait Table: Send {
    /// The value of a key.
    ///
    /// # Errors
    /// The table is broken; it is not to be used again.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;

    /// Writes values and removes keys (`None`), all or nothing.
    ///
    /// # Errors
    /// As [`Table::get`].
    fn write(&mut self, pairs: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Result<(), IndexError>;

    /// Calls for each pair whose key begins with `prefix`, in order, until the callee says `false`.
    ///
    /// # Errors
    /// As [`Table::get`].
    fn scan(&self, prefix: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), IndexError>;

    /// Returns when all that was written is on the disk.
    ///
    /// # Errors
    /// As [`Table::get`].
    fn flush(&mut self) -> Result<(), IndexError>;
}

/// Why the index cannot be used. The log is not concerned: the index is moved aside and built again.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexError {
    /// It cannot be opened.
    #[error("the index cannot be opened: {0}")]
    Open(String),
    /// Reading or writing it failed.
    #[error("the index cannot be used: {0}")]
    Use(String),
    /// The log that it follows cannot be read.
    #[error("the log cannot be read for the index: {0}")]
    Log(String),
    /// The broker ends before the index was brought up to date; the next start goes on with that.
    #[error("the index was not brought up to date before the end")]
    Stopped,
    /// The library that keeps it panicked.
    #[error("the index's store panicked: {0}")]
    Panicked(String),
    /// A pair fails its checksum or is of another version.
    #[error("the index is damaged: key {key} {why}")]
    Damaged {
        /// The key, printable.
        key: String,
        /// What is wrong with its value.
        why: &'static str,
    },
}

/// The session directory of a data directory. Lives on the index's thread, or in a tool.
pub struct Index {
    table: Box<dyn Table>,
}

/// What is to be written, seen over what is written.
struct Draft<'a> {
    table: &'a dyn Table,
    pairs: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Draft<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        match self.pairs.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.table.get(key),
        }
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.pairs.insert(key, Some(value));
    }

    fn remove(&mut self, key: Vec<u8>) {
        self.pairs.insert(key, None);
    }

    /// The client id of a session number.
    fn client_of(&self, session: SessionNo) -> Result<Option<Box<str>>, IndexError> {
        let key = entry::number_key(session);
        self.get(&key)?.map(|value| entry::client_from(&key, &value)).transpose()
    }

    fn session(&self, client_id: &str) -> Result<Option<SessionEntry>, IndexError> {
        let key = entry::session_key(client_id);
        self.get(&key)?.map(|value| SessionEntry::from_bytes(&key, &value)).transpose()
    }

    /// Writes a session down, in place of another of the same client.
    fn set(&mut self, client_id: &str, entry: SessionEntry, mark: &mut Mark) -> Result<(), IndexError> {
        match self.session(client_id)? {
            Some(old) if old.session == entry.session => {}
            Some(old) => {
                self.remove(entry::number_key(old.session));
                mark.sum.remove(client_id, old.session);
                mark.sum.add(client_id, entry.session);
            }
            None => mark.sum.add(client_id, entry.session),
        }
        let key = entry::session_key(client_id);
        let value = entry.to_bytes(&key);
        self.put(key, value);
        let key = entry::number_key(entry.session);
        let value = entry::client_to_bytes(&key, client_id);
        self.put(key, value);
        Ok(())
    }

    /// Strikes a session out, if this number is still its client's.
    fn unset(&mut self, session: SessionNo, mark: &mut Mark) -> Result<(), IndexError> {
        let Some(client_id) = self.client_of(session)? else { return Ok(()) };
        self.remove(entry::number_key(session));
        if self.session(&client_id)?.is_some_and(|entry| entry.session == session) {
            self.remove(entry::session_key(&client_id));
            mark.sum.remove(&client_id, session);
        }
        Ok(())
    }

    fn change(&mut self, shard: u16, change: &Change, mark: &mut Mark) -> Result<(), IndexError> {
        match change {
            Change::Image { client_id, session, at } => {
                self.set(client_id, SessionEntry { shard, session: *session, at: *at }, mark)
            }
            Change::Begun { client_id, session, at } => {
                if self.session(client_id)?.is_some_and(|known| known.session == *session) {
                    return Ok(());
                }
                self.set(client_id, SessionEntry { shard, session: *session, at: *at }, mark)
            }
            Change::Ended { session } => self.unset(*session, mark),
        }
    }
}

impl Index {
    /// The index that this table keeps.
    #[must_use]
    pub fn new(table: Box<dyn Table>) -> Self {
        Self { table }
    }

    /// Of which data directory it is; `None` in an empty one.
    ///
    /// # Errors
    /// The index is broken.
    pub fn header(&self) -> Result<Option<Header>, IndexError> {
        let key = entry::header_key();
        self.table.get(&key)?.map(|value| Header::from_bytes(&key, &value)).transpose()
    }

    /// How far it has followed a shard's log; zero when not at all.
    ///
    /// # Errors
    /// The index is broken.
    pub fn mark(&self, shard: u16) -> Result<Mark, IndexError> {
        let key = entry::mark_key(shard);
        match self.table.get(&key)? {
            Some(value) => Mark::from_bytes(&key, &value),
            None => Ok(Mark::default()),
        }
    }

    /// Where a client's session stands.
    ///
    /// # Errors
    /// The index is broken.
    pub fn session(&self, client_id: &str) -> Result<Option<SessionEntry>, IndexError> {
        self.draft().session(client_id)
    }

    /// Calls for each session, by client id, until the callee says `false`.
    ///
    /// # Errors
    /// The index is broken; what came before the broken pair was handed over.
    pub fn sessions(&self, each: &mut dyn FnMut(&str, SessionEntry) -> bool) -> Result<(), IndexError> {
        let mut broken = Ok(());
        self.table.scan(entry::SESSIONS, &mut |key, value| {
            let found = SessionEntry::from_bytes(key, value)
                .and_then(|entry| Ok((entry::client_of_key(key)?, entry)));
            match found {
                Ok((client_id, entry)) => each(client_id, entry),
                Err(error) => {
                    broken = Err(error);
                    false
                }
            }
        })?;
        broken
    }

    /// Follows a shard's log: all of the batch and the mark that says so, or nothing. A batch that it has already is nothing new.
    ///
    /// # Errors
    /// The index is broken.
    pub fn follow(&mut self, batch: &Batch) -> Result<(), IndexError> {
        let mut mark = self.mark(batch.shard)?;
        let mut draft = self.draft();
        for change in &batch.changes {
            draft.change(batch.shard, change, &mut mark)?;
        }
        mark.up_to = mark.up_to.max(batch.up_to);
        let key = entry::mark_key(batch.shard);
        let value = mark.to_bytes(&key);
        draft.put(key, value);
        let pairs = draft.pairs;
        self.table.write(&pairs)
    }

    /// Begins an index of this data directory in an empty table.
    ///
    /// # Errors
    /// The index is broken.
    pub fn begin(&mut self, header: Header) -> Result<(), IndexError> {
        let key = entry::header_key();
        let value = header.to_bytes(&key);
        self.table.write(&BTreeMap::from([(key, Some(value))]))
    }

    /// Returns when all that was written is on the disk.
    ///
    /// # Errors
    /// The index is broken.
    pub fn flush(&mut self) -> Result<(), IndexError> {
        self.table.flush()
    }

    /// Reads every pair and counts again: the sum of each shard's sessions must be its mark's. Returns the number of sessions.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self) -> Result<u64, IndexError> {
        self.header()?;
        let sessions = self.verify_sums()?;
        self.verify_numbers(sessions).map(|()| sessions)
    }

    fn verify_sums(&self) -> Result<u64, IndexError> {
        let mut sums: BTreeMap<u16, Sum> = BTreeMap::new();
        self.sessions(&mut |client_id, entry| {
            sums.entry(entry.shard).or_default().add(client_id, entry.session);
            true
        })?;
        let sessions = sums.values().map(|sum| sum.sessions).sum();
        let mut broken = Ok(());
        self.table.scan(entry::MARKS, &mut |key, value| {
            broken = entry::shard_of_mark_key(key).and_then(|shard| {
                let there = sums.remove(&shard).unwrap_or_default();
                if Mark::from_bytes(key, value)?.sum == there {
                    Ok(())
                } else {
                    Err(entry::damaged(key, "does not count what is there"))
                }
            });
            broken.is_ok()
        })?;
        broken?;
        match sums.keys().next() {
            Some(shard) => Err(entry::damaged(&entry::mark_key(*shard), "is missing")),
            None => Ok(sessions),
        }
    }

    /// Each number names a client whose session has that number, and there are as many numbers as sessions.
    fn verify_numbers(&self, sessions: u64) -> Result<(), IndexError> {
        let (mut numbers, mut broken) = (0, Ok(()));
        self.table.scan(entry::NUMBERS, &mut |key, value| {
            broken = entry::client_from(key, value).and_then(|client_id| {
                let named = self.session(&client_id)?.map(|entry| entry::number_key(entry.session));
                if named.as_deref() == Some(key) {
                    Ok(())
                } else {
                    Err(entry::damaged(key, "names no session"))
                }
            });
            numbers += 1;
            broken.is_ok()
        })?;
        broken?;
        if numbers == sessions {
            Ok(())
        } else {
            Err(entry::damaged(entry::NUMBERS, "does not name all sessions"))
        }
    }

    fn draft(&self) -> Draft<'_> {
        Draft { table: self.table.as_ref(), pairs: BTreeMap::new() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn place(sequence: u64) -> Place {
        Place { segment: sequence / 10, offset: sequence % 10 * 64, sequence }
    }

    pub(crate) fn image(client_id: &str, session: u64, sequence: u64) -> Change {
        Change::Image { client_id: client_id.into(), session: SessionNo(session), at: place(sequence) }
    }

    pub(crate) fn begun(client_id: &str, session: u64, sequence: u64) -> Change {
        Change::Begun { client_id: client_id.into(), session: SessionNo(session), at: place(sequence) }
    }

    pub(crate) fn ended(session: u64) -> Change {
        Change::Ended { session: SessionNo(session) }
    }

    pub(crate) fn batch(shard: u16, up_to: u64, changes: &[Change]) -> Batch {
        Batch { shard, up_to, changes: changes.to_vec() }
    }

    /// The rules of the directory, for whatever keeps it.
    pub(crate) fn check_directory(table: Box<dyn Table>) {
        let mut index = Index::new(table);
        assert_eq!(index.header(), Ok(None));
        let header = Header { epoch: 7, shard_count: 2, logs: 3 };
        index.begin(header).unwrap();
        assert_eq!(index.header(), Ok(Some(header)));

        index.follow(&batch(0, 3, &[begun("a", 1, 1), begun("b", 2, 2), begun("a", 1, 3)])).unwrap();
        assert_eq!(
            index.session("a").unwrap().unwrap().at,
            place(1),
            "the first place until there is an image"
        );
        index.follow(&batch(0, 4, &[image("a", 1, 4)])).unwrap();
        assert_eq!(index.session("a").unwrap().unwrap().at, place(4));
        assert_eq!(index.mark(0).unwrap().sum.sessions, 2);
        assert_eq!(index.mark(0).unwrap().up_to, 4);
        assert_eq!(index.mark(1).unwrap(), Mark::default());

        // A new session of the same client takes the place; the late end of the old one changes nothing.
        index.follow(&batch(0, 6, &[begun("a", 3, 5), ended(1)])).unwrap();
        assert_eq!(index.session("a").unwrap().unwrap().session, SessionNo(3));
        assert_eq!(index.mark(0).unwrap().sum.sessions, 2);
        index.follow(&batch(0, 7, &[ended(2), ended(99)])).unwrap();
        assert_eq!(index.session("b").unwrap(), None);
        assert_eq!(index.verify(), Ok(1));

        index.flush().unwrap();
        let mut seen = Vec::new();
        index
            .sessions(&mut |client, entry| {
                seen.push((client.to_owned(), entry.session.0));
                true
            })
            .unwrap();
        assert_eq!(seen, [("a".to_owned(), 3)]);
    }

    #[test]
    fn a_session_stands_where_its_last_image_is_until_it_ends() {
        check_directory(Box::new(MemoryTable::default()));
    }

    #[test]
    fn a_pair_that_rots_is_found() {
        let mut table = MemoryTable::default();
        let mut index = Index::new(Box::new(MemoryTable::default()));
        index.follow(&batch(0, 2, &[begun("a", 1, 1), begun("b", 2, 2)])).unwrap();
        let mut pairs = BTreeMap::new();
        index
            .table
            .scan(b"", &mut |key, value| {
                pairs.insert(key.to_vec(), Some(value.to_vec()));
                true
            })
            .unwrap();
        for (key, value) in &pairs {
            let value = value.as_ref().unwrap();
            for bit in 0..value.len() * 8 {
                let mut rotten = pairs.clone();
                let mut bytes = value.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                rotten.insert(key.clone(), Some(bytes));
                table.write(&rotten).unwrap();
                let index = Index::new(Box::new(table.clone()));
                assert!(index.verify().is_err(), "{key:?} bit {bit}");
            }
        }
        // A pair that is gone is missed as well.
        table.write(&pairs).unwrap();
        table.write(&BTreeMap::from([(entry::session_key("a"), None)])).unwrap();
        assert!(Index::new(Box::new(table)).verify().is_err());
    }
}
