//! Sessions without a connection: names in memory, messages on the disk.

use super::*;
use crate::limits::FETCH_COUNT;

fn filled(world: &mut World, count: u16) -> Client {
    let subscriber = come(world, Version::V5, "s");
    subscribe(world, subscriber, "t", 1);
    world.drop_client(subscriber);
    let publisher = come(world, Version::V5, "p");
    for n in 1..=count {
        assert_eq!(published(world, publisher, message("t", 1, n, &n.to_string())), [format!("PUBACK {n}")]);
    }
    publisher
}

/// Acknowledges all that comes, and says what came.
fn drink(world: &mut World, client: Client) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let heard = world.heard(client);
        if heard.is_empty() {
            return all;
        }
        for packet in heard.packets() {
            if let Packet::Publish(publish) = packet {
                all.push(String::from_utf8(publish.payload.to_vec()).unwrap());
                world.send(
                    client,
                    &Packet::PubAck(dunlin_wire::packet::Ack::success(publish.packet_id.unwrap())),
                );
            }
        }
    }
}

#[test]
fn what_waits_is_on_the_disk_and_comes_page_by_page_in_order() {
    let mut world = World::durable(Mqtt::default(), 1);
    let messages = u16::try_from(FETCH_COUNT * 3 + 7).unwrap();
    filled(&mut world, messages);
    let gauges = world.core().gauges();
    assert_eq!((gauges.queued, gauges.queued_bytes), (u64::from(messages), 0), "names only");
    let subscriber = resume(&mut world, Version::V5, "s");
    let expected: Vec<String> = (1..=messages).map(|n| n.to_string()).collect();
    assert_eq!(drink(&mut world, subscriber), expected);
    assert_eq!(world.core().gauges().queued, 0);
    assert!(!world.core().sessions.at(0).unwrap().has_away());
    world.crash();
    assert_eq!(comes_back(&mut world, "s"), ["CONNACK success present"], "all was acknowledged");
}

#[test]
fn what_comes_while_a_client_is_woken_stays_behind() {
    let mut world = World::durable(Mqtt { max_inflight: 4, ..Mqtt::default() }, 1);
    let publisher = filled(&mut world, 100);
    let subscriber = resume(&mut world, Version::V5, "s");
    for n in 101..=110 {
        publish(&mut world, publisher, message("t", 1, n, &n.to_string()));
    }
    let expected: Vec<String> = (1..=110).map(|n| n.to_string()).collect();
    assert_eq!(drink(&mut world, subscriber), expected);
}

#[test]
fn a_connection_that_ends_in_the_middle_puts_all_back_in_order() {
    let mut world = World::durable(Mqtt { max_inflight: 4, ..Mqtt::default() }, 1);
    filled(&mut world, 100);
    for round in 0..5 {
        let subscriber = resume(&mut world, Version::V5, "s");
        let first = heard(&mut world, subscriber);
        assert_eq!(first.len(), 5, "{first:?}");
        let dup = if round == 0 { "" } else { " dup" };
        for (n, line) in first[1..].iter().enumerate() {
            assert_eq!(*line, format!("PUBLISH t q1 id={}{dup} {}", n + 1, n + 1));
        }
        world.drop_client(subscriber);
        if round == 2 {
            world.crash();
        }
    }
    let subscriber = resume(&mut world, Version::V5, "s");
    let expected: Vec<String> = (1..=100).map(|n| n.to_string()).collect();
    assert_eq!(drink(&mut world, subscriber), expected);
}

#[test]
fn the_oldest_go_when_too_many_wait() {
    let mut world = World::durable(Mqtt { max_mqueue_len: Some(10), ..Mqtt::default() }, 1);
    filled(&mut world, 25);
    assert_eq!(world.core().metrics().get(Counter::DeliveryDroppedQueueFull), 15);
    assert_eq!(world.core().gauges().queued, 10);
    world.crash();
    let subscriber = resume(&mut world, Version::V5, "s");
    let expected: Vec<String> = (16..=25).map(|n| n.to_string()).collect();
    assert_eq!(drink(&mut world, subscriber), expected);
    let mut world = World::durable(Mqtt { max_mqueue_len: Some(0), ..Mqtt::default() }, 1);
    filled(&mut world, 3);
    assert_eq!(count(&world, |record| matches!(record, Record::Published(_))), 0, "for nobody");
}

#[test]
fn the_oldest_go_when_too_many_bytes_wait() {
    // Beside the payload, a message counts its topic, its publisher and 40 B.
    let bytes_of_three = 3 * (1_000 + 1 + 1 + 40);
    let mqtt = Mqtt { max_mqueue_bytes: Some(bytes_of_three), ..Mqtt::default() };
    let mut world = World::durable(mqtt, 1);
    let publisher = filled(&mut world, 0);
    let send = |world: &mut World, n: u16, bytes: usize| {
        let payload = format!("{n:0bytes$}");
        assert_eq!(published(world, publisher, message("t", 1, n, &payload)).len(), 1);
    };
    for n in 1..=5 {
        send(&mut world, n, 1_000);
    }
    assert_eq!(world.core().metrics().get(Counter::DeliveryDroppedQueueFull), 2);
    assert_eq!(world.core().gauges().queued, 3);
    // One that alone is too large goes itself.
    send(&mut world, 6, 4_000);
    assert_eq!(world.core().gauges().queued, 3);
    // One that fits makes as many go as it takes.
    send(&mut world, 7, 1_500);
    assert_eq!(world.core().gauges().queued, 2);
    assert_eq!(world.core().metrics().get(Counter::DeliveryDroppedQueueFull), 5);
    world.crash();
    let subscriber = resume(&mut world, Version::V5, "s");
    let left: Vec<u16> = drink(&mut world, subscriber).iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(left, [5, 7], "what went is recorded");
    assert_nothing_is_owed(&world);
}

