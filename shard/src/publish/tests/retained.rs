//! Retained messages: what is kept, and who gets it when.

use dunlin_wire::types::RetainHandling;

use super::*;
use crate::metrics::Counter;

#[test]
fn the_last_retained_message_of_a_topic_waits_for_subscribers() {
    // [MQTT5-3.3.1-5] [MQTT5-3.3.1-8] [MQTT5-3.3.1-9] [MQTT311-3.3.1-5] [MQTT311-3.3.1-6] [MQTT311-3.3.1-8]
    // [MQTT311-3.3.1-7] [MQTT311-3.3.1-12]
    let mut world = World::new();
    let publisher = world.join(Version::V311, "p");
    publish(&mut world, publisher, retained("a/b", 1, 1, "old"));
    publish(&mut world, publisher, retained("a/b", 1, 1, "kept"));
    publish(&mut world, publisher, message("a/b", 1, 1, "passing"));
    publish(&mut world, publisher, retained("a/c", 1, 1, "first"));
    publish(&mut world, publisher, retained("a/c", 0, 0, "other"));
    for version in Version::ALL {
        let client = world.join(version, "s");
        subscribe_as(&mut world, client, &[("a/+", options(1)), ("a/b", options(0))], 0);
        assert_eq!(
            heard(&mut world, client),
            [
                "SUBACK 9 [granted_qos_1 success]",
                "PUBLISH a/b q1 id=1 retain kept",
                "PUBLISH a/c q0 retain other",
                "PUBLISH a/b q0 retain kept",
            ]
        );
    }
}

#[test]
fn an_empty_payload_is_delivered_and_removes_what_is_kept() {
    // [MQTT5-3.3.1-6] [MQTT5-3.3.1-7] [MQTT311-3.3.1-10] [MQTT311-3.3.1-11]
    let mut world = World::new();
    let client = world.join(Version::V311, "c");
    publish(&mut world, client, retained("t", 0, 0, "x"));
    subscribe_as(&mut world, client, &[("t", options(0))], 0);
    assert_eq!(heard(&mut world, client).len(), 2);
    assert_eq!(published(&mut world, client, retained("t", 0, 0, "")), ["PUBLISH t q0 "]);
    assert_eq!(world.core().gauges().retained, 0);
    subscribe(&mut world, client, "t", 0);
    publish(&mut world, client, retained("u", 0, 0, ""));
    assert_eq!(world.core().gauges().retained, 0);
}

#[test]
fn retain_handling_decides_at_subscribe() {
    // [MQTT5-3.3.1-9] [MQTT5-3.3.1-10] [MQTT5-3.3.1-11] [MQTT5-3.8.4-4] [MQTT311-3.8.4-3]
    let mut world = World::new();
    let client = world.join(Version::V5, "c");
    publish(&mut world, client, retained("t", 0, 0, "x"));
    for (handling, first, again) in [
        (RetainHandling::SendAtSubscribe, 1, 1),
        (RetainHandling::SendIfNew, 1, 0),
        (RetainHandling::DoNotSend, 0, 0),
    ] {
        for expected in [first, again] {
            let options = SubscriptionOptions { retain_handling: handling, ..options(0) };
            subscribe_as(&mut world, client, &[("t", options)], 5);
            let packets = heard(&mut world, client);
            assert_eq!(packets.len(), 1 + expected, "{handling:?}");
            assert!(packets.get(1).is_none_or(|packet| packet == "PUBLISH t q0 retain ids=[5] x"));
        }
        unsubscribe(&mut world, client, &["t"]);
    }
}

#[test]
fn shared_subscriptions_get_no_retained_messages() {
    let mut world = World::new();
    let client = world.join(Version::V5, "c");
    publish(&mut world, client, retained("t", 0, 0, "x"));
    subscribe(&mut world, client, "$share/g/t", 0);
}

#[test]
fn retained_messages_expire() {
    // [MQTT5-3.3.2-5] [MQTT5-3.3.2-6]
    let mut world = World::new();
    let client = world.join(Version::V5, "c");
    let mut packet = retained("t", 0, 0, "x");
    packet.properties.message_expiry_interval = Some(10);
    publish(&mut world, client, packet);
    world.advance(4);
    subscribe_as(&mut world, client, &[("t", options(0))], 0);
    assert_eq!(heard(&mut world, client)[1], "PUBLISH t q0 retain expiry=6 x");
    world.advance(6);
    subscribe(&mut world, client, "t", 0);
    publish(&mut world, client, retained("a", 0, 0, "sweeps"));
    publish(&mut world, client, retained("b", 0, 0, "sweeps"));
    assert_eq!(world.core().gauges().retained, 2, "the expired one was swept");
}

