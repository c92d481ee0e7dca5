//! What clients say to the messages that were sent to them: PUBACK, PUBREC, PUBCOMP.

use dunlin_persist::{Record, SessionNo};
use dunlin_wire::packet::{Ack, Packet};
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::PacketId;

use super::{Delivery, Windows};
use crate::action::Actions;
use crate::core::ShardCore;
use crate::durable::{AckKind, Promise};
use crate::ids::ConnId;
use crate::metrics::Counter;
use crate::session::{AckError, Received};

impl ShardCore {
    /// A client acknowledges a QoS 1 message.
    ///
    /// [MQTT5-4.4.0-2] [MQTT5-4.8.2-6]: with an error it is through as well, and goes to nobody else.
    pub(crate) fn on_puback(&mut self, conn: ConnId, ack: &Ack<'_>, actions: &mut Actions) {
        let outcome = self.with_windows(conn, |windows| windows.outgoing.puback(ack.packet_id));
        match outcome {
            Some(Ok(delivery)) => {
                self.note_acknowledged(ack.code);
                self.note_through(conn, &delivery, actions);
            }
            Some(Err(AckError::WrongKind)) => {
                return self.disconnect(conn, ReasonCode::ProtocolError, actions);
            }
            Some(Err(AckError::Unknown)) | None => self.metrics.count(Counter::PubackMissed),
        }
        self.go_on_sending(conn, actions);
    }

    /// A client has taken over a QoS 2 message, or refuses it. [MQTT5-4.3.3-4] [MQTT311-4.3.3-1]
    ///
    /// [MQTT311-4.6.0-4]: answered at once, so PUBREL packets leave in the order of the PUBREC packets.
    pub(crate) fn on_pubrec(&mut self, conn: ConnId, ack: &Ack<'_>, actions: &mut Actions) {
        let is_error = ack.code.is_error();
        let outcome = self.with_windows(conn, |windows| windows.outgoing.pubrec(ack.packet_id, is_error));
        match outcome {
            Some(Ok(Received::Release(delivery))) => {
                let promise = self.record_received(conn, &delivery, ack.packet_id, actions);
                self.send_pubrel(conn, Ack::success(ack.packet_id), promise, actions);
            }
            Some(Ok(Received::ReleaseAgain)) => {
                self.send_pubrel(conn, Ack::success(ack.packet_id), Promise::NONE, actions);
            }
            Some(Ok(Received::Refused(delivery))) => {
                self.note_acknowledged(ack.code);
                self.note_through(conn, &delivery, actions);
                self.go_on_sending(conn, actions);
            }
            Some(Err(AckError::WrongKind)) => self.disconnect(conn, ReasonCode::ProtocolError, actions),
            Some(Err(AckError::Unknown)) | None => {
                self.metrics.count(Counter::PubrecMissed);
                if !is_error {
                    // 5.0 learns that the identifier is not known; 3.x has no word for it, and is let go on.
                    let ack = Ack::with_code(ack.packet_id, ReasonCode::PacketIdentifierNotFound);
                    self.send_pubrel(conn, ack, Promise::NONE, actions);
                }
            }
        }
    }

    /// Sends PUBREL when it is on the disk that the client has the message, so that it is never sent again.
    fn send_pubrel(&mut self, conn: ConnId, ack: Ack<'_>, promise: Promise, actions: &mut Actions) {
        if self.durable.is_on() {
            self.answer_ack(conn, AckKind::Rel, (ack.packet_id, ack.code), promise, actions);
        } else {
            self.send_packet(conn, &Packet::PubRel(ack), actions);
        }
    }

    /// Records that a client has a QoS 2 message.
    fn record_received(
        &mut self,
        conn: ConnId,
        delivery: &Delivery,
        packet_id: PacketId,
        actions: &mut Actions,
    ) -> Promise {
        let (Some(message), Some(session)) = (delivery.id(), self.number_of_conn(conn)) else {
            return Promise::NONE;
        };
        let packet_id = packet_id.get();
        self.record(Record::Received { session, message, packet_id }, actions);
        Promise::of(self.durable.appended())
    }

    /// A message that was sent is needed no more.
    fn note_through(&mut self, conn: ConnId, delivery: &Delivery, actions: &mut Actions) {
        if let (Some(message), Some(connection)) = (delivery.id(), self.connections.get(conn)) {
            let session = connection.session;
            self.note_done(session, Some(message), actions);
        }
    }

    /// The number of the session of a connection, if it is durable.
    fn number_of_conn(&self, conn: ConnId) -> Option<SessionNo> {
        self.number_of(self.connections.get(conn)?.session)
    }

    /// A client ends a QoS 2 exchange.
    pub(crate) fn on_pubcomp(&mut self, conn: ConnId, ack: &Ack<'_>, actions: &mut Actions) {
        let outcome = self.with_windows(conn, |windows| windows.outgoing.pubcomp(ack.packet_id));
        match outcome {
            Some(Ok(())) => {
                self.metrics.count(Counter::MessagesAcked);
                if self.durable.is_on()
                    && let Some(session) = self.number_of_conn(conn)
                {
                    let packet_id = ack.packet_id.get();
                    self.record(Record::Completed { session, packet_id }, actions);
                }
            }
            Some(Err(AckError::WrongKind)) => {
                return self.disconnect(conn, ReasonCode::ProtocolError, actions);
            }
            Some(Err(AckError::Unknown)) | None => self.metrics.count(Counter::PubcompMissed),
        }
        self.go_on_sending(conn, actions);
    }

    /// Does something with the windows of a connection's session, if it has any.
    fn with_windows<R>(&mut self, conn: ConnId, with: impl FnOnce(&mut Windows) -> R) -> Option<R> {
        let connection = self.connections.get(conn)?;
        let traffic = &mut self.sessions.at_mut(connection.session)?.traffic;
        let windows = traffic.windows.as_mut()?;
        windows.acknowledged = true;
        Some(with(windows))
    }

    fn note_acknowledged(&mut self, code: ReasonCode) {
        self.metrics.count(Counter::MessagesAcked);
        if code.is_error() {
            self.metrics.count(Counter::DeliveryRefused);
        }
    }

    /// The window has more room: what is to be resent, then what waits. Nearly always nothing does, so that is asked first.
    fn go_on_sending(&mut self, conn: ConnId, actions: &mut Actions) {
        let Some(connection) = self.connections.get(conn) else { return };
        let session = connection.session;
        let replays = connection.rare.as_ref().is_some_and(|rare| rare.flow.replay.is_some());
        if replays || self.sessions.at(session).is_some_and(|entry| entry.traffic.waits() || entry.has_away())
        {
            self.resend(session, actions);
        }
    }
}
