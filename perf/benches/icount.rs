//! The hot paths one by one, for a count of their instructions: `cargo perf icount` runs this under callgrind.
//!
//! Only what happens inside of a function with `counted_region` in its name is counted. Each benchmark first does as many
//! rounds uncounted, so that tables have their size and nothing is touched for the first time. All is fixed: seeds, ids, time,
//! order; the allocator is the broker's, built in, so the host's has no say.
//!
//! `icount NAME` does one benchmark and prints how many operations were counted; `icount --list` names them; without a name all
//! are done, which checks their results.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it has done")]

mod edge;

#[path = "../../loadgen/src/stamp.rs"]
#[allow(
    dead_code,
    reason = "the generator is a program and has no library; its pure files are built in here"
)]
mod stamp;
#[path = "../../loadgen/src/verify.rs"]
#[allow(dead_code, reason = "as above")]
mod verify;

use std::hint::black_box;

use dunlin_shard::timer::{TimerKey, TimerWheel};
use dunlin_shard::topics::{FilterIndex, Subscriber};
use dunlin_shard::{Actions, ConnId, Event, Mono, Now, ShardCore};
use dunlin_wire::packet::{Ack, PublishProperties, UserProperties};
use dunlin_wire::types::SubscriptionOptions;
use dunlin_wire::{Limits, Packet, PacketId, PublishHead, QoS, Version, decode_one, encoder};

use edge::Edge;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let list = arguments.iter().any(|argument| argument == "--list");
    for (name, run) in BENCHMARKS {
        if list {
            println!("{name}");
        } else if names.is_empty() || names.iter().any(|wanted| *wanted == name) {
            println!("{name} {}", run());
        }
    }
}

/// A benchmark: returns how many operations it counted.
type Run = fn() -> u32;

const BENCHMARKS: [(&str, Run); 27] = [
    ("decode/publish/3.1.1", || decode(Version::V311, &[])),
    ("decode/publish/5.0", || decode(Version::V5, &[])),
    ("decode/publish/5.0-five-properties", || decode(Version::V5, &five_properties())),
    ("encode/publish-head/3.1.1", || encode(Version::V311, &[])),
    ("encode/publish-head/5.0", || encode(Version::V5, &[])),
    ("encode/publish-head/5.0-five-properties", || encode(Version::V5, &five_properties())),
    ("encode/puback/5.0", encode_puback),
    ("match/100k/literal", || matching("dev/{}/sensor/value", "dev/{}/sensor/value")),
    ("match/100k/plus", || matching("site/{}/+/temp", "site/{}/roof/temp")),
    ("match/100k/hash", || matching("device/{}/#", "device/{}/state/power")),
    ("publish/1-to-1/3.1.1-qos0", || one_to_one(Version::V311, QoS::AtMostOnce, Chunks::Whole)),
    ("publish/1-to-1/3.1.1-qos1", || one_to_one(Version::V311, QoS::AtLeastOnce, Chunks::Whole)),
    ("publish/1-to-1/3.1.1-qos2", || one_to_one(Version::V311, QoS::ExactlyOnce, Chunks::Whole)),
    ("publish/1-to-1/5.0-qos0", || one_to_one(Version::V5, QoS::AtMostOnce, Chunks::Whole)),
    ("publish/1-to-1/5.0-qos1", || one_to_one(Version::V5, QoS::AtLeastOnce, Chunks::Whole)),
    ("publish/1-to-1/5.0-qos2", || one_to_one(Version::V5, QoS::ExactlyOnce, Chunks::Whole)),
    ("publish/1-to-1/3.1.1-qos0-in-halves", || one_to_one(Version::V311, QoS::AtMostOnce, Chunks::Halves)),
    ("publish/1-to-1/3.1.1-qos0-in-bytes", || one_to_one(Version::V311, QoS::AtMostOnce, Chunks::Bytes)),
    ("publish/1-to-1/3.1.1-qos0-eight-at-once", || one_to_one(Version::V311, QoS::AtMostOnce, Chunks::Eight)),
    ("publish/1-to-1000/3.1.1-qos0", || one_to_thousand(QoS::AtMostOnce)),
    ("publish/1-to-1000/3.1.1-qos1", || one_to_thousand(QoS::AtLeastOnce)),
    ("publish/1-to-1000/3.1.1-qos2", || one_to_thousand(QoS::ExactlyOnce)),
    ("connect/5.0", connecting),
    ("subscribe/5.0", subscribing),
    ("timer/arm-and-cancel", timer_cancel),
    ("timer/arm-and-expire", timer_expire),
    ("loadgen/stamp-and-verify", stamping),
];

/// What is counted: nothing outside of this.
#[inline(never)]
fn counted_region(rounds: u32, operation: &mut dyn FnMut(u32)) {
    for round in 0..rounds {
        operation(round);
    }
}

