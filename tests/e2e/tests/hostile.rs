//! Input that no client library sends: each case ends as the standard says and disturbs nobody else.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests fail where the broker does something else"
)]

use dunlin_e2e::client::End;
use dunlin_e2e::{Broker, Client, DEADLINE, Start, login};
use dunlin_wire::packet::{Ack, Packet, Publish, PublishProperties, UserProperties};
use dunlin_wire::{PacketId, PacketType, QoS, ReasonCode, Version};
use std::time::Duration;

/// A pair of clients that must go on talking whatever a test does beside them.
struct Bystanders {
    publisher: Client,
    subscriber: Client,
    count: u32,
}

impl Bystanders {
    fn new(broker: &Broker) -> Self {
        let mut subscriber = Client::connect(broker, Version::V5, "bystander-sub");
        subscriber.subscribe("bystander", QoS::AtLeastOnce);
        let publisher = Client::connect(broker, Version::V311, "bystander-pub");
        Self { publisher, subscriber, count: 0 }
    }

    fn assert_undisturbed(&mut self) {
        self.count += 1;
        let payload = self.count.to_be_bytes();
        self.publisher.publish("bystander", &payload, QoS::AtLeastOnce);
        assert_eq!(self.subscriber.message().publish().payload, payload);
    }
}

fn publish_with_id(topic: &str, packet_id: u16, qos: QoS) -> Packet<'_> {
    Packet::Publish(Publish { topic, qos, packet_id: PacketId::new(packet_id), ..Publish::default() })
}

fn publish_0(topic: &str) -> Packet<'_> {
    Packet::Publish(Publish { topic, ..Publish::default() })
}

#[test]
fn malformed_packets_after_connect_end_that_connection_alone() {
    // [MQTT311-4.8.0-1] [MQTT5-4.13.1-1] [MQTT311-2.2.2-1] [MQTT5-2.1.3-1] [MQTT311-3.3.1-4] [MQTT5-3.3.1-4]
    // [MQTT311-3.6.1-1] [MQTT5-3.6.1-1] [MQTT311-2.3.1-1] [MQTT5-2.2.1-3] [MQTT5-1.5.5-1]
    let mut broker = Broker::with_shards(2);
    let mut bystanders = Bystanders::new(&broker);
    let both: [(&str, &[u8]); 13] = [
        ("packet type 0", &[0x00, 0x00]),
        ("QoS 3", &[0x36, 5, 0, 1, b't', 0, 1]),
        ("DUP with QoS 0", &[0x38, 3, 0, 1, b't']),
        ("PUBACK with flags", &[0x41, 2, 0, 1]),
        ("PUBREL with flags 0", &[0x60, 2, 0, 1]),
        ("PINGREQ with flags", &[0xC1, 0]),
        ("PINGREQ with a body", &[0xC0, 1, 0]),
        ("PUBACK too short", &[0x40, 1, 0]),
        ("length of five bytes", &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
        ("topic longer than the packet", &[0x30, 4, 0, 9, b't', b'u']),
        ("packet id 0", &[0x32, 5, 0, 1, b't', 0, 0]),
        ("CONNACK from a client", &[0x20, 2, 0, 0]),
        ("PINGRESP from a client", &[0xD0, 0]),
    ];
    for version in Version::ALL {
        for (why, bytes) in both {
            if version == Version::V31 && (why.contains("flags") || why.contains("DUP")) {
                continue; // 3.1 says nothing of these bits
            }
            let mut client = Client::connect(&broker, version, "malformed");
            let mut bytes = bytes.to_vec();
            if version == Version::V5 && bytes.len() > 4 && bytes[0] & 0xF0 == 0x30 && bytes[1] < 0x80 {
                bytes[1] += 1;
                bytes.push(0); // no properties
            }
            client.send_bytes(&bytes);
            match client.end_because(why) {
                End::Told(code) => {
                    assert_eq!(version, Version::V5, "{why}");
                    assert!(
                        matches!(
                            code,
                            ReasonCode::MalformedPacket
                                | ReasonCode::ProtocolError
                                | ReasonCode::PacketTooLarge
                        ),
                        "{why}: {code:?}"
                    );
                }
                End::Silent => assert_ne!(version, Version::V5, "{why}: closed without a reason"),
            }
        }
        bystanders.assert_undisturbed();
    }
    broker.assert_alive();
}

#[test]
fn bad_text_ends_the_connection() {
    // [MQTT311-1.5.3-1] [MQTT311-1.5.3-2] [MQTT5-1.5.4-1] [MQTT5-1.5.4-2] [MQTT311-4.7.3-2] [MQTT5-4.7.3-2]
    let broker = Broker::start();
    let texts: [(&str, &[u8]); 6] = [
        ("a lone continuation byte", &[0x80]),
        ("an overlong slash", &[0xC0, 0xAF]),
        ("a surrogate", &[0xED, 0xA0, 0x80]),
        ("beyond U+10FFFF", &[0xF4, 0x90, 0x80, 0x80]),
        ("cut short", &[0xE2, 0x82]),
        ("U+0000", &[0x00]),
    ];
    for version in [Version::V311, Version::V5] {
        for (why, text) in texts {
            let mut body = vec![0, u8::try_from(text.len()).unwrap()];
            body.extend_from_slice(text);
            if version == Version::V5 {
                body.push(0);
            }
            let mut bytes = vec![0x30, u8::try_from(body.len()).unwrap()];
            bytes.extend_from_slice(&body);
            let mut client = Client::connect(&broker, version, "bad-text");
            client.send_bytes(&bytes);
            match client.end() {
                End::Told(code) => assert_eq!(code, ReasonCode::MalformedPacket, "{why}"),
                End::Silent => assert_eq!(version, Version::V311, "{why}"),
            }
        }
    }
}

#[test]
fn a_byte_order_mark_is_a_character() {
    // [MQTT311-1.5.3-3] [MQTT5-1.5.4-3]
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::connect(&broker, version, "mark");
        client.subscribe("\u{FEFF}topic/\u{FEFF}", QoS::AtLeastOnce);
        client.publish("topic/", b"without", QoS::AtMostOnce);
        client.send(&publish_0("\u{FEFF}topic/\u{FEFF}"));
        assert_eq!(client.message().publish().topic, "\u{FEFF}topic/\u{FEFF}");
    }
}

