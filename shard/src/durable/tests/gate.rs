//! No answer leaves before what it promises is on the disk.

use super::*;

/// Something that a client does, and the answer that it owes to the disk.
struct Case {
    name: &'static str,
    /// Before syncs are held back; the client that acts, and the one that hears.
    prepare: fn(&mut World) -> (Client, Client),
    act: fn(&mut World, Client),
    answer: &'static [&'static str],
}

fn pair(world: &mut World) -> (Client, Client) {
    let subscriber = come(world, Version::V5, "s");
    subscribe(world, subscriber, "t", 2);
    let publisher = come(world, Version::V5, "p");
    (publisher, subscriber)
}

const CASES: &[Case] = &[
    Case {
        name: "CONNACK",
        prepare: |world| {
            let client = world.open();
            (client, client)
        },
        act: |world, client| {
            let mut packet = connect(Version::V5, "c");
            packet.properties.session_expiry_interval = Some(10);
            world.send(client, &Packet::Connect(packet));
            // What follows waits behind it.
            world.send(client, &Packet::PingReq);
        },
        answer: &["CONNACK success", "PINGRESP"],
    },
    Case {
        name: "CONNACK of another client id's takeover",
        prepare: |world| {
            come(world, Version::V5, "c");
            let client = world.open();
            (client, client)
        },
        act: |world, client| {
            // The session that was kept is gone: that has to be on the disk although the new one is not.
            world.send(client, &Packet::Connect(connect(Version::V5, "c")));
        },
        answer: &["CONNACK success"],
    },
    Case {
        name: "SUBACK",
        prepare: |world| {
            let client = come(world, Version::V5, "c");
            (client, client)
        },
        act: |world, client| subscribe_as(world, client, &[("t", options(1)), ("u/+", options(2))], 7),
        answer: &["SUBACK 9 [granted_qos_1 granted_qos_2]"],
    },
    Case {
        name: "UNSUBACK",
        prepare: |world| {
            let client = come(world, Version::V5, "c");
            subscribe(world, client, "t", 1);
            (client, client)
        },
        act: |world, client| {
            assert!(unsubscribe(world, client, &["t"]).is_empty());
        },
        answer: &["UNSUBACK 8 [success]"],
    },
    Case {
        name: "PUBACK for a subscriber that is there",
        prepare: |world| {
            let (publisher, _) = pair(world);
            (publisher, publisher)
        },
        act: |world, client| publish(world, client, message("t", 1, 5, "x")),
        answer: &["PUBACK 5"],
    },
    Case {
        name: "PUBACK for one that is away",
        prepare: |world| {
            let (publisher, subscriber) = pair(world);
            world.drop_client(subscriber);
            (publisher, publisher)
        },
        act: |world, client| publish(world, client, message("t", 1, 5, "x")),
        answer: &["PUBACK 5"],
    },
    Case {
        name: "PUBACK for a retained message",
        prepare: |world| {
            let publisher = world.join(Version::V5, "p");
            (publisher, publisher)
        },
        act: |world, client| publish(world, client, retained("r", 1, 5, "x")),
        answer: &["PUBACK 5 no_matching_subscribers"],
    },
    Case {
        name: "PUBREC for a subscriber",
        prepare: |world| {
            let (publisher, _) = pair(world);
            (publisher, publisher)
        },
        act: |world, client| publish(world, client, message("t", 2, 5, "x")),
        answer: &["PUBREC 5"],
    },
    Case {
        name: "PUBREC for nobody: its identifier",
        prepare: |world| {
            let (publisher, _) = pair(world);
            (publisher, publisher)
        },
        act: |world, client| publish(world, client, message("nobody", 2, 5, "x")),
        answer: &["PUBREC 5 no_matching_subscribers"],
    },
    Case {
        name: "PUBCOMP",
        prepare: |world| {
            let (publisher, _) = pair(world);
            assert_eq!(published(world, publisher, message("t", 2, 5, "x")), ["PUBREC 5"]);
            (publisher, publisher)
        },
        act: |world, client| world.send(client, &Packet::PubRel(acked(5))),
        answer: &["PUBCOMP 5"],
    },
    Case {
        name: "PUBLISH at QoS 2: its identifier",
        prepare: pair,
        act: |world, client| publish(world, client, message("t", 2, 5, "x")),
        answer: &["PUBLISH t q2 id=1 x"],
    },
    Case {
        name: "PUBREL",
        prepare: |world| {
            let (publisher, subscriber) = pair(world);
            publish(world, publisher, message("t", 2, 5, "x"));
            assert_eq!(heard(world, subscriber), ["PUBLISH t q2 id=1 x"]);
            (subscriber, subscriber)
        },
        act: |world, client| world.send(client, &Packet::PubRec(acked(1))),
        answer: &["PUBREL 1"],
    },
    Case {
        name: "PUBLISH at QoS 2 out of the queue",
        prepare: |world| {
            let mut packet = connect(Version::V5, "s");
            packet.properties.session_expiry_interval = Some(100);
            packet.properties.receive_maximum = core::num::NonZeroU16::new(1);
            let (subscriber, _) = world.connect(&packet);
            subscribe(world, subscriber, "t", 2);
            let publisher = come(world, Version::V5, "p");
            publish(world, publisher, message("t", 1, 5, "x"));
            publish(world, publisher, message("t", 2, 6, "y"));
            assert_eq!(heard(world, subscriber), ["PUBLISH t q1 id=1 x"]);
            (subscriber, subscriber)
        },
        act: |world, client| puback(world, client, 1),
        answer: &["PUBLISH t q2 id=2 y"],
    },
];

