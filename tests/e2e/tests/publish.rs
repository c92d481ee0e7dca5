//! PUBLISH in both directions: exchanges, resending, windows, order and properties.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests fail where the broker does something else"
)]

use dunlin_e2e::client::End;
use dunlin_e2e::{Broker, Client, Start, login};
use dunlin_wire::packet::{
    Ack, Connect, ConnectProperties, Packet, Publish, PublishProperties, UserProperties,
};
use dunlin_wire::{PacketId, PacketType, QoS, ReasonCode, SubscriptionOptions, Version};
use std::num::{NonZeroU16, NonZeroU32};

const EVERY_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

#[test]
fn every_version_reaches_every_version_with_every_qos() {
    // [MQTT311-3.8.4-6] [MQTT5-3.8.4-8] [MQTT311-3.3.4-1] [MQTT5-3.3.4-1] [MQTT311-4.3.1-1] [MQTT5-4.3.1-1]
    // [MQTT311-3.3.2-3] [MQTT5-3.3.2-3] [MQTT311-3.3.1-2] [MQTT5-3.3.1-2] [MQTT5-4.3.2-2] [MQTT5-4.3.3-2]
    let broker = Broker::with_shards(2);
    for from in Version::ALL {
        for to in Version::ALL {
            let mut publisher = Client::connect(&broker, from, "publisher");
            let mut subscriber = Client::connect(&broker, to, "subscriber");
            for granted in EVERY_QOS {
                let code = subscriber.subscribe("matrix/+", granted);
                assert_eq!(code, ReasonCode::granted(granted));
                for qos in EVERY_QOS {
                    publisher.publish("matrix/x", b"hello", qos);
                    let message = subscriber.message();
                    let message = message.publish();
                    assert_eq!((message.topic, message.payload), ("matrix/x", b"hello".as_slice()));
                    assert_eq!(message.qos, qos.min(granted));
                    assert!(!message.dup && !message.retain);
                }
            }
            publisher.goodbye();
            subscriber.goodbye();
        }
    }
}

#[test]
fn a_publish_without_subscribers_is_acknowledged() {
    // [MQTT311-4.3.2-2] [MQTT5-4.3.2-4]
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::connect(&broker, version, "alone");
        let code = client.publish("nobody/here", b"x", QoS::AtLeastOnce);
        if version == Version::V5 {
            assert_eq!(code, ReasonCode::NoMatchingSubscribers);
        }
        assert!(!client.publish("nobody/here", b"x", QoS::ExactlyOnce).is_error());
    }
}

#[test]
fn qos_2_from_a_client_is_delivered_once() {
    // [MQTT311-4.3.3-2] [MQTT5-4.3.3-8] [MQTT5-4.3.3-10] [MQTT5-4.3.3-11] [MQTT5-4.3.3-12]
    let broker = Broker::with_shards(2);
    for version in Version::ALL {
        let mut subscriber = Client::connect(&broker, version, "once-sub");
        subscriber.subscribe("once", QoS::ExactlyOnce);
        let mut publisher = Client::connect(&broker, version, "once-pub");
        let first = Publish {
            topic: "once",
            payload: b"first",
            qos: QoS::ExactlyOnce,
            packet_id: Some(id(9)),
            ..Publish::default()
        };
        publisher.send(&Packet::Publish(first));
        assert_eq!(publisher.expect(PacketType::PubRec).ack().packet_id, id(9));
        for _ in 0..3 {
            publisher.send(&Packet::Publish(Publish { dup: true, ..first }));
            assert_eq!(publisher.expect(PacketType::PubRec).ack().packet_id, id(9));
        }
        publisher.send(&Packet::PubRel(Ack::success(id(9))));
        assert_eq!(publisher.expect(PacketType::PubComp).ack().packet_id, id(9));
        // The identifier is free again: this is another message.
        publisher.send(&Packet::Publish(Publish { payload: b"second", ..first }));
        publisher.expect(PacketType::PubRec);
        publisher.send(&Packet::PubRel(Ack::success(id(9))));
        publisher.expect(PacketType::PubComp);
        assert_eq!(subscriber.message().publish().payload, b"first");
        assert_eq!(subscriber.message().publish().payload, b"second");
    }
}

