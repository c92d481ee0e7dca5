//! Durable sessions: what was acknowledged is there after a stop and after a kill.

use dunlin_e2e::folder::Folder;
use dunlin_e2e::{Broker, Client, Start, login};
use dunlin_wire::packet::{Ack, Connect, Packet, Publish, Will, WillProperties};
use dunlin_wire::{PacketType, QoS, ReasonCode, Version};
use std::path::PathBuf;

/// A data directory that outlives the brokers of a test.
struct Data {
    folder: Folder,
}

impl Data {
    fn new() -> Self {
        Self { folder: Folder::new() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn broker(&self, shards: u32) -> Broker {
        Start::new().shards(shards).data_dir(&self.path()).start()
    }
}

/// How a broker ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Stop,
    Kill,
}

impl Ending {
    const BOTH: [Self; 2] = [Self::Stop, Self::Kill];

    fn end(self, broker: Broker) {
        match self {
            Self::Stop => drop(broker.stop()),
            Self::Kill => broker.kill(),
        }
    }
}

fn lasting(version: Version, client_id: &str) -> Connect<'_> {
    let mut connect = login(version, client_id);
    connect.clean_start = false;
    if version == Version::V5 {
        connect.properties.session_expiry_interval = Some(600);
    }
    connect
}

/// Connects a client that must have a session.
fn resume(broker: &Broker, version: Version, client_id: &str) -> Client {
    let (client, answer) = Client::connect_with(broker, lasting(version, client_id));
    // 3.1 has no Session Present.
    assert_eq!(answer.connack().session_present, version != Version::V31, "{client_id}");
    client
}

/// Makes a session with a subscription and leaves it.
fn leave_session(broker: &Broker, version: Version, client_id: &str, filter: &str) {
    let (mut client, _) = Client::connect_with(broker, lasting(version, client_id));
    client.subscribe(filter, QoS::ExactlyOnce);
    client.goodbye();
}

/// Messages of even numbers have QoS 1, the others QoS 2.
fn topic_and_qos(number: u8) -> (&'static str, QoS) {
    if number.is_multiple_of(2) { ("away/1", QoS::AtLeastOnce) } else { ("away/2", QoS::ExactlyOnce) }
}

#[test]
fn messages_and_subscriptions_of_an_absent_client_survive() {
    // [MQTT311-4.1.0-1] [MQTT5-4.1.0-1] [MQTT311-3.1.2-5] [MQTT5-3.1.2-5]
    for ending in Ending::BOTH {
        for shards in [1, 2] {
            let data = Data::new();
            let broker = data.broker(shards);
            for version in Version::ALL {
                leave_session(&broker, version, &format!("away-{version:?}"), "away/#");
                leave_session(&broker, version, &format!("away-{version:?}"), &format!("live/{version:?}"));
            }
            let mut publisher = Client::connect(&broker, Version::V5, "pub");
            for number in 0..50_u8 {
                let (topic, qos) = topic_and_qos(number);
                assert_eq!(publisher.publish(topic, &[number], qos), ReasonCode::Success);
            }
            ending.end(broker);

            let broker = data.broker(shards);
            let mut publisher = Client::connect(&broker, Version::V5, "pub");
            for version in Version::ALL {
                let mut client = resume(&broker, version, &format!("away-{version:?}"));
                // [MQTT5-4.6.0-5] [MQTT311-4.6.0-6]: the order of a topic and a QoS.
                let mut next = [0, 1];
                for _ in 0..50 {
                    let message = client.message();
                    let publish = message.publish();
                    let number = publish.payload[0];
                    assert_eq!((publish.topic, publish.qos), topic_and_qos(number));
                    let next = &mut next[usize::from(number % 2)];
                    assert_eq!(number, *next, "{ending:?}, {shards} shards, {version:?}");
                    *next += 2;
                    assert!(!publish.dup, "it was never sent before");
                }
                publisher.publish(&format!("live/{version:?}"), b"live", QoS::AtLeastOnce);
                assert_eq!(client.message().publish().payload, b"live", "the subscription is there");
                client.goodbye();
            }
            ending.end(broker);

            // What was delivered is not delivered again.
            let broker = data.broker(shards);
            let mut client = resume(&broker, Version::V5, "away-V5");
            client.expect_quiet();
        }
    }
}