#[test]
fn a_wildcard_in_a_topic_name_is_refused() {
    // [MQTT311-3.3.2-2] [MQTT5-3.3.2-2] [MQTT311-4.7.1-1] [MQTT5-4.7.0-1] [MQTT5-3.3.2-14]
    let broker = Broker::start();
    for topic in ["a/+", "#", "a/#", "+"] {
        let mut old = Client::connect(&broker, Version::V311, "wild-old");
        // The codec of these tests refuses to write it, so it is written by hand.
        let length = u8::try_from(topic.len()).unwrap();
        let mut bytes = vec![0x30, length + 2, 0, length];
        bytes.extend_from_slice(topic.as_bytes());
        old.send_bytes(&bytes);
        assert_eq!(old.end(), End::Silent, "{topic}");
        let mut new = Client::connect(&broker, Version::V5, "wild-new");
        new.send_bytes(&raw_publish(topic));
        assert!(matches!(new.end(), End::Told(ReasonCode::TopicNameInvalid | ReasonCode::MalformedPacket)));
    }
    let mut client = Client::connect(&broker, Version::V5, "wild-answer");
    // Response Topic "a/#".
    client.send_bytes(&[0x30, 10, 0, 1, b't', 6, 0x08, 0, 3, b'a', b'/', b'#']);
    assert!(matches!(client.end(), End::Told(_)));
}

fn raw_publish(topic: &str) -> Vec<u8> {
    let mut bytes = vec![0x30, u8::try_from(topic.len() + 3).unwrap(), 0, u8::try_from(topic.len()).unwrap()];
    bytes.extend_from_slice(topic.as_bytes());
    bytes.push(0);
    bytes
}

#[test]
fn an_empty_topic_is_refused() {
    // [MQTT311-4.7.3-1] [MQTT5-4.7.3-1] [MQTT311-3.3.2-1] [MQTT5-3.3.2-1]
    let broker = Broker::start();
    let mut old = Client::connect(&broker, Version::V311, "empty-old");
    old.send_bytes(&[0x30, 2, 0, 0]);
    assert_eq!(old.end(), End::Silent);
    let mut new = Client::connect(&broker, Version::V5, "empty-new");
    new.send_bytes(&raw_publish(""));
    assert!(matches!(new.end(), End::Told(_)));
}

