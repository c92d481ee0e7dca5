//! SUBSCRIBE and UNSUBSCRIBE with their answers.

#![expect(clippy::wildcard_enum_match_arm, reason = "tests fail where the broker does something else")]

use dunlin_e2e::client::End;
use dunlin_e2e::{Broker, Client, Start};
use dunlin_wire::packet::{
    Packet, Subscribe, SubscribeProperties, Subscription, Subscriptions, TopicFilters, Unsubscribe,
    UserProperties,
};
use dunlin_wire::{PacketId, PacketType, QoS, ReasonCode, RetainHandling, SubscriptionOptions, Version};

#[test]
fn several_filters_get_their_codes_in_order() {
    // [MQTT311-3.8.4-1] [MQTT311-3.8.4-2] [MQTT311-3.8.4-4] [MQTT311-3.8.4-5] [MQTT311-3.9.3-1] [MQTT311-3.9.3-2]
    // [MQTT5-3.8.4-1] [MQTT5-3.8.4-2] [MQTT5-3.8.4-5] [MQTT5-3.8.4-6] [MQTT5-3.8.4-7] [MQTT5-3.9.3-1] [MQTT5-3.9.3-2]
    // [MQTT311-2.3.1-7] [MQTT5-2.2.1-6]
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::connect(&broker, version, "several");
        let wanted = [QoS::ExactlyOnce, QoS::AtMostOnce, QoS::AtLeastOnce];
        let filters = ["a/+", "b/#", "c"];
        let subscriptions: Vec<Subscription<'_>> = filters
            .iter()
            .zip(wanted)
            .map(|(filter, qos)| Subscription { filter, options: SubscriptionOptions::with_qos(qos) })
            .collect();
        let packet_id = PacketId::new(4_242).unwrap();
        client.send(&Packet::Subscribe(Subscribe {
            packet_id,
            properties: SubscribeProperties::default(),
            subscriptions: Subscriptions::from_slice(&subscriptions),
        }));
        let answer = client.expect(PacketType::SubAck);
        assert_eq!(answer.suback().packet_id, packet_id);
        assert_eq!(answer.granted(), wanted.map(ReasonCode::granted));
    }
}

#[test]
fn unsubscribe_takes_exactly_the_filters_it_names() {
    // [MQTT311-3.10.4-1] [MQTT311-3.10.4-2] [MQTT311-3.10.4-4] [MQTT311-3.10.4-5] [MQTT311-3.10.4-6]
    // [MQTT5-3.10.4-1] [MQTT5-3.10.4-2] [MQTT5-3.10.4-4] [MQTT5-3.10.4-5] [MQTT5-3.10.4-6] [MQTT5-3.11.3-1]
    // [MQTT5-3.11.3-2]
    let broker = Broker::with_shards(2);
    for version in Version::ALL {
        let mut client = Client::connect(&broker, version, "un-sub");
        for filter in ["un/+", "un/a", "un/b"] {
            client.subscribe(filter, QoS::AtLeastOnce);
        }
        let packet_id = PacketId::new(99).unwrap();
        let filters = ["un/+", "un/never", "un/a"];
        client.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            user_properties: UserProperties::NONE,
            filters: TopicFilters::from_slice(&filters),
        }));
        let answer = client.expect(PacketType::UnsubAck);
        assert_eq!(answer.unsuback().packet_id, packet_id);
        let codes: Vec<ReasonCode> = answer.unsuback().reason_codes().collect();
        if version == Version::V5 {
            assert_eq!(codes, [ReasonCode::Success, ReasonCode::NoSubscriptionExisted, ReasonCode::Success]);
        }
        let mut publisher = Client::connect(&broker, version, "un-pub");
        publisher.publish("un/a", b"no", QoS::AtLeastOnce);
        publisher.publish("un/b", b"yes", QoS::AtLeastOnce);
        assert_eq!(client.message().publish().payload, b"yes");
        client.expect_quiet();
    }
}

#[test]
fn a_filter_subscribed_again_replaces_the_subscription() {
    // [MQTT311-3.8.4-3] [MQTT5-3.8.4-3] [MQTT5-3.8.4-4]
    let broker = Broker::start();
    let mut publisher = Client::connect(&broker, Version::V5, "again-pub");
    publisher.retain("again/kept", b"kept", QoS::AtLeastOnce);
    for version in Version::ALL {
        let mut client = Client::connect(&broker, version, "again-sub");
        for qos in [QoS::ExactlyOnce, QoS::AtMostOnce] {
            client.subscribe("again/#", qos);
            let kept = client.message();
            assert_eq!(kept.publish().payload, b"kept");
            assert!(kept.publish().retain);
        }
        publisher.publish("again/live", b"x", QoS::AtLeastOnce);
        assert_eq!(client.message().publish().qos, QoS::AtMostOnce);
        client.expect_quiet();
    }
}

