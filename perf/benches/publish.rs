//! What a message costs inside the core: decoding, matching, delivery, encoding and acknowledgements, without any socket.
//!
//! One `ShardCore` and an edge that only counts: it hands every packet in as its own event, "sends" at the end of a tick
//! of 64 events, and answers for the subscribers as they would. The difference to the processor time that
//! `dunlin-perf compare` shows is the kernel and the ring.
//!
//! Expected before it was measured, on a core of about 3 GHz: point to point QoS 0 about 0.4 µs (decode 20 ns, match
//! 100 ns, an encode of 140 B, a cache miss or two on the connection and the session); QoS 1 twice that and an
//! in-flight entry; fan-out to 1,000 about 20 ns per delivery, since the packet is encoded once.
//!
//! `cargo bench -p dunlin-perf --bench publish`

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dunlin_shard::config::Mqtt;
use dunlin_shard::{
    Action, Actions, Config, ConnId, Event, Hooks, ListenerId, Mono, Now, Peer, Setup, ShardCore, ShardId,
    WallMs,
};
use dunlin_wire::packet::{
    Connect, ConnectProperties, Packet, Publish, Subscribe, SubscribeProperties, Subscription, Subscriptions,
};
use dunlin_wire::types::{PacketId, QoS, SubscriptionOptions, Version};

fn main() {
    println!("{:<34} {:>12}", "", "ns/delivery");
    for version in [Version::V311, Version::V5] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            measure("point to point, 1,000 pairs", &pairs(), version, qos, 1_000);
        }
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            measure("fan-in, 1,000 to 1", &fan_in(), version, qos, 1_000);
            measure("fan-out, 1 to 1,000", &fan_out(), version, qos, 64);
        }
    }
}

/// Who subscribes to what, and who publishes where.
struct Load {
    filters: Vec<String>,
    topics: Vec<String>,
}

fn pairs() -> Load {
    let names: Vec<String> = (0..1_000).map(|pair| format!("p2p/{pair}")).collect();
    Load { filters: names.clone(), topics: names }
}

fn fan_in() -> Load {
    Load {
        filters: vec!["fi/#".to_owned()],
        topics: (0..1_000).map(|sender| format!("fi/{sender}")).collect(),
    }
}

fn fan_out() -> Load {
    Load { filters: vec!["fo/all".to_owned(); 1_000], topics: vec!["fo/all".to_owned()] }
}

/// Prints the least of several rounds of `publishes` messages each.
fn measure(name: &str, load: &Load, version: Version, qos: QoS, publishes: usize) {
    let mut edge = Edge::new(version);
    let subscribers = load.filters.len();
    for (index, filter) in load.filters.iter().enumerate() {
        let conn = edge.connect(&format!("s{index}"));
        edge.subscribe(conn, filter, qos);
    }
    let senders: Vec<ConnId> =
        (0..load.topics.len()).map(|index| edge.connect(&format!("p{index}"))).collect();
    let packets: Vec<Vec<u8>> = load.topics.iter().map(|topic| edge.publish_bytes(topic, qos)).collect();
    let copies = if subscribers > 1 && senders.len() == 1 { subscribers } else { 1 };
    let mut best = f64::INFINITY;
    for _ in 0..rounds() {
        edge.delivered = 0;
        let start = Instant::now();
        for index in 0..publishes {
            edge.hand_in(senders[index % senders.len()], &packets[index % packets.len()]);
        }
        edge.settle();
        let elapsed = start.elapsed();
        assert_eq!(edge.delivered, publishes * copies, "every message reaches whom it should");
        best = best.min(nanoseconds(elapsed) / f64::from(u32::try_from(edge.delivered).unwrap_or(u32::MAX)));
    }
    println!("{name:<28} {:<5} {} {best:>10.1}", level(version), qos.as_u8());
}

const fn level(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    }
}

/// A core and an edge without sockets.
struct Edge {
    core: ShardCore,
    actions: Actions,
    now: Now,
    version: Version,
    opened: u32,
    events: usize,
    delivered: usize,
    /// Answers of the clients to what they were sent in this tick.
    answers: Vec<(ConnId, [u8; 4])>,
    /// Bytes sent in this tick, by connection slot.
    sent: Vec<(ConnId, u32)>,
}

impl Edge {
    fn new(version: Version) -> Self {
        let mqtt = Mqtt { max_inflight: u16::MAX, ..Mqtt::default() };
        let core = ShardCore::new(Setup {
            shard: ShardId(0),
            shard_count: 1,
            config: Arc::new(Config { mqtt }),
            hooks: Hooks::default(),
            seed: 1,
        });
        Self {
            core,
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

    fn connect(&mut self, client_id: &str) -> ConnId {
        let conn = ConnId { slot: self.opened, generation: 1 };
        self.opened += 1;
        let peer = Peer::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        self.core.handle(Event::Opened { conn, peer, listener: ListenerId(0) }, self.now, &mut self.actions);
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

    fn subscribe(&mut self, conn: ConnId, filter: &str, qos: QoS) {
        let list = [Subscription { filter, options: SubscriptionOptions::with_qos(qos) }];
        let subscribe = Subscribe {
            packet_id: PacketId::FIRST,
            properties: SubscribeProperties::default(),
            subscriptions: Subscriptions::from_slice(&list),
        };
        self.hand_in_packet(conn, &Packet::Subscribe(subscribe));
    }

    fn publish_bytes(&self, topic: &str, qos: QoS) -> Vec<u8> {
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
    fn hand_in(&mut self, conn: ConnId, bytes: &[u8]) {
        self.core.handle(Event::Bytes { conn, bytes }, self.now, &mut self.actions);
        self.events += 1;
        if self.events >= TICK_EVENTS {
            self.settle();
        }
    }

    /// Performs what the core asks for until it asks for nothing more.
    fn settle(&mut self) {
        while !self.actions.list.is_empty() {
            self.perform();
            self.events = 0;
            self.now.mono.0 += 1_000;
            for (conn, bytes) in self.sent.drain(..) {
                self.core.handle(Event::Sent { conn, bytes }, self.now, &mut self.actions);
            }
            for (conn, answer) in self.answers.drain(..) {
                self.core.handle(Event::Bytes { conn, bytes: &answer }, self.now, &mut self.actions);
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

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

/// Payload of every message.
const PAYLOAD_BYTES: usize = 128;
/// Events in a tick.
const TICK_EVENTS: usize = 64;
/// Rounds, of which the least counts; one when run as a test.
fn rounds() -> u32 {
    if std::env::args().any(|argument| argument == "--bench") { 200 } else { 1 }
}

const PUBLISH_QOS_1: u8 = 0x32;
const PUBLISH_QOS_2: u8 = 0x34;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
