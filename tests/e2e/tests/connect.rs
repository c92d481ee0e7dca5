//! CONNECT and CONNACK: who gets in, what is answered, and what ends a connection.

use dunlin_e2e::client::End;
use dunlin_e2e::{Broker, Client, Start, login};
use dunlin_wire::packet::{Connect, ConnectProperties, Packet};
use dunlin_wire::{PacketType, QoS, ReasonCode, Version};

#[test]
fn each_version_gets_a_connack() {
    // [MQTT311-3.1.4-4] [MQTT311-3.2.0-1] [MQTT5-3.1.4-5] [MQTT5-3.2.0-1] [MQTT5-3.2.2-2] [MQTT311-3.2.2-1]
    // [MQTT311-7.1.1-1] [MQTT5-4.2.0-1]
    let broker = Broker::start();
    for version in Version::ALL {
        let (mut client, answer) = Client::connect_with(&broker, login(version, "each-version"));
        assert!(!answer.connack().session_present);
        // [MQTT5-3.2.2-1]: the byte after the fixed header has no bit but Session Present.
        assert_eq!(answer.bytes()[2], 0);
        client.expect_quiet();
        client.goodbye();
    }
}

#[test]
fn the_bytes_of_a_connack_of_3_are_the_two_that_the_standard_names() {
    let broker = Broker::start();
    for version in [Version::V31, Version::V311] {
        let (_client, answer) = Client::connect_with(&broker, login(version, "bytes"));
        assert_eq!(answer.bytes(), [0x20, 0x02, 0x00, 0x00]);
    }
}

#[test]
fn the_first_packet_must_be_connect() {
    // [MQTT311-3.1.0-1] [MQTT5-3.1.0-1]
    let broker = Broker::start();
    let firsts: [&[u8]; 12] = [
        &[0x20, 0x02, 0x00, 0x00],
        &[0x30, 0x03, 0x00, 0x01, b'a'],
        &[0x40, 0x02, 0x00, 0x01],
        &[0x50, 0x02, 0x00, 0x01],
        &[0x62, 0x02, 0x00, 0x01],
        &[0x70, 0x02, 0x00, 0x01],
        &[0x82, 0x06, 0x00, 0x01, 0x00, 0x01, b'a', 0x00],
        &[0xA2, 0x05, 0x00, 0x01, 0x00, 0x01, b'a'],
        &[0xC0, 0x00],
        &[0xD0, 0x00],
        &[0xE0, 0x00],
        &[0xF0, 0x00],
    ];
    for first in firsts {
        let mut client = Client::open(&broker, Version::V5);
        client.send_bytes(first);
        // [MQTT5-3.14.0-1]: there is no DISCONNECT before CONNACK.
        assert_eq!(client.end(), End::Silent, "{first:02x?}");
    }
}

#[test]
fn a_second_connect_ends_the_connection() {
    // [MQTT311-3.1.0-2] [MQTT5-3.1.0-2] [MQTT5-3.2.0-2]
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::connect(&broker, version, "twice");
        client.send(&Packet::Connect(login(version, "twice")));
        let end = client.end();
        if version == Version::V5 {
            assert_eq!(end, End::Told(ReasonCode::ProtocolError));
        } else {
            assert_eq!(end, End::Silent);
        }
    }
}

#[test]
fn an_unknown_level_is_told_so() {
    // [MQTT311-3.1.2-2] [MQTT5-3.1.2-2]: an older client in the form of 3.x, a newer one in that of 5.0.
    let broker = Broker::start();
    for (level, version) in [(2, Version::V311), (6, Version::V5), (99, Version::V5)] {
        let mut client = Client::open(&broker, version);
        client.send_bytes(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 60, 0, 1, b'x']);
        let answer = client.next("refusal");
        if version == Version::V311 {
            assert_eq!(answer.bytes(), [0x20, 0x02, 0x00, 0x01], "level {level}");
        } else {
            assert_eq!(answer.connack().code, ReasonCode::UnsupportedProtocolVersion);
        }
        assert_eq!(client.end(), End::Silent);
    }
}

#[test]
fn a_wrong_protocol_name_is_not_served() {
    // [MQTT311-3.1.2-1] [MQTT5-3.1.2-1]
    let broker = Broker::start();
    for name in [b"MQTU", b"mqtt", b"HTTP"] {
        let mut client = Client::open(&broker, Version::V311);
        let mut bytes = vec![0x10, 13, 0, 4];
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&[4, 2, 0, 60, 0, 1, b'x']);
        client.send_bytes(&bytes);
        let _refusal = client.next_within("refusal or end", dunlin_e2e::DEADLINE);
        assert_eq!(client.end_after_anything(), End::Silent);
    }
}

