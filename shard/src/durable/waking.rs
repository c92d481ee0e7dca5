//! Reading messages back from the disk when a client is there again: first what was sent on an earlier connection, then what
//! waits, page by page, as fast as the client takes it.

use dunlin_persist::{FetchedMessage, FoundMessage, MessageId, SessionNo};
use dunlin_wire::types::{PacketId, QoS};

use super::restore::message_of;
use crate::action::{Action, Actions};
use crate::connection::Hold;
use crate::core::ShardCore;
use crate::ids::SessionId;
use crate::limits::FETCH_COUNT;
use crate::metrics::Counter;
use crate::publish::{Delivery, Fate, Terms};
use crate::session::Session;

impl ShardCore {
    /// A durable session has a connection again. Until the messages that were sent on an earlier one are in the window, packets
    /// of the client wait: it may acknowledge them.
    pub(crate) fn begin_waking(&mut self, id: SessionId, actions: &mut Actions) {
        let Some(entry) = self.sessions.get(id) else { return };
        if let Some(conn) = entry.conn()
            && entry.has_away_outgoing()
        {
            self.hold(conn, Hold::Store, actions);
        }
    }

    /// Asks for the next messages of a session, if it has a connection that takes some and nothing is being asked.
    pub(crate) fn continue_waking(&mut self, session: u32, actions: &mut Actions) {
        let bytes_high = self.configs.current().outbound_bytes_high;
        let Some(entry) = self.sessions.at_mut(session) else { return };
        let link = entry.link;
        let is_empty = entry.traffic.windows.as_ref().is_none_or(|windows| windows.queue.is_empty());
        let Some(stored) = entry.stored_mut() else { return };
        if stored.is_fetching || link.conn().is_none() || link.is_withheld {
            return;
        }
        let number = stored.number();
        let Some(away) = &stored.away else { return };
        let messages: Vec<MessageId> = if !away.outgoing.is_empty() {
            away.outgoing.iter().map_while(|sent| sent.message).take(FETCH_COUNT).collect()
        } else if is_empty && link.unsent_bytes <= bytes_high {
            away.queue.names().iter().take(FETCH_COUNT).copied().collect()
        } else {
            return;
        };
        if messages.is_empty() {
            return;
        }
        stored.is_fetching = true;
        actions.list.push(Action::Fetch { session: number, messages: messages.into() });
    }

    /// Messages come back from the disk.
    pub(crate) fn on_fetched(
        &mut self,
        number: SessionNo,
        messages: Vec<FetchedMessage>,
        actions: &mut Actions,
    ) {
        if self.on_estate_fetched(number, &messages, actions) {
            return;
        }
        let Some(id) = self.session_numbered(number) else { return };
        let Some(stored) = self.sessions.get_mut(id).and_then(Session::stored_mut) else { return };
        stored.is_fetching = false;
        if self.sessions.conn_of(id).is_none() {
            // The client has gone again; they are asked for anew when it comes.
            return;
        }
        for message in messages {
            if !self.take_fetched(id, message, actions) {
                break;
            }
        }
        self.resend(id.index, actions);
    }

    /// Puts one message where it belongs; `false` if it is not the next one that was asked for.
    fn take_fetched(&mut self, id: SessionId, message: FetchedMessage, actions: &mut Actions) -> bool {
        self.restore_releases(id.index);
        let name = message.id();
        let Some(stored) = self.sessions.get_mut(id).and_then(Session::stored_mut) else { return false };
        let Some(away) = &mut stored.away else { return false };
        if let Some(sent) = away.outgoing.front().copied() {
            if sent.message != Some(name) {
                return false;
            }
            away.outgoing.pop_front();
            self.restore_outgoing(id.index, sent.packet_id, message, actions);
            self.release_awake(id.index);
        } else {
            if away.queue.names().front() != Some(&name) {
                return false;
            }
            away.queue.pop();
            self.durable.away_count -= 1;
            self.restore_waiting(id, message, actions);
        }
        self.restore_releases(id.index);
        if let Some(entry) = self.sessions.get_mut(id) {
            entry.shed_away();
        }
        true
    }

