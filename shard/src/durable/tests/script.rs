//! A conversation, cut at every record: the disk takes so many and no more, the power goes, all come back. What was acknowledged
//! arrives; QoS 2 arrives once; the order holds.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_wire::packet::{Ack, Publish, Subscribe, SubscribeProperties, Subscription, Subscriptions};
use dunlin_wire::types::{PacketId, QoS};

use super::*;

/// A client that does what the standard asks of one, over connections and restarts of the broker.
struct Device {
    id: String,
    client: Option<Client>,
    /// Whether the broker said that it has the session.
    has_session: bool,
    is_subscribed: bool,
    filter: Option<&'static str>,
    /// Published and not through: by number, with the packet identifier and whether PUBREC came.
    unacknowledged: BTreeMap<u32, (PacketId, u8, bool)>,
    next_id: u16,
    /// Packet identifiers of QoS 2 messages that were taken and not released.
    taken: BTreeSet<PacketId>,
    received: Vec<(u32, u8)>,
}

impl Device {
    fn new(id: String, filter: Option<&'static str>) -> Self {
        Self {
            id,
            client: None,
            has_session: false,
            is_subscribed: false,
            filter,
            unacknowledged: BTreeMap::new(),
            next_id: 1,
            taken: BTreeSet::new(),
            received: Vec::new(),
        }
    }

    fn connect(&mut self, world: &mut World) {
        let mut packet = connect(Version::V5, &self.id);
        packet.clean_start = false;
        packet.properties.session_expiry_interval = Some(1_000);
        let client = world.open();
        self.client = Some(client);
        world.send(client, &Packet::Connect(packet));
    }

    fn leave(&mut self, world: &mut World) {
        if let Some(client) = self.client.take() {
            self.listen(world, client);
            world.drop_client(client);
        }
    }

    fn publish(&mut self, world: &mut World, number: u32, level: u8) {
        let packet_id = PacketId::new(self.next_id).unwrap();
        self.next_id += 1;
        self.unacknowledged.insert(number, (packet_id, level, false));
        if let Some(client) = self.client.filter(|_| self.has_session) {
            send_message(world, client, number, (packet_id, level), false);
        }
    }

    /// Hears and answers; whether there was anything.
    fn react(&mut self, world: &mut World) -> bool {
        self.client.is_some_and(|client| self.listen(world, client))
    }

    fn listen(&mut self, world: &mut World, client: Client) -> bool {
        let heard = world.heard(client);
        for packet in heard.packets() {
            match packet {
                Packet::ConnAck(connack) => self.greet(world, client, connack.session_present),
                Packet::SubAck(_) => self.is_subscribed = true,
                Packet::Publish(publish) => self.take(world, client, &publish),
                Packet::PubRel(ack) => {
                    self.taken.remove(&ack.packet_id);
                    world.send(client, &Packet::PubComp(Ack::success(ack.packet_id)));
                }
                Packet::PubAck(ack) | Packet::PubComp(ack) => {
                    self.unacknowledged.retain(|_, (id, _, _)| *id != ack.packet_id);
                }
                Packet::PubRec(ack) => {
                    for (id, _, is_released) in self.unacknowledged.values_mut() {
                        *is_released |= *id == ack.packet_id;
                    }
                    world.send(client, &Packet::PubRel(Ack::success(ack.packet_id)));
                }
                other => panic!("{other:?}"),
            }
        }
        !heard.is_empty()
    }

    fn greet(&mut self, world: &mut World, client: Client, is_present: bool) {
        assert!(is_present || !self.has_session, "{}: a session that was promised is gone", self.id);
        self.has_session = true;
        if let Some(filter) = self.filter.filter(|_| !self.is_subscribed) {
            let list = [Subscription { filter, options: options(2) }];
            world.send(
                client,
                &Packet::Subscribe(Subscribe {
                    packet_id: PacketId::new(60_000).unwrap(),
                    properties: SubscribeProperties::default(),
                    subscriptions: Subscriptions::from_slice(&list),
                }),
            );
        }
        for (number, (id, level, is_released)) in self.unacknowledged.clone() {
            if is_released {
                world.send(client, &Packet::PubRel(Ack::success(id)));
            } else {
                send_message(world, client, number, (id, level), true);
            }
        }
    }

