//! QoS 0, 1 and 2 in both roles, over connections.

use super::*;
use crate::metrics::Counter;

#[test]
fn a_message_reaches_its_subscribers_at_the_smaller_qos() {
    // [MQTT5-3.8.4-8] [MQTT311-3.8.4-6] [MQTT5-4.3.1-1] [MQTT311-4.3.1-1] [MQTT5-3.3.2-3] [MQTT311-3.3.2-3] [MQTT5-4.3.2-2] [MQTT5-4.5.0-1] [MQTT311-4.5.0-1]
    let mut world = World::new();
    let publisher = world.join(Version::V311, "p");
    let subscribers: Vec<Client> = (0..3_u8)
        .map(|level| {
            let client =
                world.join(if level == 1 { Version::V311 } else { Version::V5 }, &format!("s{level}"));
            subscribe(&mut world, client, "a/+", level);
            client
        })
        .collect();
    assert!(published(&mut world, publisher, message("a/b", 0, 0, "zero")).is_empty());
    assert_eq!(published(&mut world, publisher, message("a/b", 1, 7, "one")), ["PUBACK 7"]);
    assert_eq!(published(&mut world, publisher, message("a/b", 2, 8, "two")), ["PUBREC 8"]);
    assert!(published(&mut world, publisher, message("b", 0, 0, "else")).is_empty());
    assert_eq!(
        heard(&mut world, subscribers[0]),
        ["PUBLISH a/b q0 zero", "PUBLISH a/b q0 one", "PUBLISH a/b q0 two"]
    );
    assert_eq!(
        heard(&mut world, subscribers[1]),
        ["PUBLISH a/b q0 zero", "PUBLISH a/b q1 id=1 one", "PUBLISH a/b q1 id=2 two"]
    );
    assert_eq!(
        heard(&mut world, subscribers[2]),
        ["PUBLISH a/b q0 zero", "PUBLISH a/b q1 id=1 one", "PUBLISH a/b q2 id=2 two"]
    );
}

#[test]
fn qos_2_is_passed_on_once_however_often_it_is_sent() {
    // [MQTT5-4.3.3-8] [MQTT5-4.3.3-10] [MQTT5-4.3.3-11] [MQTT5-4.3.3-12] [MQTT311-4.3.3-2] [MQTT5-3.3.4-1] [MQTT311-3.3.4-1]
    let mut world = World::new();
    for version in [Version::V311, Version::V5] {
        let publisher = world.join(version, "p");
        let subscriber = world.join(version, "s");
        subscribe(&mut world, subscriber, "t", 0);
        assert_eq!(published(&mut world, publisher, message("t", 2, 5, "x")), ["PUBREC 5"]);
        let again = Publish { dup: true, ..message("t", 2, 5, "x") };
        assert_eq!(published(&mut world, publisher, again), ["PUBREC 5"]);
        assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q0 x"]);
        world.send(publisher, &Packet::PubRel(acked(5)));
        assert_eq!(heard(&mut world, publisher), ["PUBCOMP 5"]);
        assert_eq!(published(&mut world, publisher, message("t", 2, 5, "y")), ["PUBREC 5"]);
        assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q0 y"]);
    }
}

#[test]
fn a_qos_1_identifier_is_free_after_its_puback() {
    // [MQTT5-4.3.2-4] [MQTT5-4.3.2-5] [MQTT311-4.3.2-2] [MQTT5-2.2.1-5] [MQTT311-2.3.1-6]
    let mut world = World::new();
    let publisher = world.join(Version::V5, "p");
    let subscriber = world.join(Version::V5, "s");
    subscribe(&mut world, subscriber, "t", 0);
    for payload in ["x", "y"] {
        let packet = Publish { dup: payload == "y", ..message("t", 1, 5, payload) };
        assert_eq!(published(&mut world, publisher, packet), ["PUBACK 5"]);
    }
    assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q0 x", "PUBLISH t q0 y"]);
}

#[test]
fn five_dot_zero_hears_when_nobody_subscribed() {
    // [MQTT5-3.4.2-1] [MQTT5-3.5.2-1]
    let mut world = World::new();
    let new = world.join(Version::V5, "new");
    let old = world.join(Version::V311, "old");
    assert_eq!(published(&mut world, new, message("t", 1, 5, "x")), ["PUBACK 5 no_matching_subscribers"]);
    assert_eq!(published(&mut world, new, message("t", 2, 6, "x")), ["PUBREC 6 no_matching_subscribers"]);
    assert_eq!(published(&mut world, old, message("t", 1, 5, "x")), ["PUBACK 5"]);
    assert_eq!(world.core().metrics().get(Counter::MessagesDroppedNoSubscribers), 3);
}