#[test]
fn what_was_on_its_way_to_a_client_is_sent_again() {
    // [MQTT311-4.4.0-1] [MQTT5-4.4.0-1] [MQTT5-4.3.3-8]
    for shards in [1, 2] {
        let data = Data::new();
        let broker = data.broker(shards);
        let (mut client, _) = Client::connect_with(&broker, lasting(Version::V5, "receiver"));
        client.subscribe("t", QoS::ExactlyOnce);
        let mut publisher = Client::connect(&broker, Version::V5, "pub");
        publisher.publish("t", b"one", QoS::AtLeastOnce);
        publisher.publish("t", b"two", QoS::ExactlyOnce);
        publisher.publish("t", b"three", QoS::ExactlyOnce);
        let sent: Vec<_> = (0..3).map(|_| client.expect(PacketType::Publish)).collect();
        let ids: Vec<_> = sent.iter().map(|sent| sent.publish().packet_id.unwrap()).collect();
        // The second one was received, and the broker knows: it has said PUBREL.
        client.send(&Packet::PubRec(Ack::success(ids[1])));
        assert_eq!(client.expect(PacketType::PubRel).ack().packet_id, ids[1]);
        broker.kill();

        let broker = data.broker(shards);
        let mut client = resume(&broker, Version::V5, "receiver");
        let mut published = Vec::new();
        let mut released = Vec::new();
        for _ in 0..3 {
            let packet = client.next("PUBLISH or PUBREL");
            if packet.kind() == PacketType::PubRel {
                released.push(packet.ack().packet_id);
            } else {
                let publish = packet.publish();
                published.push((publish.packet_id.unwrap(), publish.payload.to_vec(), publish.dup));
            }
        }
        let expected = [(ids[0], b"one".to_vec(), true), (ids[2], b"three".to_vec(), true)];
        assert_eq!(published, expected);
        assert_eq!(released, [ids[1]], "its message is not sent again");
        client.expect_quiet();
    }
}

#[test]
fn a_qos_2_message_that_is_repeated_after_a_kill_arrives_once() {
    // [MQTT311-4.3.3-2] [MQTT5-4.3.3-10] [MQTT5-4.3.3-12]
    for shards in [1, 2, 4] {
        let data = Data::new();
        let broker = data.broker(shards);
        leave_session(&broker, Version::V5, "sub", "once");
        let (mut publisher, _) = Client::connect_with(&broker, lasting(Version::V5, "pub"));
        let packet_id = publisher.fresh_id();
        let message = Publish {
            topic: "once",
            payload: b"x",
            qos: QoS::ExactlyOnce,
            packet_id: Some(packet_id),
            ..Publish::default()
        };
        publisher.send(&Packet::Publish(message));
        assert_eq!(publisher.expect(PacketType::PubRec).ack().code, ReasonCode::Success);
        broker.kill();

        // The publisher never saw the PUBREC, as far as the broker can know.
        let broker = data.broker(shards);
        let mut publisher = resume(&broker, Version::V5, "pub");
        publisher.send(&Packet::Publish(Publish { dup: true, ..message }));
        assert_eq!(publisher.expect(PacketType::PubRec).ack().packet_id, packet_id);
        broker.kill();

        let broker = data.broker(shards);
        let mut publisher = resume(&broker, Version::V5, "pub");
        publisher.send(&Packet::PubRel(Ack::success(packet_id)));
        let done = publisher.expect(PacketType::PubComp);
        assert_eq!((done.ack().packet_id, done.ack().code), (packet_id, ReasonCode::Success));
        let mut subscriber = resume(&broker, Version::V5, "sub");
        assert_eq!(subscriber.message().publish().payload, b"x");
        subscriber.expect_quiet();
    }
}

