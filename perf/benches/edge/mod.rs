//! An edge without sockets for benchmarks: it hands packets to one core and answers for the clients.
//!
//! It "sends" at the end of a tick of 64 events, and answers for the subscribers as they would.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use dunlin_shard::config::Mqtt;
use dunlin_shard::{
    Action, Actions, Config, ConnId, Event, Hooks, ListenerId, Mono, Now, Peer, Setup, ShardCore, ShardId,
    WallMs,
};
use dunlin_wire::packet::{
    Connect, ConnectProperties, Packet, Publish, Subscribe, SubscribeProperties, Subscription, Subscriptions,
};
use dunlin_wire::types::{PacketId, QoS, SubscriptionOptions, Version};

/// A way to hand an event to a core.
pub(crate) type Door = fn(&mut ShardCore, Event<'_>, Now, &mut Actions);

/// A core and an edge without sockets.
pub(crate) struct Edge {
    core: ShardCore,
    /// The way into the core; another one may count what happens in it.
    pub(crate) door: Door,
    actions: Actions,
    now: Now,
    version: Version,
    opened: u32,
    events: usize,
    /// Messages that have reached a subscriber.
    pub(crate) delivered: usize,
    /// Answers of the clients to what they were sent in this tick.
    answers: Vec<(ConnId, [u8; 4])>,
    /// Bytes sent in this tick, by connection slot.
    sent: Vec<(ConnId, u32)>,
}

impl Edge {
    /// A core without connections.
    pub(crate) fn new(version: Version) -> Self {
        let mqtt = Mqtt { max_inflight: u16::MAX, ..Mqtt::default() };
        let core = ShardCore::new(Setup {
            shard: ShardId(0),
            shard_count: 1,
            config: Arc::new(Config { mqtt, ..Config::default() }),
            hooks: Hooks::default(),
            seed: 1,
        });
        Self {
            core,
            door: ShardCore::handle,
            actions: Actions::default(),
            now: Now { mono: Mono(1), wall: WallMs(1_700_000_000_000) },
            version,
            opened: 0,
            events: 0,
            delivered: 0,
            answers: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// Opens a connection and hands its CONNECT in.
    pub(crate) fn connect(&mut self, client_id: &str) -> ConnId {
        let conn = ConnId { slot: self.opened, generation: 1 };
        self.opened += 1;
        let peer = Peer::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        (self.door)(
            &mut self.core,
            Event::Opened { conn, peer, listener: ListenerId(0) },
            self.now,
            &mut self.actions,
        );
        let connect = Connect {
            version: self.version,
            bridge: false,
            clean_start: true,
            keep_alive_seconds: 0,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        };
        self.hand_in_packet(conn, &Packet::Connect(connect));
        conn
    }

    /// Subscribes to one filter.
    pub(crate) fn subscribe(&mut self, conn: ConnId, filter: &str, qos: QoS) {
        let list = [Subscription { filter, options: SubscriptionOptions::with_qos(qos) }];
        let subscribe = Subscribe {
            packet_id: PacketId::FIRST,
            properties: SubscribeProperties::default(),
            subscriptions: Subscriptions::from_slice(&list),
        };
        self.hand_in_packet(conn, &Packet::Subscribe(subscribe));
    }

    /// A PUBLISH with a payload of [`PAYLOAD_BYTES`].
    pub(crate) fn publish_bytes(&self, topic: &str, qos: QoS) -> Vec<u8> {
        let packet_id = (qos != QoS::AtMostOnce).then_some(PacketId::FIRST);
        let publish =
            Publish { qos, topic, packet_id, payload: &[0x55; PAYLOAD_BYTES], ..Publish::default() };
        self.encode(&Packet::Publish(publish))
    }

    fn hand_in_packet(&mut self, conn: ConnId, packet: &Packet<'_>) {
        let bytes = self.encode(packet);
        self.hand_in(conn, &bytes);
        self.settle();
    }

    fn encode(&self, packet: &Packet<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).expect("the benchmark's own packets are valid");
        bytes
    }

    /// One event; every [`TICK_EVENTS`] the tick ends.
    pub(crate) fn hand_in(&mut self, conn: ConnId, bytes: &[u8]) {
        (self.door)(&mut self.core, Event::Bytes { conn, bytes }, self.now, &mut self.actions);
        self.events += 1;
        if self.events >= TICK_EVENTS {
            self.settle();
        }
    }

    /// Performs what the core asks for until it asks for nothing more.
    pub(crate) fn settle(&mut self) {
        while !self.actions.list.is_empty() {
            self.perform();
            self.events = 0;
            self.now.mono.0 += 1_000;
            for (conn, bytes) in self.sent.drain(..) {
                (self.door)(&mut self.core, Event::Sent { conn, bytes }, self.now, &mut self.actions);
            }
            for (conn, answer) in self.answers.drain(..) {
                (self.door)(
                    &mut self.core,
                    Event::Bytes { conn, bytes: &answer },
                    self.now,
                    &mut self.actions,
                );
            }
        }
    }

    fn perform(&mut self) {
        let Actions { arena, list } = &self.actions;
        for action in list {
            let Action::Send { conn, head, payload } = action else { continue };
            let head = &arena[head.start as usize..head.end as usize];
            let more = payload.as_ref().map_or(0, |_| PAYLOAD_BYTES);
            let bytes = u32::try_from(head.len() + more).expect("small");
            match self.sent.last_mut() {
                Some((last, total)) if last == conn => *total += bytes,
                _ => self.sent.push((*conn, bytes)),
            }
            let mut rest = head;
            while let Some(heard) = hear(self.version, rest) {
                self.delivered += usize::from(heard.is_message);
                self.answers.extend(heard.answer.map(|answer| (*conn, answer)));
                rest = heard.after;
            }
        }
        self.actions.clear();
    }
}

/// What a client makes of a packet.
struct Heard<'a> {
    answer: Option<[u8; 4]>,
    is_message: bool,
    /// The bytes that follow the packet.
    after: &'a [u8],
}

/// Looks at the first packet of `bytes`.
fn hear(version: Version, bytes: &[u8]) -> Option<Heard<'_>> {
    let first = *bytes.first()?;
    let (length, header) = match *bytes.get(1..3)? {
        [low, high] if low & 0x80 != 0 => (usize::from(low & 0x7F) | usize::from(high) << 7, 3),
        [low, _] => (usize::from(low), 2),
        _ => return None,
    };
    let body = bytes.get(header..)?;
    let after = body.get(length..).unwrap_or(&[]);
    let id_at = if first >> 4 == 3 { 2 + usize::from(*body.get(1)?) } else { 0 };
    let id = body.get(id_at..id_at + 2).map(|id| [id[0], id[1]]).unwrap_or_default();
    let reply = |kind: u8| Some([kind, 2, id[0], id[1]]);
    let reply = match first {
        PUBLISH_QOS_1 => reply(PUBACK),
        PUBLISH_QOS_2 => reply(PUBREC),
        PUBREC => reply(PUBREL),
        PUBREL => reply(PUBCOMP),
        _ => None,
    };
    // A CONNACK of 5.0 may be longer than this walk understands, but it comes alone.
    let after = if first >> 4 == 2 && version.is_v5() { &[] } else { after };
    Some(Heard { answer: reply, is_message: first >> 4 == 3, after })
}

/// Payload of every message.
const PAYLOAD_BYTES: usize = 128;
/// Events in a tick.
const TICK_EVENTS: usize = 64;
const PUBLISH_QOS_1: u8 = 0x32;
const PUBLISH_QOS_2: u8 = 0x34;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