#[test]
fn after_puback_the_same_id_is_a_new_message() {
    // [MQTT311-4.3.2-2] [MQTT5-4.3.2-5]
    let broker = Broker::start();
    let mut subscriber = Client::connect(&broker, Version::V5, "again-sub");
    subscriber.subscribe("again", QoS::AtLeastOnce);
    let mut publisher = Client::connect(&broker, Version::V5, "again-pub");
    for (dup, payload) in [(false, b"1"), (true, b"2"), (false, b"3")] {
        publisher.send(&Packet::Publish(Publish {
            topic: "again",
            payload,
            dup,
            qos: QoS::AtLeastOnce,
            packet_id: Some(id(5)),
            ..Publish::default()
        }));
        publisher.expect(PacketType::PubAck);
        let message = subscriber.message();
        assert_eq!(message.publish().payload, payload);
        // [MQTT311-3.3.1-3] [MQTT5-3.3.1-3]: DUP is not passed on.
        assert!(!message.publish().dup);
    }
}

#[test]
fn a_pubrel_for_nothing_is_answered() {
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::connect(&broker, version, "stray");
        client.send(&Packet::PubRel(Ack::success(id(77))));
        let answer = client.expect(PacketType::PubComp);
        assert_eq!(answer.ack().packet_id, id(77));
        if version == Version::V5 {
            assert_eq!(answer.ack().code, ReasonCode::PacketIdentifierNotFound);
        }
    }
}

/// Connects to a session that goes on after the connection.
fn lasting<'a>(version: Version, client_id: &'a str) -> Connect<'a> {
    let mut connect = login(version, client_id);
    connect.clean_start = false;
    if version == Version::V5 {
        connect.properties.session_expiry_interval = Some(600);
    }
    connect
}

#[test]
fn unacknowledged_messages_come_again_on_resume() {
    // [MQTT311-4.4.0-1] [MQTT5-4.4.0-1] [MQTT311-3.3.1-1] [MQTT5-3.3.1-1] [MQTT311-4.6.0-1] [MQTT311-2.3.1-4]
    // [MQTT5-4.3.2-3] [MQTT5-4.3.3-3]
    let broker = Broker::with_shards(2);
    for version in Version::ALL {
        let name = format!("resume-{version:?}");
        let (mut subscriber, _) = Client::connect_with(&broker, lasting(version, &name));
        subscriber.subscribe("resume", QoS::ExactlyOnce);
        let mut publisher = Client::connect(&broker, version, "resume-pub");
        for payload in [b"1", b"2", b"3"] {
            publisher.publish("resume", payload, QoS::AtLeastOnce);
        }
        publisher.publish("resume", b"4", QoS::ExactlyOnce);
        let before: Vec<_> = (0..4).map(|_| subscriber.expect(PacketType::Publish)).collect();
        subscriber.cut();

        let (mut subscriber, answer) = Client::connect_with(&broker, lasting(version, &name));
        if version != Version::V31 {
            assert!(answer.connack().session_present);
        }
        for old in &before {
            let again = subscriber.expect(PacketType::Publish);
            let (old, again) = (old.publish(), again.publish());
            assert!(again.dup);
            assert_eq!((again.packet_id, again.payload, again.qos), (old.packet_id, old.payload, old.qos));
        }
        subscriber.goodbye();
        // A clean start ends this session for the next round.
        Client::connect(&broker, version, &name).goodbye();
    }
}

