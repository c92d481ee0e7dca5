//! Durable sessions: what is recorded, what waits until it is on the disk, and what sessions are while their client is away
//! (ADR 0020).
//!
//! The core speaks in records ([`dunlin_persist::record`]) and never sees a file: it asks for [`crate::Action::Append`] and
//! hears [`crate::Event::Stored`]. `taking.rs` collects who gets a message and records it once; `gate.rs` keeps what may not
//! be said yet; `confirm.rs` is the same between shards; `away.rs` is a session without a connection, `waking.rs` reads its
//! messages back; `image.rs` and `reclaim.rs` say again what still holds of a part of the log that is about to be freed;
//! `restore.rs` begins after a restart; `owed.rs` keeps Wills in the log until they are published; `wills.rs` keeps them while a
//! disk is full.

mod away;
mod confirm;
mod estate;
mod gate;
mod image;
mod line;
mod once;
mod owed;
mod publish;
mod reclaim;
mod restore;
mod taking;
mod waking;
mod wills;

use std::collections::BTreeMap;

use dunlin_persist::{MessageId, Record, SessionNo, StoreState};
use hashbrown::HashTable;

use crate::action::{Action, Actions};
use crate::config::Durability;
use crate::core::ShardCore;
use crate::ids::{ConnId, SessionId};
use crate::random::mix;

pub(crate) use self::away::{Away, Stored};
pub(crate) use self::confirm::Ask;
pub use self::confirm::Asked;
use self::confirm::Confirmations;
use self::estate::Estate;
use self::gate::Gate;
pub(crate) use self::gate::{AckKind, Owed, Promise};
pub(crate) use self::image::will_record;
use self::once::Origins;
pub(crate) use self::owed::OwedWillNo;
use self::owed::OwedWills;
pub(crate) use self::publish::Postponed;
use self::restore::Restoring;
use self::taking::Taking;
use self::wills::Room;

/// What a shard keeps for durability. One per shard, on its core.
#[derive(Debug)]
pub(crate) struct Durable {
    level: Durability,
    state: StoreState,
    /// The number of the last record.
    appended: u64,
    /// The number of the last record that counts as safe.
    stored: u64,
    /// The number of the last record that something waits for, or ever did.
    awaited: u64,
    next_session: SessionNo,
    next_message: MessageId,
    /// Which session has which number.
    numbers: Numbers,
    /// What waits to be said to clients.
    gate: Gate,
    /// What waits to be said to other shards, and what they have said; by shard.
    confirmations: Vec<Confirmations>,
    /// The message that is being handed out, as far as it has to be stored.
    taking: Taking,
    /// QoS 2 messages of durable sessions, on their way between shards.
    origins: Origins,
    /// What the answer to the packet at hand has to wait for.
    promise: Promise,
    /// Messages that a session needs no more, to be recorded together.
    done: Option<(SessionNo, Vec<MessageId>)>,
    /// Messages that were given packet identifiers, to be recorded together.
    sent: Vec<Sent>,
    /// Messages that wait on the disk for sessions that are away.
    away_count: u64,
    /// Sessions that have ended, whose messages of shared subscriptions go to other members.
    estates: BTreeMap<SessionNo, Estate>,
    restoring: Restoring,
    /// Whether there is room on the shards' disks, and the Wills that wait for it.
    room: Room,
    /// Wills of durable sessions, until all who get them have them.
    owed_wills: OwedWills,
}

/// A message that was taken out of a queue and given a packet identifier.
#[derive(Clone, Copy, Debug)]
struct Sent {
    session: u32,
    number: SessionNo,
    message: MessageId,
    packet_id: dunlin_wire::types::PacketId,
    /// The connection to which it goes when that is on the disk; QoS 2 only.
    waits_for: Option<ConnId>,
}

impl Durable {
    /// Nothing is recorded yet.
    pub(crate) fn new(level: Durability, shard_count: u16) -> Self {
        Self {
            level,
            state: StoreState::Open,
            appended: 0,
            stored: 0,
            awaited: 0,
            next_session: SessionNo(1),
            next_message: MessageId(1),
            numbers: Numbers::default(),
            gate: Gate::default(),
            confirmations: (0..shard_count).map(|_| Confirmations::default()).collect(),
            taking: Taking::default(),
            origins: Origins::default(),
            promise: Promise::default(),
            done: None,
            sent: Vec::new(),
            away_count: 0,
            estates: BTreeMap::new(),
            restoring: Restoring::default(),
            room: Room::default(),
            owed_wills: OwedWills::default(),
        }
    }

    /// Whether anything is recorded. The one branch that the hot path pays where nothing is.
    #[inline]
    pub(crate) const fn is_on(&self) -> bool {
        !matches!(self.level, Durability::Memory)
    }

    /// Whether other shards are asked to say when they have stored what they were sent.
    pub(crate) const fn asks_shards(&self) -> bool {
        matches!(self.level, Durability::Commit)
    }

    /// Whether messages and sessions that are new can be stored. Acknowledgements and ends can also while the disk is full.
    pub(crate) const fn takes_new(&self) -> bool {
        matches!(self.state, StoreState::Open)
    }

    /// Whether nothing can be stored any more.
    pub(crate) const fn has_failed(&self) -> bool {
        matches!(self.state, StoreState::Failed)
    }

    /// Messages that wait on the disk for sessions that are away.
    pub(crate) const fn away_count(&self) -> u64 {
        self.away_count
    }

    /// The number of the last record.
    pub(crate) const fn appended(&self) -> u64 {
        self.appended
    }

