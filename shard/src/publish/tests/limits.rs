//! Quotas, sizes, expiry, aliases, slow clients: what is bounded, and what happens at the bound.

use core::num::{NonZeroU16, NonZeroU32};

use super::*;
use crate::metrics::Counter;

#[test]
fn more_than_receive_maximum_ends_the_connection() {
    // [MQTT5-3.3.4-7]
    let mut world = World::with(Mqtt { receive_maximum: 2, ..Mqtt::default() });
    let client = world.join(Version::V5, "c");
    subscribe(&mut world, client, "t", 0);
    for id in 1..10 {
        assert_eq!(
            published(&mut world, client, message("u", 1, id, "")).len(),
            1,
            "QoS 1 is through at once"
        );
    }
    for id in 1..3 {
        published(&mut world, client, message("t", 2, id, ""));
    }
    world.send(client, &Packet::PubRel(acked(1)));
    heard(&mut world, client);
    published(&mut world, client, message("t", 2, 3, ""));
    assert!(!world.is_closed(client));
    assert_eq!(
        published(&mut world, client, message("t", 2, 4, "")),
        ["DISCONNECT receive_maximum_exceeded"]
    );
    assert!(world.is_closed(client));
}

#[test]
fn releases_that_never_come_are_bounded_in_number_and_time() {
    let mqtt = Mqtt { max_awaiting_rel: 2, await_rel_timeout_ms: 5_000, ..Mqtt::default() };
    let mut world = World::with(mqtt);
    let new = world.join(Version::V5, "new");
    let old = world.join(Version::V311, "old");
    subscribe(&mut world, new, "t", 0);
    for client in [new, old] {
        for id in 1..3 {
            published(&mut world, client, message("t", 2, id, ""));
        }
    }
    heard(&mut world, new);
    assert_eq!(published(&mut world, new, message("t", 2, 3, "")), ["PUBREC 3 quota_exceeded"]);
    assert!(published(&mut world, old, message("t", 2, 3, "")).is_empty());
    assert!(world.is_closed(old), "3.x cannot be told");
    world.advance(6);
    assert_eq!(world.core().metrics().get(Counter::MessagesDroppedAwaitPubrelTimeout), 2);
    assert_eq!(published(&mut world, new, message("t", 2, 3, "x")), ["PUBLISH t q0 x", "PUBREC 3"]);
}

#[test]
fn what_connack_ruled_out_ends_the_connection() {
    // [MQTT5-3.2.2-11] [MQTT5-3.2.2-14]
    let mqtt = Mqtt { max_qos_allowed: QoS::AtLeastOnce, retain_available: false, ..Mqtt::default() };
    let mut world = World::with(mqtt);
    for (packet, reason) in [
        (message("t", 2, 1, ""), "DISCONNECT qos_not_supported"),
        (retained("t", 0, 0, ""), "DISCONNECT retain_not_supported"),
    ] {
        let client = world.join(Version::V5, "c");
        assert_eq!(published(&mut world, client, packet), [reason]);
    }
    let client = world.join(Version::V5, "c");
    subscribe_as(&mut world, client, &[("t", options(2))], 0);
    assert_eq!(heard(&mut world, client), ["SUBACK 9 [granted_qos_1]"]);
}

#[test]
fn messages_expire_while_they_wait() {
    // [MQTT5-3.3.2-5] [MQTT5-3.3.2-6] [MQTT5-4.3.3-7] [MQTT5-4.3.3-13]
    let mut world = World::new();
    let publisher = world.join(Version::V5, "p");
    let client = keep(&mut world, Version::V5, "c");
    subscribe(&mut world, client, "t", 2);
    let expiring = |seconds, id, payload| {
        let mut packet = message("t", 2, id, payload);
        packet.properties.message_expiry_interval = Some(seconds);
        packet
    };
    publish(&mut world, publisher, expiring(5, 1, "sent"));
    assert_eq!(heard(&mut world, client), ["PUBLISH t q2 id=1 expiry=5 sent"]);
    world.drop_client(client);
    publish(&mut world, publisher, expiring(5, 2, "short"));
    publish(&mut world, publisher, expiring(50, 3, "long"));
    world.advance(20);
    let client = resume(&mut world, Version::V5, "c");
    let packets = heard(&mut world, client);
    // What was sent once goes on, whatever its age.
    assert_eq!(packets[1], "PUBLISH t q2 id=1 dup expiry=0 sent");
    assert_eq!(packets[2..], ["PUBLISH t q2 id=2 expiry=30 long"]);
    assert_eq!(world.core().metrics().get(Counter::DeliveryDroppedExpired), 1);
}