#[test]
fn a_length_above_the_limit_is_refused_before_its_body_comes() {
    // [MQTT5-3.2.2-15]
    let mut broker = Start::new().config("[mqtt]\nmax_packet_size = \"1MB\"\n").start();
    let before = broker.memory_bytes();
    let mut clients: Vec<Client> =
        (0..50).map(|number| Client::connect(&broker, Version::V5, &format!("long-{number}"))).collect();
    for client in &mut clients {
        // 256 MB announced, nothing of it sent.
        client.send_bytes(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
        assert_eq!(client.end(), End::Told(ReasonCode::PacketTooLarge));
    }
    // The same before CONNECT.
    let mut early = Client::open(&broker, Version::V5);
    early.send_bytes(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert_eq!(early.end_after_anything(), End::Silent);
    let grown = broker.memory_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more for lengths that were only announced");
}

#[test]
fn an_announced_length_costs_nothing_until_it_comes() {
    let mut broker = Start::new().config("[mqtt]\nmax_packet_size = \"10MB\"\n").start();
    let mut clients: Vec<Client> =
        (0..200).map(|number| Client::connect(&broker, Version::V5, &format!("slow-{number}"))).collect();
    let before = broker.memory_bytes();
    for client in &mut clients {
        // 8 MB announced and allowed; a few bytes sent.
        client.send_bytes(&[0x30, 0x80, 0x80, 0x80, 0x04, 0, 1, b't', 0, b'x']);
    }
    Bystanders::new(&broker).assert_undisturbed();
    let grown = broker.memory_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more for {} begun packets", clients.len());
}

#[test]
fn a_slow_connect_is_cut_off() {
    let broker = Start::new().shards(2).config("[mqtt]\nidle_timeout = \"1s\"\n").start();
    let mut bystanders = Bystanders::new(&broker);
    let began = dunlin_e2e::now();
    let mut silent = Client::open(&broker, Version::V311);
    let mut slow = Client::open(&broker, Version::V311);
    slow.send_bytes(&[0x10, 13, 0, 4, b'M', b'Q']);
    assert_eq!(silent.end(), End::Silent);
    assert_eq!(slow.end(), End::Silent);
    assert!(began.elapsed() >= Duration::from_secs(1));
    bystanders.assert_undisturbed();
}

#[test]
fn a_large_connect_is_refused_before_it_is_whole() {
    // Before authentication a connection may hold a few KB: a CONNECT that announces a megabyte is not waited for.
    let broker = Broker::start();
    let mut client = Client::open(&broker, Version::V5);
    client.send_bytes(&[0x10, 0x80, 0x80, 0x40]);
    let _refusal = client.next_within("refusal or end", DEADLINE);
    assert_eq!(client.end_after_anything(), End::Silent);
}

#[test]
fn half_open_connections_end() {
    let mut broker = Broker::with_shards(2);
    let mut bystanders = Bystanders::new(&broker);
    for version in Version::ALL {
        let mut client = Client::connect(&broker, version, "half-open");
        client.half_close();
        client.end_after_anything();
    }
    let mut fresh = Client::open(&broker, Version::V5);
    fresh.half_close();
    assert_eq!(fresh.end(), End::Silent);
    bystanders.assert_undisturbed();
    broker.assert_alive();
}

#[test]
fn a_subscriber_that_never_reads_holds_nobody_up() {
    let mut broker = Start::new().shards(2).config("[mqtt]\nmax_mqueue_len = 100\n").start();
    let mut bystanders = Bystanders::new(&broker);
    let mut stuck = Client::connect(&broker, Version::V5, "stuck");
    stuck.subscribe("flood", QoS::AtMostOnce);
    let mut reading = Client::connect(&broker, Version::V5, "reading");
    reading.subscribe("flood", QoS::AtLeastOnce);
    let mut publisher = Client::connect(&broker, Version::V5, "flood-pub");
    let payload = vec![b'x'; 64 * 1024];
    let before = broker.memory_bytes();
    for _ in 0..1_000 {
        publisher.publish("flood", &payload, QoS::AtLeastOnce);
        reading.message();
    }
    bystanders.assert_undisturbed();
    // 64 MB went by; the one who does not read may cost its queue and its socket's path, not all of it.
    let grown = broker.memory_bytes().saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes more");
    // What it gets when it reads again is whole packets, in the order in which they were sent.
    let first = stuck.message();
    assert_eq!(first.publish().payload.len(), payload.len());
    broker.assert_alive();
}

#[test]
fn a_stuck_reader_of_qos_1_stays_within_its_window_and_queue() {
    let mut broker =
        Start::new().shards(2).config("[mqtt]\nmax_mqueue_len = 50\nmax_inflight = 10\n").start();
    let mut stuck = Client::connect(&broker, Version::V5, "stuck-1");
    stuck.subscribe("queue", QoS::AtLeastOnce);
    let mut publisher = Client::connect(&broker, Version::V5, "queue-pub");
    for number in 0..500_u32 {
        publisher.publish("queue", &number.to_be_bytes(), QoS::AtLeastOnce);
    }
    let mut got = 0;
    let mut last = None;
    // 10 in flight and 50 that waited, the newest last.
    while got < 60 {
        let message = stuck.message();
        let number = u32::from_be_bytes(message.publish().payload.try_into().unwrap());
        assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
        last = Some(number);
        got += 1;
    }
    assert_eq!(last, Some(499));
    stuck.expect_quiet();
    broker.assert_alive();
}

#[test]
fn a_flood_of_user_properties_is_bounded() {
    let mut broker = Broker::start();
    let mut bystanders = Bystanders::new(&broker);
    let pairs = vec![("k", "v"); 20_000];
    let mut client = Client::connect(&broker, Version::V5, "properties");
    client.send(&Packet::Publish(Publish {
        topic: "t",
        properties: PublishProperties {
            user_properties: UserProperties::from_pairs(&pairs),
            ..PublishProperties::default()
        },
        ..Publish::default()
    }));
    assert!(matches!(client.end(), End::Told(code) if code.is_error()));
    // In CONNECT it is refused before anything is kept.
    let mut connect = login(Version::V5, "properties-connect");
    connect.properties.user_properties = UserProperties::from_pairs(&pairs);
    let mut early = Client::open(&broker, Version::V5);
    early.send(&Packet::Connect(connect));
    let _refusal = early.next_within("refusal or end", DEADLINE);
    assert_eq!(early.end_after_anything(), End::Silent);
    bystanders.assert_undisturbed();
    broker.assert_alive();
}

#[test]
fn thousands_of_topic_levels_are_refused() {
    // [MQTT311-4.7.3-3] [MQTT5-4.7.3-3]
    let mut broker = Broker::with_shards(2);
    let mut bystanders = Bystanders::new(&broker);
    let deep = "a/".repeat(20_000);
    let mut client = Client::connect(&broker, Version::V5, "deep-pub");
    client.send(&publish_0(&deep));
    assert_eq!(client.end(), End::Told(ReasonCode::TopicNameInvalid));
    for filter in ["+/".repeat(20_000), format!("{}#", "a/".repeat(20_000))] {
        let mut client = Client::connect(&broker, Version::V5, "deep-sub");
        let subscriptions = [dunlin_wire::packet::Subscription {
            filter: &filter,
            options: dunlin_wire::SubscriptionOptions::with_qos(QoS::AtMostOnce),
        }];
        client.send(&Packet::Subscribe(dunlin_wire::packet::Subscribe {
            packet_id: PacketId::FIRST,
            properties: dunlin_wire::packet::SubscribeProperties::default(),
            subscriptions: dunlin_wire::packet::Subscriptions::from_slice(&subscriptions),
        }));
        let answer = client.expect(PacketType::SubAck);
        let Packet::SubAck(suback) = answer.packet() else { panic!("{answer:?}") };
        assert_eq!(suback.reason_codes().collect::<Vec<_>>(), [ReasonCode::TopicFilterInvalid]);
        // It costs the subscription, and not the connection.
        client.send(&Packet::PingReq);
        client.expect(PacketType::PingResp);
    }
    bystanders.assert_undisturbed();
    broker.assert_alive();
}

#[test]
fn a_packet_id_in_use_with_other_content_is_not_a_second_message() {
    let broker = Broker::start();
    let mut subscriber = Client::connect(&broker, Version::V5, "in-use-sub");
    subscriber.subscribe("in-use/#", QoS::ExactlyOnce);
    let mut client = Client::connect(&broker, Version::V5, "in-use");
    client.send(&publish_with_id("in-use/first", 7, QoS::ExactlyOnce));
    client.expect(PacketType::PubRec);
    client.send(&publish_with_id("in-use/second", 7, QoS::ExactlyOnce));
    let answer = client.expect(PacketType::PubRec);
    assert_eq!(answer.ack().packet_id.get(), 7);
    client.send(&Packet::PubRel(Ack::success(PacketId::new(7).unwrap())));
    client.expect(PacketType::PubComp);
    client.publish("in-use/mark", b"", QoS::AtLeastOnce);
    assert_eq!(subscriber.message().publish().topic, "in-use/first");
    assert_eq!(subscriber.message().publish().topic, "in-use/mark");
}

#[test]
fn qos_2_that_is_never_released_stays_bounded() {
    let mut broker = Start::new().config("[mqtt]\nmax_awaiting_rel = 20\nreceive_maximum = 20\n").start();
    let mut bystanders = Bystanders::new(&broker);
    for version in [Version::V311, Version::V5] {
        let mut client = Client::connect(&broker, version, "unreleased");
        for number in 1..=200 {
            client.send(&publish_with_id("t", number, QoS::ExactlyOnce));
        }
        // 5.0 is told that it passed the Receive Maximum; older clients just end.
        let end = client.end_after_anything();
        if version == Version::V5 {
            assert_eq!(end, End::Told(ReasonCode::ReceiveMaximumExceeded));
        }
    }
    bystanders.assert_undisturbed();
    broker.assert_alive();
}

#[test]
fn acknowledgements_for_nothing_do_no_harm() {
    let mut broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::connect(&broker, version, "strays");
        for number in [1, 2, 65_535] {
            let ack = Ack::success(PacketId::new(number).unwrap());
            client.send(&Packet::PubAck(ack));
            client.send(&Packet::PubComp(ack));
        }
        client.send(&Packet::PingReq);
        // A stray acknowledgement is ignored or, in 5.0, may end the connection with a reason.
        if let Some(answer) = client.next_within("PINGRESP or end", DEADLINE) {
            match answer.packet() {
                Packet::PingResp => {}
                Packet::Disconnect(disconnect) => assert!(disconnect.code.is_error()),
                other => panic!("{other:?}"),
            }
        }
    }
    broker.assert_alive();
}

#[test]
fn properties_where_they_do_not_belong_are_refused() {
    // [MQTT5-3.3.4-6]
    let broker = Broker::start();
    let cases: [(&str, &[u8]); 6] = [
        ("Subscription Identifier from a client", &[0x30, 6, 0, 1, b't', 2, 0x0B, 1]),
        ("Server Keep Alive in PUBLISH", &[0x30, 7, 0, 1, b't', 3, 0x13, 0, 1]),
        ("the same property twice", &[0x30, 8, 0, 1, b't', 4, 0x01, 0, 0x01, 0]),
        ("a property number that is not one", &[0x30, 6, 0, 1, b't', 2, 0x7F, 0]),
        ("Payload Format Indicator 2", &[0x30, 6, 0, 1, b't', 2, 0x01, 2]),
        ("properties longer than the packet", &[0x30, 5, 0, 1, b't', 9, 0x01]),
    ];
    for (why, bytes) in cases {
        let mut client = Client::connect(&broker, Version::V5, "misplaced");
        client.send_bytes(bytes);
        match client.end() {
            End::Told(code) => assert!(
                matches!(code, ReasonCode::MalformedPacket | ReasonCode::ProtocolError),
                "{why}: {code:?}"
            ),
            End::Silent => panic!("{why}: closed without a reason"),
        }
    }
}

#[test]
fn random_bytes_never_bring_the_broker_down() {
    let mut broker = Broker::with_shards(2);
    let mut bystanders = Bystanders::new(&broker);
    // A small generator of its own: the same bytes in every run.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..300_u32 {
        let version = Version::ALL[usize::try_from(next() % 3).unwrap()];
        let mut client = if round % 2 == 0 {
            Client::open(&broker, version)
        } else {
            Client::connect(&broker, version, "noise")
        };
        let length = usize::try_from(next() % 200).unwrap();
        let bytes: Vec<u8> = (0..length).map(|_| next().to_le_bytes()[0]).collect();
        client.send_bytes(&bytes);
        client.half_close();
        while client.next_within("end", DEADLINE).is_some() {}
    }
    bystanders.assert_undisturbed();
    broker.assert_alive();
}

