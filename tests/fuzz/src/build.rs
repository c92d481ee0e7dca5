//! Builds a packet from bytes: every choice is read from them, so that a mutation changes the packet.

use std::num::{NonZeroU16, NonZeroU32};

use dunlin_wire::packet::{
    Ack, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect, ConnectProperties, Disconnect,
    DisconnectProperties, Publish, PublishProperties, ReasonCodes, ReasonProperties, SubAck, Subscribe,
    SubscribeProperties, Subscription, SubscriptionIds, Subscriptions, TopicFilters, UnsubAck, Unsubscribe,
    UserProperties, Will, WillProperties,
};
use dunlin_wire::reason::Senders;
use dunlin_wire::topic::check_filter;
use dunlin_wire::{
    ConnectReturnCode, Packet, PacketId, PacketType, QoS, ReasonCode, RetainHandling, SubscriptionOptions,
    Version,
};

/// Builds the packet that the bytes describe, in the version that they describe, and hands it over.
///
/// In 3.x it has nothing that 3.x cannot say, so that it can come back equal. It may still be one that
/// the encoder refuses.
pub(crate) fn packet(data: &[u8], then: impl FnOnce(Version, &Packet<'_>)) {
    let mut from = Source { data };
    let version = Version::ALL[usize::from(from.u8()) % 3];
    let kind = from.u8() % 15;
    let mut lists =
        Lists::read(&mut from, if kind == 10 { PacketType::UnsubAck } else { PacketType::SubAck });
    if version != Version::V5 {
        lists.pairs.clear();
    }
    let packet = match kind {
        0 => Packet::Connect(from.connect(version, &lists)),
        1 => Packet::ConnAck(from.connack(version, &lists)),
        2 | 11 | 12 => Packet::Publish(from.publish(version, &lists)),
        3 => Packet::PubAck(from.ack(PacketType::PubAck, version, &lists)),
        4 => Packet::PubRec(from.ack(PacketType::PubRec, version, &lists)),
        5 => Packet::PubRel(from.ack(PacketType::PubRel, version, &lists)),
        6 => Packet::PubComp(from.ack(PacketType::PubComp, version, &lists)),
        7 => Packet::Subscribe(from.subscribe(version, &lists)),
        8 => Packet::SubAck(SubAck {
            packet_id: from.packet_id(),
            properties: from.reason(version, &lists),
            codes: ReasonCodes::from_slice(lists.codes_of(version)),
        }),
        9 => Packet::Unsubscribe(Unsubscribe {
            packet_id: from.packet_id(),
            user_properties: UserProperties::from_pairs(&lists.pairs),
            filters: TopicFilters::from_slice(&lists.filters),
        }),
        10 => Packet::UnsubAck(UnsubAck {
            packet_id: from.packet_id(),
            properties: from.reason(version, &lists),
            codes: ReasonCodes::from_slice(if version == Version::V5 { &lists.codes } else { &[] }),
        }),
        13 => Packet::Disconnect(from.disconnect(version, &lists)),
        _ => Packet::Auth(from.auth(&lists)),
    };
    then(version, &packet);
}

/// The lists that packets borrow.
struct Lists<'a> {
    pairs: Vec<(&'a str, &'a str)>,
    ids: Vec<u32>,
    filters: Vec<&'a str>,
    subscriptions: Vec<Subscription<'a>>,
    subscriptions_v3: Vec<Subscription<'a>>,
    codes: Vec<ReasonCode>,
    codes_v3: Vec<ReasonCode>,
}

impl<'a> Lists<'a> {
    fn read(from: &mut Source<'a>, acknowledgement: PacketType) -> Self {
        let counts = from.u8();
        let some = |shift: u8| 0..(counts >> shift) & 3;
        let pairs = some(0).map(|_| (from.text(), from.text())).collect();
        let ids = some(2).map(|_| from.u32() & 0x0FFF_FFFF).collect();
        let filters: Vec<&str> = some(4).map(|_| from.filter()).collect();
        let options: Vec<_> = filters.iter().map(|_| from.options()).collect();
        let subscriptions: Vec<_> = filters
            .iter()
            .zip(&options)
            .map(|(filter, options)| Subscription { filter, options: *options })
            .collect();
        let subscriptions_v3 = subscriptions
            .iter()
            .map(|s| Subscription { options: SubscriptionOptions::with_qos(s.options.qos), ..*s })
            .collect();
        let codes: Vec<_> = some(6).map(|_| from.code(acknowledgement)).collect();
        let codes_v3 = codes
            .iter()
            .map(|code| if code.granted_qos().is_some() { *code } else { ReasonCode::UnspecifiedError })
            .collect();
        Self { pairs, ids, filters, subscriptions, subscriptions_v3, codes, codes_v3 }
    }

    /// The codes of a SUBACK that this version can say.
    fn codes_of(&self, version: Version) -> &[ReasonCode] {
        if version == Version::V5 { &self.codes } else { &self.codes_v3 }
    }
}