/// What is counted of a core: the handling of one event.
#[inline(never)]
fn counted_region_of_core(core: &mut ShardCore, event: Event<'_>, now: Now, actions: &mut Actions) {
    core.handle(event, now, actions);
}

/// Does it once without and once with counting.
fn count(rounds: u32, mut operation: impl FnMut(u32)) -> u32 {
    for round in 0..rounds {
        operation(round);
    }
    counted_region(rounds, &mut operation);
    rounds
}

fn decode(version: Version, forwarded: &[u8]) -> u32 {
    let bytes = publish_bytes(version, forwarded);
    count(1_000, |_| {
        let packet = decode_one(black_box(&bytes), version, &Limits::SERVER);
        assert!(matches!(packet, Ok(Some((Packet::Publish(_), length))) if length == bytes.len()));
    })
}

fn encode(version: Version, forwarded: &[u8]) -> u32 {
    let head = head(forwarded);
    let mut out = Vec::with_capacity(4_096);
    count(1_000, |_| {
        out.clear();
        assert!(encoder::publish(&mut out, version, black_box(&head)).is_ok());
        black_box(&out);
    })
}

fn encode_puback() -> u32 {
    let ack = Packet::PubAck(Ack::success(PacketId::FIRST));
    let mut out = Vec::with_capacity(4_096);
    count(1_000, |_| {
        out.clear();
        assert!(black_box(&ack).encode(Version::V5, &mut out).is_ok());
        black_box(&out);
    })
}

/// Matches topics of which each meets one filter of an index of 100,000.
fn matching(filter: &str, topic: &str) -> u32 {
    let mut index = FilterIndex::new(SEED);
    for number in 0..FILTERS {
        let subscriber = Subscriber::session(number, SubscriptionOptions::default(), 0);
        index.subscribe(&filter.replace("{}", &number.to_string()), subscriber);
    }
    let topics: Vec<String> =
        (0..1_000_u32).map(|n| topic.replace("{}", &(n * 97 % FILTERS).to_string())).collect();
    let mut found = 0;
    let counted = count(1_000, |round| {
        index.for_each_match(black_box(&topics[round as usize]), |_, list| found += list.len());
    });
    assert_eq!(found, 2 * counted as usize, "each topic meets one filter");
    counted
}

/// How the bytes of messages come in.
#[derive(Clone, Copy)]
enum Chunks {
    Whole,
    Halves,
    Bytes,
    /// Eight packets in one event.
    Eight,
}

/// Messages from one client to one other; counted is what the core does for each, acknowledgements included.
fn one_to_one(version: Version, qos: QoS, chunks: Chunks) -> u32 {
    let mut edge = Edge::new(version);
    for number in 0..PAIRS {
        let subscriber = edge.connect(&format!("s{number}"));
        edge.subscribe(subscriber, &format!("p2p/{number}"), qos);
    }
    let senders: Vec<ConnId> = (0..PAIRS).map(|number| edge.connect(&format!("p{number}"))).collect();
    let packets: Vec<Vec<u8>> =
        (0..PAIRS).map(|number| edge.publish_bytes(&format!("p2p/{number}"), qos)).collect();
    let per_event = if matches!(chunks, Chunks::Eight) { 8 } else { 1 };
    for phase in 0..2 {
        if phase == 1 {
            edge.door = counted_region_of_core;
        }
        for (sender, packet) in senders.iter().zip(&packets) {
            match chunks {
                Chunks::Whole => edge.hand_in(*sender, packet),
                Chunks::Halves => {
                    let (first, second) = packet.split_at(packet.len() / 2);
                    edge.hand_in(*sender, first);
                    edge.hand_in(*sender, second);
                }
                Chunks::Bytes => packet.chunks(1).for_each(|byte| edge.hand_in(*sender, byte)),
                Chunks::Eight => edge.hand_in(*sender, &packet.repeat(per_event)),
            }
        }
        edge.settle();
    }
    assert_eq!(edge.delivered, 2 * packets.len() * per_event, "every message reaches its subscriber");
    PAIRS * u32::try_from(per_event).unwrap_or(1)
}

/// Messages from one client to a thousand; an operation is one delivery.
fn one_to_thousand(qos: QoS) -> u32 {
    let mut edge = Edge::new(Version::V311);
    for number in 0..FAN {
        let subscriber = edge.connect(&format!("s{number}"));
        edge.subscribe(subscriber, "fo/all", qos);
    }
    let sender = edge.connect("p");
    let packet = edge.publish_bytes("fo/all", qos);
    for phase in 0..2 {
        if phase == 1 {
            edge.door = counted_region_of_core;
        }
        for _ in 0..FAN_MESSAGES {
            edge.hand_in(sender, &packet);
            edge.settle();
        }
    }
    let deliveries = FAN * FAN_MESSAGES;
    assert_eq!(edge.delivered, 2 * deliveries as usize, "every message reaches every subscriber");
    deliveries
}