#[test]
fn a_client_that_connects_and_leaves_a_thousand_times_leaves_nothing() {
    let mut broker = Broker::with_shards(2);
    let round = |broker: &Broker, number: u32| {
        let mut client = Client::connect(broker, Version::V5, &format!("leaves-{}", number % 50));
        client.subscribe(&format!("leaves/{}/+", number % 50), QoS::AtLeastOnce);
        if number.is_multiple_of(2) { client.goodbye() } else { client.cut() }
    };
    for number in 0..500 {
        round(&broker, number);
    }
    let before = broker.memory_bytes();
    for number in 0..1_500 {
        round(&broker, number);
    }
    let grown = broker.memory_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more after 1,500 clients that left");
}

#[test]
fn each_end_is_counted_under_its_reason() {
    let mut broker = Start::new()
        .shards(2)
        .config("[mqtt]\nidle_timeout = \"1s\"\nmax_awaiting_rel = 1\nreceive_maximum = 1\n")
        .start();
    let endings: [(&str, &[u8]); 4] = [
        ("malformed_packet", &[0x00, 0x00]),
        ("packet_too_large", &[0x30, 0xFF, 0xFF, 0xFF, 0x7F]),
        ("protocol_error", &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 0]),
        ("topic_alias_invalid", &[0x30, 7, 0, 1, b't', 3, 0x23, 0, 0]),
    ];
    for (reason, bytes) in endings {
        let mut client = Client::connect(&broker, Version::V5, reason);
        client.send_bytes(bytes);
        let _told = client.end_because(reason);
    }
    let mut first = Client::connect(&broker, Version::V5, "taken");
    let second = Client::connect(&broker, Version::V5, "taken");
    assert_eq!(first.end(), End::Told(ReasonCode::SessionTakenOver));
    let mut flooding = Client::connect(&broker, Version::V5, "flooding");
    for number in 1..=2 {
        flooding.send(&publish_with_id("t", number, QoS::ExactlyOnce));
    }
    assert_eq!(flooding.end_after_anything(), End::Told(ReasonCode::ReceiveMaximumExceeded));
    // Its deadline is the last to pass.
    assert_eq!(Client::open(&broker, Version::V5).end(), End::Silent);
    broker.signal("USR1");
    let line = broker.program().line("counters of ends", |line| line.contains("ended by the broker"));
    for reason in [
        "malformed_packet=1",
        "packet_too_large=1",
        "protocol_error=1",
        "topic_alias_invalid=1",
        "session_taken_over=1",
        "receive_maximum_exceeded=1",
        "maximum_connect_time=1",
    ] {
        assert!(line.contains(reason), "{reason} is not in {line}");
    }
    second.goodbye();
}

