//! An MQTT client without IO: packets in, replies and notices out.
//!
//! Keeps what the standard asks a client to keep while connected: packet ids in use, the stage of each QoS 1
//! and QoS 2 exchange in both roles, and the server's Receive Maximum. 16 bytes while nothing is in flight.

use std::collections::VecDeque;

use crate::mqtt::{self, AckKind, Inbound, QoS, Version};

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    flight: Option<Box<Flight>>,
    next_id: u16,
    receive_max: u16,
    version: Version,
    /// The floor tool's answer has not come yet.
    awaits_floor: bool,
}

const _: () = assert!(size_of::<Client>() <= 16, "a client exists for each idle connection");

/// Exchanges that are not finished.
#[derive(Debug, Default)]
struct Flight {
    outgoing: VecDeque<Outgoing>,
    /// QoS 2 packet ids received and not yet released.
    incoming: Vec<u16>,
}

#[derive(Clone, Copy, Debug)]
struct Outgoing {
    id: u16,
    qos: QoS,
    ticket: u32,
}

/// What a packet means to the scenario.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notice<'packet> {
    /// The server has accepted (code 0) or refused the connection.
    Connected { code: u8 },
    /// A message has come, for the first time as far as QoS 2 can tell.
    Delivered { topic: &'packet [u8], payload: &'packet [u8], qos: QoS },
    /// The server has taken over the message with this ticket.
    Published { ticket: u32 },
    /// The server has refused the message with this ticket.
    Refused { ticket: u32, reason: u8 },
    /// The server has answered a SUBSCRIBE: how many filters, and how many of them it refused.
    Subscribed { count: usize, refused: usize },
    /// The server has answered an UNSUBSCRIBE.
    Unsubscribed,
    /// The server says goodbye.
    Disconnected { reason: u8 },
    /// Nothing that concerns the scenario.
    Nothing,
}

/// A packet handled: what to answer, and what it means.
#[derive(Debug)]
pub(crate) struct Step<'packet> {
    pub(crate) reply: Option<(AckKind, u16)>,
    pub(crate) notice: Notice<'packet>,
}

/// The server has broken the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Bytes that are no packet.
    #[error("the broker sent something that is no MQTT packet: {0}")]
    Malformed(&'static str),
    /// An acknowledgement that answers nothing.
    #[error("the broker acknowledged packet id {0}, which is not in flight at that stage")]
    UnknownId(u16),
}

impl Client {
    /// A client that speaks `version` and has not connected yet.
    pub(crate) const fn new(version: Version) -> Self {
        Self { flight: None, next_id: 1, receive_max: u16::MAX, version, awaits_floor: false }
    }

    /// Appends a CONNECT with a clean start.
    pub(crate) fn connect(&self, client_id: &str, keep_alive_seconds: u16, out: &mut Vec<u8>) {
        mqtt::write_connect(self.version, client_id, keep_alive_seconds, out);
    }

    /// Appends a SUBSCRIBE for `filters`, all at `qos`.
    pub(crate) fn subscribe(&mut self, filters: &[String], qos: QoS, out: &mut Vec<u8>) {
        let id = self.take_id();
        mqtt::write_subscribe(self.version, id, filters, qos, out);
    }

    /// Appends an UNSUBSCRIBE for `filters`.
    pub(crate) fn unsubscribe(&mut self, filters: &[String], out: &mut Vec<u8>) {
        let id = self.take_id();
        mqtt::write_unsubscribe(self.version, id, filters, out);
    }

    /// Whether the server's Receive Maximum allows one more PUBLISH of this QoS.
    pub(crate) fn may_publish(&self, qos: QoS) -> bool {
        qos == QoS::AtMostOnce || self.outgoing_count() < usize::from(self.receive_max)
    }

    /// Messages on their way to the server that it has not taken over yet.
    pub(crate) fn outgoing_count(&self) -> usize {
        self.flight.as_ref().map_or(0, |flight| flight.outgoing.len())
    }

