//! An MQTT client without IO: packets in, answers and notices out.
//!
//! Keeps what the standard asks a client to keep while connected: packet ids in use, the stage of each QoS 1
//! and QoS 2 exchange in both roles, and the server's Receive Maximum. 16 bytes while nothing is in flight.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use dunlin_wire::encoder;
use dunlin_wire::packet::{
    Ack, ConnAck, Connect, ConnectProperties, Disconnect, Publish, SubAck, Subscribe, SubscribeProperties,
    Subscription, Subscriptions, TopicFilters, UnsubAck, Unsubscribe, UserProperties,
};
use dunlin_wire::{
    DecodeError, EncodeError, Limits, Packet, PacketId, PacketType, PublishHead, QoS, ReasonCode,
    SubscriptionOptions, Version, decode_one,
};

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    flight: Option<Box<Flight>>,
    next_id: PacketId,
    receive_maximum: u16,
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
    incoming: Vec<PacketId>,
}

#[derive(Clone, Copy, Debug)]
struct Outgoing {
    id: PacketId,
    /// The acknowledgement that comes next.
    awaits: PacketType,
    ticket: u32,
}

/// What a packet means to the scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice<'packet> {
    /// The server has accepted or refused the connection, and says whether it kept a session.
    Connected { code: ReasonCode, session_present: bool },
    /// A message has come, for the first time as far as QoS 2 can tell.
    Delivered { topic: &'packet str, payload: &'packet [u8], mark: Mark },
    /// The server has taken over the message with this ticket.
    Published { ticket: u32 },
    /// The server has refused the message with this ticket.
    Refused { ticket: u32, code: ReasonCode },
    /// The server has answered a SUBSCRIBE: how many filters, and how many of them it refused.
    Subscribed { count: usize, refused: usize },
    /// The server has answered an UNSUBSCRIBE; it knew none of so many filters (MQTT 5).
    Unsubscribed { unknown: usize },
    /// The server has answered a PINGREQ.
    Pong,
    /// The server says goodbye.
    Disconnected { code: ReasonCode },
    /// Nothing that concerns the scenario.
    Nothing,
}

/// What stands in the first byte of a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) qos: QoS,
    /// It was kept, not published just now (unless the subscription asked to retain as published).
    pub(crate) retain: bool,
    /// It may have come before.
    pub(crate) dup: bool,
}

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Message Expiry Interval (MQTT 5).
    pub(crate) expiry_seconds: Option<u32>,
}

/// An exchange that a reconnect found unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) id: PacketId,
    /// The message itself is to be sent again; otherwise only its PUBREL.
    pub(crate) message: bool,
    pub(crate) ticket: u32,
}

/// The server has broken the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Bytes that are no packet, or one that a server may not send.
    #[error("the broker sent a malformed packet: {0}")]
    Malformed(#[from] DecodeError),
    /// A packet that has no place here.
    #[error("the broker sent {0}, which the client did not ask for")]
    Unexpected(PacketType),
    /// An acknowledgement that answers nothing.
    #[error("the broker sent {packet} for packet id {id}, which does not wait for it")]
    UnknownId {
        /// The acknowledgement.
        packet: PacketType,
        /// Its packet id.
        id: u16,
    },
    /// Something else than the floor tool's answer.
    #[error("the floor tool's answer is not OKAY")]
    NotTheFloor,
}

impl Client {
    /// A client that speaks `version` and has not connected yet.
    pub(crate) const fn new(version: Version) -> Self {
        Self {
            flight: None,
            next_id: PacketId::FIRST,
            receive_maximum: u16::MAX,
            version,
            awaits_floor: false,
        }
    }

    /// A client that waits for the floor tool's answer instead of CONNACK.
    pub(crate) fn of_the_floor(version: Version) -> Self {
        Self { awaits_floor: true, ..Self::new(version) }
    }

    /// Whether the floor tool's answer is still to come.
    pub(crate) const fn awaits_floor(&self) -> bool {
        self.awaits_floor
    }

    /// The floor tool has answered.
    pub(crate) const fn floor_answered(&mut self) {
        self.awaits_floor = false;
    }

    /// Appends a CONNECT with a new session, which lasts as long as the connection; if it `is_durable` for ever, with
    /// MQTT 5 for a day.
    pub(crate) fn connect(
        &self,
        client_id: &str,
        keep_alive_seconds: u16,
        is_durable: bool,
        out: &mut Vec<u8>,
    ) {
        let is_new = self.version == Version::V5;
        self.ask_for(client_id, keep_alive_seconds, (is_new || !is_durable, is_durable), out);
    }