/// The counters of the broker as its log shows them.
fn counters(broker: &mut Broker) -> String {
    broker.signal("USR1");
    broker.program().line("counters", |line| line.contains("packets.connect.received="))
}

#[test]
fn an_address_that_connects_too_fast_is_held_off() {
    let mut broker = Start::new()
        .config("[server]\nmax_conn_rate_per_address = 1\nmax_conn_burst_per_address = 10\n")
        .start();
    let mut bystanders = Bystanders::new(&broker);
    let mut early: Vec<Client> = (0..40).map(|_| Client::open(&broker, Version::V311)).collect();
    let mut refused = 0;
    for client in &mut early {
        client.send(&Packet::Connect(login(Version::V311, "")));
        refused += u32::from(client.next_within("CONNACK or end", DEADLINE).is_none());
    }
    assert!((25..=35).contains(&refused), "{refused} of 40 refused");
    bystanders.assert_undisturbed();
    let counted = format!("refused.connect_rate={refused}");
    let line = counters(&mut broker);
    assert!(line.contains(&counted), "no {counted} in {line}");
}

#[test]
fn those_who_never_connect_keep_nobody_out() {
    let mut broker = Start::new().config("[server]\nmax_greeting_connections = 20\n").start();
    let mut bystanders = Bystanders::new(&broker);
    let mut silent: Vec<Client> = (0..100).map(|_| Client::open(&broker, Version::V5)).collect();
    // The oldest of them went, and a client that says CONNECT is in.
    for client in &mut silent[..80] {
        assert_eq!(client.end(), End::Silent);
    }
    bystanders.assert_undisturbed();
    Client::connect(&broker, Version::V5, "polite").goodbye();
    let line = counters(&mut broker);
    assert!(line.contains("refused.greeting_count=8"), "{line}");
}

