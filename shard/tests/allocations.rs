//! The hot path of QoS 0 allocates nothing: not for one subscriber, not for many, whatever their versions.

use std::alloc::System;

use dunlin_wire::types::{QoS, Version};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

mod bare;

use bare::{Bare, message};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    qos_0_allocates_nothing_per_message();
}

fn qos_0_allocates_nothing_per_message() {
    let mut bare = Bare::new();
    let publisher = bare.join(Version::V5, "publisher");
    for at in 0..100 {
        let version = Version::ALL[at % 3];
        let subscriber = bare.join(version, &format!("subscriber-{at}"));
        bare.subscribe(subscriber, version, if at < 50 { "a/b" } else { "a/+" }, QoS::ExactlyOnce);
    }
    let alone = bare.join(Version::V311, "alone");
    bare.subscribe(alone, Version::V311, "own", QoS::AtMostOnce);
    let packets = [
        message(Version::V5, "a/b", QoS::AtMostOnce, &[1; 500]),
        message(Version::V5, "own", QoS::AtMostOnce, &[1; 500]),
        message(Version::V5, "nobody", QoS::AtMostOnce, &[1; 500]),
    ];
    let mut pass = || {
        for packet in &packets {
            bare.bytes(publisher, packet);
            bare.tick();
        }
        bare.send_count
    };
    for _ in 0..10 {
        pass();
    }
    let region = Region::new(ALLOCATOR);
    let before = pass();
    for _ in 0..100 {
        pass();
    }
    let sent = pass() - before;
    assert_eq!(region.change().allocations, 0, "in {sent} deliveries");
    assert_eq!(sent, 101 * 101);
}
