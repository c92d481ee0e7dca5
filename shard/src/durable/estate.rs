//! What a durable session leaves behind when it ends: its messages of shared subscriptions go to other members, and the session
//! is recorded as ended when they have them.

use dunlin_persist::{FetchedMessage, MessageId, Record, SessionNo};
use dunlin_wire::topic::FilterKind;
use dunlin_wire::types::QoS;

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
    /// Still to be read: the message, and whether it was sent.
    messages: VecDeque<(MessageId, bool)>,
    /// Its shared subscriptions, as written.
    memberships: Vec<Box<str>>,
    /// What the record of its end waits for.
    promise: Promise,
}

impl ShardCore {
    /// A durable session ends. `memberships` are its shared subscriptions; `promise` is what waits for the messages that were in
    /// memory.
    pub(crate) fn end_stored(
        &mut self,
        id: SessionId,
        memberships: Vec<Box<str>>,
        promise: Promise,
        actions: &mut Actions,
    ) {
        let Some(number) = self.number_of(id.index) else { return };
        let away = self.take_away(id).map_or_else(Away::default, |away| *away);
        self.durable.numbers.remove(number);
        self.forget_all_elsewhere(number, actions);
        if self.move_owed_will(number, actions) {
            // What follows may have to wait for other shards.
            self.record(Record::WillGone { session: number }, actions);
        }
        // Records are in order; only other shards have to be waited for.
        let promise = promise.of_other_shards();
        let sent = away.outgoing.iter().filter_map(|sent| Some((sent.message?, true)));
        let messages: VecDeque<_> =
            sent.chain(away.queue.names().iter().map(|message| (*message, false))).collect();
        if memberships.is_empty() || messages.is_empty() {
            let ended = Box::new(Record::SessionEnded { session: number });
            self.answer(Owed::Record(ended), promise, actions);
            return;
        }
        let estate = Estate { heir_of: id, messages, memberships, promise };
        self.durable.estates.insert(number, estate);
        self.fetch_estate(number, actions);
    }

    /// Asks for the next messages, or records the end.
    fn fetch_estate(&mut self, number: SessionNo, actions: &mut Actions) {
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
        for message in messages {
            let Some((_, was_sent)) = estate.messages.pop_front_if(|(name, _)| *name == message.id()) else {
                // The answer to a question of the session when it lived.
                break;
            };
            let FetchedMessage::Found(found) = message else {
                self.metrics.count(Counter::DeliveryDroppedLost);
                continue;
            };
            // [MQTT5-4.8.2-5]: QoS 2 messages that were sent go to nobody.
            let goes_on = !was_sent || found.qos != QoS::ExactlyOnce.as_u8();
            let written =
                found.group.as_ref().filter(|written| goes_on && estate.memberships.contains(written));
            if let Some(written) = written {
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
        let promise = self.take_promise();
        if let Some(estate) = self.durable.estates.get_mut(&number) {
            estate.promise.asks.extend(promise.asks);
            estate.promise.is_refused |= promise.is_refused;
        }
        self.fetch_estate(number, actions);
        true
    }
}

impl ShardCore {
    /// Whether a message is still to be given to another member.
    pub(super) fn estate_holds(&self, session: SessionNo, message: MessageId) -> Option<u16> {
        let estate = self.durable.estates.get(&session)?;
        estate.messages.iter().any(|(name, _)| *name == message).then_some(0)
    }
}