#[test]
fn a_released_message_is_not_published_again() {
    // [MQTT5-4.3.3-4] [MQTT5-4.3.3-5] [MQTT5-4.3.3-6] [MQTT311-4.3.3-1]
    let broker = Broker::start();
    for version in [Version::V311, Version::V5] {
        let name = format!("release-{version:?}");
        let (mut subscriber, _) = Client::connect_with(&broker, lasting(version, &name));
        subscriber.subscribe("release", QoS::ExactlyOnce);
        Client::connect(&broker, version, "release-pub").publish("release", b"x", QoS::ExactlyOnce);
        let message = subscriber.expect(PacketType::Publish);
        let packet_id = message.publish().packet_id.unwrap();
        subscriber.send(&Packet::PubRec(Ack::success(packet_id)));
        assert_eq!(subscriber.expect(PacketType::PubRel).ack().packet_id, packet_id);
        subscriber.cut();

        let (mut subscriber, _) = Client::connect_with(&broker, lasting(version, &name));
        assert_eq!(subscriber.expect(PacketType::PubRel).ack().packet_id, packet_id);
        subscriber.send(&Packet::PubComp(Ack::success(packet_id)));
        subscriber.expect_quiet();
    }
}

#[test]
fn the_window_of_the_client_is_respected_and_delays_nothing_else() {
    // [MQTT5-3.3.4-9] [MQTT5-3.3.4-10] [MQTT5-4.9.0-1] [MQTT5-4.9.0-2] [MQTT5-4.9.0-3]
    let broker = Broker::with_shards(2);
    let connect = Connect {
        properties: ConnectProperties { receive_maximum: NonZeroU16::new(2), ..ConnectProperties::default() },
        ..login(Version::V5, "window-sub")
    };
    let (mut subscriber, _) = Client::connect_with(&broker, connect);
    subscriber.subscribe("window", QoS::AtLeastOnce);
    let mut publisher = Client::connect(&broker, Version::V5, "window-pub");
    for number in 0..10_u8 {
        publisher.publish("window", &[number], QoS::AtLeastOnce);
    }
    let mut waiting = vec![subscriber.expect(PacketType::Publish), subscriber.expect(PacketType::Publish)];
    subscriber.expect_quiet();
    subscriber.subscribe("window/other", QoS::AtMostOnce);
    for number in 0..10_u8 {
        let message = waiting.remove(0);
        assert_eq!(message.publish().payload, [number]);
        subscriber.send(&Packet::PubAck(Ack::success(message.publish().packet_id.unwrap())));
        if number < 8 {
            waiting.push(subscriber.expect(PacketType::Publish));
        }
        subscriber.expect_quiet();
    }
}

#[test]
fn more_than_the_receive_maximum_ends_the_connection() {
    // [MQTT5-3.3.4-7]
    let broker = Start::new().config("[mqtt]\nreceive_maximum = 3\nmax_awaiting_rel = 3\n").start();
    let mut client = Client::connect(&broker, Version::V5, "too-many");
    for number in 1..=4 {
        client.send(&Packet::Publish(Publish {
            topic: "t",
            qos: QoS::ExactlyOnce,
            packet_id: Some(id(number)),
            ..Publish::default()
        }));
    }
    assert_eq!(client.end_after_anything(), End::Told(ReasonCode::ReceiveMaximumExceeded));
}

#[test]
fn messages_of_one_publisher_keep_their_order() {
    // [MQTT311-4.6.0-5] [MQTT311-4.6.0-6] [MQTT5-4.6.0-5] [MQTT5-4.6.0-6]
    for shards in [1, 2, 4] {
        let broker = Broker::with_shards(shards);
        let mut subscribers: Vec<Client> = (0..4)
            .map(|number| {
                let mut subscriber = Client::connect(&broker, Version::V5, &format!("order-{number}"));
                subscriber.subscribe("order/#", QoS::ExactlyOnce);
                subscriber
            })
            .collect();
        let mut publisher = Client::connect(&broker, Version::V5, "order-pub");
        for qos in EVERY_QOS {
            for number in 0..100_u8 {
                publisher.publish("order/x", &[number], qos);
            }
            for subscriber in &mut subscribers {
                for number in 0..100_u8 {
                    assert_eq!(subscriber.message().publish().payload, [number], "{qos:?}, {shards} shards");
                }
            }
        }
    }
}

