//! A disk that is full, or has failed: no answer is a success that it should not be.

use super::*;
use crate::control::Control;
use crate::message::MessageView;
use dunlin_wire::reason::ReasonCode;

fn state(world: &mut World, state: StoreState) {
    for shard in 0..world.cores.len() {
        world.handle(ShardId(u16::try_from(shard).unwrap()), Event::StoreState(state));
    }
}

fn durable_connect(version: Version, id: &str) -> Connect<'_> {
    let mut packet = connect(version, id);
    packet.clean_start = false;
    packet.properties.session_expiry_interval = version.is_v5().then_some(100);
    packet
}

#[test]
fn a_full_disk_refuses_what_is_new_and_takes_what_makes_room() {
    let mut world = World::durable(Mqtt::default(), 1);
    let subscriber = come(&mut world, Version::V5, "s");
    subscribe(&mut world, subscriber, "t", 2);
    let publisher = come(&mut world, Version::V5, "p");
    let old = world.join(Version::V311, "old");
    publish(&mut world, publisher, message("t", 1, 1, "x"));
    assert_eq!(heard(&mut world, publisher), ["PUBACK 1"]);
    assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q1 id=1 x"]);
    state(&mut world, StoreState::Full);
    assert_eq!(published(&mut world, publisher, message("t", 1, 2, "x")), ["PUBACK 2 quota_exceeded"]);
    assert_eq!(published(&mut world, publisher, message("t", 2, 3, "x")), ["PUBREC 3 quota_exceeded"]);
    publish(&mut world, old, message("t", 1, 4, "x"));
    assert!(world.is_closed(old) && heard(&mut world, old).is_empty(), "3.x has no word for it");
    // QoS 0 passes, and who is not durable may come and go.
    publish(&mut world, publisher, message("t", 0, 0, "zero"));
    assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q0 zero"]);
    world.join(Version::V5, "passing");
    subscribe_as(&mut world, publisher, &[("u", options(1))], 0);
    assert_eq!(heard(&mut world, publisher), ["SUBACK 9 [quota_exceeded]"]);
    // No new durable session; one that is kept goes on.
    assert_eq!(
        world.connect(&durable_connect(Version::V5, "new")).1.connack().code,
        ReasonCode::QuotaExceeded
    );
    let code = world.connect(&durable_connect(Version::V311, "new")).1.connack().code;
    assert_eq!(code, ReasonCode::ServerUnavailable);
    puback(&mut world, subscriber, 1);
    world.drop_client(subscriber);
    assert_eq!(comes_back(&mut world, "s"), ["CONNACK success present"], "what it acknowledged is through");
    assert_eq!(unsubscribe(&mut world, publisher, &["t"]), ["UNSUBACK 8 [no_subscription_existed]"]);
    let metrics = world.core().metrics();
    assert_eq!(metrics.get(Counter::MessagesDroppedStoreFull), 3);
    assert_eq!(metrics.get(Counter::RefusedStoreFull), 2);
    state(&mut world, StoreState::Open);
    assert_eq!(published(&mut world, publisher, message("t", 1, 5, "x")), ["PUBACK 5"]);
    world.crash();
    assert_eq!(comes_back(&mut world, "s"), ["CONNACK success present", "PUBLISH t q1 id=1 x"]);
}

#[test]
fn a_message_of_the_brokers_own_that_finds_no_room_is_counted() {
    let mut world = World::durable(Mqtt::default(), 1);
    let subscriber = come(&mut world, Version::V5, "s");
    subscribe(&mut world, subscriber, "w", 1);
    state(&mut world, StoreState::Full);
    let view = MessageView {
        topic: "w",
        qos: qos(1),
        retain: false,
        received_at: world.now.wall,
        expiry_seconds: None,
        publisher: "",
        properties: &[],
        payload: b"x",
    };
    world.control(Control::Publish(view.to_message()));
    assert_eq!(world.core().metrics().get(Counter::DeliveryDroppedStoreFull), 1);
}

/// A client whose Will is due when its connection breaks.
fn leaving(id: &str, level: u8, expiry_seconds: u32) -> Connect<'_> {
    let will = Will { qos: qos(level), topic: "w", payload: b"gone", ..Will::default() };
    let mut packet = Connect { will: Some(will), ..connect(Version::V5, id) };
    packet.properties.session_expiry_interval = Some(expiry_seconds);
    packet
}

/// How many Wills a session got.
fn wills(heard: &[String]) -> usize {
    heard.iter().filter(|line| line.starts_with("PUBLISH w")).count()
}