#[test]
fn an_unsubscription_survives() {
    for ending in Ending::BOTH {
        let data = Data::new();
        let broker = data.broker(2);
        let (mut client, _) = Client::connect_with(&broker, lasting(Version::V5, "client"));
        client.subscribe("keeps", QoS::AtLeastOnce);
        client.subscribe("drops", QoS::AtLeastOnce);
        client.unsubscribe("drops");
        ending.end(broker);

        let broker = data.broker(2);
        let mut publisher = Client::connect(&broker, Version::V5, "pub");
        assert_eq!(publisher.publish("drops", b"no", QoS::AtLeastOnce), ReasonCode::NoMatchingSubscribers);
        assert_eq!(publisher.publish("keeps", b"yes", QoS::AtLeastOnce), ReasonCode::Success);
        let mut client = resume(&broker, Version::V5, "client");
        assert_eq!(client.message().publish().payload, b"yes");
        client.expect_quiet();
    }
}

#[test]
fn a_clean_start_and_the_end_of_a_session_are_remembered() {
    // [MQTT311-3.1.2-6] [MQTT5-3.1.2-4]
    let data = Data::new();
    let broker = data.broker(2);
    leave_session(&broker, Version::V5, "cleaned", "t");
    leave_session(&broker, Version::V311, "ended", "t");
    Client::connect(&broker, Version::V5, "pub").publish("t", b"old", QoS::AtLeastOnce);
    let mut clean = lasting(Version::V5, "cleaned");
    clean.clean_start = true;
    let (_client, answer) = Client::connect_with(&broker, clean);
    assert!(!answer.connack().session_present);
    Client::connect(&broker, Version::V311, "ended").goodbye();
    broker.kill();

    let broker = data.broker(2);
    let mut client = resume(&broker, Version::V5, "cleaned");
    client.expect_quiet();
    let (_client, answer) = Client::connect_with(&broker, lasting(Version::V311, "ended"));
    assert!(!answer.connack().session_present);
}

#[test]
fn retained_messages_survive_and_removed_ones_do_not_come_back() {
    for ending in Ending::BOTH {
        for (before, after) in [(1, 1), (2, 3)] {
            let data = Data::new();
            let broker = data.broker(before);
            let mut publisher = Client::connect(&broker, Version::V5, "pub");
            for number in 0..20 {
                publisher.retain(&format!("kept/{number}"), b"first", QoS::AtLeastOnce);
                publisher.retain(&format!("kept/{number}"), format!("{number}").as_bytes(), QoS::ExactlyOnce);
                publisher.retain(&format!("gone/{number}"), b"x", QoS::AtLeastOnce);
                publisher.retain(&format!("gone/{number}"), b"", QoS::AtLeastOnce);
            }
            ending.end(broker);

            let broker = data.broker(after);
            let mut client = Client::connect(&broker, Version::V5, "sub");
            client.subscribe("kept/+", QoS::AtLeastOnce);
            let mut numbers: Vec<u32> = (0..20)
                .map(|_| {
                    let message = client.message();
                    let publish = message.publish();
                    assert!(publish.retain);
                    let number = std::str::from_utf8(publish.payload).unwrap();
                    assert_eq!(publish.topic, format!("kept/{number}"));
                    number.parse().unwrap()
                })
                .collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..20).collect::<Vec<u32>>(), "{ending:?}, {before} to {after} shards");
            client.subscribe("gone/+", QoS::AtLeastOnce);
            client.expect_quiet();
        }
    }
}

#[test]
fn sessions_find_their_new_homes_when_the_number_of_shards_changes() {
    let data = Data::new();
    let names: Vec<String> = (0..24).map(|number| format!("client-{number}")).collect();
    let mut broker = data.broker(1);
    for name in &names {
        leave_session(&broker, Version::V5, name, "all");
    }
    let mut sent = Vec::new();
    for shards in [4, 3, 1, 2] {
        let payload = format!("before {shards}");
        Client::connect(&broker, Version::V5, "pub").publish("all", payload.as_bytes(), QoS::ExactlyOnce);
        sent.push(payload);
        broker.kill();
        broker = data.broker(shards);
        assert!(broker.program().text().contains("new homes"), "{}", broker.program().text());
    }
    for name in &names {
        let mut client = resume(&broker, Version::V5, name);
        for payload in &sent {
            assert_eq!(client.message().publish().payload, payload.as_bytes(), "{name}");
        }
        client.expect_quiet();
    }
}