#[test]
fn many_retained_messages_come_as_the_client_takes_them() {
    let mut world = World::with(Mqtt { max_mqueue_len: Some(20), ..Mqtt::default() });
    let publisher = world.join(Version::V311, "p");
    for n in 0..500 {
        publish(&mut world, publisher, retained(&format!("t/{n:03}"), 1, 1, "x"));
    }
    let client = world.join(Version::V5, "c");
    world.clog(client, true);
    subscribe_as(&mut world, client, &[("t/#", options(1))], 0);
    let (mut topics, mut rounds) = (Vec::new(), 0);
    world.clog(client, false);
    loop {
        let packets = world.heard(client);
        let ids: Vec<u16> = packets
            .packets()
            .iter()
            .filter_map(|packet| match packet {
                Packet::Publish(publish) => {
                    topics.push(publish.topic.to_owned());
                    publish.packet_id.map(PacketId::get)
                }
                _ => None,
            })
            .collect();
        if ids.is_empty() {
            break;
        }
        rounds += 1;
        assert!(ids.len() <= 32, "never above the window");
        for id in ids {
            puback(&mut world, client, id);
        }
    }
    assert_eq!(topics.len(), 500);
    topics.dedup();
    assert_eq!(topics.len(), 500, "each once, in order");
    assert!(rounds > 5);
    assert_eq!(world.core().metrics().get(Counter::DeliveryDropped), 0, "the queue of 20 never overflowed");
}

#[test]
fn what_came_live_during_a_lookup_is_not_followed_by_what_was_kept_before() {
    let mut world = World::new();
    let publisher = world.join(Version::V311, "p");
    let body = "x".repeat(40_000);
    for n in 0..100 {
        publish(&mut world, publisher, retained(&format!("t/{n:03}"), 0, 0, &body));
    }
    let client = world.join(Version::V5, "c");
    world.clog(client, true);
    subscribe_as(&mut world, client, &[("t/#", options(0))], 0);
    // The socket is full somewhere in the middle; a newer message of the last topic is passed on live.
    publish(&mut world, publisher, retained("t/099", 0, 0, "new"));
    let mut packets = heard(&mut world, client);
    assert!(packets.len() < 60);
    world.clog(client, false);
    packets.extend(heard(&mut world, client));
    let last: Vec<_> = packets.iter().filter(|packet| packet.contains("t/099")).collect();
    assert_eq!(last, ["PUBLISH t/099 q0 new"]);
    assert_eq!(packets.len(), 1 + 100);
}

#[test]
fn bounds_of_the_store_are_counted() {
    let mqtt = Mqtt { max_retained_messages: Some(1), max_retained_payload_size: 4, ..Mqtt::default() };
    let mut world = World::with(mqtt);
    let client = world.join(Version::V311, "c");
    publish(&mut world, client, retained("a", 0, 0, "12345"));
    publish(&mut world, client, retained("b", 0, 0, "1234"));
    publish(&mut world, client, retained("c", 0, 0, "1234"));
    publish(&mut world, client, retained("b", 0, 0, "4321"));
    assert_eq!(world.core().gauges().retained, 1);
    assert_eq!(world.core().metrics().get(Counter::MessagesDroppedRetainedFull), 2);
}

#[test]
fn unsubscribe_ends_a_lookup_that_is_under_way() {
    // [MQTT5-3.10.4-2] [MQTT311-3.10.4-2]
    let mut world = World::new();
    let publisher = world.join(Version::V311, "p");
    for n in 0..500 {
        publish(&mut world, publisher, retained(&format!("t/{n:03}"), 1, 1, "x"));
    }
    publish(&mut world, publisher, retained("other", 0, 0, "y"));
    let client = world.join(Version::V5, "c");
    subscribe_as(&mut world, client, &[("t/#", options(1)), ("other", options(0))], 0);
    let first = heard(&mut world, client).len();
    assert!(first < 100, "the window is full");
    unsubscribe(&mut world, client, &["t/#"]);
    for id in 1..100 {
        puback(&mut world, client, id);
    }
    let rest = heard(&mut world, client);
    assert!(rest.len() < 70, "only what waited already: {}", rest.len());
    assert_eq!(rest.last().map(String::as_str), Some("PUBLISH other q0 retain y"));
}
