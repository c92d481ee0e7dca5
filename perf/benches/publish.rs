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

mod edge;

use std::time::{Duration, Instant};

use dunlin_shard::ConnId;
use dunlin_wire::types::{QoS, Version};
use edge::Edge;

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

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

/// Rounds, of which the least counts; one when run as a test.
fn rounds() -> u32 {
    if std::env::args().any(|argument| argument == "--bench") { 200 } else { 1 }
}
