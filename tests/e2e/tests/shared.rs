//! Shared subscriptions.

use dunlin_e2e::{Broker, Client, DEADLINE, Start, login};
use dunlin_wire::packet::{Ack, Packet};
use dunlin_wire::{PacketType, QoS, ReasonCode, Version};
use std::collections::BTreeMap;

/// Messages that a test spreads over a group.
const COUNT: usize = 30;

fn members(broker: &Broker, count: usize, filter: &str, version: Version) -> Vec<Client> {
    (0..count)
        .map(|number| {
            let mut member = Client::connect(broker, version, &format!("member-{number}"));
            assert!(!member.subscribe(filter, QoS::ExactlyOnce).is_error());
            member
        })
        .collect()
}

/// Reads until the members have got `count` messages together, and returns the payloads that each got.
fn collect(members: &mut [Client], count: usize) -> Vec<Vec<Vec<u8>>> {
    let until = dunlin_e2e::now() + DEADLINE;
    let mut got = vec![Vec::new(); members.len()];
    while got.iter().map(Vec::len).sum::<usize>() < count {
        assert!(dunlin_e2e::now() < until, "only {got:?} came");
        for (member, got) in members.iter_mut().zip(&mut got) {
            got.extend(member.message_if_any().map(|message| message.publish().payload.to_vec()));
        }
    }
    for member in members {
        member.expect_quiet();
    }
    got
}

#[test]
fn each_message_reaches_one_member() {
    // [MQTT5-4.8.2-1] [MQTT5-4.8.2-3]
    for shards in [1, 2, 4] {
        let broker = Broker::with_shards(shards);
        for filter in ["$share/group/job/+", "$queue/job/+"] {
            for version in Version::ALL {
                let mut members = members(&broker, 3, filter, version);
                let mut publisher = Client::connect(&broker, version, "job-pub");
                let sent: Vec<Vec<u8>> = (0..60_u8).map(|number| vec![number]).collect();
                for payload in &sent {
                    publisher.publish("job/x", payload, QoS::AtLeastOnce);
                }
                let got = collect(&mut members, sent.len());
                let mut all: Vec<Vec<u8>> = got.concat();
                all.sort();
                assert_eq!(all, sent, "{filter}, {shards} shards");
                for member in members {
                    member.goodbye();
                }
            }
        }
    }
}

#[test]
fn round_robin_gives_each_member_its_turn() {
    let broker = Start::new().config("[mqtt]\nshared_subscription_strategy = \"round_robin\"\n").start();
    let mut members = members(&broker, 3, "$share/g/turn", Version::V5);
    let mut publisher = Client::connect(&broker, Version::V5, "turn-pub");
    for number in 0..u8::try_from(COUNT).unwrap() {
        publisher.publish("turn", &[number], QoS::AtLeastOnce);
    }
    let counts: Vec<usize> = collect(&mut members, COUNT).iter().map(Vec::len).collect();
    assert_eq!(counts, [COUNT / 3; 3]);
}

#[test]
fn sticky_and_hashes_keep_to_one_member() {
    for strategy in ["sticky", "hash_clientid", "hash_topic"] {
        let broker = Start::new()
            .shards(2)
            .config(&format!("[mqtt]\nshared_subscription_strategy = \"{strategy}\"\n"))
            .start();
        let mut members = members(&broker, 4, "$share/g/keep", Version::V5);
        let mut publisher = Client::connect(&broker, Version::V5, "keep-pub");
        for number in 0..u8::try_from(COUNT).unwrap() {
            publisher.publish("keep", &[number], QoS::AtLeastOnce);
        }
        let mut counts: Vec<usize> = collect(&mut members, COUNT).iter().map(Vec::len).collect();
        counts.sort_unstable();
        assert_eq!(counts, [0, 0, 0, COUNT], "{strategy}");
    }
}

