//! SUBSCRIBE and UNSUBSCRIBE, and what subscription options do.

use dunlin_wire::types::RetainHandling;

use super::*;

#[test]
fn suback_answers_each_filter_in_order() {
    // [MQTT5-3.8.4-1] [MQTT5-3.8.4-2] [MQTT5-3.8.4-5] [MQTT5-3.8.4-6] [MQTT5-3.8.4-7] [MQTT5-3.9.3-1] [MQTT5-3.9.3-2]
    // [MQTT311-3.8.4-1] [MQTT311-3.8.4-2] [MQTT311-3.8.4-4] [MQTT311-3.8.4-5] [MQTT311-3.9.3-1] [MQTT311-3.9.3-2]
    // [MQTT5-4.8.2-1] [MQTT5-4.8.2-2]
    for (version, failure) in [(Version::V5, "topic_filter_invalid"), (Version::V311, "unspecified_error")] {
        let mut world = World::new();
        let client = world.join(version, "c");
        // By hand, for a client that keeps to the rules cannot write them.
        let mut body = vec![0, 9];
        if version.is_v5() {
            body.push(0);
        }
        for (filter, level) in [("a", 2), ("$share/g", 1), ("$share//b", 0), ("+/#", 0)] {
            body.extend_from_slice(&u16::try_from(filter.len()).unwrap().to_be_bytes());
            body.extend_from_slice(filter.as_bytes());
            body.push(level);
        }
        let length = u8::try_from(body.len()).unwrap();
        world.raw(client, &[&[0x82, length], &body[..]].concat());
        assert_eq!(
            heard(&mut world, client),
            [format!("SUBACK 9 [granted_qos_2 {failure} {failure} success]")]
        );
    }
}

#[test]
fn a_filter_subscribed_again_replaces_the_subscription() {
    // [MQTT5-3.8.4-3] [MQTT311-3.8.4-3]
    let mut world = World::new();
    let client = world.join(Version::V5, "c");
    subscribe(&mut world, client, "t", 0);
    subscribe(&mut world, client, "t", 1);
    publish(&mut world, client, message("t", 1, 1, "x"));
    assert_eq!(heard(&mut world, client), ["PUBLISH t q1 id=1 x", "PUBACK 1"]);
    assert_eq!(world.core().gauges().subscriptions, 1);
}

#[test]
fn overlapping_subscriptions_give_one_copy_with_all_identifiers() {
    // [MQTT5-3.3.4-2] [MQTT5-3.3.4-3] [MQTT5-3.3.4-4] [MQTT5-3.3.4-5]
    let mut world = World::new();
    let client = world.join(Version::V5, "c");
    subscribe_as(&mut world, client, &[("a/+", options(1))], 11);
    subscribe_as(&mut world, client, &[("a/#", options(0))], 268_435_455);
    heard(&mut world, client);
    publish(&mut world, client, message("a/b", 2, 1, "x"));
    assert_eq!(heard(&mut world, client), ["PUBLISH a/b q1 id=1 ids=[11, 268435455] x", "PUBREC 1"]);
}

#[test]
fn identifiers_survive_the_queue() {
    // [MQTT5-3.3.4-3]
    let mut world = World::new();
    let publisher = world.join(Version::V311, "p");
    let client = keep(&mut world, Version::V5, "c");
    subscribe_as(&mut world, client, &[("a/+", options(1))], 3);
    subscribe_as(&mut world, client, &[("a/#", options(1))], 4);
    world.drop_client(client);
    publish(&mut world, publisher, message("a/b", 1, 1, "x"));
    let client = resume(&mut world, Version::V5, "c");
    assert_eq!(heard(&mut world, client)[1], "PUBLISH a/b q1 id=1 ids=[3, 4] x");
}

#[test]
fn no_local_keeps_only_the_publishers_own_messages_from_it() {
    // [MQTT5-3.8.3-3]
    let mut world = World::new();
    let no_local = SubscriptionOptions { no_local: true, ..options(0) };
    let [one, two] = ["one", "two"].map(|id| {
        let client = world.join(Version::V5, id);
        subscribe_as(&mut world, client, &[("t", no_local)], 0);
        heard(&mut world, client);
        client
    });
    assert!(published(&mut world, one, message("t", 0, 0, "x")).is_empty());
    assert_eq!(heard(&mut world, two), ["PUBLISH t q0 x"]);
    let shared = [("$share/g/t", no_local)];
    subscribe_as(&mut world, one, &shared, 0);
    // [MQTT5-3.8.3-4]
    assert_eq!(heard(&mut world, one), ["DISCONNECT protocol_error"]);
}

#[test]
fn loops_of_old_clients_are_cut_if_configured() {
    let mut world = World::with(Mqtt { ignore_loop_deliver: true, ..Mqtt::default() });
    let old = world.join(Version::V311, "old");
    let new = world.join(Version::V5, "new");
    for client in [old, new] {
        subscribe(&mut world, client, "t", 0);
        publish(&mut world, client, message("t", 0, 0, "x"));
    }
    assert_eq!(heard(&mut world, old), ["PUBLISH t q0 x"], "only the other's");
    assert_eq!(heard(&mut world, new).len(), 1, "its own, for 5.0 has No Local");
}

#[test]
fn the_retain_flag_of_live_messages_follows_retain_as_published() {
    // [MQTT5-3.3.1-12] [MQTT5-3.3.1-13] [MQTT311-3.3.1-9]
    let mut world = World::new();
    let as_published = SubscriptionOptions {
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
        ..options(0)
    };
    let client = world.join(Version::V5, "c");
    subscribe_as(&mut world, client, &[("kept", as_published), ("plain", options(0))], 0);
    heard(&mut world, client);
    for topic in ["kept", "plain"] {
        publish(&mut world, client, retained(topic, 0, 0, "x"));
        publish(&mut world, client, message(topic, 0, 0, "y"));
    }
    assert_eq!(
        heard(&mut world, client),
        ["PUBLISH kept q0 retain x", "PUBLISH kept q0 y", "PUBLISH plain q0 x", "PUBLISH plain q0 y"]
    );
}