    /// Appends a CONNECT that asks for the durable session of this client.
    pub(crate) fn come_back(&self, client_id: &str, keep_alive_seconds: u16, out: &mut Vec<u8>) {
        self.ask_for(client_id, keep_alive_seconds, (false, true), out);
    }

    fn ask_for(
        &self,
        client_id: &str,
        keep_alive_seconds: u16,
        (clean_start, is_durable): (bool, bool),
        out: &mut Vec<u8>,
    ) {
        let lasts = self.version == Version::V5 && is_durable;
        let connect = Connect {
            version: self.version,
            bridge: false,
            clean_start,
            keep_alive_seconds,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties {
                session_expiry_interval: lasts.then_some(DAY_SECONDS),
                ..ConnectProperties::default()
            },
        };
        self.write(&Packet::Connect(connect), out);
    }

    /// Appends a CONNECT as it is given and forgets what an earlier connection was told by its server.
    ///
    /// # Errors
    /// When the version can't say it, such as a password without a user name before 5.0.
    pub(crate) fn greet(&mut self, connect: &Connect<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.version = connect.version;
        self.receive_maximum = u16::MAX;
        Packet::Connect(*connect).encode(self.version, out)
    }

    /// Forgets all exchanges, and says which messages the server had not taken over.
    pub(crate) fn forget(&mut self) -> Vec<u32> {
        let flight = self.flight.take();
        flight
            .map_or_else(Vec::new, |flight| flight.outgoing.iter().map(|outgoing| outgoing.ticket).collect())
    }

    /// What has to be sent again after a reconnect that kept the session, in order.
    pub(crate) fn unfinished(&self) -> Vec<Unfinished> {
        let outgoing = self.flight.iter().flat_map(|flight| flight.outgoing.iter());
        outgoing
            .map(|outgoing| Unfinished {
                id: outgoing.id,
                message: outgoing.awaits != PacketType::PubComp,
                ticket: outgoing.ticket,
            })
            .collect()
    }

    /// Appends a PUBREL for an exchange that waits for its PUBCOMP.
    pub(crate) fn release_again(&self, id: PacketId, out: &mut Vec<u8>) {
        self.write(&Packet::PubRel(Ack::success(id)), out);
    }

    /// Appends a DISCONNECT in good order.
    pub(crate) fn disconnect(&self, out: &mut Vec<u8>) {
        self.write(&Packet::Disconnect(Disconnect::default()), out);
    }

    /// Appends a SUBSCRIBE with options for each filter.
    ///
    /// # Errors
    /// When a filter is not one.
    pub(crate) fn subscribe_to(
        &mut self,
        subscriptions: &[Subscription<'_>],
        identifier: Option<u32>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let subscribe = Subscribe {
            packet_id: self.take_id(),
            properties: SubscribeProperties {
                subscription_identifier: identifier,
                ..SubscribeProperties::default()
            },
            subscriptions: Subscriptions::from_slice(subscriptions),
        };
        Packet::Subscribe(subscribe).encode(self.version, out)
    }

    /// Appends a SUBSCRIBE for `filters`, all at `qos`.
    pub(crate) fn subscribe(&mut self, filters: &[String], qos: QoS, out: &mut Vec<u8>) {
        let options = SubscriptionOptions::with_qos(qos);
        let list: Vec<_> = filters.iter().map(|filter| Subscription { filter, options }).collect();
        let subscribe = Subscribe {
            packet_id: self.take_id(),
            properties: SubscribeProperties::default(),
            subscriptions: Subscriptions::from_slice(&list),
        };
        self.write(&Packet::Subscribe(subscribe), out);
    }

    /// Appends an UNSUBSCRIBE for `filters`.
    pub(crate) fn unsubscribe(&mut self, filters: &[String], out: &mut Vec<u8>) {
        let list: Vec<&str> = filters.iter().map(String::as_str).collect();
        let unsubscribe = Unsubscribe {
            packet_id: self.take_id(),
            user_properties: UserProperties::NONE,
            filters: TopicFilters::from_slice(&list),
        };
        self.write(&Packet::Unsubscribe(unsubscribe), out);
    }

    /// Appends a PINGREQ.
    pub(crate) fn ping(&self, out: &mut Vec<u8>) {
        self.write(&Packet::PingReq, out);
    }

    /// Whether the server's Receive Maximum allows one more PUBLISH of this QoS.
    pub(crate) fn may_publish(&self, qos: QoS) -> bool {
        qos == QoS::AtMostOnce || self.outgoing_count() < usize::from(self.receive_maximum)
    }

    /// Messages on their way to the server that it has not taken over yet.
    pub(crate) fn outgoing_count(&self) -> usize {
        self.flight.as_ref().map_or(0, |flight| flight.outgoing.len())
    }

    /// Appends a PUBLISH; `ticket` comes back in `Published` when the server has taken it over (QoS above 0).
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS, ticket: u32, out: &mut Vec<u8>) {
        let envelope = Envelope { qos, retain: false, expiry_seconds: None };
        self.publish_as(topic, payload, envelope, ticket, out);
    }

