//! Sessions that outlive their connection, and those that do not.

use dunlin_e2e::client::End;
use dunlin_e2e::{Broker, Client, Start, login};
use dunlin_wire::packet::{Connect, Disconnect, DisconnectProperties, Packet};
use dunlin_wire::{QoS, ReasonCode, Version};

fn lasting(version: Version, client_id: &str) -> Connect<'_> {
    let mut connect = login(version, client_id);
    connect.clean_start = false;
    if version == Version::V5 {
        connect.properties.session_expiry_interval = Some(600);
    }
    connect
}

#[test]
fn a_session_collects_messages_while_its_client_is_away() {
    // [MQTT311-3.1.2-4] [MQTT311-3.1.2-5] [MQTT311-3.2.2-2] [MQTT311-3.2.2-3] [MQTT311-4.1.0-1] [MQTT311-4.5.0-1]
    // [MQTT5-3.1.2-5] [MQTT5-3.1.2-6] [MQTT5-3.1.2-23] [MQTT5-3.2.2-3] [MQTT5-4.1.0-1] [MQTT5-4.5.0-1]
    for shards in [1, 2, 4] {
        let broker = Broker::with_shards(shards);
        for version in Version::ALL {
            let name = format!("away-{version:?}");
            let (mut client, answer) = Client::connect_with(&broker, lasting(version, &name));
            assert!(!answer.connack().session_present);
            client.subscribe("away/+", QoS::ExactlyOnce);
            client.goodbye();
            let mut publisher = Client::connect(&broker, version, "away-pub");
            let qos_of =
                |number: u8| if number.is_multiple_of(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            for number in 0..50_u8 {
                publisher.publish("away/x", &[number], qos_of(number));
            }
            let (mut client, answer) = Client::connect_with(&broker, lasting(version, &name));
            // 3.1 has no Session Present.
            assert_eq!(answer.connack().session_present, version != Version::V31);
            // [MQTT5-4.6.0-5]: in order, each QoS for itself.
            let mut next = [0, 1];
            for _ in 0..50 {
                let message = client.message();
                let number = message.publish().payload[0];
                assert_eq!(message.publish().qos, qos_of(number));
                let next = &mut next[usize::from(number % 2)];
                assert_eq!(number, *next);
                *next += 2;
            }
            publisher.publish("away/y", b"live", QoS::AtLeastOnce);
            assert_eq!(client.message().publish().payload, b"live");
            client.goodbye();
            Client::connect(&broker, version, &name).goodbye();
        }
    }
}

#[test]
fn a_clean_start_sees_nothing_of_the_old_session() {
    // [MQTT311-3.1.2-6] [MQTT311-3.1.4-3] [MQTT5-3.1.2-4] [MQTT5-3.1.4-4] [MQTT311-3.2.2-1] [MQTT5-3.2.2-2]
    let broker = Broker::with_shards(2);
    for version in Version::ALL {
        let name = format!("clean-{version:?}");
        let (mut client, _) = Client::connect_with(&broker, lasting(version, &name));
        client.subscribe("clean", QoS::AtLeastOnce);
        client.goodbye();
        let mut publisher = Client::connect(&broker, version, "clean-pub");
        publisher.publish("clean", b"for the old session", QoS::AtLeastOnce);
        let (mut client, answer) = Client::connect_with(&broker, login(version, &name));
        assert!(!answer.connack().session_present);
        publisher.publish("clean", b"nobody", QoS::AtLeastOnce);
        client.subscribe("clean/mark", QoS::AtLeastOnce);
        publisher.publish("clean/mark", b"mark", QoS::AtLeastOnce);
        assert_eq!(client.message().publish().payload, b"mark");
    }
}

#[test]
fn a_session_without_expiry_ends_with_its_connection() {
    // [MQTT311-3.1.2-6] [MQTT5-4.1.0-2]
    let broker = Broker::start();
    for version in [Version::V311, Version::V5] {
        let (mut client, _) = Client::connect_with(&broker, login(version, "brief"));
        client.subscribe("brief", QoS::AtLeastOnce);
        client.cut();
        let (_client, answer) = Client::connect_with(&broker, lasting(version, "brief"));
        assert!(!answer.connack().session_present);
        Client::connect(&broker, version, "brief").goodbye();
    }
}

#[test]
fn a_session_ends_when_its_expiry_has_passed() {
    // [MQTT5-4.1.0-2]: the will is published at the end of the session, which is the event to wait for.
    let broker = Broker::start();
    let mut watcher = Client::connect(&broker, Version::V5, "expiry-watch");
    watcher.subscribe("expired", QoS::AtLeastOnce);
    let mut connect = lasting(Version::V5, "expiring");
    connect.properties.session_expiry_interval = Some(1);
    connect.will = Some(dunlin_wire::packet::Will {
        topic: "expired",
        properties: dunlin_wire::packet::WillProperties {
            will_delay_interval: Some(1_000),
            ..Default::default()
        },
        ..Default::default()
    });
    let (client, _) = Client::connect_with(&broker, connect);
    client.cut();
    watcher.message();
    let (_client, answer) = Client::connect_with(&broker, lasting(Version::V5, "expiring"));
    assert!(!answer.connack().session_present);
}

#[test]
fn disconnect_may_change_the_expiry() {
    let broker = Broker::start();
    let end_with = |client: &mut Client, seconds: u32| {
        client.send(&Packet::Disconnect(Disconnect {
            code: ReasonCode::NORMAL_DISCONNECTION,
            properties: DisconnectProperties {
                session_expiry_interval: Some(seconds),
                ..DisconnectProperties::default()
            },
        }));
    };
    let (mut client, _) = Client::connect_with(&broker, lasting(Version::V5, "changes"));
    end_with(&mut client, 0);
    assert_eq!(client.end(), End::Silent);
    let (_client, answer) = Client::connect_with(&broker, lasting(Version::V5, "changes"));
    assert!(!answer.connack().session_present);

    // From nothing to something is a protocol error.
    let mut client = Client::connect(&broker, Version::V5, "from-nothing");
    end_with(&mut client, 100);
    assert_eq!(client.end(), End::Told(ReasonCode::ProtocolError));
}

#[test]
fn the_queue_is_bounded_and_keeps_what_the_policy_says() {
    let broker = Start::new().config("[mqtt]\nmax_mqueue_len = 10\n").start();
    let (mut client, _) = Client::connect_with(&broker, lasting(Version::V5, "bounded"));
    client.subscribe("bounded", QoS::AtLeastOnce);
    client.goodbye();
    let mut publisher = Client::connect(&broker, Version::V5, "bounded-pub");
    for number in 0..100_u8 {
        publisher.publish("bounded", &[number], QoS::AtLeastOnce);
    }
    let (mut client, _) = Client::connect_with(&broker, lasting(Version::V5, "bounded"));
    let mut got = Vec::new();
    for _ in 0..10 {
        got.push(client.message().publish().payload[0]);
    }
    client.expect_quiet();
    // The oldest give way to the newest, in order.
    assert_eq!(got, (90..100).collect::<Vec<u8>>());
}

#[test]
fn qos_0_waits_for_an_absent_client_only_if_configured() {
    for (stored, setting) in [(true, "true"), (false, "false")] {
        let broker = Start::new().config(&format!("[mqtt]\nmqueue_store_qos0 = {setting}\n")).start();
        let (mut client, _) = Client::connect_with(&broker, lasting(Version::V5, "zero"));
        client.subscribe("zero", QoS::AtLeastOnce);
        client.goodbye();
        let mut publisher = Client::connect(&broker, Version::V5, "zero-pub");
        publisher.publish("zero", b"0", QoS::AtMostOnce);
        publisher.publish("zero", b"1", QoS::AtLeastOnce);
        let (mut client, _) = Client::connect_with(&broker, lasting(Version::V5, "zero"));
        if stored {
            assert_eq!(client.message().publish().payload, b"0");
        }
        assert_eq!(client.message().publish().payload, b"1");
        client.expect_quiet();
    }
}

#[test]
fn a_session_survives_a_change_of_version() {
    let broker = Broker::with_shards(2);
    let (mut client, _) = Client::connect_with(&broker, lasting(Version::V311, "grows"));
    client.subscribe("grows/#", QoS::AtLeastOnce);
    client.goodbye();
    Client::connect(&broker, Version::V5, "grows-pub").publish("grows/x", b"x", QoS::AtLeastOnce);
    let (mut client, answer) = Client::connect_with(&broker, lasting(Version::V5, "grows"));
    assert!(answer.connack().session_present);
    assert_eq!(client.message().publish().payload, b"x");
}
