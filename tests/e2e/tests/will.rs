//! Wills: published exactly when the standard says.

use dunlin_e2e::client::End;
use dunlin_e2e::{Broker, Client, login};
use dunlin_wire::packet::{Connect, Packet, UserProperties, Will, WillProperties};
use dunlin_wire::{QoS, ReasonCode, Version};

fn with_will<'a>(version: Version, client_id: &'a str, topic: &'a str) -> Connect<'a> {
    Connect {
        will: Some(Will { qos: QoS::AtLeastOnce, topic, payload: b"gone", ..Will::default() }),
        ..login(version, client_id)
    }
}

fn watcher(broker: &Broker, filter: &str) -> Client {
    let mut watcher = Client::connect(broker, Version::V5, "watcher");
    watcher.subscribe(filter, QoS::ExactlyOnce);
    watcher
}

/// Publishes a mark and asserts that it is the next message that the watcher gets.
fn assert_no_will(broker: &Broker, watcher: &mut Client, mark: &str) {
    let mut other = Client::connect(broker, Version::V5, "marker");
    other.publish(mark, b"mark", QoS::AtLeastOnce);
    assert_eq!(watcher.message().publish().payload, b"mark");
    other.goodbye();
}

#[test]
fn a_cut_connection_publishes_the_will() {
    // [MQTT311-3.1.2-8] [MQTT311-3.1.2-16] [MQTT5-3.1.2-7] [MQTT5-3.1.2-8] [MQTT5-3.1.2-14]
    for shards in [1, 2, 4] {
        let broker = Broker::with_shards(shards);
        let mut watcher = watcher(&broker, "will/cut");
        for version in Version::ALL {
            let (dying, _) = Client::connect_with(&broker, with_will(version, "dying", "will/cut"));
            dying.cut();
            let message = watcher.message();
            assert_eq!(message.publish().payload, b"gone");
            assert_eq!(message.publish().qos, QoS::AtLeastOnce);
            assert!(!message.publish().retain);
        }
    }
}

#[test]
fn a_polite_end_discards_the_will() {
    // [MQTT311-3.14.4-3] [MQTT311-3.1.2-10] [MQTT5-3.14.4-3] [MQTT5-3.1.2-10]
    let broker = Broker::with_shards(2);
    let mut watcher = watcher(&broker, "will/#");
    for version in Version::ALL {
        let (polite, _) = Client::connect_with(&broker, with_will(version, "polite", "will/polite"));
        polite.goodbye();
        assert_no_will(&broker, &mut watcher, "will/mark");
    }
}

#[test]
fn disconnect_with_will_message_publishes_it() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker, "will/asked");
    let (mut client, _) = Client::connect_with(&broker, with_will(Version::V5, "asks", "will/asked"));
    client.disconnect(ReasonCode::DisconnectWithWillMessage);
    assert_eq!(watcher.message().publish().payload, b"gone");
}

#[test]
fn a_protocol_error_publishes_the_will() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker, "will/error");
    for version in Version::ALL {
        let (mut client, _) = Client::connect_with(&broker, with_will(version, "errs", "will/error"));
        client.send(&Packet::Connect(login(version, "errs")));
        client.end();
        assert_eq!(watcher.message().publish().payload, b"gone");
    }
}

#[test]
fn a_keep_alive_timeout_publishes_the_will() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker, "will/silent");
    let connect = Connect { keep_alive_seconds: 1, ..with_will(Version::V5, "silent", "will/silent") };
    let (mut client, _) = Client::connect_with(&broker, connect);
    assert_eq!(client.end(), End::Told(ReasonCode::KeepAliveTimeout));
    assert_eq!(watcher.message().publish().payload, b"gone");
}

#[test]
fn a_takeover_publishes_the_will_unless_the_session_goes_on_with_a_delay() {
    // [MQTT5-3.1.3-9]
    let broker = Broker::with_shards(2);
    let mut watcher = watcher(&broker, "will/#");
    let (_old, _) = Client::connect_with(&broker, with_will(Version::V311, "taken", "will/taken"));
    let _new = Client::connect(&broker, Version::V311, "taken");
    assert_eq!(watcher.message().publish().topic, "will/taken");

    let mut connect = with_will(Version::V5, "delayed", "will/delayed");
    connect.properties.session_expiry_interval = Some(100);
    if let Some(will) = &mut connect.will {
        will.properties.will_delay_interval = Some(100);
    }
    let (_old, _) = Client::connect_with(&broker, connect);
    let resumed = Connect { clean_start: false, ..connect };
    let (_new, answer) = Client::connect_with(&broker, resumed);
    assert!(answer.connack().session_present);
    assert_no_will(&broker, &mut watcher, "will/mark");
}

