//! What a log must come to: its records applied to plain maps. Written from the meaning of the records alone.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_persist::record::{Message, Outgoing, Published, Receiver, Session};
use dunlin_persist::{FetchedMessage, MessageId, Record, Recovered, SessionNo};

use super::BOOT_MS;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub sessions: BTreeMap<SessionNo, Session>,
    pub retained: BTreeMap<Box<str>, Message>,
    /// What was accepted, for those that wait; bodies come from the records, or from nowhere after a boot.
    pub messages: BTreeMap<MessageId, Published>,
    /// Messages have other names than those under which they were accepted.
    pub was_rehomed: bool,
}

impl Model {
    /// What a boot handed over.
    pub fn of(recovered: &Recovered) -> Self {
        let mut sessions = BTreeMap::new();
        for session in &recovered.sessions {
            assert!(session.detached_at_ms.is_some(), "nobody is connected after a boot");
            let twice = sessions.insert(session.session, (**session).clone());
            assert_eq!(twice, None, "a session is handed over once");
        }
        let retained =
            recovered.retained.iter().map(|message| (message.topic.clone(), message.clone())).collect();
        Self { sessions, retained, messages: BTreeMap::new(), was_rehomed: false }
    }

    /// The same with every session detached, as a boot leaves it, what was sent in the order of sending again, and without bodies.
    pub fn after_boot(&self) -> Self {
        let mut after = self.clone();
        after.messages.clear();
        for session in after.sessions.values_mut() {
            session.detached_at_ms.get_or_insert(BOOT_MS);
            session.incoming.sort_unstable();
            session.outgoing.sort_by_key(|sent| sent.message);
        }
        after
    }

