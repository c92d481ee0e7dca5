//! UNSUBSCRIBE: filter by filter, then one UNSUBACK.

use dunlin_persist::Record;
use dunlin_wire::packet::{Packet, ReasonCodes, ReasonProperties, UnsubAck, Unsubscribe};
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::topic::{FilterKind, level_count};

use crate::action::Actions;
use crate::connection::Refusal;
use crate::core::ShardCore;
use crate::durable::{Owed, Promise};
use crate::hooks::SessionEvent;
use crate::ids::{ConnId, SessionId};
use crate::metrics::Counter;

impl ShardCore {
    /// A client gives subscriptions up.
    ///
    /// [MQTT5-3.10.4-2] [MQTT5-3.10.4-4] [MQTT5-3.10.4-5] [MQTT5-3.10.4-6] [MQTT5-3.11.3-1] [MQTT5-3.11.3-2]
    /// [MQTT311-3.10.4-2] [MQTT311-3.10.4-4] [MQTT311-3.10.4-5] [MQTT311-3.10.4-6]. What is on its way or in the queue
    /// is still delivered: [MQTT5-3.10.4-3] [MQTT311-3.10.4-3].
    pub(crate) fn on_unsubscribe(
        &mut self,
        conn: ConnId,
        unsubscribe: &Unsubscribe<'_>,
        actions: &mut Actions,
    ) {
        let Some(connection) = self.connections.get(conn) else { return };
        let (index, is_v5) = (connection.session, connection.version.is_v5());
        let Some(session) = self.sessions.id_at(index) else { return };
        let mut codes = Vec::new();
        let recorded = self.durable.appended();
        for filter in unsubscribe.filters() {
            codes.push(self.unsubscribe_one(session, filter, actions));
        }
        self.announce(actions);
        if self.durable.is_on() {
            let appended = self.durable.appended();
            let promise = Promise::of(if appended > recorded { appended } else { 0 });
            let codes = if is_v5 { codes.into() } else { Box::default() };
            let packet_id = unsubscribe.packet_id;
            self.answer(Owed::UnsubAck { conn, packet_id, codes }, promise, actions);
            return;
        }
        let ack = UnsubAck {
            packet_id: unsubscribe.packet_id,
            properties: ReasonProperties::NONE,
            codes: ReasonCodes::from_slice(if is_v5 { &codes } else { &[] }),
        };
        if !self.send_packet(conn, &Packet::UnsubAck(ack), actions) {
            self.refuse(conn, Refusal::AnswerTooLarge, actions);
        }
    }

    /// Ends one subscription. [MQTT5-3.10.4-1] [MQTT311-3.10.4-1]: compared character by character.
    pub(super) fn unsubscribe_one(
        &mut self,
        session: SessionId,
        written: &str,
        actions: &mut Actions,
    ) -> ReasonCode {
        let Ok(kind) = FilterKind::parse(written) else {
            self.metrics.count(Counter::UnsubscribeError);
            return ReasonCode::TopicFilterInvalid;
        };
        let existed = match kind {
            FilterKind::Plain => self.unsubscribe_plain(session, written),
            FilterKind::Shared { .. } | FilterKind::Exclusive { .. } => {
                match self.routing.specials.remove(session.index, written) {
                    Some(special) => {
                        self.leave_special(session, written, &special, actions);
                        true
                    }
                    None => false,
                }
            }
        };
        if !existed {
            // One that was made under other settings can still be given up.
            let is_deep =
                level_count(kind.filter(written)) > usize::from(self.configs.current().max_topic_levels);
            return if is_deep { ReasonCode::TopicFilterInvalid } else { ReasonCode::NoSubscriptionExisted };
        }
        if !matches!(kind, FilterKind::Shared { .. }) {
            self.cancel_replay(session.index, kind.filter(written));
        }
        if self.durable.is_on()
            && let Some(session) = self.number_of(session.index)
        {
            self.record(Record::Unsubscribed { session, filter: written.into() }, actions);
        }
        self.metrics.count(Counter::ClientUnsubscribe);
        if let (Some(hook), Some(entry)) = (&mut self.hooks.session, self.sessions.get(session)) {
            hook.observe(&SessionEvent::Unsubscribed { client_id: &entry.client_id, filter: written });
        }
        ReasonCode::Success
    }

    fn unsubscribe_plain(&mut self, session: SessionId, filter: &str) -> bool {
        let Some(id) = self.routing.index.lookup(filter) else { return false };
        let Some(entry) = self.sessions.get_mut(session) else { return false };
        entry.traffic.subscriptions.remove(id) && self.drop_plain(session.index, id)
    }
}
