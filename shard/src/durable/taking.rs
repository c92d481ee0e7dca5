//! Who gets a message that has to be stored: collected while it is handed out, recorded once for all of them.

use dunlin_persist::record::{self, Published};
use dunlin_persist::{MessageId, Record, SessionNo};
use dunlin_wire::types::{PacketId, QoS};

use super::gate::{Owed, Promise};
use super::{Sent, Stored};
use crate::action::Actions;
use crate::core::ShardCore;
use crate::ids::ConnId;
use crate::mesh::GroupKey;
use crate::message::MessageView;
use crate::metrics::Counter;
use crate::publish::{Delivery, DeliveryRules, Publication, Receiver, Terms};
use crate::session::Session;

/// The message at hand. One per shard, reused from message to message.
#[derive(Debug, Default)]
pub(super) struct Taking {
    /// Its name, once somebody needs one.
    id: Option<MessageId>,
    takers: Vec<Taker>,
    /// Subscription Identifiers of all takers.
    ids: Vec<u32>,
    /// QoS 2 transfers that wait until the message is on the disk.
    transfers: Vec<(ConnId, u32, PacketId)>,
    /// The QoS 2 identifier under which a durable session of this shard published it.
    pub(super) arrived: Option<(SessionNo, u16)>,
    /// The same of a session of another shard, until the record of those who subscribed for themselves says it.
    pub(super) origin: Option<(SessionNo, u16)>,
    /// Who gets it through his own filters, while one gets it through a group.
    aside: Option<Aside>,
    /// Records of those who get it through groups, until all are known.
    drawn_up: Vec<Published>,
}

/// A message's name, its takers, and their Subscription Identifiers.
type Aside = (Option<MessageId>, Vec<Taker>, Vec<u32>);

/// One durable session that gets it.
#[derive(Clone, Copy, Debug)]
struct Taker {
    session: u32,
    receiver: record::Receiver,
    /// Which of the identifiers are its own.
    ids: (usize, usize),
    group: Option<GroupKey>,
}

impl ShardCore {
    /// Gives a QoS 1 or 2 message to a durable session.
    pub(crate) fn deliver_stored(
        &mut self,
        session: u32,
        terms: &Terms<'_>,
        publication: &mut Publication<'_>,
        rules: &DeliveryRules,
        actions: &mut Actions,
    ) {
        let Some(number) = self.number_of(session) else { return };
        if !self.durable.takes_new() {
            self.metrics.count(Counter::DeliveryDroppedStoreFull);
            self.durable.promise.is_refused = true;
            return;
        }
        if terms.group.is_some() {
            // A session may get a message through its own filters and through its groups, and a record names it once.
            let view = *publication.view();
            let taking = &mut self.durable.taking;
            let takers = std::mem::take(&mut taking.takers);
            taking.aside = Some((taking.id.take(), takers, std::mem::take(&mut taking.ids)));
            self.deliver_taken((session, number), terms, publication, rules, actions);
            let drawn_up = self.draw_up(&view);
            let taking = &mut self.durable.taking;
            taking.drawn_up.extend(drawn_up);
            (taking.id, taking.takers, taking.ids) = taking.aside.take().unwrap_or_default();
        } else {
            self.deliver_taken((session, number), terms, publication, rules, actions);
        }
    }

    fn deliver_taken(
        &mut self,
        (session, number): (u32, SessionNo),
        terms: &Terms<'_>,
        publication: &mut Publication<'_>,
        rules: &DeliveryRules,
        actions: &mut Actions,
    ) {
        let id = self.take(session, number, terms);
        let Some(entry) = self.sessions.at(session) else { return };
        let link = entry.link;
        let Some(conn) = link.conn().filter(|_| !entry.has_away()) else {
            let bytes = u32::try_from(publication.view().bytes()).unwrap_or(u32::MAX);
            if !self.wait_away(session, (id, bytes), actions) {
                self.take_back(session);
            }
            return;
        };
        let delivery = Delivery::stored(publication.keep(), terms, id);
        let windows = entry.traffic.windows.as_deref();
        let goes_now = rules.is_clear(&link)
            && windows.is_none_or(|windows| {
                windows.queue.is_empty() && windows.outgoing.has_room(rules.window(&link))
            });
        if goes_now {
            let to = Receiver { session, conn, link };
            self.begin(&to, delivery, terms, publication, actions);
        } else {
            self.enqueue(session, delivery, rules, actions);
        }
    }

    /// Notes that a session gets the message at hand.
    fn take(&mut self, session: u32, number: SessionNo, terms: &Terms<'_>) -> MessageId {
        let id = match self.durable.taking.id {
            Some(id) => id,
            None => self.durable.draw_message(),
        };
        let taking = &mut self.durable.taking;
        taking.id = Some(id);
        let start = taking.ids.len();
        taking.ids.extend_from_slice(terms.ids);
        let receiver =
            record::Receiver { session: number, packet_id: 0, qos: terms.qos.as_u8(), retain: terms.retain };
        let ids = (start, taking.ids.len());
        taking.takers.push(Taker { session, receiver, ids, group: terms.group });
        id
    }

    /// The session that was noted last does not get the message after all.
    fn take_back(&mut self, session: u32) {
        let takers = &mut self.durable.taking.takers;
        if takers.last().is_some_and(|taker| taker.session == session) {
            takers.pop();
        }
    }