    /// A message that was sent on an earlier connection goes into the window again, under its old identifier.
    fn restore_outgoing(
        &mut self,
        session: u32,
        packet_id: u16,
        message: FetchedMessage,
        actions: &mut Actions,
    ) {
        let found = match message {
            FetchedMessage::Found(found) => found,
            FetchedMessage::Lost(name) => return self.lose(session, name, actions),
        };
        let name = found.id;
        let delivery = self.delivery_of(found);
        let Some(packet_id) = PacketId::new(packet_id) else { return };
        let Some(entry) = self.sessions.at_mut(session) else { return };
        let qos = delivery.qos;
        if !entry.traffic.windows_mut().outgoing.restore(packet_id, qos, Some(delivery)) {
            self.lose(session, name, actions);
        }
    }

    /// Identifiers that wait for PUBCOMP need nothing from the disk. With the last of what was sent earlier the client's packets
    /// go on.
    pub(crate) fn restore_releases(&mut self, session: u32) {
        let Some(entry) = self.sessions.at_mut(session) else { return };
        if entry.conn().is_none() || !entry.has_away_outgoing() {
            return;
        }
        while let Some(away) = entry.stored_mut().and_then(|stored| stored.away.as_mut()) {
            let Some(sent) = away.outgoing.pop_front_if(|sent| sent.message.is_none()) else { break };
            if let Some(packet_id) = PacketId::new(sent.packet_id) {
                entry.traffic.windows_mut().outgoing.restore(packet_id, QoS::ExactlyOnce, None);
            }
        }
        self.release_awake(session);
    }

    /// The client's packets go on when all that was sent earlier is in the window.
    fn release_awake(&mut self, session: u32) {
        let Some(entry) = self.sessions.at_mut(session) else { return };
        entry.shed_away();
        if let Some(conn) = entry.conn()
            && !entry.has_away_outgoing()
        {
            self.release(conn, Hold::Store);
        }
    }

    /// A message that waited goes into the queue, unless it has expired or its subscription was taken away.
    fn restore_waiting(&mut self, id: SessionId, message: FetchedMessage, actions: &mut Actions) {
        let found = match message {
            FetchedMessage::Found(found) => found,
            FetchedMessage::Lost(name) => return self.lose(id.index, name, actions),
        };
        let name = Some(found.id);
        let delivery = self.delivery_of(found);
        if delivery.message.view().is_expired(self.now.wall) {
            // [MQTT5-3.3.2-5]
            self.metrics.count(Counter::DeliveryDroppedExpired);
            self.note_done(id.index, name, actions);
            return;
        }
        let refused = self.sessions.get(id).and_then(Session::stored).and_then(|stored| stored.away.as_ref());
        let refused = refused.map_or_else(Vec::new, |away| away.refused.clone());
        match self.fate(id, &refused, &delivery) {
            Fate::Waits => {
                let rules = self.delivery_rules();
                self.enqueue(id.index, delivery, &rules, actions);
            }
            Fate::Dropped => {
                self.metrics.count(Counter::DeliveryDroppedNotAuthorized);
                self.note_done(id.index, name, actions);
            }
            Fate::Returned(written) => self.return_stored(id, written, &delivery, actions),
        }
    }

    /// Subscriptions were taken away from a client that is back: what waits for it on the disk is judged when it is read.
    pub(crate) fn refuse_away(&mut self, id: SessionId, refused: &[Box<str>]) {
        let stored = self.sessions.get_mut(id).and_then(Session::stored_mut);
        if let Some(away) = stored.and_then(|stored| stored.away.as_mut()) {
            away.refused.extend_from_slice(refused);
        }
    }

    /// A message that cannot be read any more.
    fn lose(&mut self, session: u32, name: MessageId, actions: &mut Actions) {
        self.metrics.count(Counter::DeliveryDroppedLost);
        self.note_done(session, Some(name), actions);
    }

    /// A stored message for its session.
    pub(super) fn delivery_of(&self, found: FoundMessage) -> Delivery {
        let FoundMessage { id, message, qos, retain, subscription_ids, group } = found;
        let terms = Terms {
            qos: QoS::from_u8(qos).unwrap_or_default(),
            retain,
            ids: &subscription_ids,
            group: group.and_then(|written| self.group_of(&written)),
        };
        Delivery::stored(message_of(&message), &terms, id)
    }
}