#[test]
fn identifiers_in_use_and_unknown_ones_have_reasons() {
    // [MQTT5-3.6.2-1] [MQTT5-3.7.2-1] [MQTT5-4.3.3-9]
    let mut world = World::new();
    let client = world.join(Version::V5, "c");
    subscribe(&mut world, client, "t", 0);
    assert_eq!(published(&mut world, client, message("u", 2, 5, "x")), ["PUBREC 5 no_matching_subscribers"]);
    assert_eq!(
        published(&mut world, client, message("t", 2, 5, "new")),
        ["PUBREC 5 packet_identifier_in_use"]
    );
    assert_eq!(
        published(&mut world, client, message("t", 1, 5, "new")),
        ["PUBACK 5 packet_identifier_in_use"]
    );
    world.send(client, &Packet::PubRel(acked(77)));
    assert_eq!(heard(&mut world, client), ["PUBCOMP 77 packet_identifier_not_found"]);
    world.send(client, &Packet::PubRec(acked(78)));
    assert_eq!(heard(&mut world, client), ["PUBREL 78 packet_identifier_not_found"]);
    puback(&mut world, client, 79);
    assert!(heard(&mut world, client).is_empty());
    assert!(!world.is_closed(client));
}

#[test]
fn the_window_bounds_what_is_under_way_and_the_rest_follows_in_order() {
    // [MQTT5-3.3.4-9] [MQTT5-3.3.4-10] [MQTT5-4.9.0-1] [MQTT5-4.9.0-2] [MQTT5-4.9.0-3] [MQTT5-4.6.0-5] [MQTT5-4.6.0-6]
    // [MQTT311-4.6.0-5] [MQTT311-4.6.0-6]
    let mut world = World::new();
    let publisher = world.join(Version::V311, "p");
    let mut packet = connect(Version::V5, "s");
    packet.properties.receive_maximum = core::num::NonZeroU16::new(2);
    let (subscriber, _) = world.connect(&packet);
    subscribe(&mut world, subscriber, "t", 1);
    for (id, payload) in (1..6).zip(["1", "2", "3", "4", "5"]) {
        publish(&mut world, publisher, message("t", 1, id, payload));
    }
    publish(&mut world, publisher, message("t", 0, 0, "zero"));
    assert_eq!(
        heard(&mut world, subscriber),
        ["PUBLISH t q1 id=1 1", "PUBLISH t q1 id=2 2", "PUBLISH t q0 zero"],
        "QoS 0 does not wait behind a full window"
    );
    world.send(subscriber, &Packet::PingReq);
    assert_eq!(heard(&mut world, subscriber), ["PINGRESP"]);
    puback(&mut world, subscriber, 1);
    assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q1 id=3 3"]);
    puback(&mut world, subscriber, 2);
    puback(&mut world, subscriber, 3);
    assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q1 id=4 4", "PUBLISH t q1 id=5 5"]);
}

#[test]
fn qos_2_to_a_client_takes_four_packets() {
    // [MQTT5-4.3.3-1] [MQTT5-4.3.3-2] [MQTT5-4.3.3-4] [MQTT5-4.3.3-5] [MQTT5-4.3.3-6] [MQTT311-4.3.3-1]
    let mut world = World::new();
    let publisher = world.join(Version::V311, "p");
    let subscriber = world.join(Version::V311, "s");
    subscribe(&mut world, subscriber, "t", 2);
    publish(&mut world, publisher, message("t", 2, 1, "x"));
    assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q2 id=1 x"]);
    world.send(subscriber, &Packet::PubRec(acked(1)));
    assert_eq!(heard(&mut world, subscriber), ["PUBREL 1"]);
    world.send(subscriber, &Packet::PubRec(acked(1)));
    assert_eq!(heard(&mut world, subscriber), ["PUBREL 1"]);
    world.send(subscriber, &Packet::PubComp(acked(1)));
    assert!(heard(&mut world, subscriber).is_empty());
    assert_eq!(world.core().metrics().get(Counter::MessagesAcked), 1);
}

#[test]
fn pubrel_follows_pubrec_in_order() {
    // [MQTT311-4.6.0-4]
    let mut world = World::new();
    let client = world.join(Version::V311, "c");
    subscribe(&mut world, client, "t", 2);
    for id in 1..4 {
        publish(&mut world, client, message("t", 2, id, "x"));
    }
    heard(&mut world, client);
    for id in [2, 1, 3] {
        world.send(client, &Packet::PubRec(acked(id)));
    }
    assert_eq!(heard(&mut world, client), ["PUBREL 2", "PUBREL 1", "PUBREL 3"]);
}

#[test]
fn a_refusal_of_the_client_ends_the_exchange() {
    // [MQTT5-4.4.0-2] [MQTT5-4.3.3-4]
    let mut world = World::new();
    let publisher = world.join(Version::V311, "p");
    let subscriber = keep(&mut world, Version::V5, "s");
    subscribe(&mut world, subscriber, "t", 2);
    publish(&mut world, publisher, message("t", 2, 1, "x"));
    publish(&mut world, publisher, message("t", 1, 2, "y"));
    heard(&mut world, subscriber);
    let refusal = |id| Ack::with_code(PacketId::new(id).unwrap(), ReasonCode::QuotaExceeded);
    world.send(subscriber, &Packet::PubRec(refusal(1)));
    world.send(subscriber, &Packet::PubAck(refusal(2)));
    assert!(heard(&mut world, subscriber).is_empty());
    let subscriber = resume(&mut world, Version::V5, "s");
    assert_eq!(heard(&mut world, subscriber), ["CONNACK success present"]);
    assert_eq!(world.core().metrics().get(Counter::DeliveryRefused), 2);
}