#[test]
fn a_client_id_of_wildcards_is_only_a_name() {
    let mut broker = Start::new().config("[sys_topics]\nsys_msg_interval = \"1s\"\n").start();
    let mut watcher = Client::connect(&broker, Version::V5, "watcher");
    watcher.subscribe("#", QoS::AtMostOnce);
    for (version, client_id) in [(Version::V5, "+/#"), (Version::V311, "#"), (Version::V5, "a/b")] {
        let mut client = Client::connect(&broker, version, client_id);
        let again = Client::connect(&broker, version, client_id);
        if version == Version::V5 {
            assert_eq!(client.end(), End::Told(ReasonCode::SessionTakenOver));
        }
        // It gets what it subscribes to, and nothing by its name.
        let mut client = again;
        client.publish("a/b", client_id.as_bytes(), QoS::AtLeastOnce);
        client.expect_quiet();
        assert_eq!(watcher.message().publish().payload, client_id.as_bytes());
        client.goodbye();
    }
    // Nothing of the broker's own carries it: each topic that it speaks on has the node's name only.
    watcher.subscribe("$SYS/#", QoS::AtMostOnce);
    for _ in 0..50 {
        let message = watcher.message();
        let topic = message.publish().topic;
        assert!(topic.starts_with("$SYS/brokers") && !topic.contains(['+', '#']), "{topic}");
    }
    broker.assert_alive();
}

