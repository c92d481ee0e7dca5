//! Finds one client's session without reading all logs: only that of its shard, and of that only what stands behind the place
//! that the index names.
//!
//! The index is a hint. What it names is checked where it stands, and everything behind it is read, so an index that is behind costs
//! time and no truth. One that names the wrong place is told, and the log is read from its beginning.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::config::Home;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::index::logs::header_of;
use crate::index::{Index, IndexError, SessionEntry};
use crate::log::recovery::{At, read_log_from};
use crate::log::segment::LogId;
use crate::manifest::Manifest;
use crate::record::decode::View;
use crate::record::{Record, Session, SessionNo};
use crate::state::State;

/// What a data directory has of one client.
#[derive(Debug)]
pub struct Client {
    /// Its shard.
    pub shard: u16,
    /// Its session, as a boot would hand it on; `None` if there is none.
    pub session: Option<Session>,
    /// The log leaves it connected: the broker runs, or did not end it.
    pub is_connected: bool,
    /// Its time is over: the next start drops it.
    pub is_expired: bool,
    /// Bytes of records that were read.
    pub read_bytes: u64,
    /// Bytes of all logs' files.
    pub log_bytes: u64,
    /// What the index was good for.
    pub hint: Hint,
}

/// What the index was good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// There was none.
    Without,
    /// It said where to begin.
    Began,
    /// It was wrong, or could not be used; the log was read from its beginning.
    Wrong(String),
}

/// Looks a client up. `None` in a directory that was never used.
///
/// Cost: from the place that the index names to the end of one shard's log; without an index, all of the log of the client's home,
/// and of the others if it is not there.
///
/// # Errors
/// See [`OpenError`]. What is wrong with the index is no error.
pub fn client(
    disk: &dyn Disk,
    client_id: &str,
    home: Home,
    index: Option<&Index>,
    now_ms: u64,
) -> Result<Option<Client>, OpenError> {
    let Some(manifest) = Manifest::read(disk)? else { return Ok(None) };
    let (begin, mut hint) = match index.map(|index| begin_of(index, &manifest, client_id)) {
        None => (Begin::AtFirst, Hint::Without),
        Some(Ok(begin)) => (begin, Hint::Began),
        Some(Err(error)) => (Begin::AtFirst, Hint::Wrong(error.to_string())),
    };
    let home = home(client_id, manifest.shard_count);
    let (mut read_bytes, mut found) = (0, None);
    let mut look = |shard, begin: &Begin| -> Result<Option<(u16, State)>, OpenError> {
        let mut search = Search::new(client_id, shard, begin);
        search.read(disk, &LogId::new(manifest.epoch, manifest.key, shard))?;
        read_bytes += search.read_bytes;
        Ok(search.found())
    };
    if let Begin::At(entry) = begin {
        found = look(entry.shard, &begin)?;
    }
    let begin = if found.is_none() && matches!(begin, Begin::At(_)) {
        hint = Hint::Wrong("the index names a place where the session is not".to_owned());
        Begin::AtFirst
    } else {
        begin
    };
    let others = (0..manifest.shard_count).filter(|shard| *shard != home);
    for shard in [home].into_iter().chain(others) {
        if found.is_none() {
            found = look(shard, &begin)?;
        }
    }
    let (shard, mut state) = found.unwrap_or_else(|| (home, State::default()));
    let all = state.sum().sessions;
    let is_connected = !state.close(now_ms).cut_off.is_empty();
    // Of namesakes the younger stays.
    let session = state.take_sessions().pop().map(|session| *session);
    let is_expired = session.is_none() && all > 0;
    let log_bytes = super::sizes(disk, &manifest)?.iter().sum();
    Ok(Some(Client { shard, session, is_connected, is_expired, read_bytes, log_bytes, hint }))
}

/// Where reading begins.
#[derive(Clone, Debug)]
enum Begin {
    AtFirst,
    /// At the record where the session stands.
    At(SessionEntry),
    /// There was no session up to this frame of each shard.
    Behind(Vec<u64>),
}

fn begin_of(index: &Index, manifest: &Manifest, client_id: &str) -> Result<Begin, IndexError> {
    if index.header()? != Some(header_of(manifest)) {
        return Err(IndexError::Use("it is of other logs".to_owned()));
    }
    if let Some(entry) = index.session(client_id)? {
        return Ok(Begin::At(entry));
    }
    let marks = (0..manifest.shard_count).map(|shard| Ok(index.mark(shard)?.up_to));
    marks.collect::<Result<_, _>>().map(Begin::Behind)
}

/// One reading of a log.
struct Search<'a> {
    client_id: &'a str,
    shard: u16,
    /// The first frame that counts.
    from: u64,
    /// Where the session should stand.
    place: Option<SessionEntry>,
    /// The client's sessions so far, ended ones included.
    sessions: BTreeSet<SessionNo>,
    state: State,
    read_bytes: u64,
    has_met_place: bool,
}

impl<'a> Search<'a> {
    fn new(client_id: &'a str, shard: u16, begin: &Begin) -> Self {
        let (from, place) = match begin {
            Begin::AtFirst => (0, None),
            Begin::At(entry) => (entry.at.sequence, Some(*entry)),
            Begin::Behind(marks) => {
                let mark = marks.get(usize::from(shard)).copied().unwrap_or_default();
                (mark.saturating_add(1), None)
            }
        };
        let (sessions, state) = (BTreeSet::new(), State::default());
        Self { client_id, shard, from, place, sessions, state, read_bytes: 0, has_met_place: false }
    }

    fn read(&mut self, disk: &dyn Disk, log: &LogId) -> Result<(), OpenError> {
        let from = self.from;
        read_log_from(disk, log, from, &mut |at, view| {
            self.read_bytes += u64::try_from(at.header.frame_bytes()).unwrap_or(0);
            if at.header.seq < from {
                return ControlFlow::Continue(());
            }
            if self.take(at, view) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(())
    }

    /// Applies a record, if it is about this client. Tells whether the index may have been right so far.
    fn take(&mut self, at: &At, view: View<'_>) -> bool {
        if let View::Other(record) = &view
            && let Some((client_id, session)) = client_of(record)
            && client_id == self.client_id
        {
            self.sessions.insert(session);
        }
        if let Some(entry) = self.place
            && entry.at.sequence == at.header.seq
        {
            let is_there = (at.segment, at.offset) == (entry.at.segment, entry.at.offset);
            self.has_met_place = is_there && self.sessions.contains(&entry.session);
            if !self.has_met_place {
                return false;
            }
        }
        let concerned = match &view {
            View::Published(published) => {
                published.receivers().any(|receiver| self.sessions.contains(&receiver.session))
                    || published.arrived().is_some_and(|(session, _)| self.sessions.contains(&session))
            }
            View::Other(record) => record.session().is_some_and(|session| self.sessions.contains(&session)),
        };
        if concerned {
            self.state.apply(view);
        }
        true
    }

    /// What was found of the client; `None` if nothing, or not where the index says.
    fn found(self) -> Option<(u16, State)> {
        let is_misled = self.place.is_some() && !self.has_met_place;
        let is_known = !self.sessions.is_empty() && !is_misled;
        is_known.then_some((self.shard, self.state))
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of all records only two name a client")]
fn client_of(record: &Record) -> Option<(&str, SessionNo)> {
    match record {
        Record::Attached(attached) => Some((&attached.client_id, attached.session)),
        Record::Session(image) => Some((&image.client_id, image.session)),
        _ => None,
    }
}