    /// The first difference, in words.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let numbers: BTreeSet<_> = self.sessions.keys().chain(other.sessions.keys()).collect();
        for number in numbers {
            let (wanted, found) = (self.sessions.get(number), other.sessions.get(number));
            if wanted != found {
                let short = |one: Option<&Session>| {
                    one.map(|one| {
                        let sent =
                            one.outgoing.iter().map(|sent| (sent.packet_id, sent.message.map(|id| id.0)));
                        let waiting = one.queue.iter().map(|id| id.0);
                        let will = one.will.is_some();
                        let filters = one.subscriptions.iter().map(|known| &known.filter);
                        format!(
                            "{} detached {:?} will {will} sent {:?} waiting {:?} came {:?} filters {:?}",
                            one.client_id,
                            one.detached_at_ms,
                            sent.collect::<Vec<_>>(),
                            waiting.collect::<Vec<_>>(),
                            one.incoming,
                            filters.collect::<Vec<_>>()
                        )
                    })
                };
                return Some(format!(
                    "session {number:?}\n  wanted {:?}\n  found  {:?}",
                    short(wanted),
                    short(found)
                ));
            }
        }
        let topics: BTreeSet<_> = self.retained.keys().chain(other.retained.keys()).collect();
        for topic in topics {
            let (wanted, found) = (self.retained.get(topic), other.retained.get(topic));
            if wanted != found {
                return Some(format!("retained {topic}\n  wanted {wanted:?}\n  found  {found:?}"));
            }
        }
        None
    }

    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Session(image) => {
                self.sessions.insert(image.session, (**image).clone());
            }
            Record::SessionEnded { session } => {
                self.sessions.remove(session);
            }
            Record::Attached(attached) => {
                let session = self.sessions.entry(attached.session).or_default();
                session.session = attached.session;
                session.client_id = attached.client_id.clone();
                session.user_name = attached.user_name.clone();
                session.expiry_seconds = attached.expiry_seconds;
                session.will = attached.will.clone();
                session.detached_at_ms = None;
            }
            Record::Published(published) => self.publish(published),
            Record::Retained(message) => {
                self.retained.insert(message.topic.clone(), (**message).clone());
            }
            Record::RetainedCleared { topic } => {
                self.retained.remove(topic);
            }
            Record::Detached { .. }
            | Record::WillGone { .. }
            | Record::Subscribed { .. }
            | Record::Unsubscribed { .. }
            | Record::Sent { .. }
            | Record::Done { .. }
            | Record::Received { .. }
            | Record::Completed { .. }
            | Record::Arrived { .. }
            | Record::Released { .. } => self.apply_to_session(record),
        }
    }

    fn apply_to_session(&mut self, record: &Record) {
        let number = record.session().expect("a record of a session");
        let Some(session) = self.sessions.get_mut(&number) else { return };
        match record {
            Record::Detached { at_ms, expiry_seconds, keeps_will, .. } => {
                session.detached_at_ms = Some(*at_ms);
                session.expiry_seconds = *expiry_seconds;
                if !keeps_will {
                    session.will = None;
                }
            }
            Record::WillGone { .. } => session.will = None,
            Record::Subscribed { subscription, .. } => {
                session.subscriptions.retain(|known| known.filter != subscription.filter);
                session.subscriptions.push(subscription.clone());
                session.subscriptions.sort_by(|one, other| one.filter.cmp(&other.filter));
            }
            Record::Unsubscribed { filter, .. } => {
                session.subscriptions.retain(|known| known.filter != *filter)
            }
            Record::Sent { messages, .. } => {
                for (message, packet_id) in messages {
                    session.queue.retain(|waiting| waiting != message);
                    session.outgoing.retain(|sent| sent.message != Some(*message));
                    session.outgoing.push(Outgoing { packet_id: *packet_id, message: Some(*message) });
                }
            }
            Record::Done { messages, .. } => {
                session.queue.retain(|waiting| !messages.contains(waiting));
                session
                    .outgoing
                    .retain(|sent| sent.message.is_none_or(|message| !messages.contains(&message)));
            }
            // Identifiers that wait for PUBCOMP are in the order of their PUBRECs [MQTT5-4.6.0-4].
            Record::Received { packet_id, message, .. } => {
                session.queue.retain(|waiting| waiting != message);
                session
                    .outgoing
                    .retain(|sent| sent.packet_id != *packet_id && sent.message != Some(*message));
                session.outgoing.push(Outgoing { packet_id: *packet_id, message: None });
            }
            Record::Completed { packet_id, .. } => {
                session.outgoing.retain(|sent| sent.packet_id != *packet_id)
            }
            Record::Arrived { packet_id, .. } => {
                session.incoming.retain(|known| known != packet_id);
                session.incoming.push(*packet_id);
            }
            Record::Released { packet_id, .. } => session.incoming.retain(|known| known != packet_id),
            other => panic!("{other:?} is not of one session"),
        }
    }

    fn publish(&mut self, published: &Published) {
        for receiver in &published.receivers {
            let Some(session) = self.sessions.get_mut(&receiver.session) else { continue };
            let has = session.queue.contains(&published.id)
                || session.outgoing.iter().any(|sent| sent.message == Some(published.id));
            if has {
                continue;
            }
            if receiver.packet_id == 0 {
                session.queue.push(published.id);
                session.queue.sort_unstable();
            } else {
                session
                    .outgoing
                    .push(Outgoing { packet_id: receiver.packet_id, message: Some(published.id) });
            }
        }
        if let Some((session, packet_id)) = published.arrived {
            self.apply(&Record::Arrived { session, packet_id });
        }
        self.messages.insert(published.id, published.clone());
    }

    /// What a core says again of a record that is about to be freed.
    pub fn still_holds(&self, record: &Record) -> Vec<Record> {
        match record {
            Record::Published(published) => {
                let mut again = published.clone();
                again.receivers.retain(|receiver| self.holds(receiver.session, published.id));
                // Identifiers that it brought are said by its publisher's image.
                let image = again.arrived.take().and_then(|(session, _)| self.image(session));
                if again.receivers.len() != published.receivers.len() {
                    again.subscription_ids.clear();
                    again.groups.clear();
                }
                let kept = (!again.receivers.is_empty()).then_some(Record::Published(again));
                kept.into_iter().chain(image).collect()
            }
            Record::Retained(message) => {
                let current = self.retained.get(&message.topic) == Some(&**message);
                current.then(|| record.clone()).into_iter().collect()
            }
            Record::RetainedCleared { .. } | Record::SessionEnded { .. } => Vec::new(),
            Record::Session(_)
            | Record::Attached(_)
            | Record::Detached { .. }
            | Record::WillGone { .. }
            | Record::Subscribed { .. }
            | Record::Unsubscribed { .. }
            | Record::Sent { .. }
            | Record::Done { .. }
            | Record::Received { .. }
            | Record::Completed { .. }
            | Record::Arrived { .. }
            | Record::Released { .. } => {
                let session = record.session().expect("a record of a session");
                self.image(session).into_iter().collect()
            }
        }
    }

    fn image(&self, session: SessionNo) -> Option<Record> {
        self.sessions.get(&session).map(|session| Record::Session(Box::new(session.clone())))
    }

    fn holds(&self, session: SessionNo, id: MessageId) -> bool {
        self.sessions.get(&session).is_some_and(|session| {
            session.queue.contains(&id) || session.outgoing.iter().any(|sent| sent.message == Some(id))
        })
    }

    /// The messages that each session needs.
    pub fn wanted(&self) -> Vec<(SessionNo, Vec<MessageId>)> {
        let wanted = self.sessions.values().map(|session| {
            let sent = session.outgoing.iter().filter_map(|sent| sent.message);
            (session.session, sent.chain(session.queue.iter().copied()).collect::<Vec<_>>())
        });
        wanted.filter(|(_, messages)| !messages.is_empty()).collect()
    }

    /// What came must be what was accepted; where the model has no body, the body itself must say which it is.
    pub fn check_fetched(&mut self, session: SessionNo, fetched: &[FetchedMessage]) {
        let wanted =
            self.wanted().into_iter().find(|(number, _)| *number == session).expect("it wanted some").1;
        let ids: Vec<MessageId> = fetched.iter().map(FetchedMessage::id).collect();
        assert_eq!(ids, wanted, "in the order asked");
        for message in fetched {
            let FetchedMessage::Found(found) = message else { panic!("{session:?}: {message:?}") };
            // A move to other homes gives other names, in the same order; the message itself says its first one.
            let accepted = MessageId(found.message.received_at_ms - 500);
            assert!(self.was_rehomed || accepted == found.id, "{:?} is {accepted:?}", found.id);
            assert!(*found.message == message_of(accepted), "{session:?} gets what was accepted");
            assert_eq!(found.qos, qos_of(session, accepted));
            // Known again after a boot, so that cleaning can say it.
            self.messages.entry(found.id).or_insert_with(|| Published {
                id: found.id,
                message: (*found.message).clone(),
                receivers: vec![Receiver { session, packet_id: 0, qos: found.qos, retain: found.retain }],
                subscription_ids: Vec::new(),
                groups: Vec::new(),
                arrived: None,
            });
        }
    }

    pub fn absorb(&mut self, other: &Self) {
        self.sessions.extend(other.sessions.clone());
        self.retained.extend(other.retained.clone());
    }
}

/// The message of this name: the name says all of it.
pub fn message_of(id: MessageId) -> Message {
    let length = usize::try_from(id.0 * 37 % 700).unwrap();
    Message {
        topic: format!("t/{}", id.0 % 7).into(),
        publisher: "p".into(),
        properties: Box::from(&b"\x01\x01"[..usize::try_from(id.0 % 2).unwrap() * 2]),
        payload: id.0.to_le_bytes().iter().copied().cycle().take(length).collect(),
        received_at_ms: 500 + id.0,
        expiry_seconds: (id.0.is_multiple_of(5)).then_some(u32::MAX - 1),
        qos: 2,
        retain: false,
    }
}

/// The QoS with which a session gets a message.
pub fn qos_of(session: SessionNo, id: MessageId) -> u8 {
    1 + u8::try_from((session.0 + id.0) % 2).unwrap()
}
