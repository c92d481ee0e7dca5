//! Cleaning: what still holds is said again, nothing else, and a log cleaned again and again says the same.

use super::*;

/// All records are offered, in steps, and freed.
fn clean_all(world: &mut World) {
    for shard in 0..world.logs.len() {
        let total = world.logs[shard].records.len();
        for step in [1, 7, total.saturating_sub(8)] {
            world.reclaim(shard, step);
        }
        world.settle();
    }
}

/// A world with something of everything in its log.
fn lived_in(shards: u16) -> World {
    let mut world = World::durable(Mqtt { max_inflight: 2, ..Mqtt::default() }, usize::from(shards));
    let home = |n: u16, stem: &str| id_at(n % shards, shards, stem);
    let there = come(&mut world, Version::V5, &home(0, "there"));
    subscribe_as(&mut world, there, &[("t", options(2)), ("$share/g/u", options(1))], 5);
    let away = come(&mut world, Version::V5, &home(1, "away"));
    subscribe(&mut world, away, "t", 1);
    world.drop_client(away);
    let gone = come(&mut world, Version::V5, &home(2, "gone"));
    subscribe(&mut world, gone, "t", 1);
    world.join(Version::V5, &home(2, "gone"));
    let publisher = come(&mut world, Version::V5, &home(0, "p"));
    for n in 1..=12_u16 {
        let topic = if n % 4 == 0 { "u" } else { "t" };
        publish(&mut world, publisher, message(topic, 1 + u8::from(n % 3 == 0), n, &n.to_string()));
    }
    for topic in ["r/1", "r/1", "r/2"] {
        publish(&mut world, publisher, retained(topic, 1, 20, "kept"));
    }
    publish(&mut world, publisher, retained("r/2", 1, 21, ""));
    // Some of it is through.
    puback(&mut world, there, 1);
    puback(&mut world, there, 2);
    world.send(there, &Packet::PubRec(acked(3)));
    heard(&mut world, publisher);
    heard(&mut world, there);
    world
}

/// What all clients hear when they come back after a restart.
fn heard_by_all(world: &mut World, shards: u16) -> Vec<String> {
    world.crash();
    let mut all = Vec::new();
    for (n, stem) in [(0, "there"), (1, "away"), (0, "p")] {
        all.extend(comes_back(world, &id_at(n % shards, shards, stem)));
    }
    let reader = world.join(Version::V5, &id_at(0, shards, "reader"));
    subscribe_as(world, reader, &[("r/#", options(0))], 0);
    all.extend(heard(world, reader));
    all
}

#[test]
fn a_cleaned_log_says_what_the_whole_one_said() {
    for shards in 1..4 {
        let expected = heard_by_all(&mut lived_in(shards), shards);
        assert!(expected.len() > 8, "{expected:?}");
        for cleanings in 1..4 {
            let mut world = lived_in(shards);
            for _ in 0..cleanings {
                clean_all(&mut world);
            }
            assert_eq!(heard_by_all(&mut world, shards), expected, "{shards} shards, {cleanings} cleanings");
        }
        // Cleaned after a restart, when images are not counted any more.
        let mut world = lived_in(shards);
        clean_all(&mut world);
        world.crash();
        clean_all(&mut world);
        clean_all(&mut world);
        assert_eq!(heard_by_all(&mut world, shards), expected, "{shards} shards, over a restart");
    }
}

#[test]
fn what_does_not_hold_any_more_leaves_nothing() {
    let mut world = World::durable(Mqtt::default(), 1);
    let subscriber = come(&mut world, Version::V5, "s");
    subscribe(&mut world, subscriber, "t", 2);
    let publisher = world.join(Version::V5, "p");
    for n in 1..=50 {
        publish(&mut world, publisher, message("t", 1, n, "x"));
        puback(&mut world, subscriber, n);
        publish(&mut world, publisher, retained("r", 1, n, &n.to_string()));
    }
    clean_all(&mut world);
    clean_all(&mut world);
    assert_eq!(
        world.logs[0].records.len(),
        2,
        "one image, one retained message: {:?}",
        world.logs[0].records
    );
    world.join(Version::V5, "s");
    publish(&mut world, publisher, retained("r", 1, 1, ""));
    clean_all(&mut world);
    clean_all(&mut world);
    assert!(world.logs[0].records.is_empty(), "{:?}", world.logs[0].records);
}

#[test]
fn a_session_has_one_image_per_cleaning() {
    let mut world = World::durable(Mqtt::default(), 1);
    let subscriber = come(&mut world, Version::V5, "s");
    for n in 0..30 {
        subscribe(&mut world, subscriber, &format!("t/{n}"), 1);
    }
    clean_all(&mut world);
    assert_eq!(count(&world, |record| matches!(record, Record::Session(_))), 1);
}

#[test]
fn power_that_goes_while_the_log_is_cleaned_loses_nothing() {
    let expected = heard_by_all(&mut lived_in(1), 1);
    for cut in 0..20 {
        let mut world = lived_in(1);
        world.logs[0].limit = Some(world.logs[0].total() + cut);
        clean_all(&mut world);
        assert_eq!(heard_by_all(&mut world, 1), expected, "cut {cut}");
    }
}