    /// Appends a PUBLISH as `envelope` says.
    pub(crate) fn publish_as(
        &mut self,
        topic: &str,
        payload: &[u8],
        envelope: Envelope,
        ticket: u32,
        out: &mut Vec<u8>,
    ) {
        let packet_id = (envelope.qos != QoS::AtMostOnce).then(|| self.take_id());
        if let Some(id) = packet_id {
            let awaits =
                if envelope.qos == QoS::AtLeastOnce { PacketType::PubAck } else { PacketType::PubRec };
            self.flight.get_or_insert_default().outgoing.push_back(Outgoing { id, awaits, ticket });
        }
        self.write_publish(topic, payload, envelope, (packet_id, false), out);
    }

    /// Appends a PUBLISH for the second time, with the packet id of the first.
    pub(crate) fn publish_again(
        &self,
        topic: &str,
        payload: &[u8],
        envelope: Envelope,
        id: PacketId,
        out: &mut Vec<u8>,
    ) {
        self.write_publish(topic, payload, envelope, (Some(id), true), out);
    }

    fn write_publish(
        &self,
        topic: &str,
        payload: &[u8],
        envelope: Envelope,
        (packet_id, dup): (Option<PacketId>, bool),
        out: &mut Vec<u8>,
    ) {
        let head = PublishHead {
            dup,
            qos: envelope.qos,
            retain: envelope.retain,
            topic,
            packet_id,
            topic_alias: None,
            message_expiry_interval: envelope.expiry_seconds,
            subscription_ids: &[],
            forwarded: &[],
            payload_len: payload.len(),
        };
        encoder::publish(out, self.version, &head).expect("topics are short and payloads at most 16 MiB");
        out.extend_from_slice(payload);
    }

    /// Takes one packet off `bytes`, appends the answer that the protocol asks for to what `out` gives, and
    /// says what it means and how many bytes it had; `None` if it is not whole yet.
    ///
    /// # Errors
    /// When the server breaks the protocol.
    pub(crate) fn take<'bytes, 'out>(
        &mut self,
        bytes: &'bytes [u8],
        out: impl FnOnce() -> &'out mut Vec<u8>,
    ) -> Result<Option<(Notice<'bytes>, usize)>, Fault> {
        let Some((packet, used)) = decode_one(bytes, self.version, &Limits::CLIENT)? else { return Ok(None) };
        let (answer, notice) = self.handle(packet)?;
        if let Some(answer) = answer {
            self.write(&answer, out());
        }
        Ok(Some((notice, used)))
    }