    fn take(&mut self, world: &mut World, client: Client, publish: &Publish<'_>) {
        let number = std::str::from_utf8(publish.payload).unwrap().parse().unwrap();
        let id = publish.packet_id.unwrap();
        if publish.qos == QoS::ExactlyOnce {
            if self.taken.insert(id) {
                self.received.push((number, 2));
            }
            world.send(client, &Packet::PubRec(Ack::success(id)));
        } else {
            self.received.push((number, 1));
            world.send(client, &Packet::PubAck(Ack::success(id)));
        }
    }

    /// First arrivals, in order.
    fn firsts(&self, level: u8) -> Vec<u32> {
        let mut seen = BTreeSet::new();
        let of_level = self.received.iter().filter(|(_, other)| *other == level);
        of_level.map(|(number, _)| *number).filter(|number| seen.insert(*number)).collect()
    }
}

fn send_message(world: &mut World, client: Client, number: u32, (id, level): (PacketId, u8), dup: bool) {
    let payload = number.to_string();
    world.send(client, &Packet::Publish(Publish { dup, ..message("t", level, id.get(), &payload) }));
}

/// Three devices and the numbers that were published.
struct Story {
    world: World,
    publisher: Device,
    there: Device,
    away: Device,
    published: Vec<(u32, u8)>,
    /// What was published before a subscriber had its SUBACK is not owed to it.
    owed_from: [u32; 2],
}

impl Story {
    fn new(shards: u16) -> Self {
        let home = |n: u16, stem: &str| id_at(n % shards, shards, stem);
        Self {
            world: World::durable(Mqtt { max_inflight: 3, ..Mqtt::default() }, usize::from(shards)),
            publisher: Device::new(home(0, "publisher"), None),
            there: Device::new(home(1, "there"), Some("t")),
            away: Device::new(home(2, "away"), Some("+")),
            published: Vec::new(),
            owed_from: [0; 2],
        }
    }

    fn quiet(&mut self) {
        for _ in 0..200 {
            let world = &mut self.world;
            let mut is_heard = self.publisher.react(world);
            is_heard |= self.there.react(world);
            is_heard |= self.away.react(world);
            if !is_heard {
                return;
            }
        }
        panic!("they never end");
    }

    fn publish(&mut self, level: u8) {
        let number = u32::try_from(self.published.len()).unwrap();
        for (from, device) in self.owed_from.iter_mut().zip([&self.there, &self.away]) {
            if !device.is_subscribed {
                *from = number + 1;
            }
        }
        self.published.push((number, level));
        self.publisher.publish(&mut self.world, number, level);
    }

    fn begin(&mut self) {
        self.there.connect(&mut self.world);
        self.away.connect(&mut self.world);
        self.quiet();
        self.away.leave(&mut self.world);
        self.publisher.connect(&mut self.world);
        self.quiet();
        for level in [1, 2, 2, 1] {
            self.publish(level);
            self.quiet();
        }
        // Several at once; the window is full.
        for level in [2, 1, 2, 2, 1] {
            self.publish(level);
        }
        self.quiet();
        self.there.leave(&mut self.world);
        for level in [2, 1] {
            self.publish(level);
        }
        self.quiet();
        self.there.connect(&mut self.world);
        self.quiet();
        self.publisher.leave(&mut self.world);
        self.away.connect(&mut self.world);
        self.quiet();
        self.publisher.connect(&mut self.world);
        self.publish(2);
        self.quiet();
    }

    /// A shorter one, for many cuts: QoS 2 to one who is there, on the second shard, and one who is away, on the first.
    fn begin_briefly(&mut self) {
        self.there.connect(&mut self.world);
        self.away.connect(&mut self.world);
        self.quiet();
        self.away.leave(&mut self.world);
        self.publisher.connect(&mut self.world);
        self.quiet();
        self.publish(2);
        self.quiet();
        for _ in 0..2 {
            self.publish(2);
        }
        self.quiet();
    }

