//! A log in memory: what a core appended, how much of it counts as safe, and what a restart finds.
//!
//! Its replay is written from what records mean, not from how the log on the disk does it: two answers to the same question.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dunlin_persist::record::{Message, Outgoing, Session};
use dunlin_persist::{FetchedMessage, FoundMessage, MessageId, Record, SessionNo};

/// The log of one core.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// All records that are there, of earlier runs too.
    pub(crate) records: Vec<Record>,
    /// How many were freed before them.
    freed: usize,
    /// How many, from the very first one, are safe.
    synced: usize,
    /// How many, from the very first one, there were when the core that runs now began.
    base: usize,
    /// How many, from the very first one, were offered to be said again.
    offered: usize,
    /// Offered ones that may be freed when as many are safe: both from the very first one.
    frees: VecDeque<(usize, usize)>,
    /// Syncs wait until they are asked for.
    pub(crate) is_held: bool,
    /// The disk takes no more records than this.
    pub(crate) limit: Option<usize>,
}

/// What a restart finds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) sessions: BTreeMap<SessionNo, Session>,
    pub(crate) retained: BTreeMap<Box<str>, Message>,
    /// QoS 2 messages of other shards' sessions.
    pub(crate) taken: BTreeSet<(SessionNo, u16)>,
    pub(crate) next_session: u64,
    pub(crate) next_message: u64,
}

impl Log {
    /// A core appends.
    pub(crate) fn append(&mut self, seq: u64, record: Record) {
        let count = u64::try_from(self.total() - self.base).unwrap();
        assert_eq!(seq, count + 1, "records are numbered without gaps");
        self.records.push(record);
    }

    /// How many there ever were.
    pub(crate) fn total(&self) -> usize {
        self.freed + self.records.len()
    }

    /// The next of the oldest records, to be said again if it holds.
    pub(crate) fn next_reclaimable(&mut self) -> Option<Record> {
        let record = self.records.get(self.offered - self.freed).filter(|_| self.offered < self.synced)?;
        self.offered += 1;
        Some(record.clone())
    }

    /// What was offered is freed when what was said again is safe.
    pub(crate) fn free_offered(&mut self) {
        self.frees.push_back((self.offered, self.total()));
        self.free();
    }

    fn free(&mut self) {
        while let Some((end, needs)) = self.frees.front().copied()
            && needs <= self.synced
        {
            self.frees.pop_front();
            self.records.drain(..end.saturating_sub(self.freed));
            self.freed = self.freed.max(end);
        }
    }

    /// Makes safe what may be; the number to tell the core, if it is a new one.
    pub(crate) fn sync(&mut self) -> Option<u64> {
        let end = self.limit.unwrap_or(usize::MAX).min(self.total());
        if self.is_held || end <= self.synced {
            return None;
        }
        self.synced = end;
        self.free();
        end.checked_sub(self.base).filter(|seq| *seq > 0).map(|seq| u64::try_from(seq).unwrap())
    }

    /// Power goes: what was not safe is gone.
    pub(crate) fn crash(&mut self) {
        self.records.truncate(self.synced.saturating_sub(self.freed));
        self.base = self.total();
        self.offered = self.freed;
        self.frees.clear();
        self.is_held = false;
        self.limit = None;
    }

    /// A message for a session.
    pub(crate) fn fetch(&self, session: SessionNo, id: MessageId) -> FetchedMessage {
        let mut all = self.records.iter().rev().filter_map(|record| {
            if let Record::Published(published) = record { Some(published) } else { None }
        });
        let Some(published) = all.find(|published| published.id == id) else {
            return FetchedMessage::Lost(id);
        };
        let at = published.receivers.iter().position(|receiver| receiver.session == session);
        let Some(at) = at else { return FetchedMessage::Lost(id) };
        let receiver = published.receivers[at];
        let at = u32::try_from(at).unwrap();
        FetchedMessage::Found(FoundMessage {
            id,
            message: Arc::new(published.message.clone()),
            qos: receiver.qos,
            retain: receiver.retain,
            subscription_ids: published
                .subscription_ids
                .iter()
                .filter(|(index, _)| *index == at)
                .map(|(_, id)| *id)
                .collect(),
            group: published.groups.iter().find(|(index, _)| *index == at).map(|(_, group)| group.clone()),
        })
    }

    /// What all records add up to.
    pub(crate) fn replay(&self) -> Found {
        let mut found = Found { next_session: 1, next_message: 1, ..Found::default() };
        for record in &self.records {
            found.apply(record);
        }
        found
    }
}