fn with_will<'a>(client_id: &'a str, topic: &'a str, delay_seconds: u32) -> Connect<'a> {
    let properties = WillProperties { will_delay_interval: Some(delay_seconds), ..WillProperties::default() };
    let will = Will { topic, payload: b"gone", qos: QoS::AtLeastOnce, properties, ..Will::default() };
    Connect { will: Some(will), ..lasting(Version::V5, client_id) }
}

#[test]
fn a_delayed_will_is_published_after_a_restart_when_its_time_has_come() {
    // [MQTT5-3.1.3-9]
    for ending in Ending::BOTH {
        let data = Data::new();
        let broker = data.broker(2);
        leave_session(&broker, Version::V5, "watcher", "will/#");
        let (dying, _) = Client::connect_with(&broker, with_will("dying", "will/late", 3));
        let began = dunlin_e2e::now();
        dying.cut();
        // One that comes back in time does not die.
        let (back, _) = Client::connect_with(&broker, with_will("back", "will/never", 3));
        back.cut();
        ending.end(broker);

        let broker = data.broker(2);
        let mut back = resume(&broker, Version::V5, "back");
        let mut watcher = resume(&broker, Version::V5, "watcher");
        let message = watcher.message();
        assert_eq!((message.publish().topic, message.publish().payload), ("will/late", &b"gone"[..]));
        let waited = began.elapsed();
        assert!(waited.as_millis() >= 2_900, "{ending:?}: the will came after {waited:?}");
        back.expect_quiet();
        watcher.expect_quiet();
    }
}

#[test]
fn the_will_of_a_client_that_was_connected_when_the_broker_was_killed_is_published() {
    let data = Data::new();
    let broker = data.broker(2);
    leave_session(&broker, Version::V5, "watcher", "will");
    let (_client, _) = Client::connect_with(&broker, with_will("connected", "will", 0));
    broker.kill();
    let broker = data.broker(2);
    let mut watcher = resume(&broker, Version::V5, "watcher");
    assert_eq!(watcher.message().publish().payload, b"gone");
}

#[test]
fn the_expiry_of_a_session_goes_on_counting_while_no_broker_runs() {
    // [MQTT5-4.1.0-2]: the will is published at the end of the session, which is the event to wait for.
    let data = Data::new();
    let broker = data.broker(1);
    leave_session(&broker, Version::V5, "watcher", "ended");
    let mut connect = with_will("expiring", "ended", 1_000);
    connect.properties.session_expiry_interval = Some(2);
    let (client, _) = Client::connect_with(&broker, connect);
    let began = dunlin_e2e::now();
    client.cut();
    broker.kill();
    let broker = data.broker(1);
    let mut watcher = resume(&broker, Version::V5, "watcher");
    watcher.message();
    assert!(began.elapsed().as_millis() >= 1_900, "ended after {:?}", began.elapsed());
    let (_client, answer) = Client::connect_with(&broker, lasting(Version::V5, "expiring"));
    assert!(!answer.connack().session_present);
}

#[test]
fn a_shared_group_keeps_what_waits_for_its_members() {
    for ending in Ending::BOTH {
        let data = Data::new();
        let broker = data.broker(2);
        for number in 0..4 {
            leave_session(&broker, Version::V5, &format!("member-{number}"), "$share/group/work");
        }
        let mut publisher = Client::connect(&broker, Version::V5, "pub");
        for number in 0..40_u8 {
            let code = publisher.publish("work", &[number], QoS::AtLeastOnce);
            assert_eq!(code, ReasonCode::Success);
        }
        ending.end(broker);

        let broker = data.broker(2);
        let mut got = Vec::new();
        let mut members: Vec<Client> =
            (0..4).map(|number| resume(&broker, Version::V5, &format!("member-{number}"))).collect();
        while got.len() < 40 {
            for member in &mut members {
                while let Some(message) = member.message_if_any() {
                    got.push(message.publish().payload[0]);
                }
            }
        }
        for member in &mut members {
            member.expect_quiet();
        }
        got.sort_unstable();
        assert_eq!(got, (0..40).collect::<Vec<u8>>(), "{ending:?}: each once");
    }
}