#[test]
fn what_is_unacknowledged_is_repeated_on_the_next_connection_in_order() {
    // [MQTT5-4.4.0-1] [MQTT311-4.4.0-1] [MQTT5-3.3.1-1] [MQTT311-3.3.1-1] [MQTT5-3.3.1-3] [MQTT311-3.3.1-3] [MQTT5-4.1.0-1]
    // [MQTT5-4.3.2-3] [MQTT5-4.3.3-3] [MQTT5-4.3.3-5] [MQTT311-4.6.0-1]
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut world = World::new();
        let publisher = world.join(Version::V311, "p");
        let subscriber = keep(&mut world, version, "s");
        subscribe(&mut world, subscriber, "t", 2);
        publish(&mut world, publisher, message("t", 1, 1, "one"));
        publish(&mut world, publisher, message("t", 2, 2, "two"));
        publish(&mut world, publisher, message("t", 2, 3, "three"));
        publish(&mut world, publisher, message("t", 1, 4, "four"));
        heard(&mut world, subscriber);
        world.send(subscriber, &Packet::PubRec(acked(2)));
        puback(&mut world, subscriber, 4);
        world.drop_client(subscriber);
        publish(&mut world, publisher, message("t", 1, 5, "five"));
        publish(&mut world, publisher, message("t", 0, 0, "zero"));
        let subscriber = resume(&mut world, version, "s");
        let connack = if version == Version::V31 { "CONNACK success" } else { "CONNACK success present" };
        assert_eq!(
            heard(&mut world, subscriber),
            [
                connack,
                "PUBLISH t q1 id=1 dup one",
                "PUBREL 2",
                "PUBLISH t q2 id=3 dup three",
                "PUBLISH t q1 id=5 five",
                "PUBLISH t q0 zero",
            ]
        );
    }
}

#[test]
fn a_smaller_window_on_the_next_connection_holds_for_repeats() {
    // [MQTT5-3.3.4-9] [MQTT5-4.4.0-1]
    let mut world = World::new();
    let publisher = world.join(Version::V311, "p");
    let subscriber = keep(&mut world, Version::V5, "s");
    subscribe(&mut world, subscriber, "t", 1);
    for id in 1..4 {
        publish(&mut world, publisher, message("t", 1, id, "x"));
    }
    world.drop_client(subscriber);
    publish(&mut world, publisher, message("t", 1, 4, "new"));
    let mut packet = connect(Version::V5, "s");
    packet.clean_start = false;
    packet.properties.receive_maximum = core::num::NonZeroU16::new(2);
    let (subscriber, first) = world.connect(&packet);
    assert_eq!(
        shown(&first),
        ["CONNACK success present", "PUBLISH t q1 id=1 dup x", "PUBLISH t q1 id=2 dup x"]
    );
    puback(&mut world, subscriber, 2);
    assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q1 id=3 dup x"]);
    puback(&mut world, subscriber, 1);
    assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q1 id=4 new"]);
}

#[test]
fn old_clients_get_repeats_on_a_live_connection_only_if_configured() {
    // [MQTT5-4.4.0-1]
    for version in [Version::V311, Version::V5] {
        let mut world = World::with(Mqtt { retry_interval_ms: Some(10_000), ..Mqtt::default() });
        let publisher = world.join(Version::V311, "p");
        let subscriber = world.join(version, "s");
        subscribe(&mut world, subscriber, "t", 1);
        publish(&mut world, publisher, message("t", 1, 1, "x"));
        assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q1 id=1 x"]);
        world.advance(11);
        let expected: &[&str] = if version.is_v5() { &[] } else { &["PUBLISH t q1 id=1 dup x"] };
        assert_eq!(heard(&mut world, subscriber), expected);
        puback(&mut world, subscriber, 1);
        world.advance(30);
        assert!(heard(&mut world, subscriber).is_empty());
    }
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_ends_the_connection() {
    let mut world = World::new();
    let publisher = world.join(Version::V311, "p");
    let subscriber = world.join(Version::V5, "s");
    subscribe(&mut world, subscriber, "t", 1);
    publish(&mut world, publisher, message("t", 1, 1, "x"));
    heard(&mut world, subscriber);
    world.send(subscriber, &Packet::PubComp(acked(1)));
    assert_eq!(heard(&mut world, subscriber), ["DISCONNECT protocol_error"]);
    assert!(world.is_closed(subscriber));
}
