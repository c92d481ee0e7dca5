//! Wills of durable sessions that are on their way: the log keeps each until all who get it have it.
//!
//! As long as nothing follows in its session, the Will stands in the records of the session itself, and [`Record::WillGone`] ends
//! it there. What replaces it there, a new connection or the end of the session, moves it before to a *ghost*: a session of its own
//! in the log, without anything but the Will, under a client identifier that no client can have. The end of the ghost is recorded
//! when the Will is through. After a restart a ghost is no session, only a Will that is due.

use std::collections::BTreeMap;

use dunlin_persist::{Record, SessionNo, record};

use super::restore::will_of;
use super::will_record;
use crate::action::Actions;
use crate::core::ShardCore;
use crate::home;
use crate::session::will::{DueWill, Will};

/// Names a Will that is on its way, until the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OwedWillNo(u64);

/// The Wills that are on their way. About 200 B each, beside the message, which is shared.
#[derive(Debug, Default)]
pub(super) struct OwedWills {
    /// By name.
    wills: BTreeMap<OwedWillNo, OwedWill>,
    /// Which Will a session in the log keeps: one at most.
    by_keeper: BTreeMap<SessionNo, OwedWillNo>,
    /// Wills that ever were on their way.
    drawn: u64,
}

/// A Will that is on its way.
#[derive(Debug)]
struct OwedWill {
    will: Will,
    user_name: Option<Box<str>>,
    /// The session in the log that keeps it.
    keeper: SessionNo,
    /// Whether that session is there for nothing else.
    is_ghost: bool,
}

/// A session of the log that only keeps a Will.
#[derive(Debug)]
pub(super) struct Ghost {
    number: SessionNo,
    will: Will,
    user_name: Option<Box<str>>,
}

/// The character that MQTT allows in no client identifier (`[MQTT5-1.5.4-2]`, `[MQTT311-1.5.3-2]`), at the beginning of that of a ghost.
const GHOST_MARK: char = '\0';

impl Ghost {
    /// The ghost that a session of the log is, if it is one. A ghost without a Will is a session that is over.
    pub(super) fn of(session: &record::Session) -> Option<Self> {
        let will = session.will.as_ref().filter(|_| session.client_id.starts_with(GHOST_MARK))?;
        Some(Self { number: session.session, will: will_of(will), user_name: session.user_name.clone() })
    }
}

impl OwedWills {
    fn insert(&mut self, owed: OwedWill) -> OwedWillNo {
        self.drawn += 1;
        let name = OwedWillNo(self.drawn);
        if let Some(older) = self.by_keeper.insert(owed.keeper, name) {
            self.wills.remove(&older);
        }
        self.wills.insert(name, owed);
        name
    }

    fn remove(&mut self, name: OwedWillNo) -> Option<OwedWill> {
        let owed = self.wills.remove(&name)?;
        self.by_keeper.remove(&owed.keeper);
        Some(owed)
    }

    fn kept_by(&self, session: SessionNo) -> Option<&OwedWill> {
        self.wills.get(self.by_keeper.get(&session)?)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.wills.len()
    }
}

impl super::Durable {
    /// The Will of a session is on its way from now on; its records keep it.
    pub(crate) fn owe_will(
        &mut self,
        session: SessionNo,
        will: &Will,
        user_name: Option<Box<str>>,
    ) -> OwedWillNo {
        self.owed_wills.insert(OwedWill { will: will.clone(), user_name, keeper: session, is_ghost: false })
    }

    /// The Will on its way that the records of a session keep.
    pub(crate) fn owed_will(&self, session: SessionNo) -> Option<&Will> {
        self.owed_wills.kept_by(session).map(|owed| &owed.will)
    }

    /// Whether a session of the log is there for a Will that is on its way, and for nothing else.
    pub(super) fn is_ghost(&self, session: SessionNo) -> bool {
        self.owed_wills.kept_by(session).is_some_and(|owed| owed.is_ghost)
    }
}

impl ShardCore {
    /// Something is about to replace what the records of a session say of its Will: if that is on its way, a ghost keeps it from
    /// now on. Whether one does. While this shard's disk is full it is in memory only: what keeps a Will makes no room, and clients
    /// that come and go would fill the disk. One that a failed disk refuses ends here: nobody could ever end its ghost.
    pub(crate) fn move_owed_will(&mut self, session: SessionNo, actions: &mut Actions) -> bool {
        let Some(name) = self.durable.owed_wills.by_keeper.get(&session).copied() else { return false };
        let Some(owed) = self.durable.owed_wills.remove(name) else { return false };
        if !owed.will.needs_room() || !self.durable.takes_new() || self.durable.has_failed_somewhere() {
            return false;
        }
        let ghost = self.durable.draw_session();
        let image = record::Session {
            session: ghost,
            client_id: self.ghost_id(ghost),
            user_name: owed.user_name.clone(),
            detached_at_ms: Some(self.now.wall.0),
            will: Some(record::Will { delay_seconds: 0, ..will_record(&owed.will) }),
            ..record::Session::default()
        };
        self.record(Record::Session(Box::new(image)), actions);
        self.durable.owed_wills.by_keeper.insert(ghost, name);
        self.durable.owed_wills.wills.insert(name, OwedWill { keeper: ghost, is_ghost: true, ..owed });
        true
    }

    /// A client identifier of a ghost whose home is this shard, as that of all sessions in its log is. Some hashes, as many as there
    /// are shards.
    fn ghost_id(&self, ghost: SessionNo) -> Box<str> {
        let mut attempt = 0_u32;
        loop {
            let id = format!("{GHOST_MARK}will {}.{attempt}", ghost.0);
            if home::shard_of_client(&id, self.shard_count) == self.shard {
                return id.into();
            }
            attempt += 1;
        }
    }

    /// A Will is through: what keeps it in the log ends.
    pub(super) fn record_will_gone(&mut self, due: &DueWill, actions: &mut Actions) {
        let Some(owed) = due.owed().and_then(|name| self.durable.owed_wills.remove(name)) else { return };
        let session = owed.keeper;
        if owed.is_ghost {
            self.record(Record::SessionEnded { session }, actions);
            return;
        }
        let entry = self.session_numbered(session).and_then(|id| self.sessions.get(id));
        // Published while the broker stops: the end of the connection says so.
        if entry.is_some_and(|entry| entry.conn().is_none()) {
            self.record(Record::WillGone { session }, actions);
        }
    }

    /// A ghost was found in the log: its Will is due when the shards know what they want.
    pub(super) fn restore_ghost(&mut self, ghost: Ghost) {
        let Ghost { number: keeper, will, user_name } = ghost;
        let owed = OwedWill { will: will.clone(), user_name: user_name.clone(), keeper, is_ghost: true };
        let name = self.durable.owed_wills.insert(owed);
        self.wait_for_room(DueWill::new(will, user_name, Some(name)));
    }
}