#[test]
fn what_is_switched_off_is_refused() {
    // [MQTT311-3.8.3-2]
    let broker =
        Start::new().config("[mqtt]\nwildcard_subscription = false\nshared_subscription = false\n").start();
    let mut old = Client::connect(&broker, Version::V311, "off-old");
    assert_eq!(old.subscribe("off/#", QoS::AtMostOnce), ReasonCode::UnspecifiedError);
    assert_eq!(old.subscribe("off/plain", QoS::AtMostOnce), ReasonCode::Success);
    let mut new = Client::connect(&broker, Version::V5, "off-new");
    assert_eq!(new.subscribe("off/+", QoS::AtMostOnce), ReasonCode::WildcardSubscriptionsNotSupported);
    assert_eq!(new.subscribe("$share/g/off", QoS::AtMostOnce), ReasonCode::SharedSubscriptionsNotSupported);
}

#[test]
fn no_local_on_a_shared_subscription_is_an_error() {
    // [MQTT5-3.8.3-4]
    let broker = Broker::start();
    let mut client = Client::connect(&broker, Version::V5, "shared-local");
    let options = SubscriptionOptions { no_local: true, ..SubscriptionOptions::with_qos(QoS::AtMostOnce) };
    let subscriptions = [Subscription { filter: "$share/g/t", options }];
    client.send(&Packet::Subscribe(Subscribe {
        packet_id: PacketId::FIRST,
        properties: SubscribeProperties::default(),
        subscriptions: Subscriptions::from_slice(&subscriptions),
    }));
    assert_eq!(client.end(), End::Told(ReasonCode::ProtocolError));
}

#[test]
fn malformed_subscribes_end_the_connection() {
    // [MQTT311-3.8.1-1] [MQTT5-3.8.1-1] [MQTT311-3.8.3-3] [MQTT5-3.8.3-2] [MQTT311-3.8.3-4] [MQTT5-3.8.3-5]
    // [MQTT311-3.10.1-1] [MQTT5-3.10.1-1] [MQTT311-3.10.3-2] [MQTT5-3.10.3-2] [MQTT311-2.2.2-2]
    let broker = Broker::start();
    let old: [&[u8]; 7] = [
        &[0x80, 6, 0, 1, 0, 1, b'a', 0],
        &[0x82, 2, 0, 1],
        &[0x82, 6, 0, 1, 0, 1, b'a', 3],
        &[0x82, 6, 0, 1, 0, 1, b'a', 0x04],
        &[0x82, 6, 0, 0, 0, 1, b'a', 0],
        &[0xA0, 5, 0, 1, 0, 1, b'a'],
        &[0xA2, 2, 0, 1],
    ];
    for bytes in old {
        let mut client = Client::connect(&broker, Version::V311, "bad-old");
        client.send_bytes(bytes);
        assert_eq!(client.end(), End::Silent, "{bytes:02x?}");
    }
    let new: [(&[u8], &[ReasonCode]); 9] = [
        (&[0x80, 7, 0, 1, 0, 0, 1, b'a', 0], &[ReasonCode::MalformedPacket]),
        (&[0x82, 3, 0, 1, 0], &[ReasonCode::ProtocolError]),
        (&[0x82, 7, 0, 1, 0, 0, 1, b'a', 3], &[ReasonCode::MalformedPacket, ReasonCode::ProtocolError]),
        (&[0x82, 7, 0, 1, 0, 0, 1, b'a', 0xC0], &[ReasonCode::MalformedPacket]),
        (&[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x30], &[ReasonCode::MalformedPacket, ReasonCode::ProtocolError]),
        (&[0x82, 7, 0, 0, 0, 0, 1, b'a', 0], &[ReasonCode::MalformedPacket, ReasonCode::ProtocolError]),
        // Subscription Identifier 0.
        (
            &[0x82, 9, 0, 1, 2, 0x0B, 0, 0, 1, b'a', 0],
            &[ReasonCode::ProtocolError, ReasonCode::MalformedPacket],
        ),
        (&[0xA0, 6, 0, 1, 0, 0, 1, b'a'], &[ReasonCode::MalformedPacket]),
        (&[0xA2, 3, 0, 1, 0], &[ReasonCode::ProtocolError]),
    ];
    for (bytes, codes) in new {
        let mut client = Client::connect(&broker, Version::V5, "bad-new");
        client.send_bytes(bytes);
        match client.end() {
            End::Told(code) => assert!(codes.contains(&code), "{bytes:02x?}: {code:?}"),
            End::Silent => panic!("{bytes:02x?}: closed without a reason"),
        }
    }
}

