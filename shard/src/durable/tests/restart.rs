//! What a restart keeps: sessions, their Wills and deadlines, subscriptions of every kind, retained messages.

use super::*;

fn leaving(id: &str, expiry_seconds: u32, delay_seconds: u32) -> Connect<'_> {
    let properties = WillProperties { will_delay_interval: Some(delay_seconds), ..WillProperties::default() };
    let will = Will { qos: qos(1), topic: "w", payload: b"gone", properties, ..Will::default() };
    let mut connect = Connect { will: Some(will), ..connect(Version::V5, id) };
    connect.properties.session_expiry_interval = Some(expiry_seconds);
    connect
}

fn watcher(world: &mut World) -> Client {
    let watcher = come(world, Version::V5, "watcher");
    subscribe(world, watcher, "w", 1);
    watcher
}

#[test]
fn subscriptions_of_every_kind_come_back() {
    for shards in 1..4 {
        let mqtt = Mqtt { exclusive_subscription: true, ..Mqtt::default() };
        let mut world = World::durable(mqtt, usize::from(shards));
        let id = id_at(shards - 1, shards, "s");
        let client = come(&mut world, Version::V5, &id);
        subscribe_as(
            &mut world,
            client,
            &[("a/+", options(1)), ("$share/g/b", options(2)), ("$exclusive/c", options(1))],
            77,
        );
        heard(&mut world, client);
        subscribe(&mut world, client, "gone", 1);
        unsubscribe(&mut world, client, &["gone"]);
        world.crash();
        let publisher = world.join(Version::V5, &id_at(0, shards, "p"));
        for (topic, id) in ["a/x", "b", "c"].into_iter().zip(1..) {
            let answer = published(&mut world, publisher, message(topic, 1, id, "x"));
            assert_eq!(answer, [format!("PUBACK {id}")], "{topic} of {shards} shards");
        }
        assert_eq!(
            published(&mut world, publisher, message("gone", 1, 4, "x")),
            ["PUBACK 4 no_matching_subscribers"]
        );
        // Nobody else gets what is exclusive.
        subscribe_as(&mut world, publisher, &[("$exclusive/c", options(1))], 0);
        assert_eq!(heard(&mut world, publisher), ["SUBACK 9 [quota_exceeded]"]);
        let mut back = comes_back(&mut world, &id);
        back[1..].sort();
        assert_eq!(
            back,
            [
                "CONNACK success present",
                "PUBLISH a/x q1 id=1 ids=[77] x",
                "PUBLISH b q1 id=2 ids=[77] x",
                "PUBLISH c q1 id=3 ids=[77] x"
            ],
            "{shards} shards"
        );
    }
}

#[test]
fn retained_messages_come_back_as_they_were_last() {
    for shards in [1, 3] {
        let mut world = World::durable(Mqtt::default(), usize::from(shards));
        let publisher = world.join(Version::V5, &id_at(0, shards, "p"));
        for (topic, payload) in [("r/1", "old"), ("r/1", "new"), ("r/2", "x"), ("r/2", ""), ("r/3", "zero")] {
            let level = u8::from(topic != "r/3");
            publish(&mut world, publisher, retained(topic, level, u16::from(level), payload));
        }
        world.crash();
        let subscriber = world.join(Version::V5, &id_at(0, shards, "s"));
        subscribe_as(&mut world, subscriber, &[("r/+", options(0))], 0);
        let mut all = heard(&mut world, subscriber);
        all.sort();
        assert_eq!(all, ["PUBLISH r/1 q0 retain new", "PUBLISH r/3 q0 retain zero", "SUBACK 9 [success]"]);
    }
}