#[test]
fn a_will_waits_for_room_wherever_the_disk_is_full() {
    // [MQTT5-3.1.2-8] [MQTT311-3.1.2-8]: it was promised with CONNACK, and nobody sends it again.
    for (shards, full) in [(1, 0), (2, 0), (2, 1)] {
        for expiry_seconds in [0, 1_000] {
            let mut world = World::durable(Mqtt::default(), usize::from(shards));
            let watcher = come(&mut world, Version::V5, &id_at(full, shards, "watcher"));
            subscribe(&mut world, watcher, "w", 2);
            let id = id_at(0, shards, "c");
            for level in 0..3 {
                let (client, _) = world.connect(&leaving(&id, level, expiry_seconds));
                world.handle(ShardId(full), Event::StoreState(StoreState::Full));
                world.drop_client(client);
                let now = heard(&mut world, watcher);
                assert_eq!(wills(&now), usize::from(level == 0), "QoS {level} while shard {full} is full");
                world.advance(100);
                world.handle(ShardId(full), Event::StoreState(StoreState::Open));
                world.advance(1);
                let later = heard(&mut world, watcher);
                assert_eq!(wills(&later), usize::from(level > 0), "QoS {level} when shard {full} has room");
                world.advance(500);
                assert_eq!(wills(&heard(&mut world, watcher)), 0, "not again");
            }
            assert_nothing_is_owed(&world);
        }
    }
}

#[test]
fn a_will_does_not_wait_for_a_shard_to_which_it_does_not_go() {
    let mut world = World::durable(Mqtt::default(), 2);
    let watcher = come(&mut world, Version::V5, &id_at(1, 2, "watcher"));
    subscribe(&mut world, watcher, "w", 1);
    let id = id_at(0, 2, "c");
    let (client, _) = world.connect(&leaving(&id, 1, 1_000));
    world.handle(ShardId(0), Event::StoreState(StoreState::Full));
    world.drop_client(client);
    assert_eq!(wills(&heard(&mut world, watcher)), 1);
}

#[test]
fn a_will_that_waits_for_room_is_published_after_a_crash() {
    // [MQTT5-3.1.2-8]
    for is_reclaimed in [false, true] {
        let mut world = World::durable(Mqtt::default(), 1);
        let watcher = come(&mut world, Version::V5, "watcher");
        subscribe(&mut world, watcher, "w", 1);
        world.drop_client(watcher);
        let (client, _) = world.connect(&leaving("c", 1, 1_000));
        state(&mut world, StoreState::Full);
        world.drop_client(client);
        if is_reclaimed {
            // The log frees what it can: that is when it is full.
            let count = world.logs[0].records.len();
            world.reclaim(0, count);
        }
        world.crash();
        // Still full at first.
        state(&mut world, StoreState::Full);
        world.advance(1);
        state(&mut world, StoreState::Open);
        world.advance(1);
        world.crash();
        world.advance(100);
        assert_eq!(wills(&comes_back(&mut world, "watcher")), 1, "reclaimed: {is_reclaimed}");
    }
}

#[test]
fn a_will_that_finds_no_room_when_the_broker_stops_is_published_when_it_starts() {
    let mut world = World::durable(Mqtt::default(), 1);
    let watcher = come(&mut world, Version::V5, "watcher");
    subscribe(&mut world, watcher, "w", 1);
    world.connect(&leaving("c", 1, 1_000));
    state(&mut world, StoreState::Full);
    world.control(Control::Stop);
    world.advance(1);
    world.crash();
    world.advance(1);
    assert_eq!(wills(&comes_back(&mut world, "watcher")), 1);
}

#[test]
fn a_will_that_meets_a_disk_becoming_full_is_published_again() {
    let mut world = World::durable(Mqtt::default(), 2);
    let watcher = come(&mut world, Version::V5, &id_at(1, 2, "watcher"));
    subscribe(&mut world, watcher, "w", 1);
    let id = id_at(0, 2, "c");
    let (client, _) = world.connect(&leaving(&id, 1, 1_000));
    // The other shard is full, and has not said so yet.
    let now = world.now;
    let mut actions = crate::Actions::default();
    world.cores[1].handle(Event::StoreState(StoreState::Full), now, &mut actions);
    world.drop_client(client);
    assert_eq!(wills(&heard(&mut world, watcher)), 0);
    world.handle(ShardId(1), Event::StoreState(StoreState::Open));
    world.advance(1);
    assert_eq!(wills(&heard(&mut world, watcher)), 1);
    assert_nothing_is_owed(&world);
}

