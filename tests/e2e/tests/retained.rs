//! Retained messages.

use dunlin_e2e::client::End;
use dunlin_e2e::{Broker, Client, Start};
use dunlin_wire::packet::{Packet, Publish, PublishProperties, UserProperties};
use dunlin_wire::{QoS, ReasonCode, SubscriptionOptions, Version};

#[test]
fn the_last_retained_message_greets_a_new_subscription() {
    // [MQTT311-3.3.1-5] [MQTT311-3.3.1-6] [MQTT311-3.3.1-8] [MQTT311-3.3.1-9] [MQTT5-3.3.1-5] [MQTT5-3.3.1-12]
    for shards in [1, 2, 4] {
        let broker = Broker::with_shards(shards);
        for version in Version::ALL {
            let mut publisher = Client::connect(&broker, version, "kept-pub");
            publisher.retain("kept/a", b"old", QoS::AtMostOnce);
            publisher.retain("kept/a", b"new", QoS::AtLeastOnce);
            publisher.retain("kept/b", b"b", QoS::ExactlyOnce);
            let mut subscriber = Client::connect(&broker, version, "kept-sub");
            subscriber.subscribe("kept/+", QoS::ExactlyOnce);
            let mut got: Vec<(String, Vec<u8>, QoS)> = (0..2)
                .map(|_| {
                    let message = subscriber.message();
                    let publish = message.publish();
                    assert!(publish.retain);
                    (publish.topic.to_owned(), publish.payload.to_vec(), publish.qos)
                })
                .collect();
            got.sort();
            assert_eq!(
                got,
                [
                    ("kept/a".to_owned(), b"new".to_vec(), QoS::AtLeastOnce),
                    ("kept/b".to_owned(), b"b".to_vec(), QoS::ExactlyOnce),
                ]
            );
            publisher.retain("kept/a", b"live", QoS::AtLeastOnce);
            let live = subscriber.message();
            assert_eq!(live.publish().payload, b"live");
            assert!(!live.publish().retain);
        }
    }
}

#[test]
fn an_empty_payload_removes_and_is_not_kept() {
    // [MQTT311-3.3.1-10] [MQTT311-3.3.1-11] [MQTT5-3.3.1-6] [MQTT5-3.3.1-7]
    let broker = Broker::with_shards(2);
    for version in Version::ALL {
        let mut publisher = Client::connect(&broker, version, "empty-pub");
        let mut watcher = Client::connect(&broker, version, "empty-watch");
        watcher.subscribe("empty", QoS::AtLeastOnce);
        publisher.retain("empty", b"x", QoS::AtLeastOnce);
        publisher.retain("empty", b"", QoS::AtLeastOnce);
        assert_eq!(watcher.message().publish().payload, b"x");
        assert_eq!(watcher.message().publish().payload, b"");
        let mut late = Client::connect(&broker, version, "empty-late");
        late.subscribe("empty", QoS::AtLeastOnce);
        publisher.publish("empty", b"mark", QoS::AtLeastOnce);
        assert_eq!(late.message().publish().payload, b"mark");
    }
}

#[test]
fn a_publish_without_retain_leaves_the_kept_message() {
    // [MQTT311-3.3.1-12] [MQTT5-3.3.1-8]
    let broker = Broker::with_shards(2);
    let mut publisher = Client::connect(&broker, Version::V5, "leave-pub");
    publisher.retain("leave", b"kept", QoS::AtLeastOnce);
    publisher.publish("leave", b"live", QoS::AtLeastOnce);
    publisher.publish("leave", b"", QoS::AtLeastOnce);
    let mut late = Client::connect(&broker, Version::V5, "leave-late");
    late.subscribe("leave", QoS::AtLeastOnce);
    assert_eq!(late.message().publish().payload, b"kept");
}

#[test]
fn retained_messages_outlive_the_session() {
    // [MQTT311-3.1.2-7]
    let broker = Broker::start();
    for version in Version::ALL {
        let mut publisher = Client::connect(&broker, version, "outlive-pub");
        publisher.retain("outlive", b"kept", QoS::AtLeastOnce);
        publisher.goodbye();
        let mut late = Client::connect(&broker, version, "outlive-late");
        late.subscribe("outlive", QoS::AtLeastOnce);
        assert_eq!(late.message().publish().payload, b"kept");
    }
}

#[test]
fn a_qos_0_message_replaces_the_kept_one() {
    // [MQTT311-3.3.1-7]
    let broker = Broker::start();
    let mut publisher = Client::connect(&broker, Version::V311, "zero-pub");
    publisher.retain("zero", b"one", QoS::AtLeastOnce);
    publisher.retain("zero", b"zero", QoS::AtMostOnce);
    publisher.expect_quiet();
    let mut late = Client::connect(&broker, Version::V311, "zero-late");
    late.subscribe("zero", QoS::AtLeastOnce);
    let kept = late.message();
    assert_eq!(kept.publish().payload, b"zero");
    assert_eq!(kept.publish().qos, QoS::AtMostOnce);
}

