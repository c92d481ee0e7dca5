//! rumqttc, a Rust client with code of its own, in 3.1.1 and 5.
//!
//! They use nothing that the standards do not define: [MQTT311-7.0.0-2].

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests fail where the broker does something else"
)]

use dunlin_e2e::Broker;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);
const COUNT: u32 = 200;

/// In 3.1.1.
mod v4 {
    use super::{Broker, COUNT, DEADLINE};
    use rumqttc::{
        Client, Connection, Event, LastWill, MqttOptions, Packet, Publish, QoS, SubscribeReasonCode,
    };

    pub(super) fn connect(broker: &Broker, name: &str, clean: bool) -> (Client, Connection) {
        open(broker, name, clean, None)
    }

    pub(super) fn open(
        broker: &Broker,
        name: &str,
        clean: bool,
        will: Option<LastWill>,
    ) -> (Client, Connection) {
        let mut options = MqttOptions::new(name, "127.0.0.1", broker.address().port());
        options.set_clean_session(clean).set_keep_alive(DEADLINE);
        if let Some(will) = will {
            options.set_last_will(will);
        }
        let (client, mut connection) = Client::new(options, 1_000);
        wait(&mut connection, |packet| matches!(packet, Packet::ConnAck(_)).then_some(()));
        (client, connection)
    }

    /// Drives the connection until a packet that `pick` takes has come in.
    pub(super) fn wait<T>(connection: &mut Connection, mut pick: impl FnMut(&Packet) -> Option<T>) -> T {
        loop {
            let event = connection.recv_timeout(DEADLINE).expect("an event in time").expect("a connection");
            if let Event::Incoming(packet) = &event
                && let Some(found) = pick(packet)
            {
                return found;
            }
        }
    }

    pub(super) fn subscribe(client: &Client, connection: &mut Connection, filter: &str, qos: QoS) {
        client.subscribe(filter, qos).unwrap();
        let codes = wait(connection, |packet| match packet {
            Packet::SubAck(suback) => Some(suback.return_codes.clone()),
            _ => None,
        });
        assert_eq!(codes, [SubscribeReasonCode::Success(qos)]);
    }

    pub(super) fn message(connection: &mut Connection) -> Publish {
        wait(connection, |packet| match packet {
            Packet::Publish(publish) => Some(publish.clone()),
            _ => None,
        })
    }

    /// Publishes numbers and drives the connection until the last one is acknowledged.
    pub(super) fn publish_numbers(broker: &Broker, topic: &str, qos: QoS) {
        let (client, mut connection) = connect(broker, "rumqttc-4-pub", true);
        for number in 0..COUNT {
            client.publish(topic, qos, false, number.to_string()).unwrap();
        }
        for _ in 0..COUNT {
            wait(&mut connection, |packet| {
                let done = match qos {
                    QoS::AtMostOnce => true,
                    QoS::AtLeastOnce => matches!(packet, Packet::PubAck(_)),
                    QoS::ExactlyOnce => matches!(packet, Packet::PubComp(_)),
                };
                done.then_some(())
            });
        }
        client.disconnect().unwrap();
    }
}

#[test]
fn v4_messages_arrive_in_order_with_qos_1_and_2() {
    use rumqttc::QoS;
    for shards in [1, 2] {
        let broker = Broker::with_shards(shards);
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let (client, mut connection) = v4::connect(&broker, "rumqttc-4-sub", true);
            v4::subscribe(&client, &mut connection, "numbers/+", qos);
            v4::publish_numbers(&broker, "numbers/x", qos);
            for number in 0..COUNT {
                let message = v4::message(&mut connection);
                assert_eq!(message.payload, number.to_string().as_bytes());
                assert_eq!((message.topic.as_str(), message.qos), ("numbers/x", qos));
            }
            client.disconnect().unwrap();
        }
    }
}