#[test]
fn bytes_that_were_put_away_with_the_client_count() {
    let mqtt = Mqtt { max_mqueue_bytes: Some(2_100), max_inflight: 1, ..Mqtt::default() };
    let mut world = World::durable(mqtt, 1);
    let subscriber = come(&mut world, Version::V5, "s");
    subscribe(&mut world, subscriber, "t", 1);
    let publisher = come(&mut world, Version::V5, "p");
    for n in 1..=3_u16 {
        published(&mut world, publisher, message("t", 1, n, &format!("{n:01000}")));
    }
    // One is under way, two wait in memory.
    world.drop_client(subscriber);
    published(&mut world, publisher, message("t", 1, 4, &format!("{:01000}", 4)));
    assert_eq!(world.core().metrics().get(Counter::DeliveryDroppedQueueFull), 1);
    let subscriber = resume(&mut world, Version::V5, "s");
    let got: Vec<u16> = drink(&mut world, subscriber).iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(got, [1, 3, 4]);
}

#[test]
fn what_expires_on_the_disk_is_not_sent() {
    // [MQTT5-3.3.2-5]
    let mut world = World::durable(Mqtt::default(), 1);
    let publisher = filled(&mut world, 1);
    let properties = PublishProperties { message_expiry_interval: Some(10), ..PublishProperties::default() };
    publish(
        &mut world,
        publisher,
        dunlin_wire::packet::Publish { properties, ..message("t", 1, 2, "short") },
    );
    publish(&mut world, publisher, message("t", 1, 3, "3"));
    world.crash();
    world.advance(11);
    let subscriber = resume(&mut world, Version::V5, "s");
    assert_eq!(drink(&mut world, subscriber), ["1", "3"]);
    assert_eq!(world.core().metrics().get(Counter::DeliveryDroppedExpired), 1);
}

#[test]
fn a_message_that_cannot_be_read_is_counted_and_passed_over() {
    let mut world = World::durable(Mqtt::default(), 1);
    filled(&mut world, 3);
    let second = world.logs[0].records.iter().position(|record| match record {
        Record::Published(published) => published.id.0 == 2,
        _ => false,
    });
    world.logs[0].records[second.unwrap()] = Record::RetainedCleared { topic: "damaged".into() };
    let subscriber = resume(&mut world, Version::V5, "s");
    assert_eq!(drink(&mut world, subscriber), ["1", "3"]);
    assert_eq!(world.core().metrics().get(Counter::DeliveryDroppedLost), 1);
    world.crash();
    assert_eq!(comes_back(&mut world, "s"), ["CONNACK success present"]);
}

#[test]
fn qos_0_is_never_stored() {
    let mut world = World::durable(Mqtt::default(), 1);
    let publisher = filled(&mut world, 1);
    publish(&mut world, publisher, message("t", 0, 0, "zero"));
    assert_eq!(count(&world, |record| matches!(record, Record::Published(_))), 1);
    let back = comes_back(&mut world, "s");
    assert!(back.contains(&"PUBLISH t q0 zero".to_owned()), "{back:?}");
}

#[test]
fn a_message_for_many_is_stored_once() {
    let mut world = World::durable(Mqtt::default(), 1);
    for n in 0..100 {
        let subscriber = come(&mut world, Version::V5, &format!("s{n}"));
        subscribe(&mut world, subscriber, "t", 1);
        if n % 2 == 0 {
            world.drop_client(subscriber);
        }
    }
    let publisher = come(&mut world, Version::V5, "p");
    publish(&mut world, publisher, message("t", 1, 1, "x"));
    let receivers: Vec<usize> = world.logs[0]
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Published(published) => {
                assert!(published.receivers.is_sorted_by_key(|receiver| receiver.session));
                Some(published.receivers.len())
            }
            _ => None,
        })
        .collect();
    assert_eq!(receivers, [100]);
}

#[test]
fn a_session_that_gets_a_message_twice_has_two_names_for_it() {
    // [MQTT5-4.8.2-1]: through its own filter and through a group. What is done or lost of one says nothing of the other.
    let mut world = World::durable(Mqtt::default(), 1);
    let subscriber = come(&mut world, Version::V5, "s");
    subscribe(&mut world, subscriber, "t", 2);
    subscribe(&mut world, subscriber, "$share/g/t", 2);
    let publisher = come(&mut world, Version::V5, "p");
    publish(&mut world, publisher, message("t", 1, 1, "x"));
    let mut ids = Vec::new();
    for record in &world.logs[0].records {
        if let Record::Published(published) = record {
            assert_eq!(published.receivers.len(), 1);
            ids.push(published.id);
        }
    }
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
    world.crash();
    assert_eq!(comes_back(&mut world, "s").iter().filter(|heard| heard.starts_with("PUBLISH t")).count(), 2);
}