#[test]
fn properties_are_forwarded_unchanged() {
    // [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18] [MQTT5-3.3.2-20]
    // [MQTT5-3.3.4-3]
    let broker = Broker::with_shards(2);
    let pairs = [("b", "2"), ("a", "1"), ("b", ""), ("", "ü")];
    for qos in EVERY_QOS {
        let mut subscriber = Client::connect(&broker, Version::V5, "properties-sub");
        subscriber.subscribe_with("properties", SubscriptionOptions::with_qos(qos), Some(268_435_455));
        let mut publisher = Client::connect(&broker, Version::V5, "properties-pub");
        publisher.publish_with(Publish {
            topic: "properties",
            payload: "grüße".as_bytes(),
            qos,
            properties: PublishProperties {
                payload_format_indicator: Some(true),
                response_topic: Some("answer/here"),
                correlation_data: Some(&[0, 255, 1]),
                content_type: Some("text/plain"),
                user_properties: UserProperties::from_pairs(&pairs),
                ..PublishProperties::default()
            },
            ..Publish::default()
        });
        let message = subscriber.message();
        let got = message.publish().properties;
        assert_eq!(got.payload_format_indicator, Some(true));
        assert_eq!(got.response_topic, Some("answer/here"));
        assert_eq!(got.correlation_data, Some([0, 255, 1].as_slice()));
        assert_eq!(got.content_type, Some("text/plain"));
        assert_eq!(got.user_properties.iter().collect::<Vec<_>>(), pairs);
        assert_eq!(got.subscription_ids.iter().collect::<Vec<_>>(), [268_435_455]);
        assert_eq!(got.message_expiry_interval, None);
        // An old subscriber gets the message without them.
        let mut old = Client::connect(&broker, Version::V311, "properties-old");
        old.subscribe("properties", qos);
        publisher.publish("properties", b"plain", qos);
        assert_eq!(old.message().publish().payload, b"plain");
        assert_eq!(subscriber.message().publish().payload, b"plain");
    }
}

#[test]
fn overlapping_subscriptions_respect_the_highest_qos_and_name_all_identifiers() {
    // [MQTT311-3.3.5-1] [MQTT5-3.3.4-2] [MQTT5-3.3.4-4] [MQTT5-3.3.4-5]
    let broker = Broker::start();
    let mut client = Client::connect(&broker, Version::V5, "overlap");
    client.subscribe_with("overlap/#", SubscriptionOptions::with_qos(QoS::AtMostOnce), Some(1));
    client.subscribe_with("overlap/+", SubscriptionOptions::with_qos(QoS::ExactlyOnce), Some(2));
    client.subscribe_with("overlap/a", SubscriptionOptions::with_qos(QoS::AtLeastOnce), None);
    let mut publisher = Client::connect(&broker, Version::V5, "overlap-pub");
    publisher.publish("overlap/a", b"x", QoS::ExactlyOnce);
    publisher.publish("overlap/end", b"end", QoS::ExactlyOnce);
    let mut highest = QoS::AtMostOnce;
    let mut identifiers = Vec::new();
    loop {
        let message = client.message();
        let publish = message.publish();
        if publish.payload == b"end" {
            break;
        }
        highest = highest.max(publish.qos);
        identifiers.extend(publish.properties.subscription_ids.iter());
    }
    identifiers.sort_unstable();
    assert_eq!(highest, QoS::ExactlyOnce);
    assert_eq!(identifiers, [1, 2]);
}