    /// Appends a PUBLISH; `ticket` comes back in `Published` when the server has taken it over (QoS above 0).
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS, ticket: u32, out: &mut Vec<u8>) {
        let mut id = 0;
        if qos != QoS::AtMostOnce {
            id = self.take_id();
            self.flight.get_or_insert_default().outgoing.push_back(Outgoing { id, qos, ticket });
        }
        mqtt::write_publish(self.version, topic, payload, qos, id, out);
    }

    /// Expects the floor tool's answer instead of CONNACK.
    pub(crate) const fn await_floor(&mut self) {
        self.awaits_floor = true;
    }

    /// Whether the floor tool's answer is still to come.
    pub(crate) const fn awaits_floor(&self) -> bool {
        self.awaits_floor
    }

    /// The floor tool has answered.
    pub(crate) const fn floor_answered(&mut self) {
        self.awaits_floor = false;
    }

    /// The version this client speaks.
    pub(crate) const fn version(&self) -> Version {
        self.version
    }

    /// Handles one packet from the server.
    ///
    /// # Errors
    /// When the server breaks the protocol.
    pub(crate) fn handle<'packet>(&mut self, packet: Inbound<'packet>) -> Result<Step<'packet>, Fault> {
        let (reply, notice) = match packet {
            Inbound::ConnAck { code, receive_max } => {
                self.receive_max = receive_max;
                (None, Notice::Connected { code })
            }
            Inbound::Publish { topic, payload, qos, id } => self.on_publish(topic, payload, qos, id),
            Inbound::Ack { kind, id, reason } => self.on_ack(kind, id, reason)?,
            Inbound::SubAck { codes } => {
                let refused = codes.iter().filter(|code| **code >= 0x80).count();
                (None, Notice::Subscribed { count: codes.len(), refused })
            }
            Inbound::UnsubAck => (None, Notice::Unsubscribed),
            Inbound::PingResp => (None, Notice::Nothing),
            Inbound::Disconnect { reason } => (None, Notice::Disconnected { reason }),
        };
        Ok(Step { reply, notice })
    }

    fn on_publish<'packet>(
        &mut self,
        topic: &'packet [u8],
        payload: &'packet [u8],
        qos: QoS,
        id: u16,
    ) -> (Option<(AckKind, u16)>, Notice<'packet>) {
        let delivered = Notice::Delivered { topic, payload, qos };
        match qos {
            QoS::AtMostOnce => (None, delivered),
            QoS::AtLeastOnce => (Some((AckKind::PubAck, id)), delivered),
            QoS::ExactlyOnce => {
                let incoming = &mut self.flight.get_or_insert_default().incoming;
                let known = incoming.contains(&id);
                if !known {
                    incoming.push(id);
                }
                (Some((AckKind::PubRec, id)), if known { Notice::Nothing } else { delivered })
            }
        }
    }

    fn on_ack<'packet>(
        &mut self,
        kind: AckKind,
        id: u16,
        reason: u8,
    ) -> Result<(Option<(AckKind, u16)>, Notice<'packet>), Fault> {
        if kind == AckKind::PubRel {
            if let Some(flight) = &mut self.flight {
                flight.incoming.retain(|known| *known != id);
            }
            return Ok((Some((AckKind::PubComp, id)), Notice::Nothing));
        }
        let position = self.position(id).ok_or(Fault::UnknownId(id))?;
        let flight = self.flight.as_mut().ok_or(Fault::UnknownId(id))?;
        let outgoing = flight.outgoing[position];
        let ticket = outgoing.ticket;
        let expected = if outgoing.qos == QoS::AtLeastOnce { AckKind::PubAck } else { AckKind::PubRec };
        if kind != expected && !(kind == AckKind::PubComp && outgoing.qos == QoS::ExactlyOnce) {
            return Err(Fault::UnknownId(id));
        }
        if kind == AckKind::PubRec && reason < 0x80 {
            return Ok((Some((AckKind::PubRel, id)), Notice::Nothing));
        }
        flight.outgoing.remove(position);
        let notice =
            if reason < 0x80 { Notice::Published { ticket } } else { Notice::Refused { ticket, reason } };
        Ok((None, notice))
    }

    /// Where an exchange stands in the list; the oldest is the likeliest.
    fn position(&self, id: u16) -> Option<usize> {
        self.flight.as_ref()?.outgoing.iter().position(|outgoing| outgoing.id == id)
    }

    /// A packet id that is not in use.
    fn take_id(&mut self) -> u16 {
        loop {
            let id = self.next_id;
            self.next_id = if id == u16::MAX { 1 } else { id + 1 };
            if self.position(id).is_none() {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client::new(Version::V311)
    }

    fn ack(kind: AckKind, id: u16) -> Inbound<'static> {
        Inbound::Ack { kind, id, reason: 0 }
    }

    #[test]
    fn a_qos_1_message_is_published_by_its_puback() {
        let mut client = client();
        client.publish("t", b"x", QoS::AtLeastOnce, 42, &mut Vec::new());
        assert_eq!(client.outgoing_count(), 1);
        let step = client.handle(ack(AckKind::PubAck, 1)).unwrap();
        assert_eq!(step.notice, Notice::Published { ticket: 42 });
        assert_eq!(client.outgoing_count(), 0);
    }

    #[test]
    fn a_qos_2_message_takes_both_steps() {
        let mut client = client();
        client.publish("t", b"x", QoS::ExactlyOnce, 42, &mut Vec::new());
        let step = client.handle(ack(AckKind::PubRec, 1)).unwrap();
        assert_eq!((step.reply, step.notice), (Some((AckKind::PubRel, 1)), Notice::Nothing));
        let step = client.handle(ack(AckKind::PubComp, 1)).unwrap();
        assert_eq!(step.notice, Notice::Published { ticket: 42 });
    }

    #[test]
    fn a_repeated_qos_2_message_is_delivered_once() {
        let mut client = client();
        let publish = || Inbound::Publish { topic: b"t", payload: b"x", qos: QoS::ExactlyOnce, id: 9 };
        assert!(matches!(client.handle(publish()).unwrap().notice, Notice::Delivered { .. }));
        assert_eq!(client.handle(publish()).unwrap().notice, Notice::Nothing);
        let step = client.handle(ack(AckKind::PubRel, 9)).unwrap();
        assert_eq!(step.reply, Some((AckKind::PubComp, 9)));
        assert!(matches!(client.handle(publish()).unwrap().notice, Notice::Delivered { .. }));
    }

    #[test]
    fn an_acknowledgement_of_nothing_is_a_fault() {
        assert_eq!(client().handle(ack(AckKind::PubAck, 5)).unwrap_err(), Fault::UnknownId(5));
        let mut client = client();
        client.publish("t", b"x", QoS::AtLeastOnce, 0, &mut Vec::new());
        assert_eq!(client.handle(ack(AckKind::PubRec, 1)).unwrap_err(), Fault::UnknownId(1));
    }

    #[test]
    fn the_receive_maximum_of_the_server_is_kept() {
        let mut client = client();
        client.handle(Inbound::ConnAck { code: 0, receive_max: 1 }).unwrap();
        assert!(client.may_publish(QoS::AtLeastOnce));
        client.publish("t", b"x", QoS::AtLeastOnce, 0, &mut Vec::new());
        assert!(!client.may_publish(QoS::AtLeastOnce));
        assert!(client.may_publish(QoS::AtMostOnce));
    }

    #[test]
    fn an_id_in_use_is_skipped() {
        let mut client = client();
        client.publish("t", b"x", QoS::AtLeastOnce, 0, &mut Vec::new());
        client.next_id = u16::MAX;
        assert_eq!(client.take_id(), u16::MAX);
        assert_eq!(client.take_id(), 2);
    }
}