#[test]
fn a_packet_that_is_too_large_for_the_client_counts_as_delivered() {
    // [MQTT5-3.1.2-24] [MQTT5-3.1.2-25]
    let mut world = World::new();
    let publisher = world.join(Version::V311, "p");
    let mut packet = connect(Version::V5, "c");
    packet.properties.maximum_packet_size = NonZeroU32::new(30);
    packet.properties.receive_maximum = NonZeroU16::new(1);
    let (client, _) = world.connect(&packet);
    subscribe(&mut world, client, "t", 1);
    for (id, payload) in [(1, "a text of more than thirty bytes"), (2, "short")] {
        assert_eq!(published(&mut world, publisher, message("t", 1, id, payload)), [format!("PUBACK {id}")]);
    }
    assert_eq!(heard(&mut world, client), ["PUBLISH t q1 id=2 short"], "the window is free for the next");
    assert_eq!(world.core().metrics().get(Counter::DeliveryDroppedTooLarge), 1);
}

#[test]
fn aliases_of_the_client_stand_for_topics_until_it_disconnects() {
    // [MQTT5-3.3.2-7] [MQTT5-3.3.2-8] [MQTT5-3.3.2-9] [MQTT5-3.3.2-12]
    let mut world = World::with(Mqtt { max_topic_alias: 3, ..Mqtt::default() });
    let aliased = |topic, alias| {
        let mut packet = message(topic, 0, 0, "x");
        packet.properties.topic_alias = NonZeroU16::new(alias);
        packet
    };
    let client = world.join(Version::V5, "c");
    subscribe(&mut world, client, "#", 0);
    for (packet, topic) in [
        (aliased("a", 1), "a"),
        (aliased("b", 3), "b"),
        (aliased("", 1), "a"),
        (aliased("c", 1), "c"),
        (aliased("", 1), "c"),
        (aliased("", 3), "b"),
    ] {
        assert_eq!(published(&mut world, client, packet), [format!("PUBLISH {topic} q0 x")]);
    }
    assert_eq!(published(&mut world, client, aliased("d", 4)), ["DISCONNECT topic_alias_invalid"]);
    let client = world.join(Version::V5, "c");
    assert_eq!(published(&mut world, client, aliased("", 1)), ["DISCONNECT protocol_error"]);
}

#[test]
fn aliases_towards_a_client_keep_to_its_maximum() {
    // [MQTT5-3.1.2-26] [MQTT5-3.1.2-27] [MQTT5-3.3.2-11]
    let mut world = World::new();
    let publisher = world.join(Version::V311, "p");
    let mut packet = connect(Version::V5, "c");
    packet.properties.topic_alias_maximum = Some(1);
    let (client, _) = world.connect(&packet);
    let without = world.join(Version::V5, "without");
    for client in [client, without] {
        subscribe(&mut world, client, "#", 0);
    }
    for _ in 0..4 {
        publish(&mut world, publisher, message("a/rather/long/topic", 0, 0, "x"));
    }
    assert_eq!(heard(&mut world, without), ["PUBLISH a/rather/long/topic q0 x"; 4]);
    assert_eq!(
        heard(&mut world, client),
        [
            "PUBLISH a/rather/long/topic q0 x",
            "PUBLISH a/rather/long/topic q0 alias=1 x",
            "PUBLISH  q0 alias=1 x",
            "PUBLISH  q0 alias=1 x",
        ]
    );
}

#[test]
fn properties_of_the_publisher_arrive_unaltered_and_in_order() {
    // [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18] [MQTT5-3.3.2-20]
    let mut world = World::new();
    let publisher = world.join(Version::V5, "p");
    let live = world.join(Version::V5, "live");
    let away = keep(&mut world, Version::V5, "away");
    let old = world.join(Version::V311, "old");
    for client in [live, away, old] {
        subscribe(&mut world, client, "t", 1);
    }
    world.drop_client(away);
    let pairs = [("b", "2"), ("a", "1"), ("b", ""), ("a", "1")];
    let properties = PublishProperties {
        payload_format_indicator: Some(true),
        response_topic: Some("answers/here"),
        correlation_data: Some(&[0, 255, 7]),
        content_type: Some("text/plain"),
        user_properties: UserProperties::from_pairs(&pairs),
        ..PublishProperties::default()
    };
    publish(&mut world, publisher, Publish { properties, ..message("t", 1, 1, "x") });
    let away = resume(&mut world, Version::V5, "away");
    for client in [live, away] {
        let received = world.heard(client);
        let packets = received.packets();
        let Some(Packet::Publish(publish)) = packets.last() else { panic!("{packets:?}") };
        assert_eq!(publish.properties, properties);
    }
    assert_eq!(heard(&mut world, old), ["PUBLISH t q1 id=1 x"]);
}

