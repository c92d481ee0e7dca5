//! What a boot found in a data directory, and what it hands to the shards.

use crate::record::{Message, MessageId, Session, SessionNo};

/// What one shard begins with. Sessions are complete but for their messages' bodies, which stay on the disk.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Its sessions, ascending by number. Each has `detached_at_ms`. Hand them on one by one: this list is the largest thing
    /// that a boot holds.
    pub sessions: Vec<Box<Session>>,
    /// Retained messages of topics whose home is this shard, ascending by topic.
    pub retained: Vec<Message>,
    /// QoS 2 messages of other shards' sessions that are in this log: sessions, which live, and identifiers. None after the number of shards
    /// has changed.
    pub taken: Vec<(SessionNo, u16)>,
    /// The next session number to give. Its upper 16 bits are the shard, so that no two shards give the same.
    pub next_session: SessionNo,
    /// The next message name to give.
    pub next_message: MessageId,
}

impl Recovered {
    /// Whether a session lives here.
    pub(crate) fn has_session(&self, number: SessionNo) -> bool {
        self.sessions.binary_search_by_key(&number, |session| session.session).is_ok()
    }
}

/// What a boot found, in plain numbers, for the log and the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Shards that the directory was last used with, if it was used and their number has changed.
    pub rehomed_from: Option<u16>,
    /// Segment files read.
    pub segments: u64,
    /// Bytes of records read.
    pub bytes: u64,
    /// Records read.
    pub records: u64,
    /// Sessions that go on.
    pub sessions: u64,
    /// Messages that wait, summed over sessions.
    pub queued: u64,
    /// Messages kept, each counted once per shard.
    pub messages: u64,
    /// Retained messages.
    pub retained: u64,
    /// Sessions that were connected when the last run ended without detaching them.
    pub cut_off_sessions: u64,
    /// Sessions whose time ran out while nobody ran, and that are dropped.
    pub expired_sessions: u64,
    /// Unfinished ends that were cut. Nothing in them is known to have been on the disk, so nothing of it was acknowledged; but bits that rot
    /// in the very last group look the same.
    pub torn: Vec<Torn>,
    /// Damage in the middle. What was there may have been acknowledged.
    pub damaged: Vec<Damage>,
}

/// The unfinished end of a log, cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment file, relative to the data directory.
    pub path: String,
    /// Where the sound part ends, bytes.
    pub offset: u64,
    /// How many whole records stood behind and were dropped with it, this segment's and later ones'.
    pub dropped_records: u64,
}

/// A damaged stretch with sound records behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment file, relative to the data directory.
    pub path: String,
    /// Where it begins, bytes.
    pub offset: u64,
    /// How long it is, bytes; 0 if a whole file is missing.
    pub bytes: u64,
    /// How many records are lost, by their sequence numbers.
    pub lost_records: u64,
    /// Where the damaged bytes were put aside, relative to the data directory.
    pub kept_as: Option<String>,
}

/// How far a boot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Bytes of logs done.
    pub done_bytes: u64,
    /// Bytes of logs in all.
    pub total_bytes: u64,
}

/// A part of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading the logs.
    Reading,
    /// Writing them anew for another number of shards.
    Rehoming,
}

impl std::fmt::Display for Torn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: the log ends unfinished at byte {}, as after a crash; {} whole records behind it were cut. Nothing says that any of \
             it was on the disk before, so none of it was acknowledged, unless the disk spoiled its very last group.",
            self.path, self.offset, self.dropped_records
        )
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: damaged at byte {} for {} bytes: {} records are lost, what stands behind them is kept. Check the disk",
            self.path, self.offset, self.bytes, self.lost_records
        )?;
        match &self.kept_as {
            Some(path) => write!(f, "; the damaged bytes are in {path}."),
            None => f.write_str("."),
        }
    }
}
