//! Strategies for packets: owned parts, put together into a borrowed [`Packet`] when it is used.

use std::num::{NonZeroU16, NonZeroU32};

use dunlin_wire::packet::{
    Ack, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect, ConnectProperties, Disconnect,
    DisconnectProperties, Publish, PublishProperties, ReasonCodes, ReasonProperties, SubAck, Subscribe,
    SubscribeProperties, Subscription, SubscriptionIds, Subscriptions, TopicFilters, UnsubAck, Unsubscribe,
    UserProperties, Will, WillProperties,
};
use dunlin_wire::reason::Senders;
use dunlin_wire::{
    ConnectReturnCode, Packet, PacketId, PacketType, QoS, ReasonCode, SubscriptionOptions, Version,
};
use proptest::prelude::*;

/// What a packet is made of: more than any one needs, so that one strategy serves all types.
#[derive(Clone, Debug)]
pub(crate) struct OwnedPacket {
    kind: PacketType,
    texts: [Option<String>; 6],
    topic: String,
    response_topic: Option<String>,
    blobs: [Option<Vec<u8>>; 3],
    payload: Vec<u8>,
    pairs: Vec<(String, String)>,
    numbers: [Option<u32>; 4],
    shorts: [Option<u16>; 4],
    flags: [Option<bool>; 6],
    packet_id: PacketId,
    qos: QoS,
    ids: Vec<u32>,
    filters: Vec<(String, u8)>,
    codes: Vec<ReasonCode>,
}

/// One of the three versions.
pub(crate) fn any_version() -> BoxedStrategy<Version> {
    prop::sample::select(Version::ALL.to_vec()).boxed()
}

/// Text without the null character, sometimes empty, sometimes of many-byte characters.
fn text() -> BoxedStrategy<String> {
    let letter = prop_oneof![
        prop::char::range('a', 'z'),
        prop::sample::select(vec!['/', '+', '#', '$', ' ', '\u{1}', 'ß', '\u{FEFF}', '😀'])
    ];
    prop::collection::vec(letter, 0..12).prop_map(String::from_iter).boxed()
}

/// A topic name, now and then long enough that a length takes two bytes.
fn topic() -> BoxedStrategy<String> {
    (text(), any::<u8>())
        .prop_map(|(text, choice)| {
            let mut topic = text.replace(['+', '#'], "-");
            topic.push('t');
            if choice < 20 { topic.repeat(20) } else { topic }
        })
        .boxed()
}

/// A topic filter with wildcards where they may stand.
fn filter() -> BoxedStrategy<String> {
    let level = prop::sample::select(vec!["+", "", "a", "$b", "device", "é"]);
    (prop::collection::vec(level, 1..5), any::<bool>())
        .prop_map(|(levels, open)| {
            let mut filter = levels.join("/");
            if open {
                filter.push_str("/#");
            }
            if filter.is_empty() { "/".to_owned() } else { filter }
        })
        .boxed()
}

/// A packet of a type that this version has.
pub(crate) fn any_packet(version: Version) -> BoxedStrategy<OwnedPacket> {
    let last = if version.is_v5() { 15 } else { 14 };
    let kind = prop::sample::select(PacketType::ALL[..last].to_vec());
    let texts = prop::array::uniform6(prop::option::of(text()));
    let blobs = prop::array::uniform3(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)));
    let payload =
        prop_oneof![prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 100..400)];
    let strings = (
        texts,
        topic(),
        prop::option::of(topic()),
        blobs,
        payload,
        prop::collection::vec((text(), text()), 0..4),
    );
    let numbers = (
        prop::array::uniform4(prop::option::of(any::<u32>())),
        prop::array::uniform4(prop::option::of(any::<u16>())),
        prop::array::uniform6(prop::option::of(any::<bool>())),
        any::<NonZeroU16>().prop_map(PacketId),
        prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]),
    );
    let lists = (
        prop::collection::vec(1_u32..=268_435_455, 0..3),
        prop::collection::vec((filter(), any::<u8>()), 1..4),
        prop::collection::vec(prop::sample::select(ReasonCode::ALL.to_vec()), 1..5),
    );
    (kind, strings, numbers, lists)
        .prop_map(|(kind, strings, numbers, lists)| {
            let (texts, topic, response_topic, blobs, payload, pairs) = strings;
            let (numbers, shorts, flags, packet_id, qos) = numbers;
            let (ids, filters, codes) = lists;
            OwnedPacket {
                kind,
                texts,
                topic,
                response_topic,
                blobs,
                payload,
                pairs,
                numbers,
                shorts,
                flags,
                packet_id,
                qos,
                ids,
                filters,
                codes,
            }
        })
        .boxed()
}