/// From an accepted connection to its CONNACK.
fn connecting() -> u32 {
    let mut edge = Edge::new(Version::V5);
    for number in 0..2_000 {
        if number == 1_000 {
            edge.door = counted_region_of_core;
        }
        edge.connect(&format!("client-{number:06}"));
    }
    1_000
}

/// From SUBSCRIBE with one filter to SUBACK.
fn subscribing() -> u32 {
    let mut edge = Edge::new(Version::V5);
    let clients: Vec<ConnId> = (0..100).map(|number| edge.connect(&format!("client-{number}"))).collect();
    for number in 0..2_000_usize {
        if number == 1_000 {
            edge.door = counted_region_of_core;
        }
        edge.subscribe(
            clients[number % clients.len()],
            &format!("dev/{number:06}/+/state"),
            QoS::AtLeastOnce,
        );
    }
    1_000
}

fn timer_cancel() -> u32 {
    let mut wheel = TimerWheel::new();
    for index in 0..10_000 {
        wheel.arm(TimerKey::new(1, index), Mono(u64::from(index % 600) * SECOND_NS));
    }
    count(1_000, |round| {
        let key = TimerKey::new(2, round);
        let id = wheel.arm(key, Mono(60 * SECOND_NS + u64::from(round) * 1_000_000));
        assert!(wheel.cancel(black_box(id), key));
    })
}

/// Each operation arms one deadline and moves the time on by 10 ms, in which one comes on average.
fn timer_expire() -> u32 {
    let mut wheel = TimerWheel::new();
    let mut now = 0;
    let mut come = 0_u32;
    let counted = count(1_000, |round| {
        wheel.arm(TimerKey::new(1, round), Mono(now + SECOND_NS + u64::from(round % 7) * 100_000_000));
        now += 10_000_000;
        wheel.advance(Mono(now), |_| come += 1);
    });
    assert!(come > counted, "deadlines come");
    counted
}

/// What the generator does for a message besides MQTT: writes its payload, reads it back, notes it.
fn stamping() -> u32 {
    let mut ledger = verify::Ledger::new(1_000);
    let mut payload = [0; PAYLOAD_BYTES];
    let mut sequence = 0;
    let counted = count(1_000, |round| {
        // The first of each stream in the first thousand, the second in the second.
        let written =
            stamp::Stamp { run: 7, flow: round, target: 0, sequence, ticket: round, intended_ns: 1 << 40 };
        written.write(&mut payload);
        let read = stamp::Stamp::read(black_box(&payload));
        assert!(read.is_some_and(|read| ledger.arrived(read.flow as usize, read.sequence)));
        if round == 999 {
            sequence += 1;
        }
    });
    assert!(ledger.close(|_| 2).is_clean(), "every message is accounted for");
    counted
}

/// A forwarded PUBLISH of QoS 1.
fn head(forwarded: &[u8]) -> PublishHead<'_> {
    PublishHead {
        qos: QoS::AtLeastOnce,
        topic: "devices/0123456789/sensors/temperature",
        packet_id: Some(PacketId::FIRST),
        forwarded,
        payload_len: PAYLOAD_BYTES,
        ..PublishHead::default()
    }
}

fn publish_bytes(version: Version, forwarded: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoder::publish(&mut bytes, version, &head(forwarded)).expect("a valid head");
    bytes.extend_from_slice(&[7; PAYLOAD_BYTES]);
    bytes
}

/// Content type, response topic, correlation data and two user properties, in wire form.
fn five_properties() -> Vec<u8> {
    let pairs = [("site", "berlin-7"), ("trace", "4bf92f3577b34da6")];
    let properties = PublishProperties {
        content_type: Some("application/json"),
        response_topic: Some("devices/0123456789/answers"),
        correlation_data: Some(&[1, 2, 3, 4, 5, 6, 7, 8]),
        user_properties: UserProperties::from_pairs(&pairs),
        ..PublishProperties::default()
    };
    let mut wire = Vec::new();
    properties.write_forwardable(&mut wire);
    wire
}

/// Filters in the index.
const FILTERS: u32 = 100_000;
/// Seed of the index's hash.
const SEED: u64 = 1;
/// Pairs of a sender and a subscriber.
const PAIRS: u32 = 500;
/// Subscribers of one topic.
const FAN: u32 = 1_000;
/// Messages to them, counted.
const FAN_MESSAGES: u32 = 4;
/// Payload of every message.
const PAYLOAD_BYTES: usize = 128;
const SECOND_NS: u64 = 1_000_000_000;
