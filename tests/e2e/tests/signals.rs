//! Signals: a stop that says goodbye, and a reload.

use dunlin_e2e::client::End;
use dunlin_e2e::folder::Folder;
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

/// A client that leaves a retained Will, delayed by so many seconds, and whose session lives for so many.
fn dying<'a>(version: Version, client_id: &'a str, topic: &'a str, delay: u32, expiry: u32) -> Connect<'a> {
    let mut connect = login(version, client_id);
    let mut will = Will { qos: QoS::AtLeastOnce, retain: true, topic, payload: b"gone", ..Will::default() };
    if version == Version::V5 {
        will.properties.will_delay_interval = Some(delay);
        connect.properties.session_expiry_interval = Some(expiry);
    }
    connect.will = Some(will);
    connect
}

#[test]
fn wills_are_published_at_a_stop_while_there_is_somebody_to_hear_them() {
    // [MQTT5-3.1.2-8] [MQTT311-3.1.2-8]: the connections end without a DISCONNECT of the client.
    for shards in [1, 2, 4] {
        let folder = Folder::new();
        let data = folder.path().join("data");
        let broker = Start::new().shards(shards).data_dir(&data).start();
        let mut watcher = Client::connect(&broker, Version::V5, "watcher");
        watcher.subscribe("will/#", QoS::AtLeastOnce);
        let names: Vec<[String; 2]> = (0..6).map(|n| [format!("dying-{n}"), format!("will/{n}")]).collect();
        let versions = Version::ALL.iter().cycle();
        let mut all: Vec<Client> = versions
            .zip(&names)
            // A delay is of no use to a session that ends with its connection (§MQTT5 3.1.3.2.2).
            .map(|(version, [id, topic])| Client::connect_with(&broker, dying(*version, id, topic, 300, 0)).0)
            .collect();
        // Who has said goodbye leaves no Will.
        let (polite, _) = Client::connect_with(&broker, dying(Version::V5, "polite", "will/polite", 0, 0));
        polite.goodbye();
        broker.signal("TERM");
        let mut heard: Vec<String> =
            (0..names.len()).map(|_| watcher.message().publish().topic.to_owned()).collect();
        heard.sort_unstable();
        assert!(heard.iter().eq(names.iter().map(|[_, topic]| topic)), "{shards} shards: {heard:?}");
        assert_eq!(watcher.end(), End::Told(ReasonCode::ServerShuttingDown));
        for client in &mut all {
            assert!(matches!(client.end(), End::Told(ReasonCode::ServerShuttingDown) | End::Silent));
        }
        broker.end().ok();
        // They were retained, and were so before the broker ended.
        let broker = Start::new().shards(shards).data_dir(&data).start();
        let mut late = Client::connect(&broker, Version::V5, "late");
        late.subscribe("will/#", QoS::AtMostOnce);
        let mut kept: Vec<String> =
            (0..names.len()).map(|_| late.message().publish().topic.to_owned()).collect();
        kept.sort_unstable();
        assert_eq!(kept, heard, "{shards} shards");
        late.expect_quiet();
    }
}

#[test]
fn a_delayed_will_of_a_session_on_the_disk_goes_on_waiting_over_a_stop() {
    // [MQTT5-3.1.3-9] §MQTT5 3.1.3.2.2: the client may be back before its delay is over.
    let folder = Folder::new();
    let data = folder.path().join("data");
    let broker = Start::new().shards(2).data_dir(&data).start();
    let mut watcher = Client::connect(&broker, Version::V5, "watcher");
    watcher.subscribe("will/#", QoS::AtLeastOnce);
    let (_back, _) = Client::connect_with(&broker, dying(Version::V5, "back", "will/back", 300, 600));
    let (_lost, _) = Client::connect_with(&broker, dying(Version::V5, "lost", "will/lost", 2, 600));
    broker.signal("TERM");
    assert_eq!(watcher.end(), End::Told(ReasonCode::ServerShuttingDown), "no Will before");
    broker.end().ok();
    let broker = Start::new().shards(2).data_dir(&data).start();
    let mut watcher = Client::connect(&broker, Version::V5, "watcher");
    watcher.subscribe("will/#", QoS::AtLeastOnce);
    let mut again = login(Version::V5, "back");
    again.clean_start = false;
    let (back, answer) = Client::connect_with(&broker, again);
    assert!(answer.connack().session_present);
    back.cut();
    assert_eq!(watcher.message().publish().topic, "will/lost");
    watcher.expect_quiet();
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