#[test]
fn groups_and_plain_subscriptions_each_get_their_copy() {
    let broker = Broker::with_shards(2);
    let mut by_filter = BTreeMap::new();
    for (number, filter) in ["$share/a/copy", "$share/b/copy", "copy"].into_iter().enumerate() {
        let mut client = Client::connect(&broker, Version::V5, &format!("copy-{number}"));
        client.subscribe(filter, QoS::AtLeastOnce);
        by_filter.insert(filter, client);
    }
    let mut publisher = Client::connect(&broker, Version::V5, "copy-pub");
    publisher.publish("copy", b"x", QoS::AtLeastOnce);
    for client in by_filter.values_mut() {
        assert_eq!(client.message().publish().payload, b"x");
        client.expect_quiet();
    }
}

#[test]
fn a_member_that_leaves_hands_its_work_on() {
    // Unacknowledged QoS 1 messages of a member whose session ended go to another.
    let broker = Broker::with_shards(2);
    let mut leaving = Client::connect(&broker, Version::V5, "leaving");
    leaving.subscribe("$share/g/leave", QoS::AtLeastOnce);
    let mut publisher = Client::connect(&broker, Version::V5, "leave-pub");
    for number in 0..5_u8 {
        publisher.publish("leave", &[number], QoS::AtLeastOnce);
    }
    for _ in 0..5 {
        leaving.expect(PacketType::Publish);
    }
    let mut staying = Client::connect(&broker, Version::V5, "staying");
    staying.subscribe("$share/g/leave", QoS::AtLeastOnce);
    leaving.cut();
    let mut got: Vec<u8> = (0..5).map(|_| staying.message().publish().payload[0]).collect();
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 3, 4]);
}

#[test]
fn a_message_refused_by_a_member_goes_to_no_other() {
    // [MQTT5-4.8.2-6] [MQTT5-4.4.0-2]
    let broker = Broker::start();
    let mut members = members(&broker, 2, "$share/g/refuse", Version::V5);
    let mut publisher = Client::connect(&broker, Version::V5, "refuse-pub");
    publisher.publish("refuse", b"x", QoS::AtLeastOnce);
    let until = dunlin_e2e::now() + DEADLINE;
    let (refusing, message) = loop {
        assert!(dunlin_e2e::now() < until, "nobody got the message");
        let found = members.iter_mut().position(Client::has_something);
        if let Some(index) = found {
            break (index, members[index].expect(PacketType::Publish));
        }
    };
    let packet_id = message.publish().packet_id.unwrap();
    members[refusing]
        .send(&Packet::PubAck(Ack::with_code(packet_id, ReasonCode::ImplementationSpecificError)));
    for member in &mut members {
        member.expect_quiet();
    }
    // The next message goes on to whoever's turn it is: the group still works.
    publisher.publish("refuse", b"y", QoS::AtLeastOnce);
    assert_eq!(collect(&mut members, 1).concat(), [b"y"]);
}

#[test]
fn a_qos_2_message_begun_with_a_member_is_completed_with_it() {
    // [MQTT5-4.8.2-4] [MQTT5-4.8.2-5]
    let broker = Broker::with_shards(2);
    let mut connect = login(Version::V5, "begun");
    connect.clean_start = false;
    connect.properties.session_expiry_interval = Some(600);
    let (mut member, _) = Client::connect_with(&broker, connect);
    member.subscribe("$share/g/begun", QoS::ExactlyOnce);
    let mut publisher = Client::connect(&broker, Version::V5, "begun-pub");
    publisher.publish("begun", b"x", QoS::ExactlyOnce);
    let message = member.expect(PacketType::Publish);
    member.cut();
    let mut other = Client::connect(&broker, Version::V5, "begun-other");
    other.subscribe("$share/g/begun", QoS::ExactlyOnce);
    let (mut member, _) = Client::connect_with(&broker, connect);
    let again = member.message();
    assert_eq!(again.publish().packet_id, message.publish().packet_id);
    other.expect_quiet();
}