#[test]
fn no_answer_leaves_before_it_is_safe() {
    // [MQTT5-4.3.2-4] [MQTT5-4.3.3-8] [MQTT5-4.3.3-11] [MQTT5-4.3.3-4] [MQTT311-4.3.2-2] [MQTT311-4.3.3-1] [MQTT311-4.3.3-2]
    for case in CASES {
        let mut world = World::durable(Mqtt::default(), 1);
        let (actor, hearer) = (case.prepare)(&mut world);
        heard(&mut world, actor);
        heard(&mut world, hearer);
        let before = world.logs[0].records.len();
        world.hold_syncs(true);
        (case.act)(&mut world, actor);
        assert!(heard(&mut world, hearer).is_empty(), "{}: too early", case.name);
        assert!(world.logs[0].records.len() > before, "{}: nothing was recorded", case.name);
        world.hold_syncs(false);
        assert_eq!(heard(&mut world, hearer), case.answer, "{}", case.name);
        assert_nothing_is_owed(&world);
    }
}

#[test]
fn what_needs_nothing_waits_for_nothing() {
    let mut world = World::durable(Mqtt::default(), 1);
    let (publisher, subscriber) = pair(&mut world);
    let passing = world.join(Version::V311, "passing");
    subscribe(&mut world, passing, "u", 2);
    world.hold_syncs(true);
    // To a session that ends with its connection; QoS 0 to any; QoS 1 to one that is there goes out at once.
    assert_eq!(published(&mut world, publisher, message("u", 1, 1, "a")), ["PUBACK 1"]);
    publish(&mut world, publisher, message("t", 0, 0, "b"));
    publish(&mut world, publisher, message("t", 1, 2, "c"));
    assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q0 b", "PUBLISH t q1 id=1 c"]);
    world.hold_syncs(false);
    assert_eq!(heard(&mut world, publisher), ["PUBACK 2"]);
}

#[test]
fn acknowledgements_keep_the_order_of_a_connection_and_only_of_it() {
    // [MQTT5-4.6.0-2] [MQTT5-4.6.0-3] [MQTT311-4.6.0-2] [MQTT311-4.6.0-3]
    let mut world = World::durable(Mqtt::default(), 1);
    let (publisher, _) = pair(&mut world);
    let other = world.join(Version::V5, "other");
    world.hold_syncs(true);
    publish(&mut world, publisher, message("t", 1, 1, "stored"));
    publish(&mut world, publisher, message("nobody", 1, 2, "not stored"));
    publish(&mut world, other, message("nobody", 1, 3, "not stored"));
    assert!(heard(&mut world, publisher).is_empty());
    assert_eq!(heard(&mut world, other), ["PUBACK 3 no_matching_subscribers"]);
    world.hold_syncs(false);
    assert_eq!(heard(&mut world, publisher), ["PUBACK 1", "PUBACK 2 no_matching_subscribers"]);
}