#[test]
fn retain_as_published_keeps_the_flag() {
    // [MQTT5-3.3.1-12] [MQTT5-3.3.1-13]
    let broker = Broker::with_shards(2);
    let mut client = Client::connect(&broker, Version::V5, "rap-sub");
    let options = |retain_as_published| SubscriptionOptions {
        retain_as_published,
        ..SubscriptionOptions::with_qos(QoS::AtLeastOnce)
    };
    client.subscribe_with("rap/yes", options(true), None);
    client.subscribe_with("rap/no", options(false), None);
    let mut publisher = Client::connect(&broker, Version::V5, "rap-pub");
    for (topic, retain, expected) in [
        ("rap/yes", true, true),
        ("rap/yes", false, false),
        ("rap/no", true, false),
        ("rap/no", false, false),
    ] {
        publisher.publish_with(Publish {
            topic,
            payload: b"x",
            qos: QoS::AtLeastOnce,
            retain,
            ..Publish::default()
        });
        assert_eq!(client.message().publish().retain, expected, "{topic} {retain}");
    }
}

#[test]
fn properties_are_kept_with_the_message() {
    let broker = Broker::with_shards(2);
    let pairs = [("k", "1"), ("k", "2")];
    let mut publisher = Client::connect(&broker, Version::V5, "props-pub");
    publisher.publish_with(Publish {
        topic: "props",
        payload: b"x",
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: PublishProperties {
            content_type: Some("t"),
            message_expiry_interval: Some(500),
            user_properties: UserProperties::from_pairs(&pairs),
            ..PublishProperties::default()
        },
        ..Publish::default()
    });
    let mut late = Client::connect(&broker, Version::V5, "props-late");
    late.subscribe_with("props", SubscriptionOptions::with_qos(QoS::AtLeastOnce), Some(5));
    let message = late.message();
    let got = message.publish().properties;
    assert_eq!(got.content_type, Some("t"));
    assert_eq!(got.user_properties.iter().collect::<Vec<_>>(), pairs);
    assert_eq!(got.subscription_ids.iter().collect::<Vec<_>>(), [5]);
    assert!(got.message_expiry_interval.is_some_and(|left| (400..=500).contains(&left)));
}

#[test]
fn shared_subscriptions_get_no_retained_messages() {
    let broker = Broker::with_shards(2);
    let mut publisher = Client::connect(&broker, Version::V5, "shared-pub");
    publisher.retain("shared/kept", b"kept", QoS::AtLeastOnce);
    let mut member = Client::connect(&broker, Version::V5, "shared-sub");
    member.subscribe("$share/g/shared/#", QoS::AtLeastOnce);
    publisher.publish("shared/mark", b"mark", QoS::AtLeastOnce);
    assert_eq!(member.message().publish().payload, b"mark");
}

#[test]
fn a_broker_without_retained_messages_says_so() {
    // [MQTT5-3.2.2-13] [MQTT5-3.2.2-14]
    let broker = Start::new().config("[mqtt]\nretain_available = false\n").start();
    let mut client = Client::connect(&broker, Version::V5, "unavailable");
    client.send(&Packet::Publish(Publish { topic: "t", retain: true, ..Publish::default() }));
    assert_eq!(client.end(), End::Told(ReasonCode::RetainNotSupported));
    let connect = dunlin_wire::packet::Connect {
        will: Some(dunlin_wire::packet::Will { topic: "w", retain: true, ..Default::default() }),
        ..dunlin_e2e::login(Version::V5, "unavailable-will")
    };
    let (mut client, answer) = Client::try_connect(&broker, connect);
    assert_eq!(answer.connack().code, ReasonCode::RetainNotSupported);
    assert_eq!(client.end(), End::Silent);
}

#[test]
fn thousands_of_retained_messages_reach_a_wildcard() {
    let broker = Broker::with_shards(2);
    let mut publisher = Client::connect(&broker, Version::V5, "many-pub");
    let count = 3_000;
    for number in 0..count {
        publisher.retain(&format!("many/{number}"), b"x", QoS::AtLeastOnce);
    }
    publisher.retain("many/last", b"x", QoS::AtLeastOnce);
    let mut subscriber = Client::connect(&broker, Version::V5, "many-sub");
    subscriber.subscribe("many/#", QoS::AtMostOnce);
    let mut topics: Vec<String> =
        (0..=count).map(|_| subscriber.message().publish().topic.to_owned()).collect();
    topics.sort();
    topics.dedup();
    assert_eq!(topics.len(), count + 1);
}