#[test]
fn malformed_connects_close_the_connection() {
    // [MQTT311-3.1.4-1] [MQTT5-3.1.4-1] [MQTT311-3.1.2-3] [MQTT5-3.1.2-3]
    let broker = Broker::start();
    let flags_and_why = [
        (0x03, "reserved flag"),
        (0x1A, "Will QoS 3 without a will"),
        (0x1E, "Will QoS 3"),                 // [MQTT311-3.1.2-14] [MQTT5-3.1.2-12]
        (0x0A, "Will QoS without a will"),    // [MQTT311-3.1.2-13] [MQTT5-3.1.2-11]
        (0x22, "Will Retain without a will"), // [MQTT311-3.1.2-15] [MQTT5-3.1.2-13]
        (0x82, "user name flag without a user name"), // [MQTT311-3.1.2-19] [MQTT5-3.1.2-17]
        (0x06, "will flag without a will"),   // [MQTT311-3.1.2-9] [MQTT5-3.1.2-9]
    ];
    for (flags, why) in flags_and_why {
        for level in [4, 5] {
            let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, flags, 0, 60];
            if level == 5 {
                body.push(0);
            }
            body.extend_from_slice(&[0, 1, b'x']);
            let mut bytes = vec![0x10, u8::try_from(body.len()).unwrap()];
            bytes.extend_from_slice(&body);
            let version = if level == 5 { Version::V5 } else { Version::V311 };
            let mut client = Client::open(&broker, version);
            client.send_bytes(&bytes);
            if let Some(answer) = client.next_within("refusal or end", dunlin_e2e::DEADLINE) {
                // 5.0 allows a CONNACK that says why; 3.1.1 closes without one.
                assert_eq!(version, Version::V5, "{why}: {answer:?}");
                assert!(answer.connack().code.is_error(), "{why}");
            }
            assert_eq!(client.end_after_anything(), End::Silent, "{why}");
        }
    }
}

#[test]
fn a_password_needs_a_user_name_before_5() {
    // [MQTT311-3.1.2-22]
    let broker = Broker::start();
    let mut client = Client::open(&broker, Version::V311);
    client.send_bytes(&[0x10, 16, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x42, 0, 60, 0, 1, b'x', 0, 1, b'p']);
    assert_eq!(client.end(), End::Silent);

    let password_only = Connect { password: Some(b"p"), ..login(Version::V5, "password-only") };
    let (_client, answer) = Client::connect_with(&broker, password_only);
    assert_eq!(answer.connack().code, ReasonCode::Success);
}

#[test]
fn an_empty_client_id_gets_one() {
    // [MQTT311-3.1.3-6] [MQTT5-3.1.3-6] [MQTT5-3.1.3-7] [MQTT5-3.2.2-16]
    let broker = Broker::start();
    let (_old, _) = Client::connect_with(&broker, login(Version::V311, ""));
    let (_one, first) = Client::connect_with(&broker, login(Version::V5, ""));
    let (_two, second) = Client::connect_with(&broker, login(Version::V5, ""));
    let first = first.connack().properties.assigned_client_identifier.unwrap().to_owned();
    let second = second.connack().properties.assigned_client_identifier.unwrap().to_owned();
    assert!(!first.is_empty());
    assert_ne!(first, second);
}

#[test]
fn the_assigned_client_id_is_the_session_s() {
    // [MQTT5-3.1.3-7]: whoever connects with the assigned id takes the connection over.
    let broker = Broker::start();
    let (mut first, answer) = Client::connect_with(&broker, login(Version::V5, ""));
    let id = answer.connack().properties.assigned_client_identifier.unwrap().to_owned();
    let _second = Client::connect(&broker, Version::V5, &id);
    assert_eq!(first.end(), End::Told(ReasonCode::SessionTakenOver));
}

#[test]
fn an_empty_client_id_without_clean_session_is_rejected_before_5() {
    // [MQTT311-3.1.3-7] [MQTT311-3.1.3-8] [MQTT311-3.2.2-4] [MQTT311-3.2.2-5]
    let broker = Broker::start();
    let connect = Connect { clean_start: false, ..login(Version::V311, "") };
    let (mut client, answer) = Client::try_connect(&broker, connect);
    assert_eq!(answer.bytes(), [0x20, 0x02, 0x00, 0x02]);
    assert_eq!(client.end(), End::Silent);
}

