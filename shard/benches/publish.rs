//! One PUBLISH through a core: decode, match, encode, account; no socket.
//!
//! Expected before it was measured: QoS 0 to one subscriber is a decode (40 ns), a match (50 ns), two session lookups and an
//! encode (60 ns) and a `Sent` event (20 ns): about 200 ns and no allocation. A fan-out of 1,000 adds a session (one
//! cache line or two) and an action of 40 B per subscriber: about 15 ns each. QoS 1 adds a kept message, a window entry
//! and two acknowledgements: about 600 ns.
//!
//! `cargo bench -p dunlin-shard --bench publish -- [messages]`

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::alloc::System;
use std::hint::black_box;
use std::time::{Duration, Instant};

use dunlin_wire::packet::{Ack, Packet};
use dunlin_wire::types::{PacketId, QoS, Version};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[path = "../tests/bare/mod.rs"]
mod bare;

use bare::{Bare, message};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000_u32);
    println!("{:<34} {:>12} {:>16}", "one core, 128 B payload", "ns/delivery", "allocations/msg");
    for version in [Version::V311, Version::V5] {
        let name = if version.is_v5() { "5.0" } else { "3.1.1" };
        let pairs = point_to_point(version, QoS::AtMostOnce, 1, count);
        print_row(&format!("p2p QoS 0, {name}"), pairs);
        assert!(pairs.allocations < 0.001, "QoS 0 point to point allocates nothing");
        print_row(
            &format!("p2p QoS 0, {name}, 1,000 pairs"),
            point_to_point(version, QoS::AtMostOnce, 1_000, count),
        );
        print_row(&format!("p2p QoS 1, {name}"), point_to_point(version, QoS::AtLeastOnce, 1, count));
        print_row(
            &format!("p2p QoS 1, {name}, 1,000 pairs"),
            point_to_point(version, QoS::AtLeastOnce, 1_000, count),
        );
        print_row(&format!("fan-out QoS 0 to 1,000, {name}"), fan_out(version, QoS::AtMostOnce, count / 200));
        print_row(
            &format!("fan-out QoS 1 to 1,000, {name}"),
            fan_out(version, QoS::AtLeastOnce, count / 1_000),
        );
    }
}

#[derive(Clone, Copy)]
struct Cost {
    nanoseconds: f64,
    allocations: f64,
}

fn print_row(name: &str, cost: Cost) {
    println!("{name:<34} {:>12.1} {:>16.3}", cost.nanoseconds, cost.allocations);
}

/// Pairs of a publisher and a subscriber, in turn; QoS 1 with both acknowledgements.
fn point_to_point(version: Version, qos: QoS, pairs: u32, count: u32) -> Cost {
    let mut bare = Bare::new();
    let ends: Vec<_> = (0..pairs)
        .map(|pair| {
            let publisher = bare.join(version, &format!("publisher-{pair}"));
            let subscriber = bare.join(version, &format!("subscriber-{pair}"));
            bare.subscribe(subscriber, version, &format!("bench/p2p/{pair}"), qos);
            let publish = message(version, &format!("bench/p2p/{pair}"), qos, &[b'x'; 128]);
            (publisher, subscriber, publish)
        })
        .collect();
    let pubacks = Pubacks::new(version);
    let mut pass = |bare: &mut Bare, at: u32| {
        let (publisher, subscriber, publish) = &ends[(at % pairs) as usize];
        bare.bytes(*publisher, publish);
        if qos == QoS::AtLeastOnce {
            bare.bytes(*subscriber, pubacks.next_of(at / pairs));
        }
        bare.tick();
    };
    measure(&mut bare, count, 1, &mut pass)
}

/// One publisher, 1,000 subscribers.
fn fan_out(version: Version, qos: QoS, count: u32) -> Cost {
    const SUBSCRIBERS: u32 = 1_000;
    let mut bare = Bare::new();
    let publisher = bare.join(version, "publisher");
    let subscribers: Vec<_> = (0..SUBSCRIBERS)
        .map(|at| {
            let subscriber = bare.join(version, &format!("subscriber-{at}"));
            bare.subscribe(subscriber, version, "bench/all", qos);
            subscriber
        })
        .collect();
    let publish = message(version, "bench/all", qos, &[b'x'; 128]);
    let pubacks = Pubacks::new(version);
    let mut pass = |bare: &mut Bare, at: u32| {
        bare.bytes(publisher, &publish);
        if qos == QoS::AtLeastOnce {
            for subscriber in &subscribers {
                bare.bytes(*subscriber, pubacks.next_of(at));
            }
        }
        bare.tick();
    };
    measure(&mut bare, count.max(100), SUBSCRIBERS, &mut pass)
}

/// Runs `pass` and divides; the best of five parts, for the machine is shared.
fn measure(bare: &mut Bare, count: u32, deliveries: u32, pass: &mut impl FnMut(&mut Bare, u32)) -> Cost {
    let warm_up = count / 10 + 2_000_u32.min(count);
    for at in 0..warm_up {
        pass(bare, at);
    }
    let region = Region::new(ALLOCATOR);
    let part = (count / 5).max(1);
    let mut best = Duration::MAX;
    for round in 0..5 {
        let begun = Instant::now();
        for at in 0..part {
            pass(bare, warm_up + round * part + at);
        }
        best = best.min(begun.elapsed());
    }
    let allocations = region.change().allocations;
    black_box(&bare);
    #[expect(clippy::cast_precision_loss, reason = "a few digits are printed")]
    Cost {
        nanoseconds: best.as_nanos() as f64 / f64::from(part) / f64::from(deliveries),
        allocations: allocations as f64 / f64::from(part * 5),
    }
}

/// PUBACK packets for identifiers that go round in a circle.
struct Pubacks {
    packets: Vec<Vec<u8>>,
}

impl Pubacks {
    fn new(version: Version) -> Self {
        let packets = (1..=u16::MAX).filter_map(PacketId::new).map(|id| {
            let mut bytes = Vec::new();
            Packet::PubAck(Ack::success(id)).encode(version, &mut bytes).expect("a PUBACK fits in a packet");
            bytes
        });
        Self { packets: packets.collect() }
    }

    /// The one for the n-th message of a subscriber.
    fn next_of(&self, n: u32) -> &[u8] {
        &self.packets[n as usize % self.packets.len()]
    }
}