impl OwnedPacket {
    /// Puts the packet together as this version can say it and hands it to `then`.
    pub(crate) fn with<T>(&self, version: Version, then: impl FnOnce(&Packet<'_>) -> T) -> T {
        let pairs: Vec<(&str, &str)> = self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let v5 = version.is_v5();
        let user_properties = if v5 { UserProperties::from_pairs(&pairs) } else { UserProperties::NONE };
        let reason = ReasonProperties { reason_string: self.text(0).filter(|_| v5), user_properties };
        match self.kind {
            PacketType::Connect => then(&Packet::Connect(self.connect(version, user_properties))),
            PacketType::ConnAck => then(&Packet::ConnAck(self.connack(version, user_properties))),
            PacketType::Publish => then(&Packet::Publish(self.publish(v5, user_properties))),
            PacketType::PubAck => then(&Packet::PubAck(self.ack(v5, reason))),
            PacketType::PubRec => then(&Packet::PubRec(self.ack(v5, reason))),
            PacketType::PubRel => then(&Packet::PubRel(self.ack(v5, reason))),
            PacketType::PubComp => then(&Packet::PubComp(self.ack(v5, reason))),
            PacketType::Subscribe => self.subscribe(v5, user_properties, then),
            PacketType::SubAck => {
                let codes = self.codes(v5);
                let codes = ReasonCodes::from_slice(&codes);
                then(&Packet::SubAck(SubAck { packet_id: self.packet_id, properties: reason, codes }))
            }
            PacketType::Unsubscribe => {
                let filters: Vec<&str> = self.filters.iter().map(|(filter, _)| filter.as_str()).collect();
                let filters = TopicFilters::from_slice(&filters);
                then(&Packet::Unsubscribe(Unsubscribe {
                    packet_id: self.packet_id,
                    user_properties,
                    filters,
                }))
            }
            PacketType::UnsubAck => {
                let codes = if v5 { self.codes(v5) } else { Vec::new() };
                let codes = ReasonCodes::from_slice(&codes);
                then(&Packet::UnsubAck(UnsubAck { packet_id: self.packet_id, properties: reason, codes }))
            }
            PacketType::PingReq => then(&Packet::PingReq),
            PacketType::PingResp => then(&Packet::PingResp),
            PacketType::Disconnect => then(&Packet::Disconnect(self.disconnect(v5, user_properties))),
            PacketType::Auth => then(&Packet::Auth(self.auth(user_properties))),
        }
    }

    fn text(&self, index: usize) -> Option<&str> {
        self.texts[index].as_deref()
    }

    fn blob(&self, index: usize) -> Option<&[u8]> {
        self.blobs[index].as_deref()
    }

    fn flag(&self, index: usize) -> bool {
        self.flags[index] == Some(true)
    }

    /// The first of the random codes that this packet may carry.
    fn code(&self, v5: bool) -> ReasonCode {
        let fits = |code: &&ReasonCode| code.senders(self.kind) != Senders::NONE;
        let first_listed = || ReasonCode::ALL.iter().find(fits);
        let code = self.codes.iter().find(fits).or_else(first_listed).copied();
        if v5 { code.unwrap_or_default() } else { ReasonCode::Success }
    }

    /// Those of the random codes that the list may carry, or some that it may.
    fn codes(&self, v5: bool) -> Vec<ReasonCode> {
        let fits = |code: &ReasonCode| {
            code.senders(self.kind) != Senders::NONE
                && (v5 || !code.is_error() || *code == ReasonCode::UnspecifiedError)
        };
        let codes: Vec<_> = self.codes.iter().copied().filter(fits).collect();
        if codes.is_empty() { vec![ReasonCode::Success, ReasonCode::UnspecifiedError] } else { codes }
    }

    fn connect<'a>(&'a self, version: Version, user_properties: UserProperties<'a>) -> Connect<'a> {
        let v5 = version.is_v5();
        let properties = ConnectProperties {
            session_expiry_interval: self.numbers[0],
            receive_maximum: self.shorts[0].and_then(NonZeroU16::new),
            maximum_packet_size: self.numbers[1].and_then(NonZeroU32::new),
            topic_alias_maximum: self.shorts[1],
            request_response_information: self.flags[0],
            request_problem_information: self.flags[1],
            authentication_method: self.text(0),
            authentication_data: self.blob(0).filter(|_| self.texts[0].is_some()),
            user_properties,
        };
        let will_properties = WillProperties {
            will_delay_interval: self.numbers[2],
            payload_format_indicator: self.flags[2],
            message_expiry_interval: self.numbers[3],
            content_type: self.text(1),
            response_topic: self.response_topic.as_deref(),
            correlation_data: self.blob(1),
            user_properties,
        };
        let user_name = self.text(3);
        Connect {
            version,
            bridge: self.flag(5) && !v5,
            clean_start: self.flag(3),
            keep_alive_seconds: self.shorts[2].unwrap_or(0),
            client_id: self.text(2).unwrap_or("client"),
            will: self.flag(4).then_some(Will {
                qos: self.qos,
                retain: self.flag(0),
                topic: &self.topic,
                payload: &self.payload,
                properties: if v5 { will_properties } else { WillProperties::default() },
            }),
            user_name,
            password: self.blob(2).filter(|_| v5 || user_name.is_some()),
            properties: if v5 { properties } else { ConnectProperties::default() },
        }
    }

    fn connack<'a>(&'a self, version: Version, user_properties: UserProperties<'a>) -> ConnAck<'a> {
        if !version.is_v5() {
            let code = ConnectReturnCode::from_u8(self.qos.as_u8() * 2).expect("0, 2 or 4").to_reason_code();
            let session_present = self.flag(0) && code == ReasonCode::Success && version == Version::V311;
            return ConnAck { session_present, code, properties: ConnAckProperties::default() };
        }
        let code = self.code(true);
        ConnAck {
            session_present: self.flag(0) && code == ReasonCode::Success,
            code,
            properties: ConnAckProperties {
                session_expiry_interval: self.numbers[0],
                receive_maximum: self.shorts[0].and_then(NonZeroU16::new),
                maximum_qos: Some(self.qos).filter(|qos| *qos != QoS::ExactlyOnce),
                retain_available: self.flags[1],
                maximum_packet_size: self.numbers[1].and_then(NonZeroU32::new),
                assigned_client_identifier: self.text(0),
                topic_alias_maximum: self.shorts[1],
                reason_string: self.text(1),
                wildcard_subscription_available: self.flags[2],
                subscription_identifier_available: self.flags[3],
                shared_subscription_available: self.flags[4],
                server_keep_alive: self.shorts[2],
                response_information: self.text(2),
                server_reference: self.text(3),
                authentication_method: self.text(4),
                authentication_data: self.blob(0),
                user_properties,
            },
        }
    }

    fn publish<'a>(&'a self, v5: bool, user_properties: UserProperties<'a>) -> Publish<'a> {
        let properties = PublishProperties {
            payload_format_indicator: self.flags[0],
            message_expiry_interval: self.numbers[0],
            topic_alias: self.shorts[0].and_then(NonZeroU16::new),
            response_topic: self.response_topic.as_deref(),
            correlation_data: self.blob(0),
            content_type: self.text(0),
            subscription_ids: SubscriptionIds::from_slice(&self.ids),
            user_properties,
        };
        let properties = if v5 { properties } else { PublishProperties::default() };
        let by_alias = properties.topic_alias.is_some() && self.flag(1);
        Publish {
            dup: self.flag(2) && self.qos > QoS::AtMostOnce,
            qos: self.qos,
            retain: self.flag(3),
            topic: if by_alias { "" } else { &self.topic },
            packet_id: (self.qos > QoS::AtMostOnce).then_some(self.packet_id),
            properties,
            payload: &self.payload,
        }
    }

    fn ack<'a>(&self, v5: bool, properties: ReasonProperties<'a>) -> Ack<'a> {
        Ack { packet_id: self.packet_id, code: self.code(v5), properties }
    }

    fn subscribe<T>(
        &self,
        v5: bool,
        user_properties: UserProperties<'_>,
        then: impl FnOnce(&Packet<'_>) -> T,
    ) -> T {
        let mask = if v5 { 0b0011_1111 } else { 0b11 };
        let subscriptions: Vec<Subscription<'_>> = self
            .filters
            .iter()
            .map(|(filter, byte)| Subscription {
                filter,
                options: SubscriptionOptions::from_u8(byte & mask).unwrap_or_default(),
            })
            .collect();
        let properties = SubscribeProperties {
            subscription_identifier: self.ids.first().copied().filter(|_| v5),
            user_properties,
        };
        let subscriptions = Subscriptions::from_slice(&subscriptions);
        then(&Packet::Subscribe(Subscribe { packet_id: self.packet_id, properties, subscriptions }))
    }

    fn disconnect<'a>(&'a self, v5: bool, user_properties: UserProperties<'a>) -> Disconnect<'a> {
        if !v5 {
            return Disconnect::default();
        }
        Disconnect {
            code: self.code(true),
            properties: DisconnectProperties {
                session_expiry_interval: self.numbers[0],
                reason_string: self.text(0),
                server_reference: self.text(1),
                user_properties,
            },
        }
    }

    fn auth<'a>(&'a self, user_properties: UserProperties<'a>) -> Auth<'a> {
        Auth {
            code: self.code(true),
            properties: AuthProperties {
                authentication_method: Some(self.text(0).unwrap_or("method")),
                authentication_data: self.blob(0),
                reason_string: self.text(1),
                user_properties,
            },
        }
    }
}
