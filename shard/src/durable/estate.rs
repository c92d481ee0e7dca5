//! What a durable session leaves behind when it ends: its messages of shared subscriptions go to other members, and the session
//! is recorded as ended when they have them. After a crash before that, what is left of it ends again (`restore.rs`).

use dunlin_persist::record::{self, Outgoing, Subscription};
use dunlin_persist::{FetchedMessage, MessageId, Record, SessionNo};
use dunlin_wire::topic::FilterKind;
use dunlin_wire::types::{QoS, SubscriptionOptions};

use super::{Away, Promise};
use crate::action::{Action, Actions};
use crate::core::ShardCore;
use crate::durable::Owed;
use crate::ids::SessionId;
use crate::limits::FETCH_COUNT;
use crate::metrics::Counter;
use std::collections::VecDeque;

/// Messages of a session that has ended, until they are with others.
#[derive(Debug)]
pub(super) struct Estate {
    /// Whose they were.
    heir_of: SessionId,
    /// Its Client Identifier.
    client_id: Box<str>,
    /// Still to be read: the message, and under which identifier it was sent; 0 if it waited.
    messages: VecDeque<(MessageId, u16)>,
    /// Its shared subscriptions, as written.
    memberships: Vec<Box<str>>,
    /// What the record of its end waits for.
    promise: Promise,
    /// Whether an image of it is in what is left of the log.
    has_image: bool,
}

impl ShardCore {
    /// A durable session ends. `memberships` are its shared subscriptions; `returned` are those of its messages that were in memory
    /// and went to other members, and `promise` is what waits for them.
    pub(crate) fn end_stored(
        &mut self,
        id: SessionId,
        memberships: Vec<Box<str>>,
        (returned, promise): (Vec<MessageId>, Promise),
        actions: &mut Actions,
    ) {
        let Some(number) = self.number_of(id.index) else { return };
        let client_id = self.sessions.get(id).map_or_else(Box::default, |entry| entry.client_id.clone());
        let away = self.take_away(id).map_or_else(Away::default, |away| *away);
        self.durable.numbers.remove(number);
        self.forget_all_elsewhere(number, actions);
        if self.move_owed_will(number, actions) {
            // What follows may have to wait for other shards.
            self.record(Record::WillGone { session: number }, actions);
        }
        // Records are in order; only other shards have to be waited for.
        let promise = promise.of_other_shards();
        let sent = away.outgoing.iter().filter_map(|sent| Some((sent.message?, sent.packet_id)));
        let messages: VecDeque<_> =
            sent.chain(away.queue.names().iter().map(|message| (*message, 0))).collect();
        if memberships.is_empty() || messages.is_empty() {
            let ended = Box::new(Record::SessionEnded { session: number });
            self.answer(Owed::Record(ended), promise, actions);
            return;
        }
        self.record_handed_on(number, returned, promise.clone(), actions);
        let estate = Estate { heir_of: id, client_id, messages, memberships, promise, has_image: false };
        self.durable.estates.insert(number, estate);
        self.fetch_estate(number, actions);
    }

    /// Records that other members have messages of a session that has ended, when they do: what is left of it after a crash does
    /// not hand them on again.
    fn record_handed_on(
        &mut self,
        session: SessionNo,
        messages: Vec<MessageId>,
        promise: Promise,
        actions: &mut Actions,
    ) {
        if !messages.is_empty() {
            self.answer(Owed::Record(Box::new(Record::Done { session, messages })), promise, actions);
        }
    }

    /// All groups are there again after a restart: messages of members that had ended go to the others.
    pub(super) fn fetch_estates(&mut self, actions: &mut Actions) {
        let numbers: Vec<SessionNo> = self.durable.estates.keys().copied().collect();
        for number in numbers {
            self.fetch_estate(number, actions);
        }
    }

    /// Asks for the next messages, or records the end.
    fn fetch_estate(&mut self, number: SessionNo, actions: &mut Actions) {
        if self.durable.restoring.estates_wait() {
            return;
        }
        let Some(estate) = self.durable.estates.get(&number) else { return };
        let messages: Box<[MessageId]> =
            estate.messages.iter().take(FETCH_COUNT).map(|(message, _)| *message).collect();
        if !messages.is_empty() {
            actions.list.push(Action::Fetch { session: number, messages });
            return;
        }
        if let Some(estate) = self.durable.estates.remove(&number) {
            let ended = Box::new(Record::SessionEnded { session: number });
            self.answer(Owed::Record(ended), estate.promise, actions);
        }
    }