/// Bytes from which choices are read; at their end every choice is zero.
struct Source<'a> {
    data: &'a [u8],
}

impl<'a> Source<'a> {
    fn u8(&mut self) -> u8 {
        let Some((&first, rest)) = self.data.split_first() else { return 0 };
        self.data = rest;
        first
    }

    fn bool(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes([self.u8(), self.u8(), self.u8(), self.u8()])
    }

    /// Sometimes what `then` reads.
    fn some<T>(&mut self, then: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.bool() { Some(then(self)) } else { None }
    }

    fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.u8()).min(self.data.len());
        let (head, tail) = self.data.split_at(count);
        self.data = tail;
        head
    }

    /// The next bytes as far as they are UTF-8.
    fn text(&mut self) -> &'a str {
        let bytes = self.bytes();
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
        }
    }

    fn qos(&mut self) -> QoS {
        QoS::from_u8(self.u8() % 3).unwrap_or_default()
    }

    fn packet_id(&mut self) -> PacketId {
        PacketId::new(self.u16()).unwrap_or(PacketId::FIRST)
    }

    /// A code that this packet may carry, and now and then another.
    fn code(&mut self, packet: PacketType) -> ReasonCode {
        let choice = usize::from(self.u8());
        let fits = |code: &ReasonCode| choice > 250 || code.senders(packet) != Senders::NONE;
        let codes: Vec<_> = ReasonCode::ALL.into_iter().filter(fits).collect();
        codes[choice % codes.len()]
    }

    /// A filter, which may still be one that is not valid.
    fn filter(&mut self) -> &'a str {
        let text = self.text();
        if check_filter(text).is_ok() || self.u8() < 10 { text } else { "$share/g/a/+/#" }
    }

    fn options(&mut self) -> SubscriptionOptions {
        SubscriptionOptions {
            qos: self.qos(),
            // No Local on a shared subscription would be refused when it comes back.
            no_local: false,
            retain_as_published: self.bool(),
            retain_handling: RetainHandling::from_u8(self.u8() % 3).unwrap_or_default(),
        }
    }

    fn connect<'b>(&mut self, version: Version, lists: &'b Lists<'a>) -> Connect<'b>
    where
        'a: 'b,
    {
        let user_properties = UserProperties::from_pairs(&lists.pairs);
        let will = self.some(|from| from.will(version, user_properties));
        let user_name = self.some(Self::text);
        let password = self.some(Self::bytes).filter(|_| user_name.is_some() || version == Version::V5);
        let mut properties = ConnectProperties::default();
        if version == Version::V5 {
            properties = ConnectProperties {
                session_expiry_interval: self.some(Self::u32),
                receive_maximum: NonZeroU16::new(self.u16()),
                maximum_packet_size: NonZeroU32::new(self.u32()),
                topic_alias_maximum: self.some(Self::u16),
                request_response_information: self.some(Self::bool),
                request_problem_information: self.some(Self::bool),
                authentication_method: self.some(Self::text),
                authentication_data: self.some(Self::bytes),
                user_properties,
            };
        }
        Connect {
            version,
            bridge: self.bool() && version != Version::V5,
            clean_start: self.bool(),
            keep_alive_seconds: self.u16(),
            client_id: self.text(),
            will,
            user_name,
            password,
            properties,
        }
    }

    fn will<'b>(&mut self, version: Version, user_properties: UserProperties<'b>) -> Will<'b>
    where
        'a: 'b,
    {
        let mut properties = WillProperties::default();
        if version == Version::V5 {
            properties = WillProperties {
                will_delay_interval: self.some(Self::u32),
                payload_format_indicator: self.some(Self::bool),
                message_expiry_interval: self.some(Self::u32),
                content_type: self.some(Self::text),
                response_topic: self.some(Self::text),
                correlation_data: self.some(Self::bytes),
                user_properties,
            };
        }
        Will { qos: self.qos(), retain: self.bool(), topic: self.text(), payload: self.bytes(), properties }
    }

    fn connack<'b>(&mut self, version: Version, lists: &'b Lists<'a>) -> ConnAck<'b>
    where
        'a: 'b,
    {
        if version != Version::V5 {
            let code = ConnectReturnCode::from_u8(self.u8() % 6).map(ConnectReturnCode::to_reason_code);
            let code = code.unwrap_or_default();
            let session_present = self.bool() && code == ReasonCode::Success && version == Version::V311;
            return ConnAck { session_present, code, properties: ConnAckProperties::default() };
        }
        let code = self.code(PacketType::ConnAck);
        ConnAck {
            session_present: self.bool() && code == ReasonCode::Success,
            code,
            properties: ConnAckProperties {
                session_expiry_interval: self.some(Self::u32),
                receive_maximum: NonZeroU16::new(self.u16()),
                maximum_qos: self.some(Self::qos),
                retain_available: self.some(Self::bool),
                maximum_packet_size: NonZeroU32::new(self.u32()),
                assigned_client_identifier: self.some(Self::text),
                topic_alias_maximum: self.some(Self::u16),
                reason_string: self.some(Self::text),
                wildcard_subscription_available: self.some(Self::bool),
                subscription_identifier_available: self.some(Self::bool),
                shared_subscription_available: self.some(Self::bool),
                server_keep_alive: self.some(Self::u16),
                response_information: self.some(Self::text),
                server_reference: self.some(Self::text),
                authentication_method: self.some(Self::text),
                authentication_data: self.some(Self::bytes),
                user_properties: UserProperties::from_pairs(&lists.pairs),
            },
        }
    }

    fn publish<'b>(&mut self, version: Version, lists: &'b Lists<'a>) -> Publish<'b>
    where
        'a: 'b,
    {
        let qos = self.qos();
        let mut properties = PublishProperties::default();
        if version == Version::V5 {
            properties = PublishProperties {
                payload_format_indicator: self.some(Self::bool),
                message_expiry_interval: self.some(Self::u32),
                topic_alias: NonZeroU16::new(self.u16()),
                response_topic: self.some(Self::text),
                correlation_data: self.some(Self::bytes),
                content_type: self.some(Self::text),
                subscription_ids: SubscriptionIds::from_slice(&lists.ids),
                user_properties: UserProperties::from_pairs(&lists.pairs),
            };
        }
        Publish {
            // Now and then with a QoS that it does not fit, which the encoder has to refuse.
            dup: self.u8().is_multiple_of(3),
            qos,
            retain: self.bool(),
            topic: self.text(),
            packet_id: (self.u8() > 20).then(|| self.packet_id()).filter(|_| qos > QoS::AtMostOnce),
            properties,
            payload: self.bytes(),
        }
    }

    fn reason<'b>(&mut self, version: Version, lists: &'b Lists<'a>) -> ReasonProperties<'b>
    where
        'a: 'b,
    {
        if version != Version::V5 {
            return ReasonProperties::NONE;
        }
        let user_properties = UserProperties::from_pairs(&lists.pairs);
        ReasonProperties { reason_string: self.some(Self::text), user_properties }
    }

    fn ack<'b>(&mut self, packet: PacketType, version: Version, lists: &'b Lists<'a>) -> Ack<'b>
    where
        'a: 'b,
    {
        let code = self.code(packet);
        let code = if version == Version::V5 { code } else { ReasonCode::Success };
        Ack { packet_id: self.packet_id(), code, properties: self.reason(version, lists) }
    }

    fn subscribe<'b>(&mut self, version: Version, lists: &'b Lists<'a>) -> Subscribe<'b>
    where
        'a: 'b,
    {
        let v5 = version == Version::V5;
        Subscribe {
            packet_id: self.packet_id(),
            properties: SubscribeProperties {
                subscription_identifier: lists.ids.first().copied().filter(|_| v5),
                user_properties: UserProperties::from_pairs(&lists.pairs),
            },
            subscriptions: Subscriptions::from_slice(if v5 {
                &lists.subscriptions
            } else {
                &lists.subscriptions_v3
            }),
        }
    }

    fn disconnect<'b>(&mut self, version: Version, lists: &'b Lists<'a>) -> Disconnect<'b>
    where
        'a: 'b,
    {
        if version != Version::V5 {
            return Disconnect::default();
        }
        Disconnect {
            code: self.code(PacketType::Disconnect),
            properties: DisconnectProperties {
                session_expiry_interval: self.some(Self::u32),
                reason_string: self.some(Self::text),
                server_reference: self.some(Self::text),
                user_properties: UserProperties::from_pairs(&lists.pairs),
            },
        }
    }

    fn auth<'b>(&mut self, lists: &'b Lists<'a>) -> Auth<'b>
    where
        'a: 'b,
    {
        Auth {
            code: self.code(PacketType::Auth),
            properties: AuthProperties {
                authentication_method: self.some(Self::text),
                authentication_data: self.some(Self::bytes),
                reason_string: self.some(Self::text),
                user_properties: UserProperties::from_pairs(&lists.pairs),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::mutate::Mutator;

    #[test]
    fn choices_reach_all_packets_and_most_can_be_encoded() {
        let mut mutator = Mutator::new(7, crate::seeds::noise());
        let (mut reached, mut encoded, total) = (BTreeSet::new(), 0, 50_000);
        for _ in 0..total {
            packet(&mutator.input(), |version, packet| {
                if packet.encode(version, &mut Vec::new()).is_ok() {
                    encoded += 1;
                    reached.insert((version, packet.packet_type()));
                }
            });
        }
        // All but PINGREQ and PINGRESP, and AUTH in 5.0 only.
        assert_eq!(reached.len(), 12 + 12 + 13, "{reached:?}");
        assert!(encoded * 4 > total, "{encoded} of {total}");
    }
}