impl Found {
    fn apply(&mut self, record: &Record) {
        if let Record::Released { session, packet_id } = record {
            self.taken.remove(&(*session, *packet_id));
        }
        match record {
            Record::Session(image) => {
                self.next_session = self.next_session.max(image.session.0 + 1);
                self.taken.retain(|(session, _)| *session != image.session);
                self.sessions.insert(image.session, (**image).clone());
            }
            Record::Attached(attached) => {
                self.next_session = self.next_session.max(attached.session.0 + 1);
                let session = self.sessions.entry(attached.session).or_default();
                session.session = attached.session;
                session.client_id = attached.client_id.clone();
                session.user_name = attached.user_name.clone();
                session.expiry_seconds = attached.expiry_seconds;
                session.will = attached.will.clone();
                session.detached_at_ms = None;
            }
            Record::SessionEnded { session } => {
                self.sessions.remove(session);
                self.taken.retain(|(other, _)| other != session);
            }
            Record::Published(published) => {
                self.next_message = self.next_message.max(published.id.0 + 1);
                for receiver in &published.receivers {
                    let Some(session) = self.sessions.get_mut(&receiver.session) else { continue };
                    session.queue.retain(|id| *id != published.id);
                    session.outgoing.retain(|sent| sent.message != Some(published.id));
                    if receiver.packet_id == 0 {
                        session.queue.push(published.id);
                        session.queue.sort();
                    } else {
                        let (packet_id, message) = (receiver.packet_id, Some(published.id));
                        session.outgoing.push(Outgoing { packet_id, message });
                    }
                }
                if let Some((session, packet_id)) = published.arrived {
                    self.arrive(session, packet_id);
                }
            }
            Record::Arrived { session, packet_id } => self.arrive(*session, *packet_id),
            Record::Retained(message) => {
                self.retained.insert(message.topic.clone(), (**message).clone());
            }
            Record::RetainedCleared { topic } => {
                self.retained.remove(topic);
            }
            Record::Detached { session, .. }
            | Record::WillGone { session }
            | Record::Subscribed { session, .. }
            | Record::Unsubscribed { session, .. }
            | Record::Sent { session, .. }
            | Record::Done { session, .. }
            | Record::Received { session, .. }
            | Record::Completed { session, .. }
            | Record::Released { session, .. } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    change(session, record);
                }
            }
        }
    }

    fn arrive(&mut self, session: SessionNo, packet_id: u16) {
        let Some(known) = self.sessions.get_mut(&session) else {
            self.taken.insert((session, packet_id));
            return;
        };
        if !known.incoming.contains(&packet_id) {
            known.incoming.push(packet_id);
        }
    }
}

/// What a record says about a session that is known.
#[expect(clippy::wildcard_enum_match_arm, reason = "the caller has taken the others")]
fn change(session: &mut Session, record: &Record) {
    match record {
        Record::Detached { at_ms, expiry_seconds, keeps_will, .. } => {
            session.detached_at_ms = Some(*at_ms);
            session.expiry_seconds = *expiry_seconds;
            session.will.take_if(|_| !keeps_will);
        }
        Record::WillGone { .. } => session.will = None,
        Record::Subscribed { subscription, .. } => {
            session.subscriptions.retain(|known| known.filter != subscription.filter);
            session.subscriptions.push(subscription.clone());
        }
        Record::Unsubscribed { filter, .. } => {
            session.subscriptions.retain(|known| known.filter != *filter);
        }
        Record::Sent { messages, .. } => {
            for (id, packet_id) in messages {
                if session.queue.contains(id) {
                    session.queue.retain(|queued| queued != id);
                    session.outgoing.push(Outgoing { packet_id: *packet_id, message: Some(*id) });
                }
            }
        }
        Record::Done { messages, .. } => {
            session.queue.retain(|id| !messages.contains(id));
            session.outgoing.retain(|sent| sent.message.is_none_or(|id| !messages.contains(&id)));
        }
        Record::Received { message, packet_id, .. } => {
            for sent in session.outgoing.iter_mut().filter(|sent| sent.message == Some(*message)) {
                assert_eq!(sent.packet_id, *packet_id, "PUBREC names the identifier of the message");
                sent.message = None;
            }
        }
        Record::Completed { packet_id, .. } => {
            session.outgoing.retain(|sent| sent.packet_id != *packet_id || sent.message.is_some());
        }
        Record::Released { packet_id, .. } => session.incoming.retain(|id| id != packet_id),
        other => panic!("{other:?} is not about one known session"),
    }
}