    /// Messages of an ended session were read: those of shared subscriptions go to other members. Whether they were such.
    pub(super) fn on_estate_fetched(
        &mut self,
        number: SessionNo,
        messages: &[FetchedMessage],
        actions: &mut Actions,
    ) -> bool {
        let Some(estate) = self.durable.estates.get_mut(&number) else { return false };
        let heir_of = estate.heir_of;
        let mut returned = Vec::new();
        let mut handed_on = Vec::new();
        for message in messages {
            let Some((name, packet_id)) = estate.messages.pop_front_if(|(name, _)| *name == message.id())
            else {
                // The answer to a question of the session when it lived.
                break;
            };
            let FetchedMessage::Found(found) = message else {
                self.metrics.count(Counter::DeliveryDroppedLost);
                continue;
            };
            // [MQTT5-4.8.2-5]: QoS 2 messages that were sent go to nobody.
            let goes_on = packet_id == 0 || found.qos != QoS::ExactlyOnce.as_u8();
            let written =
                found.group.as_ref().filter(|written| goes_on && estate.memberships.contains(written));
            if let Some(written) = written {
                handed_on.push(name);
                returned.push((written.clone(), found.message.clone()));
            }
        }
        self.begin_promise();
        for (written, message) in returned {
            if matches!(FilterKind::parse(&written), Ok(FilterKind::Shared { .. })) {
                self.metrics.count(Counter::DeliveryRedispatched);
                let message = super::restore::message_of(&message);
                self.return_message(heir_of, &written, message, actions);
            }
        }
        let promise = self.take_promise().of_other_shards();
        if !promise.is_refused {
            self.record_handed_on(number, handed_on, promise.clone(), actions);
        }
        if let Some(estate) = self.durable.estates.get_mut(&number) {
            estate.promise.asks.extend(promise.asks);
            estate.promise.is_refused |= promise.is_refused;
        }
        self.fetch_estate(number, actions);
        true
    }
}

impl ShardCore {
    /// Whether a message is still to be given to another member, and under which identifier it was sent; 0 if it waited.
    pub(super) fn estate_holds(&self, session: SessionNo, message: MessageId) -> Option<u16> {
        let estate = self.durable.estates.get(&session)?;
        let held = estate.messages.iter().find(|(name, _)| *name == message);
        held.map(|(_, packet_id)| *packet_id)
    }

    /// The log frees the image of a session.
    pub(super) fn forget_estate_image(&mut self, session: SessionNo) {
        if let Some(estate) = self.durable.estates.get_mut(&session) {
            estate.has_image = false;
        }
    }

    /// The log frees something of a session that has ended, and its messages are not with others yet: after a crash they would be
    /// nobody's.
    pub(super) fn reclaim_estate(&mut self, session: SessionNo, actions: &mut Actions) {
        let Some(estate) = self.durable.estates.get_mut(&session).filter(|estate| !estate.has_image) else {
            return;
        };
        estate.has_image = true;
        let image = estate.image(session);
        self.metrics.count(Counter::StoreReclaimed);
        self.record(Record::Session(Box::new(image)), actions);
    }
}

impl Estate {
    /// A session that was over long ago, with what is still to be handed on.
    fn image(&self, session: SessionNo) -> record::Session {
        let options = SubscriptionOptions::with_qos(QoS::ExactlyOnce).as_u8();
        let subscription = |filter: &str| Subscription { filter: filter.into(), options, identifier: 0 };
        let sent = self.messages.iter().filter(|(_, packet_id)| *packet_id != 0);
        let waiting = self.messages.iter().filter(|(_, packet_id)| *packet_id == 0);
        record::Session {
            session,
            client_id: self.client_id.clone(),
            expiry_seconds: 0,
            detached_at_ms: Some(0),
            subscriptions: self.memberships.iter().map(|filter| subscription(filter)).collect(),
            outgoing: sent
                .map(|(message, packet_id)| Outgoing { packet_id: *packet_id, message: Some(*message) })
                .collect(),
            queue: waiting.map(|(message, _)| *message).collect(),
            ..record::Session::default()
        }
    }
}