#[test]
fn unsubscribe_ends_what_was_subscribed_and_answers_each_filter() {
    // [MQTT5-3.10.4-1] [MQTT5-3.10.4-2] [MQTT5-3.10.4-4] [MQTT5-3.10.4-5] [MQTT5-3.10.4-6] [MQTT5-3.11.3-1]
    // [MQTT5-3.11.3-2] [MQTT311-3.10.4-1] [MQTT311-3.10.4-2] [MQTT311-3.10.4-4] [MQTT311-3.10.4-5] [MQTT311-3.10.4-6]
    let mut world = World::new();
    for (version, answer) in [
        (Version::V5, "UNSUBACK 8 [no_subscription_existed success success no_subscription_existed]"),
        (Version::V311, "UNSUBACK 8 []"),
    ] {
        let client = world.join(version, "c");
        subscribe(&mut world, client, "a/+", 0);
        subscribe(&mut world, client, "$share/g/a/b", 0);
        let gone = unsubscribe(&mut world, client, &["a/b", "a/+", "$share/g/a/b", "$share/h/a/b"]);
        assert_eq!(gone, [answer]);
        assert!(published(&mut world, client, message("a/b", 0, 0, "x")).is_empty());
        assert_eq!(world.core().gauges().subscriptions, 0);
    }
}

#[test]
fn what_is_under_way_is_completed_after_unsubscribe() {
    // [MQTT5-3.10.4-3] [MQTT311-3.10.4-3]
    let mut world = World::new();
    let client = world.join(Version::V311, "c");
    subscribe(&mut world, client, "t", 2);
    publish(&mut world, client, message("t", 2, 1, "x"));
    assert_eq!(heard(&mut world, client), ["PUBLISH t q2 id=1 x", "PUBREC 1"]);
    unsubscribe(&mut world, client, &["t"]);
    world.send(client, &Packet::PubRec(acked(1)));
    assert_eq!(heard(&mut world, client), ["PUBREL 1"]);
}

#[test]
fn a_leading_wildcard_does_not_reach_topics_of_the_server() {
    // [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]
    let mut world = World::new();
    let client = world.join(Version::V5, "c");
    subscribe(&mut world, client, "#", 0);
    subscribe(&mut world, client, "+/x", 0);
    assert!(published(&mut world, client, message("$own/x", 0, 0, "x")).is_empty());
    subscribe(&mut world, client, "$own/#", 0);
    assert_eq!(published(&mut world, client, message("$own/x", 0, 0, "y")), ["PUBLISH $own/x q0 y"]);
}

#[test]
fn what_is_switched_off_is_refused_with_its_reason() {
    // [MQTT5-3.9.3-2] [MQTT311-3.8.3-2]
    let mut world = World::with(Mqtt {
        wildcard_subscription: false,
        shared_subscription: false,
        max_subscriptions: Some(2),
        ..Mqtt::default()
    });
    let client = world.join(Version::V5, "c");
    let filters = [
        ("a/#", options(0)),
        ("$share/g/t", options(0)),
        ("$exclusive/t", options(0)),
        ("a", options(0)),
        ("b", options(0)),
        ("c", options(0)),
        ("b", options(1)),
    ];
    subscribe_as(&mut world, client, &filters, 0);
    assert_eq!(
        heard(&mut world, client),
        ["SUBACK 9 [wildcard_subscriptions_not_supported shared_subscriptions_not_supported \
          topic_filter_invalid success success quota_exceeded granted_qos_1]"]
    );
}

#[test]
fn an_exclusive_topic_has_one_subscriber() {
    let mut world = World::with(Mqtt { exclusive_subscription: true, ..Mqtt::default() });
    let one = world.join(Version::V5, "one");
    let two = world.join(Version::V5, "two");
    subscribe(&mut world, one, "$exclusive/t", 0);
    subscribe_as(&mut world, two, &[("$exclusive/t", options(0))], 0);
    assert_eq!(heard(&mut world, two), ["SUBACK 9 [quota_exceeded]"]);
    assert!(published(&mut world, two, message("t", 0, 0, "x")).is_empty());
    assert_eq!(heard(&mut world, one), ["PUBLISH t q0 x"]);
    assert_eq!(unsubscribe(&mut world, one, &["$exclusive/t"]), ["UNSUBACK 8 [success]"]);
    subscribe(&mut world, two, "$exclusive/t", 0);
    world.drop_client(two);
    subscribe(&mut world, one, "$exclusive/t", 0);
    assert_eq!(published(&mut world, one, message("t", 0, 0, "y")), ["PUBLISH t q0 y"]);
}

#[test]
fn a_discarded_session_leaves_nothing_behind() {
    // [MQTT5-3.1.2-4] [MQTT5-4.1.0-2] [MQTT311-3.1.2-6]
    let mut world = World::with(Mqtt { exclusive_subscription: true, ..Mqtt::default() });
    let client = keep(&mut world, Version::V5, "c");
    for filter in ["a", "b/#", "$share/g/c", "$exclusive/d"] {
        subscribe(&mut world, client, filter, 1);
    }
    world.drop_client(client);
    world.advance(2_000);
    assert_eq!(world.core().gauges(), crate::metrics::Gauges::default());
    assert!(world.core().next_deadline().is_none());
}
