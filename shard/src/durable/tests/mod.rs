//! What is acknowledged is on the disk: answers that wait, restarts at any moment, sessions that are away.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it looks for")]

use dunlin_persist::{Record, StoreState};
use dunlin_wire::packet::{Connect, Packet, PublishProperties, Will, WillProperties};
use dunlin_wire::types::Version;

use crate::config::Mqtt;
use crate::event::Event;
use crate::ids::ShardId;
use crate::metrics::Counter;
use crate::publish::tests::*;
use crate::testing::{Client, World, connect};

mod away;
mod exact;
mod gate;
mod groups;
mod reclaim;
mod refused;
mod restart;
mod script;
mod several;

/// A client with a session that is kept, new or not; what it hears first is not part of what it hears next.
fn come(world: &mut World, version: Version, id: &str) -> Client {
    let client = resume(world, version, id);
    let first = heard(world, client);
    assert!(first[0].starts_with("CONNACK success"), "{first:?}");
    client
}

/// All that a session that is away gets when it comes back.
fn comes_back(world: &mut World, id: &str) -> Vec<String> {
    let client = resume(world, Version::V5, id);
    let all = heard(world, client);
    world.drop_client(client);
    all
}

fn count(world: &World, kind: impl Fn(&Record) -> bool) -> usize {
    world.logs.iter().flat_map(|log| &log.records).filter(|record| kind(record)).count()
}

/// No answer is owed.
fn assert_nothing_is_owed(world: &World) {
    for core in &world.cores {
        core.assert_nothing_is_owed();
    }
}
