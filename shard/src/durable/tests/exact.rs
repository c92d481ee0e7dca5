//! QoS 2 exactly once between shards, whatever each of them loses, and whatever its client has forgotten.

use super::*;
use dunlin_persist::StoreState;

use crate::event::Event;
use crate::ids::ShardId;

/// A publisher at home on shard 0 and a subscriber on the last one, both with sessions that are kept.
struct Pair {
    world: World,
    publisher: String,
    subscriber: String,
}

impl Pair {
    fn new(shards: u16) -> Self {
        let mut world = World::durable(Mqtt::default(), usize::from(shards));
        let (publisher, subscriber) = (id_at(0, shards, "p"), id_at(shards - 1, shards, "s"));
        let client = come(&mut world, Version::V5, &subscriber);
        subscribe(&mut world, client, "t", 2);
        world.drop_client(client);
        Self { world, publisher, subscriber }
    }

    /// The publisher is there, without what it hears first.
    fn publisher(&mut self) -> Client {
        come(&mut self.world, Version::V5, &self.publisher)
    }

    /// No record of a shard is safe any more.
    fn seize(&mut self, shard: usize) {
        let log = &mut self.world.logs[shard];
        log.limit = Some(log.total());
    }

    /// What the subscriber gets, once per packet identifier.
    fn drink(&mut self) -> Vec<String> {
        let client = come_silently(&mut self.world, &self.subscriber);
        let mut all = Vec::new();
        loop {
            let heard = self.world.heard(client);
            if heard.is_empty() {
                break;
            }
            for packet in heard.packets() {
                if let Packet::Publish(publish) = packet {
                    all.push(std::str::from_utf8(publish.payload).unwrap().to_owned());
                    let id = publish.packet_id.unwrap().get();
                    self.world.send(client, &Packet::PubRec(acked(id)));
                } else if let Packet::PubRel(ack) = packet {
                    self.world.send(client, &Packet::PubComp(acked(ack.packet_id.get())));
                }
            }
        }
        self.world.drop_client(client);
        all
    }

    /// The subscriber's shard stores a message whose publisher's shard forgets that there was one.
    fn forgotten(shards: u16) -> Self {
        let mut pair = Self::new(shards);
        let client = pair.publisher();
        pair.seize(0);
        publish(&mut pair.world, client, message("t", 2, 1, "first"));
        assert!(heard(&mut pair.world, client).is_empty(), "it is not safe");
        pair.world.crash();
        assert_eq!(pair.drink(), ["first"]);
        pair
    }

    fn origin_count(&self) -> usize {
        self.world.cores.iter().map(|core| core.durable.origins.len()).sum()
    }
}

fn come_silently(world: &mut World, id: &str) -> Client {
    resume(world, Version::V5, id)
}

fn again<'a>(topic: &'a str, id: u16, payload: &'a str) -> dunlin_wire::packet::Publish<'a> {
    dunlin_wire::packet::Publish { dup: true, ..message(topic, 2, id, payload) }
}

#[test]
fn what_one_shard_forgot_and_another_has_is_not_delivered_twice() {
    // [MQTT5-4.3.3-10] [MQTT311-4.3.3-2]
    for shards in 2..4 {
        let mut pair = Pair::forgotten(shards);
        let client = pair.publisher();
        assert_eq!(published(&mut pair.world, client, again("t", 1, "first")), ["PUBREC 1"]);
        assert!(pair.drink().is_empty());
        pair.world.send(client, &Packet::PubRel(acked(1)));
        assert_eq!(heard(&mut pair.world, client), ["PUBCOMP 1"]);
        assert_eq!(pair.origin_count(), 0);
        // The identifier names another message now, and that one is repeated as well.
        assert_eq!(published(&mut pair.world, client, message("t", 2, 1, "second")), ["PUBREC 1"]);
        assert_eq!(pair.drink(), ["second"]);
    }
}

#[test]
fn another_message_under_an_identifier_that_nobody_released_is_delivered() {
    let mut pair = Pair::forgotten(2);
    // The client went down with the broker and has forgotten its first message.
    let client = pair.publisher();
    pair.seize(0);
    publish(&mut pair.world, client, message("t", 2, 1, "second"));
    assert_eq!(pair.drink(), ["second"]);
    pair.world.crash();
    let client = pair.publisher();
    assert_eq!(published(&mut pair.world, client, again("t", 1, "second")), ["PUBREC 1"]);
    assert!(pair.drink().is_empty());
    pair.world.send(client, &Packet::PubRel(acked(1)));
    assert_eq!(heard(&mut pair.world, client), ["PUBCOMP 1"]);
    assert_eq!(pair.origin_count(), 0);
}