#[test]
fn topic_aliases_work_towards_the_broker() {
    // [MQTT5-3.3.2-12] [MQTT5-3.3.2-7]
    let broker = Start::new().config("[mqtt]\nmax_topic_alias = 3\n").start();
    let mut subscriber = Client::connect(&broker, Version::V5, "alias-sub");
    subscriber.subscribe("alias/#", QoS::AtMostOnce);
    let mut publisher = Client::connect(&broker, Version::V5, "alias-pub");
    let with_alias = |topic: &'static str, alias: u16, payload: &'static [u8]| {
        Packet::Publish(Publish {
            topic,
            payload,
            properties: PublishProperties {
                topic_alias: NonZeroU16::new(alias),
                ..PublishProperties::default()
            },
            ..Publish::default()
        })
    };
    for (topic, alias, expected) in [
        ("alias/one", 1, "alias/one"),
        ("alias/three", 3, "alias/three"),
        ("", 1, "alias/one"),
        ("alias/other", 1, "alias/other"),
        ("", 1, "alias/other"),
        ("", 3, "alias/three"),
    ] {
        publisher.send(&with_alias(topic, alias, b"x"));
        let message = subscriber.message();
        assert_eq!(message.publish().topic, expected);
        // [MQTT5-3.1.2-27]: this subscriber allowed no aliases.
        assert_eq!(message.publish().properties.topic_alias, None);
    }
    publisher.goodbye();
    // The mapping went with the connection.
    let mut publisher = Client::connect(&broker, Version::V5, "alias-pub");
    publisher.send(&with_alias("", 1, b"x"));
    assert_eq!(publisher.end(), End::Told(ReasonCode::ProtocolError));
    // [MQTT5-3.3.2-9] [MQTT5-3.2.2-17]
    let mut publisher = Client::connect(&broker, Version::V5, "alias-pub");
    publisher.send(&with_alias("alias/four", 4, b"x"));
    assert_eq!(publisher.end(), End::Told(ReasonCode::TopicAliasInvalid));
}

#[test]
fn topic_alias_zero_is_an_error() {
    // [MQTT5-3.3.2-8]
    let broker = Broker::start();
    let mut client = Client::connect(&broker, Version::V5, "alias-zero");
    client.send_bytes(&[0x30, 7, 0, 1, b't', 3, 0x23, 0, 0]);
    assert_eq!(client.end(), End::Told(ReasonCode::TopicAliasInvalid));
}

#[test]
fn topic_aliases_from_the_broker_stay_within_the_client_s_maximum() {
    // [MQTT5-3.1.2-26] [MQTT5-3.3.2-11]
    let broker = Broker::start();
    let connect = Connect {
        properties: ConnectProperties { topic_alias_maximum: Some(2), ..ConnectProperties::default() },
        ..login(Version::V5, "aliases")
    };
    let (mut subscriber, _) = Client::connect_with(&broker, connect);
    subscriber.subscribe("aliases/#", QoS::AtMostOnce);
    let mut publisher = Client::connect(&broker, Version::V5, "aliases-pub");
    let topics: Vec<String> = (0..5).map(|number| format!("aliases/{number}")).collect();
    let mut known = std::collections::HashMap::new();
    for _round in 0..3 {
        for topic in &topics {
            publisher.publish(topic, b"x", QoS::AtMostOnce);
            let message = subscriber.message();
            let publish = message.publish();
            let seen = match publish.properties.topic_alias {
                Some(alias) if publish.topic.is_empty() => known.get(&alias).cloned().unwrap(),
                Some(alias) => {
                    assert!(alias.get() <= 2);
                    known.insert(alias, publish.topic.to_owned());
                    publish.topic.to_owned()
                }
                None => publish.topic.to_owned(),
            };
            assert_eq!(&seen, topic);
        }
    }
}

#[test]
fn a_message_waits_no_longer_than_its_expiry() {
    // [MQTT5-3.3.2-5] [MQTT5-3.3.2-6]
    let broker = Broker::start();
    let (mut subscriber, _) = Client::connect_with(&broker, lasting(Version::V5, "expiry-sub"));
    subscriber.subscribe("expiry", QoS::AtLeastOnce);
    subscriber.goodbye();
    let mut publisher = Client::connect(&broker, Version::V5, "expiry-pub");
    for (payload, seconds) in [(b"short", 1), (b"long!", 1_000)] {
        publisher.publish_with(Publish {
            topic: "expiry",
            payload,
            qos: QoS::AtLeastOnce,
            properties: PublishProperties {
                message_expiry_interval: Some(seconds),
                ..PublishProperties::default()
            },
            ..Publish::default()
        });
    }
    wait_out_a_second(&broker);

    let (mut subscriber, _) = Client::connect_with(&broker, lasting(Version::V5, "expiry-sub"));
    let message = subscriber.message();
    assert_eq!(message.publish().payload, b"long!");
    let left = message.publish().properties.message_expiry_interval.unwrap();
    assert!((900..1_000).contains(&left), "{left} s left");
    subscriber.expect_quiet();
}