#[test]
fn the_delay_is_waited_for() {
    // [MQTT5-3.1.2-8]
    let broker = Broker::start();
    let mut watcher = watcher(&broker, "will/later");
    let mut connect = with_will(Version::V5, "later", "will/later");
    connect.properties.session_expiry_interval = Some(100);
    if let Some(will) = &mut connect.will {
        will.properties.will_delay_interval = Some(1);
    }
    let (client, _) = Client::connect_with(&broker, connect);
    let began = dunlin_e2e::now();
    client.cut();
    assert_eq!(watcher.message().publish().payload, b"gone");
    assert!(began.elapsed().as_millis() >= 1_000);
}

#[test]
fn the_end_of_the_session_ends_the_delay() {
    // [MQTT5-3.1.2-8]: whichever of the two comes first.
    let broker = Broker::start();
    let mut watcher = watcher(&broker, "will/session");
    let mut connect = with_will(Version::V5, "short", "will/session");
    if let Some(will) = &mut connect.will {
        will.properties.will_delay_interval = Some(10_000);
    }
    let (client, _) = Client::connect_with(&broker, connect);
    client.cut();
    assert_eq!(watcher.message().publish().payload, b"gone");

    connect.properties.session_expiry_interval = Some(10_000);
    let (client, _) = Client::connect_with(&broker, connect);
    client.cut();
    let _fresh = Client::connect(&broker, Version::V5, "short");
    assert_eq!(watcher.message().publish().payload, b"gone");
}

#[test]
fn a_retained_will_is_kept() {
    // [MQTT311-3.1.2-17] [MQTT5-3.1.2-15]
    let broker = Broker::with_shards(2);
    for version in Version::ALL {
        let topic = format!("will/kept/{version:?}");
        let mut watcher = watcher(&broker, &topic);
        let mut connect = with_will(version, "keeps", &topic);
        if let Some(will) = &mut connect.will {
            will.retain = true;
        }
        let (client, _) = Client::connect_with(&broker, connect);
        client.cut();
        watcher.message();
        let mut late = Client::connect(&broker, version, "late");
        late.subscribe(&topic, QoS::AtLeastOnce);
        let kept = late.message();
        assert!(kept.publish().retain);
        assert_eq!(kept.publish().payload, b"gone");
    }
}

#[test]
fn will_properties_travel() {
    // [MQTT5-3.1.3-10]
    let broker = Broker::with_shards(2);
    let mut watcher = watcher(&broker, "will/props");
    let pairs = [("z", "1"), ("a", "2"), ("z", "3")];
    let mut connect = with_will(Version::V5, "props", "will/props");
    if let Some(will) = &mut connect.will {
        will.properties = WillProperties {
            content_type: Some("text/plain"),
            response_topic: Some("answer"),
            correlation_data: Some(&[1, 2]),
            payload_format_indicator: Some(true),
            message_expiry_interval: Some(1_000),
            user_properties: UserProperties::from_pairs(&pairs),
            ..WillProperties::default()
        };
    }
    let (client, _) = Client::connect_with(&broker, connect);
    client.cut();
    let message = watcher.message();
    let got = message.publish().properties;
    assert_eq!(got.content_type, Some("text/plain"));
    assert_eq!(got.response_topic, Some("answer"));
    assert_eq!(got.correlation_data, Some([1, 2].as_slice()));
    assert_eq!(got.payload_format_indicator, Some(true));
    assert!(got.message_expiry_interval.is_some_and(|left| left <= 1_000));
    assert_eq!(got.user_properties.iter().collect::<Vec<_>>(), pairs);
}

#[test]
fn a_connection_without_a_will_publishes_none() {
    // [MQTT311-3.1.2-12]
    let broker = Broker::start();
    let mut watcher = watcher(&broker, "#");
    for version in Version::ALL {
        Client::connect(&broker, version, "plain").cut();
        assert_no_will(&broker, &mut watcher, "mark");
    }
}