#[test]
fn properties_and_subscription_identifiers_survive() {
    let data = Data::new();
    let broker = data.broker(1);
    let (mut client, _) = Client::connect_with(&broker, lasting(Version::V5, "sub"));
    client.subscribe_with("a/+", dunlin_wire::SubscriptionOptions::with_qos(QoS::AtLeastOnce), Some(7));
    client.subscribe_with("#", dunlin_wire::SubscriptionOptions::with_qos(QoS::ExactlyOnce), Some(9));
    client.goodbye();
    let mut publisher = Client::connect(&broker, Version::V5, "pub");
    let mut publish = Publish { topic: "a/b", payload: b"x", qos: QoS::ExactlyOnce, ..Publish::default() };
    publish.properties.content_type = Some("text/plain");
    publish.properties.correlation_data = Some(b"\x01\x02");
    publish.properties.response_topic = Some("answer");
    publish.properties.message_expiry_interval = Some(3_600);
    publisher.publish_with(publish);
    broker.kill();
    let broker = data.broker(1);
    let mut client = resume(&broker, Version::V5, "sub");
    let message = client.message();
    let got = message.publish();
    assert_eq!((got.topic, got.payload, got.qos), ("a/b", &b"x"[..], QoS::ExactlyOnce));
    assert_eq!(got.properties.content_type, Some("text/plain"));
    assert_eq!(got.properties.correlation_data, Some(&b"\x01\x02"[..]));
    assert_eq!(got.properties.response_topic, Some("answer"));
    let left = got.properties.message_expiry_interval.unwrap();
    assert!((3_500..=3_600).contains(&left), "{left} seconds are left");
    let mut identifiers: Vec<u32> = got.properties.subscription_ids.iter().collect();
    identifiers.sort_unstable();
    assert_eq!(identifiers, [7, 9]);
}

#[test]
fn level_interval_survives_a_stop_at_once_and_a_kill_when_the_interval_is_over() {
    for ending in Ending::BOTH {
        let data = Data::new();
        let config = "[durability]\nlevel = \"interval\"\ninterval = \"50ms\"\n";
        let mut broker = Start::new().config(config).data_dir(&data.path()).start();
        let text = broker.program().text();
        assert!(
            text.contains("durability interval: what is acknowledged is on the disk after 50 ms"),
            "{text}"
        );
        leave_session(&broker, Version::V5, "sub", "t");
        Client::connect(&broker, Version::V5, "pub").publish("t", b"x", QoS::AtLeastOnce);
        // A killed process leaves what it wrote to the kernel; only a power cut needs the sync.
        ending.end(broker);
        let broker = Start::new().config(config).data_dir(&data.path()).start();
        assert_eq!(resume(&broker, Version::V5, "sub").message().publish().payload, b"x");
    }
}

#[test]
fn memory_only_forgets_and_touches_no_folder() {
    for arguments in [&["--memory-only"][..], &["--durability", "memory"]] {
        let data = Data::new();
        let start = || {
            let start = Start::new().data_dir(&data.path());
            arguments.iter().fold(start, |start, argument| start.argument(argument)).start()
        };
        let mut broker = start();
        let text = broker.program().text();
        assert!(text.contains("durability memory: sessions and messages end with the process"), "{text}");
        leave_session(&broker, Version::V5, "sub", "t");
        Client::connect(&broker, Version::V5, "pub").retain("kept", b"x", QoS::AtLeastOnce);
        let _ended = broker.stop();
        assert!(!data.path().exists(), "a folder was made");
        let broker = start();
        let (mut client, answer) = Client::connect_with(&broker, lasting(Version::V5, "sub"));
        assert!(!answer.connack().session_present);
        client.subscribe("#", QoS::AtLeastOnce);
        client.expect_quiet();
    }
}