/// Waits until at least a second and a half have passed, by the end of a connection with a Keep Alive of one second.
fn wait_out_a_second(broker: &Broker) {
    let connect = Connect { keep_alive_seconds: 1, ..login(Version::V5, "clock") };
    let (mut clock, _) = Client::connect_with(broker, connect);
    assert_eq!(clock.end(), End::Told(ReasonCode::KeepAliveTimeout));
}

fn expiring(topic: &str, seconds: u32) -> Publish<'_> {
    Publish {
        topic,
        payload: b"x",
        qos: QoS::ExactlyOnce,
        properties: PublishProperties {
            message_expiry_interval: Some(seconds),
            ..PublishProperties::default()
        },
        ..Publish::default()
    }
}

#[test]
fn a_message_that_was_sent_does_not_expire() {
    // [MQTT5-4.3.3-7]
    let broker = Broker::start();
    let (mut subscriber, _) = Client::connect_with(&broker, lasting(Version::V5, "sent-sub"));
    subscriber.subscribe("sent", QoS::ExactlyOnce);
    Client::connect(&broker, Version::V5, "sent-pub").publish_with(expiring("sent", 1));
    let sent = subscriber.expect(PacketType::Publish);
    subscriber.cut();
    wait_out_a_second(&broker);
    let (mut subscriber, _) = Client::connect_with(&broker, lasting(Version::V5, "sent-sub"));
    let again = subscriber.message();
    assert!(again.publish().dup);
    assert_eq!(again.publish().packet_id, sent.publish().packet_id);
}

#[test]
fn an_exchange_goes_on_although_its_message_expired() {
    // [MQTT5-4.3.3-13]
    let broker = Broker::start();
    let mut publisher = Client::connect(&broker, Version::V5, "gone-pub");
    publisher.send(&Packet::Publish(Publish { packet_id: Some(id(3)), ..expiring("gone", 1) }));
    publisher.expect(PacketType::PubRec);
    wait_out_a_second(&broker);
    publisher.send(&Packet::PubRel(Ack::success(id(3))));
    let done = publisher.expect(PacketType::PubComp);
    assert_eq!((done.ack().packet_id, done.ack().code), (id(3), ReasonCode::Success));
}

#[test]
fn releases_come_in_the_order_of_the_receipts() {
    // [MQTT311-4.6.0-4]
    let broker = Broker::start();
    for version in Version::ALL {
        let mut subscriber = Client::connect(&broker, version, "releases-sub");
        subscriber.subscribe("releases", QoS::ExactlyOnce);
        let mut publisher = Client::connect(&broker, version, "releases-pub");
        let ids: Vec<PacketId> = (0..5)
            .map(|_| {
                publisher.publish("releases", b"x", QoS::ExactlyOnce);
                subscriber.expect(PacketType::Publish).publish().packet_id.unwrap()
            })
            .collect();
        let order = [3, 0, 4, 1, 2].map(|index: usize| ids[index]);
        for packet_id in order {
            subscriber.send(&Packet::PubRec(Ack::success(packet_id)));
        }
        for packet_id in order {
            assert_eq!(subscriber.expect(PacketType::PubRel).ack().packet_id, packet_id);
        }
    }
}