#[test]
fn the_end_of_a_session_goes_on_coming_nearer_while_nobody_runs() {
    // [MQTT5-4.1.0-2] [MQTT5-3.1.2-23]
    let mut world = World::durable(Mqtt::default(), 1);
    let (client, _) = world.connect(&leaving("c", 100, 0));
    subscribe(&mut world, client, "t", 1);
    world.send(client, &Packet::Disconnect(dunlin_wire::packet::Disconnect::default()));
    world.advance(60);
    world.crash();
    world.advance(39);
    assert_eq!(world.core().gauges().sessions, 1);
    world.crash();
    world.advance(2);
    assert_eq!(world.core().gauges().sessions, 0);
    world.crash();
    assert_eq!(world.core().gauges().sessions, 0, "its end was recorded");
    assert!(!comes_back(&mut world, "c")[0].contains("present"));
}

#[test]
fn a_session_that_was_connected_lives_on_from_the_restart() {
    let mut world = World::durable(Mqtt::default(), 1);
    let mut packet = connect(Version::V5, "c");
    packet.properties.session_expiry_interval = Some(50);
    world.connect(&packet);
    world.advance(1_000);
    world.crash();
    world.advance(49);
    assert_eq!(world.core().gauges().sessions, 1);
    world.advance(2);
    assert_eq!(world.core().gauges().sessions, 0);
}

#[test]
fn wills_are_published_once_over_restarts() {
    // [MQTT5-3.1.2-8] [MQTT5-3.1.3-9] [MQTT5-3.1.2-10]
    // Connected when the power goes; detached with a delay; detached and withdrawn; published before.
    for (delay, is_detached, restarts) in [(0, false, 1), (30, false, 1), (30, true, 1), (30, true, 3)] {
        let mut world = World::durable(Mqtt::default(), 1);
        watcher(&mut world);
        let (client, _) = world.connect(&leaving("c", 1_000, delay));
        if is_detached {
            world.drop_client(client);
            world.advance(10);
        }
        for _ in 0..restarts {
            world.crash();
        }
        world.advance(40);
        world.crash();
        world.advance(500);
        let back = comes_back(&mut world, "watcher");
        let wills = back.iter().filter(|line| line.starts_with("PUBLISH w")).count();
        assert_eq!(wills, 1, "delay {delay}, detached {is_detached}, {restarts} restarts: {back:?}");
    }
}

#[test]
fn a_client_that_is_back_at_once_after_a_restart_does_not_take_a_due_will_back() {
    // [MQTT5-3.1.2-8] [MQTT311-3.1.2-8]: its connection broke, and there was no delay, or it was over.
    for (delay, seconds) in [(0, 0), (30, 31)] {
        let mut world = World::durable(Mqtt::default(), 1);
        watcher(&mut world);
        let (client, _) = world.connect(&leaving("c", 1_000, delay));
        if delay > 0 {
            world.drop_client(client);
        }
        world.crash_for(seconds);
        // Before the first deadline is looked at.
        come(&mut world, Version::V5, "c");
        world.advance(100);
        let back = comes_back(&mut world, "watcher");
        assert_eq!(back, ["CONNACK success present", "PUBLISH w q1 id=1 gone"], "delay {delay}");
    }
}

/// How a durable session with a Will goes on after its connection: each replaces what its log says of the Will, and of the session.
const RETURNS: [fn(&mut World, Client, Version, &str); 4] = [
    // The connection breaks, and the client is back.
    |world, client, version, id| {
        world.drop_client(client);
        resume(world, version, id);
    },
    // It is back before that is noticed.
    |world, _, version, id| {
        resume(world, version, id);
    },
    // It is back and wants a new session.
    |world, _, version, id| {
        let client = world.open();
        world.send(client, &Packet::Connect(connect(version, id)));
    },
    // The operator ends its session.
    |world, _, _, id| world.control(crate::Control::Kick { client_id: id.into() }),
];

