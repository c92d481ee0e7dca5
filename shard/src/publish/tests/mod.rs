//! Conversations of clients with one, two and three cores: what is published, and what arrives.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it looks for")]

use dunlin_wire::packet::{
    Ack, Packet, Publish, PublishProperties, Subscribe, SubscribeProperties, Subscription, Subscriptions,
    TopicFilters, Unsubscribe, UserProperties,
};
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::{PacketId, QoS, SubscriptionOptions, Version};

use crate::config::Mqtt;
use crate::hooks::Hooks;
use crate::testing::{Client, Heard, World, connect};

mod limits;
mod qos;
mod retained;
mod review;
mod rights;
mod several_cores;
mod shared;
mod subscriptions;

/// A world of several cores without hooks.
pub(crate) fn world_of(shards: usize, mqtt: Mqtt) -> World {
    World::of_cores(mqtt, (0..shards).map(|_| Hooks::default()).collect())
}

/// A client id whose home is not among `others`' homes, with this stem.
pub(crate) fn id_at(shard: u16, shards: u16, stem: &str) -> String {
    (0..10_000)
        .map(|n| format!("{stem}{n}"))
        .find(|id| crate::home::shard_of_client(id, shards).0 == shard)
        .expect("one in a few names has its home there")
}

pub(crate) fn qos(value: u8) -> QoS {
    QoS::from_u8(value).unwrap()
}

/// A message without anything special.
pub(crate) fn message<'a>(topic: &'a str, level: u8, id: u16, payload: &'a str) -> Publish<'a> {
    Publish {
        qos: qos(level),
        topic,
        packet_id: PacketId::new(id),
        payload: payload.as_bytes(),
        ..Publish::default()
    }
}

pub(crate) fn retained<'a>(topic: &'a str, level: u8, id: u16, payload: &'a str) -> Publish<'a> {
    Publish { retain: true, ..message(topic, level, id, payload) }
}

pub(crate) fn publish(world: &mut World, client: Client, packet: Publish<'_>) {
    world.send(client, &Packet::Publish(packet));
}

/// Publishes and reads the publisher's answer.
pub(crate) fn published(world: &mut World, client: Client, packet: Publish<'_>) -> Vec<String> {
    publish(world, client, packet);
    shown(&world.heard(client))
}

pub(crate) fn options(level: u8) -> SubscriptionOptions {
    SubscriptionOptions::with_qos(qos(level))
}

/// Subscribes with one filter each and an identifier for all (0: none).
pub(crate) fn subscribe_as(
    world: &mut World,
    client: Client,
    filters: &[(&str, SubscriptionOptions)],
    identifier: u32,
) {
    let list: Vec<Subscription<'_>> =
        filters.iter().map(|(filter, options)| Subscription { filter, options: *options }).collect();
    let subscribe = Subscribe {
        packet_id: PacketId::new(9).unwrap(),
        properties: SubscribeProperties {
            subscription_identifier: (identifier != 0).then_some(identifier),
            ..SubscribeProperties::default()
        },
        subscriptions: Subscriptions::from_slice(&list),
    };
    world.send(client, &Packet::Subscribe(subscribe));
}

/// Subscribes to one filter and hears nothing but that it is granted.
pub(crate) fn subscribe(world: &mut World, client: Client, filter: &str, level: u8) {
    subscribe_as(world, client, &[(filter, options(level))], 0);
    assert_eq!(heard(world, client), [format!("SUBACK 9 [{}]", ReasonCode::granted(qos(level)).name())]);
}

pub(crate) fn unsubscribe(world: &mut World, client: Client, filters: &[&str]) -> Vec<String> {
    let unsubscribe = Unsubscribe {
        packet_id: PacketId::new(8).unwrap(),
        user_properties: UserProperties::NONE,
        filters: TopicFilters::from_slice(filters),
    };
    world.send(client, &Packet::Unsubscribe(unsubscribe));
    heard(world, client)
}

/// What a client received, as text.
pub(crate) fn heard(world: &mut World, client: Client) -> Vec<String> {
    shown(&world.heard(client))
}

pub(crate) fn acked(id: u16) -> Ack<'static> {
    Ack::success(PacketId::new(id).unwrap())
}

pub(crate) fn puback(world: &mut World, client: Client, id: u16) {
    world.send(client, &Packet::PubAck(acked(id)));
}

/// Connects a session that is kept, resuming the one that is there; the CONNACK is not part of what is heard next.
pub(crate) fn resume(world: &mut World, version: Version, id: &str) -> Client {
    let mut packet = connect(version, id);
    packet.clean_start = false;
    packet.properties.session_expiry_interval = version.is_v5().then_some(1_000);
    let client = world.open();
    world.send(client, &Packet::Connect(packet));
    client
}

/// As [`resume`], for a session that is new: only CONNACK comes.
pub(crate) fn keep(world: &mut World, version: Version, id: &str) -> Client {
    let client = resume(world, version, id);
    assert_eq!(heard(world, client), ["CONNACK success"]);
    client
}

pub(crate) fn shown(heard: &Heard) -> Vec<String> {
    heard.packets().iter().map(show).collect()
}

/// One packet as text: only what is set is named.
pub(crate) fn show(packet: &Packet<'_>) -> String {
    let ack = |name: &str, ack: &Ack<'_>| match ack.code {
        ReasonCode::Success => format!("{name} {}", ack.packet_id.get()),
        code => format!("{name} {} {}", ack.packet_id.get(), code.name()),
    };
    match packet {
        Packet::Publish(publish) => show_publish(publish),
        Packet::PubAck(packet) => ack("PUBACK", packet),
        Packet::PubRec(packet) => ack("PUBREC", packet),
        Packet::PubRel(packet) => ack("PUBREL", packet),
        Packet::PubComp(packet) => ack("PUBCOMP", packet),
        Packet::SubAck(packet) => {
            format!("SUBACK {} [{}]", packet.packet_id.get(), names(packet.reason_codes()))
        }
        Packet::UnsubAck(packet) => {
            format!("UNSUBACK {} [{}]", packet.packet_id.get(), names(packet.reason_codes()))
        }
        Packet::ConnAck(packet) => {
            let present = if packet.session_present { " present" } else { "" };
            format!("CONNACK {}{present}", packet.code.name())
        }
        Packet::Disconnect(packet) => format!("DISCONNECT {}", packet.code.name()),
        other => format!("{}", other.packet_type()),
    }
}

pub(crate) fn names(codes: impl Iterator<Item = ReasonCode>) -> String {
    codes.map(ReasonCode::name).collect::<Vec<_>>().join(" ")
}

pub(crate) fn show_publish(publish: &Publish<'_>) -> String {
    let mut text = format!("PUBLISH {} q{}", publish.topic, publish.qos.as_u8());
    if let Some(id) = publish.packet_id {
        text += &format!(" id={}", id.get());
    }
    if publish.dup {
        text += " dup";
    }
    if publish.retain {
        text += " retain";
    }
    let PublishProperties { message_expiry_interval, topic_alias, subscription_ids, .. } = publish.properties;
    if let Some(seconds) = message_expiry_interval {
        text += &format!(" expiry={seconds}");
    }
    if let Some(alias) = topic_alias {
        text += &format!(" alias={alias}");
    }
    if !subscription_ids.is_empty() {
        let mut ids: Vec<u32> = subscription_ids.iter().collect();
        ids.sort_unstable();
        text += &format!(" ids={ids:?}");
    }
    text + &format!(" {}", String::from_utf8_lossy(publish.payload))
}