#[test]
fn without_problem_information_answers_carry_codes_only() {
    // [MQTT5-3.1.2-29]
    let broker = Broker::start();
    let connect = Connect {
        properties: ConnectProperties {
            request_problem_information: Some(false),
            ..ConnectProperties::default()
        },
        ..login(Version::V5, "no-problem")
    };
    let (mut client, _) = Client::connect_with(&broker, connect);
    let bare = |answer: &dunlin_e2e::Received| {
        let properties = match answer.packet() {
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack) => ack.properties,
            Packet::SubAck(suback) => suback.properties,
            Packet::UnsubAck(unsuback) => unsuback.properties,
            other => panic!("{other:?}"),
        };
        properties.reason_string.is_none() && properties.user_properties.is_empty()
    };
    client.send(&Packet::Publish(Publish {
        topic: "nobody/listens",
        qos: QoS::AtLeastOnce,
        packet_id: Some(id(1)),
        ..Publish::default()
    }));
    assert!(bare(&client.expect(PacketType::PubAck)));
    client.send(&Packet::PubRel(Ack::success(id(2))));
    assert!(bare(&client.expect(PacketType::PubComp)));
    // An Unsubscribe that finds nothing, and a share name with a wildcard, which the codec itself would not send.
    client.send_bytes(&[0xA2, 6, 0, 3, 0, 0, 1, b'n']);
    assert!(bare(&client.expect(PacketType::UnsubAck)));
    client.send_bytes(&[
        0x82, 16, 0, 4, 0, 0, 10, b'$', b's', b'h', b'a', b'r', b'e', b'/', b'+', b'/', b't', 0,
    ]);
    let answer = client.next("SUBACK or DISCONNECT");
    if answer.kind() == PacketType::SubAck {
        assert!(bare(&answer));
    }
}

#[test]
fn without_a_maximum_the_client_may_use_no_alias() {
    // [MQTT5-3.2.2-18]
    let broker = Start::new().config("[mqtt]\nmax_topic_alias = 0\n").start();
    let (mut client, answer) = Client::connect_with(&broker, login(Version::V5, "no-alias"));
    assert_eq!(answer.connack().properties.topic_alias_maximum.unwrap_or(0), 0);
    client.send(&Packet::Publish(Publish {
        topic: "t",
        properties: PublishProperties { topic_alias: NonZeroU16::new(1), ..PublishProperties::default() },
        ..Publish::default()
    }));
    assert_eq!(client.end(), End::Told(ReasonCode::TopicAliasInvalid));
}

#[test]
fn a_packet_above_the_client_s_maximum_is_dropped_for_it_alone() {
    // [MQTT5-3.1.2-24] [MQTT5-3.1.2-25]
    let broker = Broker::with_shards(2);
    let connect = Connect {
        properties: ConnectProperties {
            maximum_packet_size: NonZeroU32::new(64),
            ..ConnectProperties::default()
        },
        ..login(Version::V5, "small")
    };
    let (mut small, _) = Client::connect_with(&broker, connect);
    let mut large = Client::connect(&broker, Version::V5, "large");
    small.subscribe("size", QoS::AtLeastOnce);
    large.subscribe("size", QoS::AtLeastOnce);
    let mut publisher = Client::connect(&broker, Version::V5, "size-pub");
    publisher.publish("size", &[b'x'; 100], QoS::AtLeastOnce);
    publisher.publish("size", b"fits", QoS::AtLeastOnce);
    assert_eq!(small.message().publish().payload, b"fits");
    assert_eq!(large.message().publish().payload.len(), 100);
    assert_eq!(large.message().publish().payload, b"fits");
}