#[test]
fn at_level_interval_all_is_recorded_and_nothing_waits() {
    let config = crate::config::Config { durability: crate::Durability::Interval, ..Default::default() };
    let mut world = World::with_config(config, vec![Default::default()]);
    world.begin();
    world.hold_syncs(true);
    let (publisher, subscriber) = pair(&mut world);
    assert_eq!(published(&mut world, publisher, message("t", 2, 1, "x")), ["PUBREC 1"]);
    assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q2 id=1 x"]);
    assert_eq!(count(&world, |record| matches!(record, Record::Published(_))), 1);
    world.hold_syncs(false);
    world.crash();
    assert_eq!(comes_back(&mut world, "s"), ["CONNACK success present", "PUBLISH t q2 id=1 dup x"]);
}

#[test]
fn at_level_memory_nothing_is_recorded() {
    let mut world = World::new();
    let (publisher, subscriber) = pair(&mut world);
    publish(&mut world, publisher, retained("t", 2, 1, "x"));
    world.drop_client(subscriber);
    assert!(world.logs[0].records.is_empty());
}

#[test]
fn one_connection_after_another_waits_in_one_line() {
    // A client that reconnects while its QoS 2 message is on the way to the disk does not hear of it too early.
    let mut world = World::durable(Mqtt::default(), 1);
    let (publisher, _) = pair(&mut world);
    world.hold_syncs(true);
    publish(&mut world, publisher, message("t", 2, 1, "x"));
    world.drop_client(publisher);
    let publisher = resume(&mut world, Version::V5, "p");
    let mut again = message("t", 2, 1, "x");
    again.dup = true;
    publish(&mut world, publisher, again);
    assert!(heard(&mut world, publisher).is_empty());
    world.hold_syncs(false);
    assert_eq!(heard(&mut world, publisher), ["CONNACK success present", "PUBREC 1"]);
    assert_eq!(count(&world, |record| matches!(record, Record::Published(_))), 1, "taken once");
}

#[test]
fn a_client_that_waits_for_no_answer_is_heard_all_the_same() {
    // [MQTT5-3.14.4-3] [MQTT5-3.1.2-10]
    let mut world = World::durable(Mqtt::default(), 1);
    let watcher = world.join(Version::V5, "watcher");
    subscribe(&mut world, watcher, "#", 0);
    world.hold_syncs(true);
    let client = world.open();
    let will = Will { topic: "w", payload: b"gone", ..Will::default() };
    let mut packet = Connect { will: Some(will), ..connect(Version::V5, "c") };
    packet.properties.session_expiry_interval = Some(100);
    world.send(client, &Packet::Connect(packet));
    publish(&mut world, client, message("t", 0, 0, "hello"));
    world.send(client, &Packet::Disconnect(dunlin_wire::packet::Disconnect::default()));
    world.drop_client(client);
    assert_eq!(heard(&mut world, watcher), ["PUBLISH t q0 hello"], "and no Will: it said goodbye");
    world.hold_syncs(false);
    let gauges = world.core().gauges();
    assert_eq!((gauges.connections, gauges.live_connections, gauges.sessions), (1, 1, 2));
}

#[test]
fn publishers_pause_when_too_many_answers_wait() {
    let mut world = World::durable(Mqtt::default(), 1);
    let subscriber = come(&mut world, Version::V5, "s");
    subscribe(&mut world, subscriber, "t", 1);
    world.drop_client(subscriber);
    let publisher = world.join(Version::V311, "p");
    world.hold_syncs(true);
    let mut sent = 0_u32;
    while !world.is_paused(publisher) {
        publish(&mut world, publisher, message("t", 1, u16::try_from(sent % 65_000 + 1).unwrap(), "x"));
        sent += 1;
        assert!(sent < 100_000, "never paused");
    }
    world.hold_syncs(false);
    assert!(!world.is_paused(publisher));
    assert_eq!(heard(&mut world, publisher).len(), usize::try_from(sent).unwrap());
}