#[test]
fn every_plain_client_id_is_taken() {
    // [MQTT311-3.1.3-5] [MQTT5-3.1.3-5]
    let broker = Broker::start();
    for id in ["0", "abcdefghijklmnopqrstuvw", "ABCDEFGHIJKLMNOPQRSTUVW", "xyzXYZ0123456789"] {
        for version in Version::ALL {
            Client::connect(&broker, version, id).goodbye();
        }
    }
}

#[test]
fn a_client_id_above_the_limit_is_rejected() {
    // [MQTT311-3.1.3-9] [MQTT5-3.1.3-8] [MQTT5-3.2.2-6] [MQTT5-3.2.2-7]
    let broker = Start::new().config("[mqtt]\nmax_clientid_len = 30\n").start();
    let id = "x".repeat(31);
    let (mut old, answer) = Client::try_connect(&broker, login(Version::V311, &id));
    assert_eq!(answer.bytes(), [0x20, 0x02, 0x00, 0x02]);
    assert_eq!(old.end(), End::Silent);
    let (mut new, answer) = Client::try_connect(&broker, login(Version::V5, &id));
    assert_eq!(answer.connack().code, ReasonCode::ClientIdentifierNotValid);
    assert!(!answer.connack().session_present);
    assert_eq!(new.end(), End::Silent);
}

#[test]
fn nothing_after_a_refused_connect_is_processed() {
    // [MQTT311-3.1.4-5] [MQTT5-3.1.4-6]
    let broker = Start::new().config("[mqtt]\nmax_clientid_len = 30\n").start();
    let mut watcher = Client::connect(&broker, Version::V5, "watcher");
    watcher.subscribe("refused/#", QoS::AtMostOnce);
    for version in [Version::V311, Version::V5] {
        let id = "x".repeat(31);
        let mut client = Client::open(&broker, version);
        let mut bytes = client.encoded(&Packet::Connect(login(version, &id)));
        bytes.extend(client.encoded(&Packet::Publish(dunlin_wire::packet::Publish {
            topic: "refused/late",
            ..Default::default()
        })));
        client.send_bytes(&bytes);
        let _answer = client.next("refusal");
        assert_eq!(client.end_after_anything(), End::Silent);
    }
    let mut other = Client::connect(&broker, Version::V5, "other");
    other.publish("refused/marker", b"", QoS::AtLeastOnce);
    assert_eq!(watcher.message().publish().topic, "refused/marker");
}

#[test]
fn packets_right_behind_connect_are_processed() {
    let broker = Broker::with_shards(2);
    for number in 0..8 {
        let id = format!("eager-{number}");
        let mut client = Client::open(&broker, Version::V5);
        let mut bytes = client.encoded(&Packet::Connect(login(Version::V5, &id)));
        bytes.extend(client.encoded(&Packet::PingReq));
        client.send_bytes(&bytes);
        client.expect(PacketType::ConnAck);
        client.expect(PacketType::PingResp);
    }
}

#[test]
fn a_connect_in_single_bytes_is_understood() {
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::open(&broker, version);
        for byte in client.encoded(&Packet::Connect(login(version, "byte-by-byte"))) {
            client.send_bytes(&[byte]);
        }
        client.expect(PacketType::ConnAck);
    }
}

#[test]
fn connack_announces_the_limits() {
    // [MQTT5-3.2.2-9] [MQTT5-3.2.2-8]
    let broker = Start::new()
        .config(
            "[mqtt]\nmax_packet_size = \"64KB\"\nreceive_maximum = 7\nmax_topic_alias = 9\nmax_qos_allowed = 1\n\
             retain_available = false\nwildcard_subscription = false\nshared_subscription = false\n\
             server_keepalive = 33\nmax_session_expiry_interval = \"60s\"\n",
        )
        .start();
    let connect = Connect {
        properties: ConnectProperties {
            session_expiry_interval: Some(3_600),
            ..ConnectProperties::default()
        },
        ..login(Version::V5, "limits")
    };
    let (_client, answer) = Client::connect_with(&broker, connect);
    let told = answer.connack().properties;
    assert_eq!(told.maximum_packet_size.unwrap().get(), 64 * 1024);
    assert_eq!(told.receive_maximum.unwrap().get(), 7);
    assert_eq!(told.topic_alias_maximum, Some(9));
    assert_eq!(told.maximum_qos, Some(QoS::AtLeastOnce));
    assert_eq!(told.retain_available, Some(false));
    assert_eq!(told.wildcard_subscription_available, Some(false));
    assert_eq!(told.shared_subscription_available, Some(false));
    assert_eq!(told.server_keep_alive, Some(33));
    assert_eq!(told.session_expiry_interval, Some(60));
}

