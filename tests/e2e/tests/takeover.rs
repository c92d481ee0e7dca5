//! Two connections with one client id.

#![expect(clippy::wildcard_enum_match_arm, reason = "tests fail where the broker does something else")]

use dunlin_e2e::client::End;
use dunlin_e2e::{Broker, Client, login};
use dunlin_wire::{QoS, ReasonCode, Version};

#[test]
fn the_newer_connection_wins_and_the_older_is_told() {
    // [MQTT311-3.1.4-2] [MQTT5-3.1.4-3] [MQTT5-4.13.2-1] [MQTT5-3.14.4-1]
    for shards in [1, 2, 4] {
        let broker = Broker::with_shards(shards);
        for old_version in Version::ALL {
            for new_version in Version::ALL {
                let mut old = Client::connect(&broker, old_version, "same");
                let mut new = Client::connect(&broker, new_version, "same");
                let told = if old_version == Version::V5 {
                    End::Told(ReasonCode::SessionTakenOver)
                } else {
                    End::Silent
                };
                assert_eq!(old.end(), told);
                new.expect_quiet();
            }
        }
    }
}

#[test]
fn the_session_goes_to_the_newer_connection() {
    // [MQTT311-3.1.3-2] [MQTT5-3.1.3-2]
    let broker = Broker::with_shards(2);
    for version in [Version::V311, Version::V5] {
        let mut connect = login(version, "moves");
        connect.clean_start = false;
        if version == Version::V5 {
            connect.properties.session_expiry_interval = Some(600);
        }
        let (mut old, _) = Client::connect_with(&broker, connect);
        old.subscribe("moves", QoS::AtLeastOnce);
        let mut publisher = Client::connect(&broker, version, "moves-pub");
        publisher.publish("moves", b"1", QoS::AtLeastOnce);
        let first = old.expect(dunlin_wire::PacketType::Publish);
        let (mut new, answer) = Client::connect_with(&broker, connect);
        assert!(answer.connack().session_present);
        let again = new.message();
        assert!(again.publish().dup);
        assert_eq!(again.publish().packet_id, first.publish().packet_id);
        publisher.publish("moves", b"2", QoS::AtLeastOnce);
        assert_eq!(new.message().publish().payload, b"2");
        Client::connect(&broker, version, "moves").goodbye();
    }
}

#[test]
fn a_storm_of_takeovers_leaves_one_connection() {
    let mut broker = Broker::with_shards(2);
    let mut last = Client::connect(&broker, Version::V5, "storm");
    for number in 0..300 {
        let version = if number % 3 == 0 { Version::V311 } else { Version::V5 };
        let next = Client::connect(&broker, version, "storm");
        let end = last.end();
        if last.version() == Version::V5 {
            assert_eq!(end, End::Told(ReasonCode::SessionTakenOver), "round {number}");
        }
        last = next;
    }
    last.expect_quiet();
    broker.assert_alive();
}

#[test]
fn takeovers_all_at_once_leave_one_connection_that_works() {
    let mut broker = Broker::with_shards(2);
    let mut clients: Vec<Client> = (0..64)
        .map(|_| {
            let mut client = Client::open(&broker, Version::V5);
            client.send(&dunlin_wire::Packet::Connect(login(Version::V5, "at-once")));
            client
        })
        .collect();
    let mut alive = 0;
    for client in &mut clients {
        client.expect(dunlin_wire::PacketType::ConnAck);
        client.send(&dunlin_wire::Packet::PingReq);
    }
    for client in &mut clients {
        let mut ended = false;
        let mut answered = false;
        while let Some(received) = client.next_within("PINGRESP or end", dunlin_e2e::DEADLINE) {
            match received.kind() {
                dunlin_wire::PacketType::PingResp => {
                    answered = true;
                    // The survivor says no more; all others are told of their end.
                    client.send(&dunlin_wire::Packet::PingReq);
                    match client.next_within("PINGRESP or end", dunlin_e2e::DEADLINE) {
                        Some(next) if next.kind() == dunlin_wire::PacketType::PingResp => break,
                        _ => ended = true,
                    }
                }
                _ => ended = true,
            }
        }
        alive += u32::from(answered && !ended);
    }
    assert_eq!(alive, 1);
    broker.assert_alive();
}