#[test]
fn bad_filters_are_refused() {
    // [MQTT311-4.7.1-2] [MQTT311-4.7.1-3] [MQTT5-4.7.1-1] [MQTT5-4.7.1-2] [MQTT311-4.7.3-1] [MQTT5-4.7.3-1]
    // [MQTT5-4.8.2-1] [MQTT5-4.8.2-2]
    let broker = Broker::start();
    for filter in [
        "",
        "a/#/b",
        "a#",
        "#a",
        "a+",
        "+a/b",
        "a/b+",
        "$share//t",
        "$share/g/",
        "$share/g+/t",
        "$share/g#/t",
    ] {
        let mut bytes = vec![0, 1, 0];
        let length = u16::try_from(filter.len()).unwrap().to_be_bytes();
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(filter.as_bytes());
        bytes.push(0);
        let mut packet = vec![0x82, u8::try_from(bytes.len()).unwrap()];
        packet.extend_from_slice(&bytes);
        let mut client = Client::connect(&broker, Version::V5, "bad-filter");
        client.send_bytes(&packet);
        // Either the subscription fails or the connection ends; both tell why.
        let answer = client.next("refusal");
        let code = match answer.packet() {
            Packet::SubAck(suback) => suback.reason_codes().next().unwrap(),
            Packet::Disconnect(disconnect) => disconnect.code,
            other => panic!("{filter}: {other:?}"),
        };
        assert!(code.is_error(), "{filter}: {code:?}");
    }
}

#[test]
fn retain_handling_decides_what_a_subscription_brings() {
    // [MQTT5-3.3.1-9] [MQTT5-3.3.1-10] [MQTT5-3.3.1-11]
    let broker = Broker::with_shards(2);
    let mut publisher = Client::connect(&broker, Version::V5, "handling-pub");
    publisher.retain("handling/a", b"kept", QoS::AtLeastOnce);
    let mut client = Client::connect(&broker, Version::V5, "handling-sub");
    let options = |retain_handling| SubscriptionOptions {
        retain_handling,
        ..SubscriptionOptions::with_qos(QoS::AtLeastOnce)
    };
    let rounds = [
        (RetainHandling::DoNotSend, false),
        (RetainHandling::SendIfNew, false),
        (RetainHandling::SendAtSubscribe, true),
        (RetainHandling::SendAtSubscribe, true),
    ];
    for (handling, sends) in rounds {
        client.subscribe_with("handling/#", options(handling), None);
        if sends {
            assert_eq!(client.message().publish().payload, b"kept");
        }
        publisher.publish("handling/mark", b"", QoS::AtLeastOnce);
        assert_eq!(client.message().publish().topic, "handling/mark", "{handling:?}");
    }
    client.unsubscribe("handling/#");
    client.subscribe_with("handling/#", options(RetainHandling::SendIfNew), None);
    assert_eq!(client.message().publish().payload, b"kept");
}

#[test]
fn messages_on_their_way_are_completed_after_unsubscribe() {
    // [MQTT311-3.10.4-3] [MQTT5-3.10.4-3]
    let broker = Broker::start();
    let mut client = Client::connect(&broker, Version::V5, "complete-sub");
    client.subscribe("complete", QoS::ExactlyOnce);
    Client::connect(&broker, Version::V5, "complete-pub").publish("complete", b"x", QoS::ExactlyOnce);
    let message = client.expect(PacketType::Publish);
    let packet_id = message.publish().packet_id.unwrap();
    client.unsubscribe("complete");
    client.send(&Packet::PubRec(dunlin_wire::packet::Ack::success(packet_id)));
    assert_eq!(client.expect(PacketType::PubRel).ack().packet_id, packet_id);
    client.send(&Packet::PubComp(dunlin_wire::packet::Ack::success(packet_id)));
    client.expect_quiet();
}