#[test]
fn a_disk_that_fails_denies_all_that_waits_for_it() {
    let mut world = World::durable(Mqtt::default(), 1);
    let subscriber = come(&mut world, Version::V5, "s");
    subscribe(&mut world, subscriber, "t", 2);
    let publishers: Vec<Client> =
        ["p0", "p1", "p2", "p3"].iter().map(|id| come(&mut world, Version::V5, id)).collect();
    let old = world.join(Version::V311, "old");
    publish(&mut world, publishers[2], message("t", 2, 9, "before"));
    assert_eq!(heard(&mut world, publishers[2]), ["PUBREC 9"]);
    assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q2 id=1 before"]);
    world.hold_syncs(true);
    publish(&mut world, publishers[0], message("t", 1, 1, "a"));
    publish(&mut world, publishers[1], message("t", 2, 2, "b"));
    world.send(publishers[2], &Packet::PubRel(acked(9)));
    subscribe_as(&mut world, publishers[3], &[("u", options(1))], 0);
    publish(&mut world, old, message("t", 1, 3, "c"));
    world.send(subscriber, &Packet::PubRec(acked(1)));
    let late = world.open();
    world.send(late, &Packet::Connect(durable_connect(Version::V5, "late")));
    heard(&mut world, subscriber);
    state(&mut world, StoreState::Failed);
    assert_eq!(heard(&mut world, publishers[0]), ["PUBACK 1 implementation_specific_error"]);
    assert_eq!(heard(&mut world, publishers[1]), ["PUBREC 2 implementation_specific_error"]);
    for client in [publishers[2], publishers[3], subscriber] {
        assert!(world.is_closed(client));
        let last = heard(&mut world, client).pop();
        assert_eq!(last.as_deref(), Some("DISCONNECT implementation_specific_error"));
    }
    assert!(world.is_closed(old) && heard(&mut world, old).is_empty());
    assert_eq!(heard(&mut world, late), ["CONNACK implementation_specific_error"]);
    // From now on nothing that would have to be stored succeeds.
    assert_eq!(published(&mut world, publishers[0], message("t", 1, 4, "x")), ["PUBACK 4 quota_exceeded"]);
    let code = world.connect(&durable_connect(Version::V5, "s")).1.connack().code;
    assert_eq!(code, ReasonCode::ImplementationSpecificError);
    world.join(Version::V5, "passing");
    assert_nothing_is_owed(&world);
    // After a restart all goes on: what was denied may have been stored, what was acknowledged has been.
    world.crash();
    assert_eq!(comes_back(&mut world, "s"), ["CONNACK success present", "PUBLISH t q2 id=1 dup before"]);
}

#[test]
fn another_shards_full_disk_is_the_publishers_negative_answer() {
    let mut world = World::durable(Mqtt::default(), 2);
    let subscriber = come(&mut world, Version::V5, &id_at(1, 2, "s"));
    subscribe(&mut world, subscriber, "t", 2);
    let publisher = come(&mut world, Version::V5, &id_at(0, 2, "p"));
    for (bad, word) in [(StoreState::Full, "quota_exceeded"), (StoreState::Failed, "quota_exceeded")] {
        world.handle(ShardId(1), Event::StoreState(bad));
        for (level, name) in [(1, "PUBACK"), (2, "PUBREC")] {
            let answer = published(&mut world, publisher, message("t", level, 7, "x"));
            assert_eq!(answer, [format!("{name} 7 {word}")], "{bad:?}");
        }
    }
    assert!(heard(&mut world, subscriber).is_empty());
    assert_nothing_is_owed(&world);
}

#[test]
fn another_shards_full_disk_refuses_a_message_before_anybody_there_has_it() {
    // [MQTT5-4.3.3-10] [MQTT311-4.3.3-2]: 3.x hears nothing and sends it again.
    let mut world = World::durable(Mqtt::default(), 2);
    let (kept, passing) = (id_at(1, 2, "kept"), id_at(1, 2, "passing"));
    let away = come(&mut world, Version::V5, &kept);
    subscribe(&mut world, away, "t", 2);
    world.drop_client(away);
    let there = world.join(Version::V5, &passing);
    subscribe(&mut world, there, "+", 2);
    let publisher = id_at(0, 2, "p");
    for level in [1, 2] {
        let old = come(&mut world, Version::V311, &publisher);
        world.handle(ShardId(1), Event::StoreState(StoreState::Full));
        publish(&mut world, old, message("t", level, 7, "x"));
        assert!(world.is_closed(old) && heard(&mut world, old).is_empty());
        assert!(heard(&mut world, there).is_empty(), "or it would get it twice");
        // What nobody has to store passes.
        let other = come(&mut world, Version::V5, &publisher);
        let answer = published(&mut world, other, message("u", 1, 8, "u"));
        assert_eq!(answer, ["PUBACK 8"]);
        let got = heard(&mut world, there);
        assert!(got.len() == 1 && got[0].starts_with("PUBLISH u"), "{got:?}");
        world.handle(ShardId(1), Event::StoreState(StoreState::Open));
        let old = come(&mut world, Version::V311, &publisher);
        let again = dunlin_wire::packet::Publish { dup: true, ..message("t", level, 7, "x") };
        assert_eq!(published(&mut world, old, again).len(), 1);
        let got = heard(&mut world, there);
        assert!(got.len() == 1 && got[0].starts_with("PUBLISH t"), "{got:?}");
    }
}

#[test]
fn a_3x_client_whose_message_waits_for_other_shards_hears_no_success_from_a_failed_disk() {
    // [MQTT311-4.3.3-2]: its PUBREC has no reason code, so any PUBREC would be a success.
    let mut world = World::durable(Mqtt::default(), 2);
    let subscriber = come(&mut world, Version::V5, &id_at(1, 2, "s"));
    subscribe(&mut world, subscriber, "t", 2);
    let publisher = come(&mut world, Version::V311, &id_at(0, 2, "p"));
    world.hold_syncs(true);
    publish(&mut world, publisher, message("t", 2, 7, "x"));
    assert!(heard(&mut world, publisher).is_empty(), "the other shard has not stored it");
    world.handle(ShardId(0), Event::StoreState(StoreState::Failed));
    assert!(world.is_closed(publisher));
    assert!(heard(&mut world, publisher).is_empty());
}
