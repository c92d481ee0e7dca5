//! A client that does exactly what a test says, over a blocking socket.

use crate::{Broker, DEADLINE, Received};
use dunlin_wire::packet::{
    Ack, Connect, ConnectProperties, Disconnect, DisconnectProperties, Packet, Publish, Subscribe,
    SubscribeProperties, Subscription, Subscriptions, TopicFilters, Unsubscribe, UserProperties,
};
use dunlin_wire::{PacketId, PacketType, QoS, ReasonCode, SubscriptionOptions, Version};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// A connection to the broker.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    version: Version,
    buffer: Vec<u8>,
    packet_id: PacketId,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The broker said DISCONNECT (5.0), then closed.
    Told(ReasonCode),
    /// The broker closed without a word.
    Silent,
}

/// A CONNECT with a clean start and a Keep Alive of a minute.
#[must_use]
pub fn login(version: Version, client_id: &str) -> Connect<'_> {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive_seconds: 60,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

impl Client {
    /// Opens a connection and says nothing.
    #[must_use]
    pub fn open(broker: &Broker, version: Version) -> Self {
        let stream =
            TcpStream::connect_timeout(&broker.address(), DEADLINE).expect("a connection to the broker");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, version, buffer: Vec::new(), packet_id: PacketId::FIRST }
    }

    /// Connects with `connect` and returns what the broker answered first.
    #[must_use]
    pub fn try_connect(broker: &Broker, connect: Connect<'_>) -> (Self, Received) {
        let mut client = Self::open(broker, connect.version);
        client.send(&Packet::Connect(connect));
        let answer = client.next("CONNACK");
        (client, answer)
    }

    /// Connects with `connect`, which must succeed.
    #[must_use]
    pub fn connect_with(broker: &Broker, connect: Connect<'_>) -> (Self, Received) {
        let (client, answer) = Self::try_connect(broker, connect);
        assert_eq!(answer.connack().code, ReasonCode::Success, "{answer:?}");
        (client, answer)
    }

    /// Connects as `client_id` with a clean start.
    #[must_use]
    pub fn connect(broker: &Broker, version: Version, client_id: &str) -> Self {
        Self::connect_with(broker, login(version, client_id)).0
    }

    /// The version that it speaks.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// A packet identifier that this client did not use lately.
    pub fn fresh_id(&mut self) -> PacketId {
        let id = self.packet_id;
        self.packet_id = id.next();
        id
    }

    /// The bytes of a packet in this client's version.
    #[must_use]
    pub fn encoded(&self, packet: &Packet<'_>) -> Vec<u8> {
        encoded(self.version, packet)
    }

    /// Sends a packet.
    pub fn send(&mut self, packet: &Packet<'_>) {
        let bytes = self.encoded(packet);
        self.send_bytes(&bytes);
    }

    /// Sends any bytes. The broker may have closed already: what is lost then shows in the next wait.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.set_write_timeout(Some(DEADLINE)).expect("a write timeout");
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(error) if is_end(error.kind()) => {}
            Err(error) => panic!("{} bytes could not be sent: {error}", bytes.len()),
        }
    }

    /// Sends as much of `bytes` as the broker takes before it stops taking for `patience`; returns how much that was.
    #[must_use]
    pub fn send_until_stuck(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.stream.set_write_timeout(Some(patience)).expect("a write timeout");
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => sent += count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) if is_end(error.kind()) => break,
                Err(error) => panic!("sending failed after {sent} bytes: {error}"),
            }
        }
        sent
    }

    /// The next packet, which must come in time.
    pub fn next(&mut self, what: &str) -> Received {
        self.next_within(what, DEADLINE)
            .unwrap_or_else(|| panic!("the broker closed the connection; {what} was expected"))
    }

    /// The next packet, or `None` if the broker closes before; panics when neither comes within `time`.
    pub fn next_within(&mut self, what: &str, time: Duration) -> Option<Received> {
        let until = Instant::now() + time;
        loop {
            if let Some(received) = Received::take(self.version, &mut self.buffer) {
                return Some(received);
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what} within {time:?}; the buffer holds {:02x?}", self.buffer);
            self.stream.set_read_timeout(Some(left)).expect("a read timeout");
            let mut piece = [0; 16 * 1024];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(piece.get(..count).unwrap_or_default()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_end(error.kind()) => return None,
                Err(error) => panic!("reading failed while waiting for {what}: {error}"),
            }
        }
    }

    /// The next packet, which must be of this kind.
    pub fn expect(&mut self, kind: PacketType) -> Received {
        let received = self.next(kind.name());
        assert_eq!(received.kind(), kind, "{:?}", received.packet());
        received
    }

    /// Waits until the broker closes. Only a DISCONNECT may come before.
    pub fn end(&mut self) -> End {
        self.end_because("what was sent")
    }

    /// As [`Client::end`], with the reason for which the broker should close, for the report.
    pub fn end_because(&mut self, why: &str) -> End {
        let mut end = End::Silent;
        while let Some(received) = self.next_within(&format!("end of the connection after {why}"), DEADLINE) {
            end = End::Told(received.disconnect().code);
        }
        end
    }

    /// Waits until the broker closes, whatever comes before.
    pub fn end_after_anything(&mut self) -> End {
        let mut end = End::Silent;
        while let Some(received) = self.next_within("end of the connection", DEADLINE) {
            if received.kind() == PacketType::Disconnect {
                end = End::Told(received.disconnect().code);
            }
        }
        end
    }

    /// Subscribes to one filter and returns the code of SUBACK.
    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> ReasonCode {
        self.subscribe_with(filter, SubscriptionOptions::with_qos(qos), None)
    }

    /// Subscribes to one filter with options and an identifier, and returns the code of SUBACK. Messages that come before it,
    /// as the standard allows (§MQTT5 3.8.4), stay to be read.
    pub fn subscribe_with(
        &mut self,
        filter: &str,
        options: SubscriptionOptions,
        identifier: Option<u32>,
    ) -> ReasonCode {
        let packet_id = self.fresh_id();
        let subscriptions = [Subscription { filter, options }];
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            properties: SubscribeProperties {
                subscription_identifier: identifier,
                ..SubscribeProperties::default()
            },
            subscriptions: Subscriptions::from_slice(&subscriptions),
        }));
        let answer = self.answer(PacketType::SubAck);
        assert_eq!(answer.suback().packet_id, packet_id);
        *answer.granted().first().expect("a code")
    }

    /// Unsubscribes from one filter and returns the code of UNSUBACK (5.0).
    pub fn unsubscribe(&mut self, filter: &str) -> Option<ReasonCode> {
        let packet_id = self.fresh_id();
        let filters = [filter];
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            user_properties: UserProperties::NONE,
            filters: TopicFilters::from_slice(&filters),
        }));
        let answer = self.expect(PacketType::UnsubAck);
        assert_eq!(answer.unsuback().packet_id, packet_id);
        answer.unsuback().reason_codes().next()
    }

    /// Publishes and goes through the exchange of the QoS; returns the last code.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS) -> ReasonCode {
        self.publish_with(Publish { topic, payload, qos, ..Publish::default() })
    }

    /// Publishes a retained message and goes through the exchange of the QoS.
    pub fn retain(&mut self, topic: &str, payload: &[u8], qos: QoS) -> ReasonCode {
        self.publish_with(Publish { topic, payload, qos, retain: true, ..Publish::default() })
    }

    /// Publishes with a fresh identifier where the QoS needs one, and goes through the exchange; returns the last code.
    pub fn publish_with(&mut self, publish: Publish<'_>) -> ReasonCode {
        let packet_id = match publish.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Some(self.fresh_id()),
        };
        self.send(&Packet::Publish(Publish { packet_id, ..publish }));
        let Some(packet_id) = packet_id else {
            return ReasonCode::Success;
        };
        if publish.qos == QoS::AtLeastOnce {
            return self.acknowledged(PacketType::PubAck, packet_id);
        }
        let code = self.acknowledged(PacketType::PubRec, packet_id);
        if code.is_error() {
            return code;
        }
        self.send(&Packet::PubRel(Ack::success(packet_id)));
        self.acknowledged(PacketType::PubComp, packet_id)
    }

    fn acknowledged(&mut self, kind: PacketType, packet_id: PacketId) -> ReasonCode {
        let answer = self.expect(kind);
        assert_eq!(answer.ack().packet_id, packet_id);
        answer.ack().code
    }

    /// The next packet, which must be a PUBLISH; it is acknowledged to the end of its QoS.
    pub fn message(&mut self) -> Received {
        let received = self.expect(PacketType::Publish);
        let publish = received.publish();
        let Some(packet_id) = publish.packet_id else {
            return received;
        };
        if publish.qos == QoS::AtLeastOnce {
            self.send(&Packet::PubAck(Ack::success(packet_id)));
        } else {
            self.send(&Packet::PubRec(Ack::success(packet_id)));
            // Other messages may come between.
            self.expect_release(packet_id);
            self.send(&Packet::PubComp(Ack::success(packet_id)));
        }
        received
    }

    fn expect_release(&mut self, packet_id: PacketId) {
        let mut before = Vec::new();
        loop {
            let received = self.next("PUBREL");
            if received.kind() == PacketType::PubRel && received.ack().packet_id == packet_id {
                break;
            }
            before.extend_from_slice(received.bytes());
        }
        self.put_back(before);
    }

    /// The next packet of this kind; a PUBLISH before it stays to be read.
    fn answer(&mut self, kind: PacketType) -> Received {
        let mut before = Vec::new();
        let answer = loop {
            let received = self.next(kind.name());
            if received.kind() != PacketType::Publish {
                break received;
            }
            before.extend_from_slice(received.bytes());
        };
        self.put_back(before);
        assert_eq!(answer.kind(), kind, "{:?}", answer.packet());
        answer
    }

    fn put_back(&mut self, mut bytes: Vec<u8>) {
        bytes.append(&mut self.buffer);
        self.buffer = bytes;
    }

    /// The next PUBLISH if one has come by now, acknowledged to the end of its QoS.
    pub fn message_if_any(&mut self) -> Option<Received> {
        self.has_something().then(|| self.message())
    }

    /// Whether something has come from the broker that was not read yet; takes a moment to look.
    #[must_use]
    pub fn has_something(&mut self) -> bool {
        !self.buffer.is_empty() || {
            self.stream.set_read_timeout(Some(GLANCE)).expect("a read timeout");
            self.stream.peek(&mut [0]).is_ok_and(|count| count > 0)
        }
    }

    /// A PINGREQ whose PINGRESP must be the very next packet: nothing else is on its way from this connection's core.
    pub fn expect_quiet(&mut self) {
        self.send(&Packet::PingReq);
        self.expect(PacketType::PingResp);
    }

    /// Says DISCONNECT and waits until the broker has closed.
    pub fn goodbye(mut self) {
        self.disconnect(ReasonCode::NORMAL_DISCONNECTION);
        assert_eq!(self.end_after_anything(), End::Silent);
    }

    /// Sends DISCONNECT with this code.
    pub fn disconnect(&mut self, code: ReasonCode) {
        self.send(&Packet::Disconnect(Disconnect { code, properties: DisconnectProperties::default() }));
    }

    /// Ends the connection without a word and waits until the broker has noticed.
    pub fn cut(mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the socket was open");
        self.end_after_anything();
    }

    /// Closes only this side's sending: a half-open connection.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("the socket was open");
    }
}

/// How long a look for something that may not be there takes.
const GLANCE: Duration = Duration::from_millis(5);

/// The bytes of a packet in this version.
#[must_use]
pub fn encoded(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).expect("a packet that can be encoded");
    bytes
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
    )
}