#[test]
fn a_will_that_another_shard_has_not_stored_outlives_what_replaces_it() {
    // [MQTT5-3.1.2-8] [MQTT311-3.1.2-8]: it was promised with CONNACK.
    for (shards, version) in [(1, Version::V5), (2, Version::V5), (2, Version::V311)] {
        for (way, returns) in RETURNS.into_iter().enumerate() {
            for is_cleaned in [false, true] {
                for cut in 0.. {
                    let mut world = World::durable(Mqtt::default(), usize::from(shards));
                    let watcher_id = id_at(shards - 1, shards, "watcher");
                    let watcher = come(&mut world, Version::V5, &watcher_id);
                    subscribe(&mut world, watcher, "w", 1);
                    world.drop_client(watcher);
                    let id = id_at(0, shards, "c");
                    let mut packet = Connect { clean_start: false, ..leaving(&id, 1_000, 0) };
                    if !version.is_v5() {
                        packet = Connect { version, ..packet };
                        packet.will =
                            packet.will.map(|will| Will { properties: WillProperties::default(), ..will });
                        packet.properties = connect(version, &id).properties;
                    }
                    let (client, _) = world.connect(&packet);
                    let kept = world.logs[0].total();
                    if shards > 1 {
                        world.logs[1].is_held = true;
                    }
                    if !is_cleaned {
                        world.logs[0].limit = Some(kept + cut);
                    }
                    returns(&mut world, client, version, &id);
                    let added = world.logs[0].total() - kept;
                    if is_cleaned {
                        world.reclaim(0, kept + cut);
                    }
                    world.crash();
                    let sessions: u64 = world.cores.iter().map(|core| core.gauges().sessions).sum();
                    assert!(sessions <= 2, "nobody sees a session that only keeps a Will");
                    world.advance(1);
                    let what = format!("{shards} shards, way {way}, cut {cut}, cleaned: {is_cleaned}");
                    let back = comes_back(&mut world, &watcher_id);
                    let wills = back.iter().filter(|line| line.starts_with("PUBLISH w")).count();
                    assert!((1..=2).contains(&wills), "{what}: {back:?}");
                    assert_nothing_is_owed(&world);
                    world.crash();
                    world.advance(1);
                    assert_eq!(comes_back(&mut world, &watcher_id).len(), back.len(), "{what}: not again");
                    if cut > added {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn what_counts_from_a_restart_goes_on_counting_over_the_next_ones() {
    // [MQTT5-4.1.0-2] [MQTT5-3.1.2-8]: connected when the broker is killed for the first time, and not back since.
    let mut world = World::durable(Mqtt::default(), 1);
    watcher(&mut world);
    world.connect(&leaving("will", 1_000, 50));
    world.connect(&leaving("c", 50, 1_000));
    world.crash();
    for _ in 0..2 {
        world.advance(30);
        world.crash();
    }
    world.advance(1);
    assert!(!comes_back(&mut world, "c")[0].contains("present"));
    let back = comes_back(&mut world, "watcher");
    assert_eq!(back.iter().filter(|line| line.starts_with("PUBLISH w")).count(), 2, "{back:?}");
}

#[test]
fn a_will_that_was_withdrawn_stays_so() {
    // [MQTT5-3.1.2-10] [MQTT5-3.14.4-3]
    let mut world = World::durable(Mqtt::default(), 1);
    watcher(&mut world);
    let (client, _) = world.connect(&leaving("c", 1_000, 30));
    world.send(client, &Packet::Disconnect(dunlin_wire::packet::Disconnect::default()));
    world.crash();
    world.advance(500);
    assert_eq!(comes_back(&mut world, "watcher"), ["CONNACK success present"]);
    assert_eq!(world.core().metrics().get(Counter::WillPublished), 0);
}

#[test]
fn a_client_that_is_back_in_time_takes_its_will_back_for_good() {
    // [MQTT5-3.1.3-9]
    let mut world = World::durable(Mqtt::default(), 1);
    watcher(&mut world);
    let (client, _) = world.connect(&leaving("c", 1_000, 30));
    world.drop_client(client);
    world.crash();
    let client = come(&mut world, Version::V5, "c");
    world.advance(100);
    world.drop_client(client);
    world.crash();
    world.advance(100);
    assert_eq!(comes_back(&mut world, "watcher"), ["CONNACK success present"]);
}

#[test]
fn a_session_that_was_discarded_does_not_come_back() {
    // [MQTT5-3.1.2-4] [MQTT311-3.1.2-6]
    let mut world = World::durable(Mqtt::default(), 1);
    let client = come(&mut world, Version::V5, "c");
    subscribe(&mut world, client, "t", 1);
    world.join(Version::V5, "c");
    world.crash();
    assert_eq!(world.core().gauges().sessions, 0);
    let publisher = world.join(Version::V5, "p");
    assert_eq!(
        published(&mut world, publisher, message("t", 1, 1, "x")),
        ["PUBACK 1 no_matching_subscribers"]
    );
}

#[test]
fn a_session_that_was_kicked_does_not_come_back() {
    for is_away in [false, true] {
        let mut world = World::durable(Mqtt::default(), 1);
        let client = come(&mut world, Version::V5, "c");
        subscribe(&mut world, client, "t", 1);
        if is_away {
            world.drop_client(client);
            let publisher = world.join(Version::V5, "p");
            published(&mut world, publisher, message("t", 1, 1, "x"));
        }
        world.control(crate::Control::Kick { client_id: "c".into() });
        assert!(world.is_closed(client));
        assert_nothing_is_owed(&world);
        world.crash();
        assert_eq!(world.core().gauges().sessions, 0, "the end was recorded");
        assert!(!comes_back(&mut world, "c")[0].contains("present"));
    }
}

#[test]
fn old_versions_keep_their_sessions_too() {
    // [MQTT311-3.1.2-4] [MQTT311-3.1.2-5]
    for version in [Version::V31, Version::V311] {
        let mut world = World::durable(Mqtt::default(), 1);
        let client = come(&mut world, version, "c");
        subscribe(&mut world, client, "t", 1);
        let publisher = world.join(Version::V5, "p");
        world.drop_client(client);
        publish(&mut world, publisher, message("t", 1, 1, "x"));
        world.crash();
        let client = resume(&mut world, version, "c");
        let expected: &[&str] = if version == Version::V31 {
            &["CONNACK success", "PUBLISH t q1 id=1 x"]
        } else {
            &["CONNACK success present", "PUBLISH t q1 id=1 x"]
        };
        assert_eq!(heard(&mut world, client), expected);
    }
}

#[test]
fn clients_wait_until_every_shard_knows_what_the_others_want() {
    let mut world = World::durable(Mqtt::default(), 2);
    let client = come(&mut world, Version::V5, &id_at(1, 2, "s"));
    subscribe(&mut world, client, "t", 1);
    world.crash();
    // The first shard begins again and has heard of nobody yet.
    let found = world.logs[0].replay();
    assert!(found.sessions.is_empty());
    let setup = crate::core::Setup {
        shard: ShardId(0),
        shard_count: 2,
        config: std::sync::Arc::new(crate::Config {
            durability: crate::Durability::Commit,
            ..Default::default()
        }),
        hooks: crate::Hooks::default(),
        seed: 42,
    };
    let mut core = crate::ShardCore::new(setup);
    let (now, mut actions) = (world.now, crate::Actions::default());
    core.finish_restore(now, &mut actions);
    let conn = crate::ConnId { slot: 0, generation: 1 };
    let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 5)).into();
    core.handle(Event::Opened { conn, peer, listener: crate::ListenerId(0) }, now, &mut actions);
    let mut bytes = Vec::new();
    Packet::Connect(connect(Version::V5, &id_at(0, 2, "p"))).encode(Version::V5, &mut bytes).unwrap();
    core.handle(Event::Bytes { conn, bytes: &bytes }, now, &mut actions);
    assert!(actions.arena.is_empty(), "no CONNACK yet");
    for round in [1, 2] {
        assert!(actions.arena.is_empty());
        let message = crate::mesh::MeshMessage::Restored { round };
        core.handle(Event::Mesh { from: ShardId(1), message }, now, &mut actions);
    }
    assert!(!actions.arena.is_empty());
}