#[test]
fn pubcomp_waits_until_the_other_shard_has_forgotten() {
    let mut pair = Pair::new(2);
    let client = pair.publisher();
    assert_eq!(published(&mut pair.world, client, message("t", 2, 1, "first")), ["PUBREC 1"]);
    pair.seize(1);
    pair.world.send(client, &Packet::PubRel(acked(1)));
    assert!(heard(&mut pair.world, client).is_empty(), "the other shard has not stored it");
    pair.seize(0);
    pair.world.logs[1].limit = None;
    pair.world.settle();
    assert!(heard(&mut pair.world, client).is_empty(), "this shard has not stored it");
    pair.world.logs[0].limit = None;
    pair.world.settle();
    assert_eq!(heard(&mut pair.world, client), ["PUBCOMP 1"]);
    assert_eq!(pair.origin_count(), 0);
}

#[test]
fn the_end_of_a_session_frees_what_others_know_of_it() {
    for is_lost in [false, true] {
        let mut pair = Pair::forgotten(2);
        assert_ne!(pair.origin_count(), 0);
        if is_lost {
            pair.seize(1);
        }
        let mut packet = connect(Version::V5, &pair.publisher);
        packet.clean_start = true;
        let (_, greeting) = pair.world.connect(&packet);
        assert!(!greeting.connack().session_present);
        if is_lost {
            pair.world.crash();
        }
        assert_eq!(pair.origin_count(), 0, "lost: {is_lost}");
    }
}

#[test]
fn a_repeat_is_not_acknowledged_before_the_first_is_safe() {
    // [MQTT5-4.3.3-8]
    let mut pair = Pair::new(2);
    let here = come(&mut pair.world, Version::V5, &id_at(0, 2, "here"));
    subscribe(&mut pair.world, here, "t", 2);
    pair.world.drop_client(here);
    let client = pair.publisher();
    pair.world.logs[1].is_held = true;
    publish(&mut pair.world, client, message("t", 2, 1, "first"));
    pair.world.drop_client(client);
    let client = resume(&mut pair.world, Version::V5, &pair.publisher);
    assert!(heard(&mut pair.world, client).is_empty());
    // The other shard has it; this one hands it out to its own, and does not get that onto the disk.
    pair.seize(0);
    pair.world.hold_syncs(false);
    assert_eq!(heard(&mut pair.world, client), ["CONNACK success present"]);
    publish(&mut pair.world, client, again("t", 1, "first"));
    assert!(heard(&mut pair.world, client).is_empty(), "it is not safe");
    pair.world.logs[0].limit = None;
    pair.world.settle();
    assert_eq!(heard(&mut pair.world, client), ["PUBREC 1"]);
}

#[test]
fn who_is_refused_without_a_word_may_send_again() {
    let mut pair = Pair::new(3);
    let middle = id_at(1, 3, "s");
    let client = come(&mut pair.world, Version::V5, &middle);
    subscribe(&mut pair.world, client, "t", 2);
    pair.world.drop_client(client);
    let publisher = pair.publisher.clone();
    let old = come(&mut pair.world, Version::V311, &publisher);
    pair.world.handle(ShardId(1), Event::StoreState(StoreState::Full));
    publish(&mut pair.world, old, message("t", 2, 1, "first"));
    assert!(pair.world.is_closed(old) && heard(&mut pair.world, old).is_empty());
    assert_eq!(pair.drink(), ["first"]);
    pair.world.handle(ShardId(1), Event::StoreState(StoreState::Open));
    let old = come(&mut pair.world, Version::V311, &publisher);
    assert_eq!(published(&mut pair.world, old, again("t", 1, "first")), ["PUBREC 1"]);
    assert!(pair.drink().is_empty(), "it has it");
    pair.subscriber = middle;
    assert_eq!(pair.drink(), ["first"]);
    pair.world.send(old, &Packet::PubRel(acked(1)));
    assert_eq!(heard(&mut pair.world, old), ["PUBCOMP 1"]);
    assert_eq!(pair.origin_count(), 0);
}