#[test]
fn a_slow_client_holds_up_nobody_and_no_more_than_its_bounds() {
    let mqtt = Mqtt { outbound_bytes_high: 1_000, max_mqueue_len: Some(5), ..Mqtt::default() };
    let mut world = World::with(mqtt);
    let publisher = world.join(Version::V311, "p");
    let slow = world.join(Version::V311, "slow");
    let fast = world.join(Version::V311, "fast");
    for client in [slow, fast] {
        subscribe(&mut world, client, "t", 1);
    }
    world.clog(slow, true);
    let body = "x".repeat(500);
    for id in 1..21 {
        assert_eq!(published(&mut world, publisher, message("t", 1, id, &body)).len(), 1);
        puback(&mut world, fast, id);
    }
    assert_eq!(heard(&mut world, fast).len(), 20);
    assert_eq!(heard(&mut world, slow).len(), 2, "1,000 bytes are under way");
    assert_eq!(world.core().metrics().get(Counter::DeliveryDroppedQueueFull), 13);
    world.clog(slow, false);
    assert_eq!(heard(&mut world, slow).len(), 5, "the newest that waited");
}

#[test]
fn qos_0_for_clients_that_are_away_follows_the_setting() {
    for (stores, expected) in [(true, 2), (false, 1)] {
        let mut world = World::with(Mqtt { mqueue_store_qos0: stores, ..Mqtt::default() });
        let publisher = world.join(Version::V311, "p");
        let client = keep(&mut world, Version::V311, "c");
        subscribe(&mut world, client, "t", 0);
        world.drop_client(client);
        publish(&mut world, publisher, message("t", 0, 0, "x"));
        let client = resume(&mut world, Version::V311, "c");
        assert_eq!(heard(&mut world, client).len(), expected);
        let dropped = world.core().metrics().get(Counter::DeliveryDroppedQos0Msg);
        assert_eq!(dropped, u64::from(!stores));
    }
}

#[test]
fn queue_priorities_and_upgrade_qos_are_kept() {
    let mqtt = Mqtt { mqueue_priorities: vec![("high".into(), 10)], upgrade_qos: true, ..Mqtt::default() };
    let mut world = World::with(mqtt);
    let publisher = world.join(Version::V311, "p");
    let client = keep(&mut world, Version::V311, "c");
    subscribe(&mut world, client, "#", 1);
    world.drop_client(client);
    for topic in ["low", "high"] {
        publish(&mut world, publisher, message(topic, 0, 0, "x"));
    }
    let client = resume(&mut world, Version::V311, "c");
    assert_eq!(heard(&mut world, client)[1..], ["PUBLISH high q1 id=1 x", "PUBLISH low q1 id=2 x"]);
}

#[test]
fn too_many_levels_are_answered_with_the_code_of_the_packet() {
    // §MQTT5 3.9.3, §MQTT5 3.11.3, §MQTT5 3.14.2.1: 0x8F is about filters, 0x90 about names.
    let mut world = World::with(Mqtt { max_topic_levels: 3, ..Mqtt::default() });
    let client = world.join(Version::V5, "c");
    let wishes = ["a/b/c", "a/b/c/d", "$share/g/a/b/c", "$share/g/a/b/c/d", "+/+/+/#"]
        .map(|filter| (filter, options(1)));
    subscribe_as(&mut world, client, &wishes, 0);
    let [granted, deep] = ["granted_qos_1", "topic_filter_invalid"];
    assert_eq!(
        heard(&mut world, client),
        [format!("SUBACK 9 [{granted} {deep} {granted} {deep} {deep}]")],
        "a filter that is refused does not cost the connection"
    );
    assert_eq!(
        unsubscribe(&mut world, client, &["$share/g/a/b/c", "a/b/c/d", "x"]),
        ["UNSUBACK 8 [success topic_filter_invalid no_subscription_existed]"]
    );
    assert_eq!(
        published(&mut world, client, message("a/b/c", 1, 1, "x")),
        ["PUBLISH a/b/c q1 id=1 x", "PUBACK 1"]
    );
    assert_eq!(
        published(&mut world, client, message("a/b/c/d", 1, 2, "x")),
        ["DISCONNECT topic_name_invalid"]
    );
    let old = world.join(Version::V311, "old");
    subscribe_as(&mut world, old, &wishes[..2], 0);
    assert_eq!(heard(&mut world, old), ["SUBACK 9 [granted_qos_1 unspecified_error]"]);
}
