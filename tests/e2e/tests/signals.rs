//! Signals: a stop that says goodbye, and a reload.

use dunlin_e2e::client::End;
use dunlin_e2e::{Broker, Client, Start, login};
use dunlin_wire::packet::{Connect, Will};
use dunlin_wire::{QoS, ReasonCode, Version};
use std::net::TcpStream;

#[test]
fn sigterm_and_sigint_say_goodbye_and_end_well() {
    for signal in ["TERM", "INT"] {
        for shards in [1, 2, 4] {
            let broker = Broker::with_shards(shards);
            let mut new: Vec<Client> = (0..6)
                .map(|number| Client::connect(&broker, Version::V5, &format!("new-{number}")))
                .collect();
            let mut old: Vec<Client> = (0..6)
                .map(|number| Client::connect(&broker, Version::V311, &format!("old-{number}")))
                .collect();
            broker.signal(signal);
            for client in &mut new {
                assert_eq!(client.end(), End::Told(ReasonCode::ServerShuttingDown));
            }
            for client in &mut old {
                assert_eq!(client.end(), End::Silent);
            }
            let address = broker.address();
            broker.end().ok();
            assert!(TcpStream::connect(address).is_err(), "something still listens");
        }
    }
}

#[test]
fn a_stop_does_not_wait_for_clients_that_do_not_read() {
    let broker = Start::new().shards(2).config("[shutdown]\ntimeout = \"1s\"\n").start();
    let mut stuck = Client::connect(&broker, Version::V5, "stuck");
    stuck.subscribe("flood", QoS::AtMostOnce);
    let mut publisher = Client::connect(&broker, Version::V5, "flood-pub");
    for _ in 0..100 {
        publisher.publish("flood", &[b'x'; 100_000], QoS::AtLeastOnce);
    }
    let _never_says_connect = Client::open(&broker, Version::V5);
    broker.signal("TERM");
    broker.end().ok();
}

#[test]
fn a_stop_ends_an_idle_broker() {
    let broker = Broker::start();
    broker.signal("TERM");
    broker.end().ok();
}

#[test]
fn wills_are_published_at_a_stop() {
    // The connections end without a DISCONNECT of the client, so the wills are due while others still listen.
    let broker = Broker::start();
    let mut watcher = Client::connect(&broker, Version::V311, "watcher");
    watcher.subscribe("will", QoS::AtMostOnce);
    let connect = Connect {
        will: Some(Will { topic: "will", payload: b"gone", ..Will::default() }),
        ..login(Version::V5, "dying")
    };
    let (mut dying, _) = Client::connect_with(&broker, connect);
    broker.signal("TERM");
    assert_eq!(dying.end(), End::Told(ReasonCode::ServerShuttingDown));
    broker.end().ok();
}

#[test]
fn sighup_applies_what_can_be_changed() {
    let mut broker = Start::new().config("[mqtt]\nmax_qos_allowed = 2\n").start();
    let maximum_qos = |broker: &Broker| {
        let (_client, answer) = Client::connect_with(broker, login(Version::V5, "reload"));
        answer.connack().properties.maximum_qos
    };
    assert_eq!(maximum_qos(&broker), None);
    let _written = broker.folder().write("dunlin.toml", "[mqtt]\nmax_qos_allowed = 1\n");
    broker.signal("HUP");
    broker.program().line("line about the reload", |line| line.contains("reloaded"));
    // Each shard takes the new settings from its inbox: a client may still come before that.
    assert!((0..100).any(|_| maximum_qos(&broker) == Some(QoS::AtLeastOnce)));
}

#[test]
fn a_broken_file_changes_nothing_at_sighup() {
    let mut broker = Start::new().config("[mqtt]\nmax_qos_allowed = 1\n").start();
    let mut client = Client::connect(&broker, Version::V5, "stays");
    let _written = broker.folder().write("dunlin.toml", "[mqtt]\nmax_qos_allowed = 9\n");
    broker.signal("HUP");
    broker.program().line("line about the value", |line| line.contains("max_qos_allowed"));
    client.expect_quiet();
    let (_client, answer) = Client::connect_with(&broker, login(Version::V5, "still"));
    assert_eq!(answer.connack().properties.maximum_qos, Some(QoS::AtLeastOnce));
    broker.assert_alive();
}