#[test]
fn a_qos_above_the_server_s_is_refused() {
    // [MQTT5-3.2.2-11] [MQTT5-3.2.2-10] [MQTT5-3.2.2-12]
    let broker = Start::new().config("[mqtt]\nmax_qos_allowed = 1\n").start();
    let mut client = Client::connect(&broker, Version::V5, "qos-limit");
    assert!(!client.subscribe("qos-limit", QoS::ExactlyOnce).is_error());
    client.send(&Packet::Publish(Publish {
        topic: "t",
        qos: QoS::ExactlyOnce,
        packet_id: Some(id(1)),
        ..Publish::default()
    }));
    assert_eq!(client.end(), End::Told(ReasonCode::QoSNotSupported));
    let will = Connect {
        will: Some(dunlin_wire::packet::Will { qos: QoS::ExactlyOnce, topic: "w", ..Default::default() }),
        ..login(Version::V5, "qos-will")
    };
    let (mut client, answer) = Client::try_connect(&broker, will);
    assert_eq!(answer.connack().code, ReasonCode::QoSNotSupported);
    assert_eq!(client.end(), End::Silent);
}

#[test]
fn no_local_keeps_a_client_from_its_own_messages() {
    // [MQTT5-3.8.3-3]
    let broker = Broker::with_shards(2);
    let options = SubscriptionOptions { no_local: true, ..SubscriptionOptions::with_qos(QoS::AtLeastOnce) };
    let mut one = Client::connect(&broker, Version::V5, "local-one");
    let mut other = Client::connect(&broker, Version::V5, "local-other");
    one.subscribe_with("local", options, None);
    other.subscribe_with("local", options, None);
    one.publish("local", b"from one", QoS::AtLeastOnce);
    assert_eq!(other.message().publish().payload, b"from one");
    other.publish("local", b"from other", QoS::AtLeastOnce);
    assert_eq!(one.message().publish().payload, b"from other");
    one.expect_quiet();
    other.expect_quiet();
}

#[test]
fn a_large_payload_arrives_whole() {
    let broker = Broker::with_shards(2);
    let payload: Vec<u8> = (0..900_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    for version in Version::ALL {
        let mut subscriber = Client::connect(&broker, version, "large-sub");
        subscriber.subscribe("large", QoS::ExactlyOnce);
        let mut publisher = Client::connect(&broker, version, "large-pub");
        for qos in EVERY_QOS {
            publisher.publish("large", &payload, qos);
            assert!(subscriber.message().publish().payload == payload, "{qos:?}");
        }
    }
}

#[test]
fn wildcards_match_as_the_standard_says() {
    // [MQTT311-4.7.2-1] [MQTT5-4.7.2-1] [MQTT311-4.7.3-4] [MQTT5-4.7.3-4]
    let cases: [(&str, &[&str], &[&str]); 7] = [
        ("sport/#", &["sport", "sport/", "sport/a/b"], &["sports", "Sport", "spor"]),
        ("sport/+", &["sport/a", "sport/"], &["sport", "sport/a/b"]),
        ("+/+", &["/a", "a/", "/"], &["a", "a/b/c"]),
        ("/+", &["/finance"], &["finance", "a/finance"]),
        ("#", &["a", "a/b"], &["$hidden/a"]),
        ("+/monitor", &["x/monitor"], &["$hidden/monitor"]),
        ("$hidden/#", &["$hidden/a"], &["hidden/a"]),
    ];
    let broker = Broker::with_shards(2);
    let mut publisher = Client::connect(&broker, Version::V5, "wild-pub");
    for (filter, matching, other) in cases {
        let mut subscriber = Client::connect(&broker, Version::V5, "wild-sub");
        assert!(!subscriber.subscribe(filter, QoS::AtLeastOnce).is_error(), "{filter}");
        subscriber.subscribe("end-mark", QoS::AtLeastOnce);
        for topic in other.iter().chain(matching) {
            publisher.publish(topic, b"x", QoS::AtLeastOnce);
        }
        publisher.publish("end-mark", b"", QoS::AtLeastOnce);
        let mut got = Vec::new();
        loop {
            let message = subscriber.message();
            let topic = message.publish().topic.to_owned();
            if topic == "end-mark" {
                break;
            }
            got.push(topic);
        }
        if filter == "#" {
            // "#" gets the end mark too, and once more as itself at most.
            got.retain(|topic| matching.contains(&topic.as_str()));
        }
        assert_eq!(got, matching, "{filter}");
        subscriber.goodbye();
    }
}