#[test]
fn several_records_of_one_message_are_one_promise() {
    // Subscribers for themselves before and after a group, on the publisher's shard and on another.
    for (shards, at) in [(1, 0), (2, 0), (2, 1)] {
        for limit in 0..8 {
            let mut world = World::durable(Mqtt::default(), usize::from(shards));
            let ids = ["a", "m", "b"].map(|stem| id_at(at, shards, stem));
            for (id, filter) in ids.iter().zip(["t", "$share/g/t", "t"]) {
                let client = come(&mut world, Version::V5, id);
                subscribe(&mut world, client, filter, 2);
                world.drop_client(client);
            }
            let publisher = id_at(0, shards, "p");
            let client = come(&mut world, Version::V5, &publisher);
            let log = &mut world.logs[usize::from(at)];
            log.limit = Some(log.total() + limit);
            publish(&mut world, client, message("t", 2, 1, "x"));
            world.crash();
            let client = come(&mut world, Version::V5, &publisher);
            assert_eq!(published(&mut world, client, again("t", 1, "x")), ["PUBREC 1"]);
            let [one, member, other] = ids.map(|id| {
                let back = comes_back(&mut world, &id);
                back.iter().filter(|line| line.starts_with("PUBLISH")).count()
            });
            assert_eq!((one, other), (1, 1), "{shards} shards, shard {at} cut after {limit}");
            assert!(member > 0, "{shards} shards, shard {at} cut after {limit}: the group lacks it");
        }
    }
}

#[test]
fn cleaning_the_log_records_no_identifier_of_a_message_that_waits_for_other_shards() {
    // [MQTT5-4.3.3-10]: after the crash the client sends it again, and it is new on the publisher's shard.
    let mut pair = Pair::new(2);
    let here = id_at(0, 2, "here");
    let client = come(&mut pair.world, Version::V5, &here);
    subscribe(&mut pair.world, client, "t", 2);
    pair.world.drop_client(client);
    let client = pair.publisher();
    pair.world.logs[1].is_held = true;
    publish(&mut pair.world, client, message("t", 2, 1, "first"));
    assert!(heard(&mut pair.world, client).is_empty());
    let count = pair.world.logs[0].records.len();
    pair.world.reclaim(0, count);
    pair.world.crash();
    let client = pair.publisher();
    assert_eq!(published(&mut pair.world, client, again("t", 1, "first")), ["PUBREC 1"]);
    assert_eq!(pair.drink(), ["first"]);
    pair.subscriber = here;
    assert_eq!(pair.drink(), ["first"]);
}

#[test]
fn a_message_that_waited_for_other_shards_and_finds_the_disk_full_is_refused_as_a_whole() {
    // [MQTT5-4.3.3-10] [MQTT311-4.3.3-2]: 3.x hears nothing and sends it again, after a crash at any moment too.
    for records in 0..4 {
        let mut pair = Pair::new(2);
        let here = id_at(0, 2, "here");
        let client = come(&mut pair.world, Version::V5, &here);
        subscribe(&mut pair.world, client, "t", 2);
        pair.world.drop_client(client);
        let passing = pair.world.join(Version::V5, &id_at(0, 2, "passing"));
        subscribe(&mut pair.world, passing, "t", 2);
        let publisher = pair.publisher.clone();
        let old = come(&mut pair.world, Version::V311, &publisher);
        pair.world.logs[1].is_held = true;
        publish(&mut pair.world, old, message("t", 2, 1, "first"));
        pair.world.handle(ShardId(0), Event::StoreState(StoreState::Full));
        pair.seize(0);
        *pair.world.logs[0].limit.as_mut().unwrap() += records;
        pair.world.hold_syncs(false);
        assert!(heard(&mut pair.world, old).is_empty());
        assert!(heard(&mut pair.world, passing).is_empty(), "or it would get the message twice");
        pair.world.crash();
        let old = come(&mut pair.world, Version::V311, &publisher);
        assert_eq!(published(&mut pair.world, old, again("t", 1, "first")), ["PUBREC 1"]);
        assert_eq!(pair.drink(), ["first"], "{records} records after it");
        pair.subscriber = here;
        assert_eq!(pair.drink(), ["first"], "{records} records after it");
    }
}