    /// A stored message was put into a session's window. Whether it may be sent now; else it is sent when that is on the disk.
    pub(crate) fn note_begun(
        &mut self,
        to: &Receiver,
        message: MessageId,
        qos: QoS,
        packet_id: PacketId,
    ) -> bool {
        let Receiver { session, conn, .. } = *to;
        let Some(number) = self.number_of(session) else { return true };
        let waits_for = (qos == QoS::ExactlyOnce).then_some(conn);
        let taking = &mut self.durable.taking;
        if taking.id == Some(message) {
            if let Some(taker) = taking.takers.last_mut().filter(|taker| taker.session == session) {
                taker.receiver.packet_id = packet_id.get();
            }
            taking.transfers.extend(waits_for.map(|conn| (conn, session, packet_id)));
        } else {
            self.durable.sent.push(Sent { session, number, message, packet_id, waits_for });
        }
        waits_for.is_none()
    }

    /// A message does not reach a session that it was meant for.
    pub(crate) fn note_gone(&mut self, session: u32, message: Option<MessageId>, actions: &mut Actions) {
        if message.is_some() && self.durable.taking.id == message {
            self.take_back(session);
        } else if message.is_none_or(|message| !self.strike_out(session, message)) {
            self.note_done(session, message, actions);
        }
    }

    /// Strikes a session out of a record of the message at hand. Whether there was one.
    fn strike_out(&mut self, session: u32, message: MessageId) -> bool {
        let taking = &mut self.durable.taking;
        if let Some((id, takers, _)) = &mut taking.aside
            && *id == Some(message)
        {
            takers.retain(|taker| taker.session != session);
            return true;
        }
        // Who gets it through a group is alone in the record.
        let before = taking.drawn_up.len();
        taking.drawn_up.retain(|published| published.id != message);
        taking.drawn_up.len() < before
    }

    /// The message was handed out to all on this shard: it is recorded, if one of them needs that, and what waited for that goes
    /// through the gate.
    ///
    /// All who subscribed for themselves are in one record, the last of the message. With it stands under which identifier the
    /// message came: were that in a record before, a crash between them would lose it for the others.
    pub(crate) fn finish_taking(&mut self, view: &MessageView<'_>, actions: &mut Actions) {
        let published = self.draw_up(view);
        let taking = &mut self.durable.taking;
        if published.is_none() && taking.drawn_up.is_empty() {
            return;
        }
        let mut drawn_up = std::mem::take(&mut taking.drawn_up);
        let (count, are_all) = (drawn_up.len(), published.is_none());
        for (mut published, nth) in drawn_up.drain(..).zip(1..) {
            let is_last = are_all && nth == count;
            published.arrived = self.durable.taking.arrived.take_if(|_| is_last);
            self.record(Record::Published(Box::new(published)), actions);
        }
        self.durable.taking.drawn_up = drawn_up;
        if let Some(mut published) = published {
            let taking = &mut self.durable.taking;
            published.arrived = taking.arrived.take().or_else(|| taking.origin.take());
            self.record(Record::Published(Box::new(published)), actions);
        }
        let seq = self.durable.appended();
        let mut transfers = std::mem::take(&mut self.durable.taking.transfers);
        for (conn, session, packet_id) in transfers.drain(..) {
            self.answer(Owed::Transfer { conn, session, packet_id }, Promise::of(seq), actions);
        }
        self.durable.taking.transfers = transfers;
    }

    /// The record of the message at hand, if anybody takes it.
    fn draw_up(&mut self, view: &MessageView<'_>) -> Option<Published> {
        let taking = &mut self.durable.taking;
        let id = taking.id.take()?;
        if taking.takers.is_empty() {
            taking.ids.clear();
            return None;
        }
        let mut takers = std::mem::take(&mut taking.takers);
        takers.sort_by_key(|taker| taker.receiver.session);
        let mut published = Published {
            id,
            message: message_record(view),
            receivers: Vec::with_capacity(takers.len()),
            subscription_ids: Vec::new(),
            groups: Vec::new(),
            arrived: None,
        };
        for (taker, index) in takers.iter().zip(0_u32..) {
            published.receivers.push(taker.receiver);
            let ids = &self.durable.taking.ids[taker.ids.0..taker.ids.1];
            published.subscription_ids.extend(ids.iter().map(|id| (index, *id)));
            let group = taker.group.and_then(|group| self.routing.specials.membership(taker.session, group));
            published.groups.extend(group.map(|written| (index, written.into())));
        }
        takers.clear();
        self.durable.taking.takers = takers;
        self.durable.taking.ids.clear();
        Some(published)
    }

    /// Records which messages were taken out of queues and sent.
    pub(crate) fn flush_sent(&mut self, actions: &mut Actions) {
        if self.durable.sent.is_empty() {
            return;
        }
        let mut sent = std::mem::take(&mut self.durable.sent);
        for of_one in sent.chunk_by(|one, other| one.number == other.number) {
            let messages = of_one.iter().map(|sent| (sent.message, sent.packet_id.get())).collect();
            self.record(Record::Sent { session: of_one[0].number, messages }, actions);
            let seq = self.durable.appended();
            for Sent { session, packet_id, waits_for, .. } in of_one {
                if let Some(conn) = *waits_for {
                    let transfer = Owed::Transfer { conn, session: *session, packet_id: *packet_id };
                    self.answer(transfer, Promise::of(seq), actions);
                }
            }
        }
        sent.clear();
        self.durable.sent = sent;
    }
}

impl Session {
    /// Whether its QoS 1 and 2 messages are stored.
    pub(crate) fn is_durable(&self) -> bool {
        self.stored().map(Stored::number).is_some()
    }
}

/// A message as it is recorded.
pub(super) fn message_record(view: &MessageView<'_>) -> record::Message {
    record::Message {
        topic: view.topic.into(),
        publisher: view.publisher.into(),
        properties: view.properties.into(),
        payload: view.payload.into(),
        received_at_ms: view.received_at.0,
        expiry_seconds: view.expiry_seconds,
        qos: view.qos.as_u8(),
        retain: view.retain,
    }
}