    /// Handles one packet from the server: what to answer, and what it means.
    fn handle<'packet>(
        &mut self,
        packet: Packet<'packet>,
    ) -> Result<(Option<Packet<'static>>, Notice<'packet>), Fault> {
        match packet {
            Packet::Publish(publish) => Ok(self.on_publish(&publish)),
            Packet::PubAck(ack) => self.on_taken_over(PacketType::PubAck, &ack),
            Packet::PubRec(ack) => self.on_taken_over(PacketType::PubRec, &ack),
            Packet::PubComp(ack) => self.on_taken_over(PacketType::PubComp, &ack),
            Packet::PubRel(ack) => Ok(self.on_released(ack.packet_id)),
            Packet::ConnAck(connack) => Ok((None, self.on_connected(&connack))),
            Packet::SubAck(suback) => Ok((None, on_subscribed(&suback))),
            Packet::UnsubAck(unsuback) => Ok((None, on_unsubscribed(&unsuback))),
            Packet::PingResp => Ok((None, Notice::Pong)),
            Packet::Disconnect(disconnect) => Ok((None, Notice::Disconnected { code: disconnect.code })),
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq
            | Packet::Auth(_) => Err(Fault::Unexpected(packet.packet_type())),
        }
    }

    fn on_connected(&mut self, connack: &ConnAck<'_>) -> Notice<'static> {
        self.receive_maximum = connack.properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        Notice::Connected { code: connack.code, session_present: connack.session_present }
    }

    fn on_publish<'packet>(
        &mut self,
        publish: &Publish<'packet>,
    ) -> (Option<Packet<'static>>, Notice<'packet>) {
        let mark = Mark { qos: publish.qos, retain: publish.retain, dup: publish.dup };
        let delivered = Notice::Delivered { topic: publish.topic, payload: publish.payload, mark };
        let Some(id) = publish.packet_id else { return (None, delivered) };
        if publish.qos == QoS::AtLeastOnce {
            return (Some(Packet::PubAck(Ack::success(id))), delivered);
        }
        let incoming = &mut self.flight.get_or_insert_default().incoming;
        let known = incoming.contains(&id);
        if !known {
            incoming.push(id);
        }
        (Some(Packet::PubRec(Ack::success(id))), if known { Notice::Nothing } else { delivered })
    }

    fn on_released(&mut self, id: PacketId) -> (Option<Packet<'static>>, Notice<'static>) {
        if let Some(flight) = &mut self.flight {
            flight.incoming.retain(|known| *known != id);
        }
        (Some(Packet::PubComp(Ack::success(id))), Notice::Nothing)
    }

    fn on_taken_over(
        &mut self,
        packet: PacketType,
        ack: &Ack<'_>,
    ) -> Result<(Option<Packet<'static>>, Notice<'static>), Fault> {
        let unknown = Fault::UnknownId { packet, id: ack.packet_id.get() };
        let position = self.position(ack.packet_id).ok_or(unknown)?;
        let flight = self.flight.as_mut().ok_or(unknown)?;
        let outgoing = &mut flight.outgoing[position];
        if outgoing.awaits != packet {
            return Err(unknown);
        }
        if packet == PacketType::PubRec && !ack.code.is_error() {
            outgoing.awaits = PacketType::PubComp;
            return Ok((Some(Packet::PubRel(Ack::success(ack.packet_id))), Notice::Nothing));
        }
        let ticket = outgoing.ticket;
        flight.outgoing.remove(position);
        if ack.code.is_error() {
            return Ok((None, Notice::Refused { ticket, code: ack.code }));
        }
        Ok((None, Notice::Published { ticket }))
    }

    /// Where an exchange stands in the list. Ids are given out in ascending order, so the list is sorted by the
    /// distance from its first.
    fn position(&self, id: PacketId) -> Option<usize> {
        let outgoing = &self.flight.as_ref()?.outgoing;
        let first = outgoing.front()?.id;
        if first == id {
            return Some(0);
        }
        let distance = |id: PacketId| id.get().wrapping_sub(first.get());
        // Going round skips 0, which shifts every id behind it by the same one.
        outgoing.binary_search_by_key(&distance(id), |outgoing| distance(outgoing.id)).ok()
    }

    /// A packet id that is not in use.
    fn take_id(&mut self) -> PacketId {
        loop {
            let id = self.next_id;
            self.next_id = id.next();
            if self.position(id).is_none() {
                return id;
            }
        }
    }

    fn write(&self, packet: &Packet<'_>, out: &mut Vec<u8>) {
        packet.encode(self.version, out).expect("the generator's own identifiers and filters are valid");
    }
}

/// How long a durable session of MQTT 5 outlives its connection.
const DAY_SECONDS: u32 = 86_400;