    /// Something waits until this record is on the disk.
    pub(super) fn await_record(&mut self, seq: u64) {
        if seq > self.stored {
            self.awaited = self.awaited.max(seq);
        }
    }

    /// A number that no session ever had.
    pub(crate) const fn draw_session(&mut self) -> SessionNo {
        let number = self.next_session;
        self.next_session.0 += 1;
        number
    }

    const fn draw_message(&mut self) -> MessageId {
        let id = self.next_message;
        self.next_message.0 += 1;
        id
    }
}

impl ShardCore {
    /// Appends a record. After a failure it goes nowhere, and what waits for it will never be said.
    pub(crate) fn record(&mut self, record: Record, actions: &mut Actions) {
        let durable = &mut self.durable;
        durable.appended += 1;
        durable.promise.seq = durable.appended;
        if durable.has_failed() {
            return;
        }
        actions.list.push(Action::Append { seq: durable.appended, record: Box::new(record) });
        if !durable.asks_shards() {
            // At level `interval` nothing waits for the disk.
            durable.stored = durable.appended;
        }
    }

    /// The number of the last record that an answer waits for: what is recorded behind it need not be on the disk soon.
    #[must_use]
    pub const fn awaited_record(&self) -> u64 {
        self.durable.awaited
    }

    /// Notes that a session needs a message no more; recorded before the event is over.
    pub(crate) fn note_done(&mut self, session: u32, message: Option<MessageId>, actions: &mut Actions) {
        let Some(message) = message else { return };
        let Some(number) = self.number_of(session) else { return };
        self.note_done_of(number, message, actions);
    }

    fn note_done_of(&mut self, number: SessionNo, message: MessageId, actions: &mut Actions) {
        match &mut self.durable.done {
            Some((session, messages)) if *session == number => messages.push(message),
            _ => {
                self.flush_done(actions);
                self.durable.done = Some((number, vec![message]));
            }
        }
    }

    fn flush_done(&mut self, actions: &mut Actions) {
        if let Some((session, messages)) = self.durable.done.take() {
            self.record(Record::Done { session, messages }, actions);
        }
    }

    /// Records what was noted during an event.
    pub(crate) fn flush_notes(&mut self, actions: &mut Actions) {
        self.flush_sent(actions);
        self.flush_done(actions);
        // What the broker itself published is part of no answer.
        self.durable.promise.asks.clear();
    }

    /// The number of the session at an index, if it is durable.
    pub(crate) fn number_of(&self, session: u32) -> Option<SessionNo> {
        self.sessions.at(session)?.number()
    }

    /// Gives a session a number, if it has none.
    pub(crate) fn number_session(&mut self, id: SessionId) -> Option<SessionNo> {
        let session = self.sessions.get_mut(id)?;
        if let Some(number) = session.number() {
            return Some(number);
        }
        let number = self.durable.draw_session();
        session.rare.get_or_insert_default().stored = Some(Stored::new(number));
        self.durable.numbers.insert(number, id.index);
        Some(number)
    }

    /// The session with a number.
    pub(crate) fn session_numbered(&self, number: SessionNo) -> Option<SessionId> {
        let index = self.durable.numbers.find(number)?;
        let id = self.sessions.id_at(index)?;
        (self.number_of(index) == Some(number)).then_some(id)
    }

    /// The log takes what is new, only what makes room, or nothing.
    pub(crate) fn on_store_state(&mut self, state: StoreState, actions: &mut Actions) {
        // A log that has failed is not trusted again before the next start.
        if self.durable.has_failed() {
            return;
        }
        self.durable.state = state;
        self.tell_store_state(state, actions);
        if state == StoreState::Failed {
            self.fail_gate(actions);
        }
        self.release_waiting_wills();
    }

    /// Records up to this one are on the disk: what waited for them is said.
    pub(crate) fn on_stored(&mut self, seq: u64, actions: &mut Actions) {
        self.durable.stored = self.durable.stored.max(seq);
        self.open_gate(actions);
    }
}

/// Indices of sessions by their numbers. 16 B each and the table's slack.
#[derive(Debug, Default)]
struct Numbers(HashTable<(SessionNo, u32)>);

impl Numbers {
    fn insert(&mut self, number: SessionNo, index: u32) {
        self.0.insert_unique(mix(number.0), (number, index), |entry| mix(entry.0.0));
    }

    fn find(&self, number: SessionNo) -> Option<u32> {
        self.0.find(mix(number.0), |entry| entry.0 == number).map(|entry| entry.1)
    }

    fn remove(&mut self, number: SessionNo) {
        if let Ok(entry) = self.0.find_entry(mix(number.0), |entry| entry.0 == number) {
            entry.remove();
        }
    }
}

#[cfg(test)]
impl ShardCore {
    /// Nothing waits for the disk or for another shard.
    pub(crate) fn assert_nothing_is_owed(&self) {
        let durable = &self.durable;
        assert_eq!(durable.gate.len(), 0, "an answer waits");
        assert!(durable.estates.is_empty(), "an ended session has messages");
        assert!(
            durable.waiting_wills() == 0 || durable.is_full_somewhere(),
            "a Will waits although there is room"
        );
        assert!(
            durable.owed_wills.len() == 0 || durable.is_full_somewhere() || durable.has_failed_somewhere(),
            "the log keeps a Will that was published"
        );
        assert!(durable.done.is_none() && durable.sent.is_empty(), "something noted was not recorded");
        assert!(self.durable.confirmations.iter().all(Confirmations::is_idle), "a shard waits");
        if self.sessions.len() == 0 {
            assert_eq!(durable.away_count, 0);
            assert!(durable.numbers.0.is_empty());
        }
    }
}

#[cfg(test)]
mod tests;