#[test]
fn response_information_is_given_only_when_asked() {
    // [MQTT5-3.1.2-28]
    let broker = Start::new().config("[mqtt]\nresponse_information = \"answers/\"\n").start();
    let ask = |wanted: bool| {
        let connect = Connect {
            properties: ConnectProperties {
                request_response_information: Some(wanted),
                ..ConnectProperties::default()
            },
            ..login(Version::V5, "asks")
        };
        let (_client, answer) = Client::connect_with(&broker, connect);
        answer.connack().properties.response_information.map(str::to_owned)
    };
    assert_eq!(ask(false), None);
    assert!(ask(true).is_some_and(|text| text.starts_with("answers/")));
}

#[test]
fn an_unknown_authentication_method_is_refused() {
    // [MQTT5-4.12.0-1]
    let broker = Broker::start();
    let connect = Connect {
        properties: ConnectProperties {
            authentication_method: Some("NO-SUCH-METHOD"),
            ..ConnectProperties::default()
        },
        ..login(Version::V5, "method")
    };
    let (mut client, answer) = Client::try_connect(&broker, connect);
    assert_eq!(answer.connack().code, ReasonCode::BadAuthenticationMethod);
    assert_eq!(client.end(), End::Silent);
}

#[test]
fn without_a_method_auth_is_an_error() {
    // [MQTT5-4.12.0-6] [MQTT5-4.12.0-7]
    let broker = Broker::start();
    let (mut client, answer) = Client::connect_with(&broker, login(Version::V5, "no-method"));
    assert_eq!(answer.connack().properties.authentication_method, None);
    client.send_bytes(&[0xF0, 0x02, 0x18, 0x00]);
    assert_eq!(client.end(), End::Told(ReasonCode::ProtocolError));
}

#[test]
fn silence_of_one_and_a_half_keep_alives_ends_the_connection() {
    // [MQTT311-3.1.2-24] [MQTT5-3.1.2-22] [MQTT5-3.2.2-22]
    let broker = Broker::start();
    for version in Version::ALL {
        let connect = Connect { keep_alive_seconds: 1, ..login(version, "silent") };
        let began = dunlin_e2e::now();
        let (mut client, _) = Client::connect_with(&broker, connect);
        let end = client.end();
        let silence = began.elapsed().as_millis();
        assert!(silence >= 1_500, "closed after {silence} ms already");
        if version == Version::V5 {
            assert_eq!(end, End::Told(ReasonCode::KeepAliveTimeout));
        } else {
            assert_eq!(end, End::Silent);
        }
    }
}

#[test]
fn the_server_keep_alive_counts_where_there_is_one() {
    let broker = Start::new().config("[mqtt]\nserver_keepalive = 1\n").start();
    let mut client = Client::connect(&broker, Version::V5, "imposed");
    assert_eq!(client.end(), End::Told(ReasonCode::KeepAliveTimeout));
}

#[test]
fn pings_keep_a_connection() {
    // [MQTT311-3.12.4-1] [MQTT5-3.12.4-1]
    let broker = Broker::start();
    for version in Version::ALL {
        let connect = Connect { keep_alive_seconds: 1, ..login(version, "alive") };
        let (mut client, _) = Client::connect_with(&broker, connect);
        let began = dunlin_e2e::now();
        while began.elapsed().as_millis() < 2_500 {
            client.expect_quiet();
        }
    }
}

#[test]
fn disconnect_closes_and_nothing_comes_after() {
    // [MQTT5-3.14.4-2]
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::connect(&broker, version, "polite");
        client.subscribe("polite", QoS::AtMostOnce);
        client.disconnect(ReasonCode::NORMAL_DISCONNECTION);
        assert_eq!(client.end(), End::Silent);
    }
}

#[test]
fn disconnect_with_wrong_flags_is_malformed() {
    // [MQTT311-3.14.1-1] [MQTT5-3.14.1-1]
    let broker = Broker::start();
    let mut old = Client::connect(&broker, Version::V311, "flags-old");
    old.send_bytes(&[0xE1, 0x00]);
    assert_eq!(old.end(), End::Silent);
    let mut new = Client::connect(&broker, Version::V5, "flags-new");
    new.send_bytes(&[0xE1, 0x00]);
    assert_eq!(new.end(), End::Told(ReasonCode::MalformedPacket));
}