#[test]
fn each_drop_is_counted_under_its_reason() {
    let mut broker = Start::new()
        .config(
            "[mqtt]\nmax_mqueue_len = 3\nmax_inflight = 1\nmax_awaiting_rel = 1\nmqueue_store_qos0 = false\n",
        )
        .start();
    let mut lasting = login(Version::V311, "away");
    lasting.clean_start = false;
    let (mut away, _) = Client::connect_with(&broker, lasting);
    away.subscribe("drops", QoS::AtLeastOnce);
    away.cut();
    let mut client = Client::connect(&broker, Version::V311, "drops");
    for number in 0..8_u32 {
        client.publish("drops", &number.to_be_bytes(), QoS::AtLeastOnce);
    }
    client.publish("drops", b"", QoS::AtMostOnce);
    client.publish("nobody", b"", QoS::AtLeastOnce);
    for number in 1..=2 {
        client.send(&publish_with_id("drops", number, QoS::ExactlyOnce));
    }
    // 3.x cannot be told that there is no room: it ends.
    assert_eq!(client.end_after_anything(), End::Silent);
    let line = counters(&mut broker);
    for wanted in [
        "delivery.dropped.queue_full=",
        "delivery.dropped.qos0_msg=1",
        "messages.dropped.no_subscribers=1",
        "messages.dropped.receive_maximum=1",
    ] {
        assert!(line.contains(wanted), "{wanted} is not in {line}");
    }
}

#[test]
fn a_storm_of_takeovers_disturbs_nobody() {
    let mut broker = Broker::with_shards(2);
    let mut bystanders = Bystanders::new(&broker);
    let mut last = Client::connect(&broker, Version::V5, "storm");
    for round in 0..200 {
        last = Client::connect(&broker, Version::V5, "storm");
        if round % 20 == 0 {
            bystanders.assert_undisturbed();
        }
    }
    last.expect_quiet();
    let line = counters(&mut broker);
    assert!(line.contains("session.takenover=200") && line.contains("ended.taken_over=200"), "{line}");
}