#[test]
fn v4_retained_will_and_lasting_session() {
    use rumqttc::{LastWill, QoS};
    let broker = Broker::with_shards(2);
    let (sleeper, mut connection) = v4::connect(&broker, "rumqttc-4-sleeper", false);
    v4::subscribe(&sleeper, &mut connection, "kept", QoS::AtLeastOnce);
    v4::subscribe(&sleeper, &mut connection, "will", QoS::AtLeastOnce);
    drop(connection);
    drop(sleeper);

    let will = LastWill::new("will", "gone", QoS::AtLeastOnce, false);
    let (dying, mut connection) = v4::open(&broker, "rumqttc-4-dying", true, Some(will));
    dying.publish("kept", QoS::AtLeastOnce, true, "kept").unwrap();
    v4::wait(&mut connection, |packet| matches!(packet, rumqttc::Packet::PubAck(_)).then_some(()));
    drop(connection);

    let (_client, mut connection) = v4::connect(&broker, "rumqttc-4-sleeper", false);
    let mut payloads = [v4::message(&mut connection).payload, v4::message(&mut connection).payload];
    payloads.sort();
    assert_eq!(payloads, ["gone", "kept"]);

    let (late, mut connection) = v4::connect(&broker, "rumqttc-4-late", true);
    v4::subscribe(&late, &mut connection, "kept", QoS::AtLeastOnce);
    let kept = v4::message(&mut connection);
    assert!(kept.retain);
    assert_eq!(kept.payload, "kept");
}

/// In 5.
mod v5 {
    use super::{Broker, DEADLINE};
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{Packet, Publish, SubscribeReasonCode};
    use rumqttc::v5::{Client, Connection, Event, MqttOptions};

    pub(super) fn connect(broker: &Broker, name: &str) -> (Client, Connection) {
        let mut options = MqttOptions::new(name, "127.0.0.1", broker.address().port());
        options.set_keep_alive(DEADLINE).set_clean_start(true);
        let (client, mut connection) = Client::new(options, 1_000);
        wait(&mut connection, |packet| matches!(packet, Packet::ConnAck(_)).then_some(()));
        (client, connection)
    }

    pub(super) fn wait<T>(connection: &mut Connection, mut pick: impl FnMut(&Packet) -> Option<T>) -> T {
        loop {
            let event = connection.recv_timeout(DEADLINE).expect("an event in time").expect("a connection");
            if let Event::Incoming(packet) = &event
                && let Some(found) = pick(packet)
            {
                return found;
            }
        }
    }

    pub(super) fn subscribe(client: &Client, connection: &mut Connection, filter: &str, qos: QoS) {
        client.subscribe(filter, qos).unwrap();
        let codes = wait(connection, |packet| match packet {
            Packet::SubAck(suback) => Some(suback.return_codes.clone()),
            _ => None,
        });
        assert_eq!(codes, [SubscribeReasonCode::Success(qos)]);
    }

    pub(super) fn message(connection: &mut Connection) -> Publish {
        wait(connection, |packet| match packet {
            Packet::Publish(publish) => Some(publish.clone()),
            _ => None,
        })
    }
}

#[test]
fn v5_messages_and_properties_arrive_in_order() {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
    for shards in [1, 2] {
        let broker = Broker::with_shards(shards);
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let (subscriber, mut incoming) = v5::connect(&broker, "rumqttc-5-sub");
            v5::subscribe(&subscriber, &mut incoming, "numbers/#", qos);
            let (publisher, mut outgoing) = v5::connect(&broker, "rumqttc-5-pub");
            let properties = PublishProperties {
                user_properties: vec![("b".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())],
                content_type: Some("text/plain".to_owned()),
                ..PublishProperties::default()
            };
            for number in 0..COUNT {
                publisher
                    .publish_with_properties("numbers/x", qos, false, number.to_string(), properties.clone())
                    .unwrap();
            }
            for _ in 0..COUNT {
                v5::wait(&mut outgoing, |packet| {
                    matches!(packet, Packet::PubAck(_) | Packet::PubComp(_)).then_some(())
                });
            }
            for number in 0..COUNT {
                let message = v5::message(&mut incoming);
                assert_eq!(message.payload, number.to_string().as_bytes());
                let got = message.properties.unwrap();
                assert_eq!(got.user_properties, properties.user_properties);
                assert_eq!(got.content_type, properties.content_type);
            }
            subscriber.disconnect().unwrap();
            publisher.disconnect().unwrap();
        }
    }
}