fn on_unsubscribed(unsuback: &UnsubAck<'_>) -> Notice<'static> {
    let unknown = unsuback.codes.iter().filter(|code| *code == ReasonCode::NoSubscriptionExisted).count();
    Notice::Unsubscribed { unknown }
}

fn on_subscribed(suback: &SubAck<'_>) -> Notice<'static> {
    let (mut count, mut refused) = (0, 0);
    for code in suback.reason_codes() {
        count += 1;
        refused += usize::from(code.is_error());
    }
    Notice::Subscribed { count, refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client::new(Version::V311)
    }

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    /// Feeds a packet through its bytes; returns the answer's bytes and the notice.
    fn feed(client: &mut Client, packet: &Packet<'_>) -> Result<(Vec<u8>, String), Fault> {
        let mut bytes = Vec::new();
        packet.encode(client.version, &mut bytes).unwrap();
        let mut answer = Vec::new();
        let (notice, used) = client.take(&bytes, || &mut answer)?.expect("the packet is whole");
        assert_eq!(used, bytes.len());
        let notice = format!("{notice:?}");
        Ok((answer, notice))
    }

    fn qos_2(packet_id: u16) -> Packet<'static> {
        Packet::Publish(Publish {
            qos: QoS::ExactlyOnce,
            topic: "t",
            packet_id: Some(id(packet_id)),
            payload: b"x",
            ..Publish::default()
        })
    }

    #[test]
    fn a_qos_1_message_is_published_by_its_puback() {
        let mut client = client();
        client.publish("t", b"x", QoS::AtLeastOnce, 42, &mut Vec::new());
        assert_eq!(client.outgoing_count(), 1);
        let (answer, notice) = feed(&mut client, &Packet::PubAck(Ack::success(id(1)))).unwrap();
        assert_eq!((answer.as_slice(), notice.as_str()), (&[][..], "Published { ticket: 42 }"));
        assert_eq!(client.outgoing_count(), 0);
    }

    #[test]
    fn a_qos_2_message_takes_both_steps() {
        let mut client = client();
        client.publish("t", b"x", QoS::ExactlyOnce, 42, &mut Vec::new());
        let (answer, notice) = feed(&mut client, &Packet::PubRec(Ack::success(id(1)))).unwrap();
        assert_eq!((answer.as_slice(), notice.as_str()), (&[0x62, 2, 0, 1][..], "Nothing"));
        let (_, notice) = feed(&mut client, &Packet::PubComp(Ack::success(id(1)))).unwrap();
        assert_eq!(notice, "Published { ticket: 42 }");
    }

    #[test]
    fn a_repeated_qos_2_message_is_delivered_once() {
        let mut client = client();
        let mark = Mark { qos: QoS::ExactlyOnce, retain: false, dup: false };
        let delivered = format!("{:?}", Notice::Delivered { topic: "t", payload: b"x", mark });
        assert_eq!(feed(&mut client, &qos_2(9)).unwrap().1, delivered);
        assert_eq!(feed(&mut client, &qos_2(9)).unwrap().1, "Nothing");
        let (answer, _) = feed(&mut client, &Packet::PubRel(Ack::success(id(9)))).unwrap();
        assert_eq!(answer, [0x70, 2, 0, 9]);
        assert_eq!(feed(&mut client, &qos_2(9)).unwrap().1, delivered);
    }

    #[test]
    fn an_acknowledgement_of_nothing_is_a_fault() {
        let unknown = |packet, id| Err(Fault::UnknownId { packet, id });
        let puback = Packet::PubAck(Ack::success(id(5)));
        assert_eq!(feed(&mut client(), &puback), unknown(PacketType::PubAck, 5));
        let mut client = client();
        client.publish("t", b"x", QoS::ExactlyOnce, 0, &mut Vec::new());
        let pubcomp = Packet::PubComp(Ack::success(id(1)));
        assert_eq!(feed(&mut client, &pubcomp), unknown(PacketType::PubComp, 1));
    }

    #[test]
    fn bytes_that_no_server_may_send_are_a_fault() {
        assert!(matches!(client().take(&[0xC0, 0], || unreachable!()), Err(Fault::Malformed(_))));
        assert!(matches!(client().take(&[0x00, 0], || unreachable!()), Err(Fault::Malformed(_))));
    }

    #[test]
    fn the_receive_maximum_of_the_server_is_kept() {
        let mut client = Client::new(Version::V5);
        let mut connack = ConnAck::default();
        connack.properties.receive_maximum = NonZeroU16::new(1);
        feed(&mut client, &Packet::ConnAck(connack)).unwrap();
        assert!(client.may_publish(QoS::AtLeastOnce));
        client.publish("t", b"x", QoS::AtLeastOnce, 0, &mut Vec::new());
        assert!(!client.may_publish(QoS::AtLeastOnce));
        assert!(client.may_publish(QoS::AtMostOnce));
    }

    #[test]
    fn an_id_in_use_is_skipped() {
        let mut client = client();
        client.publish("t", b"x", QoS::AtLeastOnce, 0, &mut Vec::new());
        client.next_id = id(u16::MAX);
        assert_eq!(client.take_id(), id(u16::MAX));
        assert_eq!(client.take_id(), id(2));
    }

    #[test]
    fn half_a_packet_waits() {
        assert_eq!(client().take(&[0x20, 2, 0], || unreachable!()), Ok(None));
    }
}
