//! What clients say to the messages that were sent to them: PUBACK, PUBREC, PUBCOMP.

use dunlin_wire::packet::{Ack, Packet};
use dunlin_wire::reason::ReasonCode;

use super::Windows;
use crate::action::Actions;
use crate::core::ShardCore;
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
            Some(Ok(_)) => self.note_acknowledged(ack.code),
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
            Some(Ok(Received::Release(_) | Received::ReleaseAgain)) => {
                self.send_packet(conn, &Packet::PubRel(Ack::success(ack.packet_id)), actions);
            }
            Some(Ok(Received::Refused(_))) => {
                self.note_acknowledged(ack.code);
                self.go_on_sending(conn, actions);
            }
            Some(Err(AckError::WrongKind)) => self.disconnect(conn, ReasonCode::ProtocolError, actions),
            Some(Err(AckError::Unknown)) | None => {
                self.metrics.count(Counter::PubrecMissed);
                if !is_error {
                    // 5.0 learns that the identifier is not known; 3.x has no word for it, and is let go on.
                    let ack = Ack::with_code(ack.packet_id, ReasonCode::PacketIdentifierNotFound);
                    self.send_packet(conn, &Packet::PubRel(ack), actions);
                }
            }
        }
    }

    /// A client ends a QoS 2 exchange.
    pub(crate) fn on_pubcomp(&mut self, conn: ConnId, ack: &Ack<'_>, actions: &mut Actions) {
        let outcome = self.with_windows(conn, |windows| windows.outgoing.pubcomp(ack.packet_id));
        match outcome {
            Some(Ok(())) => self.metrics.count(Counter::MessagesAcked),
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
        if replays || self.sessions.at(session).is_some_and(|entry| entry.traffic.waits()) {
            self.resend(session, actions);
        }
    }
}