    /// All come back and go on until nothing is left to say.
    fn come_back(&mut self) {
        for device in [&mut self.there, &mut self.away, &mut self.publisher] {
            // What was on its way when the power went was heard, or not, as the test wants it.
            if let Some(client) = device.client.take() {
                self.world.heard(client);
            }
            device.connect(&mut self.world);
            // Subscribers first, so that what is published anew finds them.
            while device.react(&mut self.world) {}
        }
        self.quiet();
    }

    fn check(&self, what: &str) {
        assert!(self.publisher.unacknowledged.is_empty(), "{what}: {:?}", self.publisher.unacknowledged);
        for (device, from) in [&self.there, &self.away].into_iter().zip(self.owed_from) {
            for level in [1, 2] {
                let owed: Vec<u32> = self
                    .published
                    .iter()
                    .filter(|(number, other)| *other == level && *number >= from)
                    .map(|(number, _)| *number)
                    .collect();
                let mut firsts = device.firsts(level);
                firsts.retain(|number| *number >= from);
                assert_eq!(firsts, owed, "{what}: {} at QoS {level}: {:?}", device.id, device.received);
            }
            let twice: Vec<u32> =
                device.received.iter().filter(|(_, level)| *level == 2).map(|(n, _)| *n).collect();
            let once: BTreeSet<u32> = twice.iter().copied().collect();
            assert_eq!(once.len(), twice.len(), "{what}: {} got a QoS 2 message twice: {twice:?}", device.id);
        }
        assert_nothing_is_owed(&self.world);
        let known: usize = self.world.cores.iter().map(|core| core.durable.origins.len()).sum();
        assert_eq!(known, 0, "{what}: an identifier is not free");
    }
}

/// Cuts the log of one shard after each number of records, until the conversation needs no more.
fn cut_everywhere(shards: u16, cut: usize, restarts: usize) {
    for limit in 0.. {
        let mut story = Story::new(shards);
        story.world.logs[cut].limit = Some(limit);
        story.begin();
        let total = story.world.logs[cut].total();
        for restart in 0..restarts {
            story.world.crash();
            if restart + 1 < restarts {
                let more = story.world.logs[cut].total() + 1 + limit % 7;
                story.world.logs[cut].limit = Some(more);
                story.come_back();
            }
        }
        story.come_back();
        story.check(&format!("{shards} shards, shard {cut} cut after {limit} of {total} records"));
        // Nothing is left of it for a second restart.
        story.world.crash();
        story.come_back();
        story.check(&format!("{shards} shards, shard {cut} cut after {limit} of {total} records, and again"));
        if limit >= total {
            assert!(limit > 8, "the conversation is long enough");
            return;
        }
    }
}

#[test]
fn a_conversation_may_be_cut_at_every_record() {
    // [MQTT5-4.3.2-1] [MQTT5-4.3.3-1] [MQTT5-4.4.0-1] [MQTT5-4.6.0-5] [MQTT311-4.3.2-1] [MQTT311-4.3.3-1] [MQTT311-4.4.0-1]
    cut_everywhere(1, 0, 1);
}

#[test]
fn and_again_while_all_come_back() {
    cut_everywhere(1, 0, 3);
}

#[test]
fn one_shard_of_several_may_lose_what_others_keep() {
    for shards in 2..4 {
        for cut in 0..usize::from(shards) {
            cut_everywhere(shards, cut, 1);
        }
    }
}

#[test]
fn two_shards_may_each_lose_what_they_will() {
    // [MQTT5-4.3.3-10] [MQTT5-4.3.3-12] [MQTT311-4.3.3-2]: all pairs of cuts of PUBLISH, PUBREC, PUBREL, PUBCOMP over two logs.
    let mut whole = Story::new(2);
    whole.begin_briefly();
    let totals = [whole.world.logs[0].total(), whole.world.logs[1].total()];
    assert!(totals.iter().all(|total| *total > 8), "{totals:?}");
    for first in 0..=totals[0] {
        for second in 0..=totals[1] {
            let mut story = Story::new(2);
            story.world.logs[0].limit = Some(first);
            story.world.logs[1].limit = Some(second);
            story.begin_briefly();
            story.world.crash();
            story.come_back();
            story.check(&format!("cut after {first} and {second} of {totals:?}"));
        }
    }
}
