//! Bodies of 5.0 packets, from bytes.

use core::num::{NonZeroU16, NonZeroU32};

use crate::error::{Cause, DecodeError};
use crate::limits::{Limits, Sender};
use crate::packet::{
    Ack, Auth, AuthProperties, ConnAck, ConnAckProperties, ConnectProperties, Disconnect,
    DisconnectProperties, Packet, Publish, PublishProperties, ReasonCodes, ReasonProperties, SubAck,
    Subscribe, SubscribeProperties, SubscriptionIds, Subscriptions, TopicFilters, UnsubAck, Unsubscribe,
    UserProperties, WillProperties, check_payload_format,
};
use crate::properties::{Carrier, PropertyId as Id, PropertyReader};
use crate::reader::Reader;
use crate::reason::{ReasonCode, Senders};
use crate::types::{PacketType, QoS, SubscriptionOptions};

/// Decodes a PUBLISH.
///
/// `[MQTT5-3.3.1-2]` DUP needs a QoS; `[MQTT5-3.3.1-4]` QoS 3 does not exist; `[MQTT5-3.3.2-1]` the
/// topic comes first; `[MQTT5-2.2.1-2]` `[MQTT5-2.2.1-3]` a packet id, not zero, if and only if the QoS
/// is above 0.
#[inline]
pub(crate) fn publish<'a>(
    first_byte: u8,
    body: &'a [u8],
    limits: &Limits,
) -> Result<Publish<'a>, DecodeError> {
    let mut reader = Reader::new(body, limits.strict);
    let Some(qos) = QoS::from_u8((first_byte >> 1) & 0b11) else {
        return Err(reader.error(Cause::QoSInvalid));
    };
    let dup = first_byte & 0b1000 != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err(reader.error(Cause::DupWithoutQoS));
    }
    let topic = reader.topic_name_or_empty(limits)?;
    let packet_id = if qos == QoS::AtMostOnce { None } else { Some(reader.packet_id()?) };
    let properties = match reader.rest() {
        [0, ..] => {
            reader.take(1)?;
            PublishProperties::default()
        }
        _ => read_publish_properties(PropertyReader::new(
            &mut reader,
            Carrier::Packet(PacketType::Publish),
            limits,
        )?)?,
    };
    // [MQTT5-4.7.3-1]: only an alias may stand for a topic.
    if topic.is_empty() && properties.topic_alias.is_none() {
        return Err(reader.error(Cause::TopicNameEmpty));
    }
    let payload = reader.take_rest();
    if limits.strict {
        check_payload_format(properties.payload_format_indicator, payload)
            .map_err(|cause| reader.error(cause))?;
    }
    Ok(Publish { dup, qos, retain: first_byte & 1 != 0, topic, packet_id, properties, payload })
}

/// Decodes properties of a PUBLISH that stand alone, without their length.
pub(crate) fn publish_properties<'a>(
    wire: &'a [u8],
    limits: &Limits,
) -> Result<PublishProperties<'a>, DecodeError> {
    let reader = Reader::new(wire, limits.strict);
    read_publish_properties(PropertyReader::over(reader, Carrier::Packet(PacketType::Publish), limits))
}

/// Reads the properties of a PUBLISH.
#[expect(clippy::wildcard_enum_match_arm, reason = "the table has refused all others")]
fn read_publish_properties(mut from: PropertyReader<'_>) -> Result<PublishProperties<'_>, DecodeError> {
    let mut p = PublishProperties::default();
    while let Some(id) = from.next_id()? {
        match id {
            Id::PayloadFormatIndicator => p.payload_format_indicator = Some(from.boolean(id)?),
            Id::MessageExpiryInterval => p.message_expiry_interval = Some(from.value.u32()?),
            Id::TopicAlias => {
                // [MQTT5-3.3.2-8]
                let Some(alias) = NonZeroU16::new(from.value.u16()?) else {
                    return Err(from.value.error(Cause::TopicAliasZero));
                };
                p.topic_alias = Some(alias);
            }
            Id::ResponseTopic => p.response_topic = Some(read_response_topic(&mut from)?),
            Id::CorrelationData => p.correlation_data = Some(from.value.binary()?),
            // [MQTT5-3.3.2-19]
            Id::ContentType => p.content_type = Some(from.value.string()?),
            Id::SubscriptionIdentifier => {
                read_subscription_id(&mut from)?;
            }
            other => return Err(from.not_allowed(other)),
        }
    }
    p.subscription_ids = SubscriptionIds::from_wire(from.block_with(Id::SubscriptionIdentifier));
    p.user_properties = from.user_properties();
    Ok(p)
}

/// Reads a Response Topic: a topic name. `[MQTT5-3.3.2-13]` `[MQTT5-3.3.2-14]`
fn read_response_topic<'a>(from: &mut PropertyReader<'a>) -> Result<&'a str, DecodeError> {
    let topic = from.value.string()?;
    if topic.is_empty() {
        return Err(from.value.error(Cause::TopicNameEmpty));
    }
    if crate::topic::has_wildcard(topic) {
        return Err(from.value.error(Cause::TopicNameWildcard));
    }
    Ok(topic)
}

/// Reads a Subscription Identifier, which is not zero.
fn read_subscription_id(from: &mut PropertyReader<'_>) -> Result<u32, DecodeError> {
    match from.value.varint()? {
        0 => Err(from.bad_value(Id::SubscriptionIdentifier)),
        value => Ok(value),
    }
}

/// Reads a two-byte number that is not zero.
fn read_non_zero_u16(from: &mut PropertyReader<'_>, id: Id) -> Result<NonZeroU16, DecodeError> {
    let value = from.value.u16()?;
    NonZeroU16::new(value).ok_or_else(|| from.bad_value(id))
}

/// Reads a four-byte number that is not zero.
fn read_non_zero_u32(from: &mut PropertyReader<'_>, id: Id) -> Result<NonZeroU32, DecodeError> {
    let value = from.value.u32()?;
    NonZeroU32::new(value).ok_or_else(|| from.bad_value(id))
}

/// Reads the properties of CONNECT.
#[expect(clippy::wildcard_enum_match_arm, reason = "the table has refused all others")]
pub(crate) fn connect_properties<'a>(
    reader: &mut Reader<'a>,
    limits: &Limits,
) -> Result<ConnectProperties<'a>, DecodeError> {
    let mut from = PropertyReader::new(reader, Carrier::Packet(PacketType::Connect), limits)?;
    let mut p = ConnectProperties::default();
    while let Some(id) = from.next_id()? {
        match id {
            Id::SessionExpiryInterval => p.session_expiry_interval = Some(from.value.u32()?),
            Id::ReceiveMaximum => p.receive_maximum = Some(read_non_zero_u16(&mut from, id)?),
            Id::MaximumPacketSize => p.maximum_packet_size = Some(read_non_zero_u32(&mut from, id)?),
            Id::TopicAliasMaximum => p.topic_alias_maximum = Some(from.value.u16()?),
            Id::RequestResponseInformation => p.request_response_information = Some(from.boolean(id)?),
            Id::RequestProblemInformation => p.request_problem_information = Some(from.boolean(id)?),
            Id::AuthenticationMethod => p.authentication_method = Some(from.value.string()?),
            Id::AuthenticationData => p.authentication_data = Some(from.value.binary()?),
            other => return Err(from.not_allowed(other)),
        }
    }
    p.user_properties = from.user_properties();
    // §MQTT5 3.1.2.11.10: data without a method is a protocol error.
    if p.authentication_data.is_some() && p.authentication_method.is_none() {
        return Err(from.value.error(Cause::AuthenticationMethodMissing));
    }
    Ok(p)
}

/// Reads the properties of a Will.
#[expect(clippy::wildcard_enum_match_arm, reason = "the table has refused all others")]
pub(crate) fn will_properties<'a>(
    reader: &mut Reader<'a>,
    limits: &Limits,
) -> Result<WillProperties<'a>, DecodeError> {
    let mut from = PropertyReader::new(reader, Carrier::Will, limits)?;
    let mut p = WillProperties::default();
    while let Some(id) = from.next_id()? {
        match id {
            Id::WillDelayInterval => p.will_delay_interval = Some(from.value.u32()?),
            Id::PayloadFormatIndicator => p.payload_format_indicator = Some(from.boolean(id)?),
            Id::MessageExpiryInterval => p.message_expiry_interval = Some(from.value.u32()?),
            Id::ContentType => p.content_type = Some(from.value.string()?),
            Id::ResponseTopic => p.response_topic = Some(read_response_topic(&mut from)?),
            Id::CorrelationData => p.correlation_data = Some(from.value.binary()?),
            other => return Err(from.not_allowed(other)),
        }
    }
    p.user_properties = from.user_properties();
    Ok(p)
}

/// Decodes the body of any packet but CONNECT and PUBLISH.
pub(crate) fn body<'a>(
    packet_type: PacketType,
    reader: &mut Reader<'a>,
    limits: &Limits,
) -> Result<Packet<'a>, DecodeError> {
    Ok(match packet_type {
        PacketType::ConnAck => Packet::ConnAck(connack(reader, limits)?),
        PacketType::PubAck => Packet::PubAck(ack(packet_type, reader, limits)?),
        PacketType::PubRec => Packet::PubRec(ack(packet_type, reader, limits)?),
        PacketType::PubRel => Packet::PubRel(ack(packet_type, reader, limits)?),
        PacketType::PubComp => Packet::PubComp(ack(packet_type, reader, limits)?),
        PacketType::Subscribe => Packet::Subscribe(subscribe(reader, limits)?),
        PacketType::SubAck => {
            let (packet_id, properties, codes) = suback(packet_type, reader, limits)?;
            Packet::SubAck(SubAck { packet_id, properties, codes })
        }
        PacketType::Unsubscribe => Packet::Unsubscribe(unsubscribe(reader, limits)?),
        PacketType::UnsubAck => {
            let (packet_id, properties, codes) = suback(packet_type, reader, limits)?;
            Packet::UnsubAck(UnsubAck { packet_id, properties, codes })
        }
        PacketType::PingReq => Packet::PingReq,
        PacketType::PingResp => Packet::PingResp,
        PacketType::Disconnect => Packet::Disconnect(disconnect(reader, limits)?),
        PacketType::Auth => Packet::Auth(auth(reader, limits)?),
        PacketType::Connect | PacketType::Publish => {
            return Err(reader.error(Cause::PacketNotAllowed { packet: packet_type }));
        }
    })
}

/// Reads a Reason Code and checks that it belongs into this packet.
fn reason_code(
    packet: PacketType,
    reader: &mut Reader<'_>,
    sender: Sender,
) -> Result<ReasonCode, DecodeError> {
    let value = reader.u8()?;
    let code = ReasonCode::from_u8(value).filter(|code| {
        let senders = code.senders(packet);
        match sender {
            // The roles in an authentication are fixed; elsewhere a code from the wrong end is
            // merely odd, and the table as a whole is what must be kept.
            Sender::Client if packet == PacketType::Auth || reader.strict() => senders.client,
            Sender::Server if packet == PacketType::Auth || reader.strict() => senders.server,
            Sender::Client | Sender::Server | Sender::Either => senders != Senders::NONE,
        }
    });
    code.ok_or_else(|| reader.error(Cause::ReasonCodeInvalid { value, packet }))
}

/// Decodes a CONNACK. `[MQTT5-3.2.2-1]` `[MQTT5-3.2.2-6]` `[MQTT5-3.2.2-8]`
fn connack<'a>(reader: &mut Reader<'a>, limits: &Limits) -> Result<ConnAck<'a>, DecodeError> {
    let flags = reader.u8()?;
    // [MQTT5-3.2.2-1]
    if flags & !1 != 0 {
        return Err(reader.error(Cause::ConnAckFlagReserved));
    }
    let session_present = flags == 1;
    let code = reason_code(PacketType::ConnAck, reader, limits.sender)?;
    // [MQTT5-3.2.2-6]
    if session_present && code != ReasonCode::Success {
        return Err(reader.error(Cause::SessionPresentInRefusal));
    }
    let properties = connack_properties(reader, limits)?;
    Ok(ConnAck { session_present, code, properties })
}

/// Reads the properties of CONNACK.
#[expect(clippy::wildcard_enum_match_arm, reason = "the table has refused all others")]
fn connack_properties<'a>(
    reader: &mut Reader<'a>,
    limits: &Limits,
) -> Result<ConnAckProperties<'a>, DecodeError> {
    let mut from = PropertyReader::new(reader, Carrier::Packet(PacketType::ConnAck), limits)?;
    let mut p = ConnAckProperties::default();
    while let Some(id) = from.next_id()? {
        match id {
            Id::SessionExpiryInterval => p.session_expiry_interval = Some(from.value.u32()?),
            Id::ReceiveMaximum => p.receive_maximum = Some(read_non_zero_u16(&mut from, id)?),
            // §MQTT5 3.2.2.3.4: 0 or 1; a server that takes QoS 2 leaves it out.
            Id::MaximumQoS => p.maximum_qos = QoS::from_u8(u8::from(from.boolean(id)?)),
            Id::RetainAvailable => p.retain_available = Some(from.boolean(id)?),
            Id::MaximumPacketSize => p.maximum_packet_size = Some(read_non_zero_u32(&mut from, id)?),
            Id::AssignedClientIdentifier => p.assigned_client_identifier = Some(from.value.string()?),
            Id::TopicAliasMaximum => p.topic_alias_maximum = Some(from.value.u16()?),
            Id::ReasonString => p.reason_string = Some(from.value.string()?),
            Id::WildcardSubscriptionAvailable => {
                p.wildcard_subscription_available = Some(from.boolean(id)?);
            }
            Id::SubscriptionIdentifierAvailable => {
                p.subscription_identifier_available = Some(from.boolean(id)?);
            }
            Id::SharedSubscriptionAvailable => p.shared_subscription_available = Some(from.boolean(id)?),
            Id::ServerKeepAlive => p.server_keep_alive = Some(from.value.u16()?),
            Id::ResponseInformation => p.response_information = Some(from.value.string()?),
            Id::ServerReference => p.server_reference = Some(from.value.string()?),
            Id::AuthenticationMethod => p.authentication_method = Some(from.value.string()?),
            Id::AuthenticationData => p.authentication_data = Some(from.value.binary()?),
            other => return Err(from.not_allowed(other)),
        }
    }
    p.user_properties = from.user_properties();
    Ok(p)
}

/// Reads the properties of a packet that explain its reason code.
#[expect(clippy::wildcard_enum_match_arm, reason = "the table has refused all others")]
fn reason_properties<'a>(
    packet: PacketType,
    reader: &mut Reader<'a>,
    limits: &Limits,
) -> Result<ReasonProperties<'a>, DecodeError> {
    let mut from = PropertyReader::new(reader, Carrier::Packet(packet), limits)?;
    let mut p = ReasonProperties::NONE;
    while let Some(id) = from.next_id()? {
        match id {
            Id::ReasonString => p.reason_string = Some(from.value.string()?),
            other => return Err(from.not_allowed(other)),
        }
    }
    p.user_properties = from.user_properties();
    Ok(p)
}

/// Decodes PUBACK, PUBREC, PUBREL or PUBCOMP. `[MQTT5-2.2.1-5]`
///
/// `[MQTT5-3.4.2-1]` `[MQTT5-3.5.2-1]` `[MQTT5-3.6.2-1]` `[MQTT5-3.7.2-1]`: each has its own codes.
/// The code may be left out if it is success, the properties if there are none.
fn ack<'a>(packet: PacketType, reader: &mut Reader<'a>, limits: &Limits) -> Result<Ack<'a>, DecodeError> {
    let packet_id = reader.packet_id()?;
    if reader.is_empty() {
        return Ok(Ack::success(packet_id));
    }
    let code = reason_code(packet, reader, limits.sender)?;
    if reader.is_empty() {
        return Ok(Ack::with_code(packet_id, code));
    }
    let properties = reason_properties(packet, reader, limits)?;
    Ok(Ack { packet_id, code, properties })
}

/// Decodes a SUBSCRIBE. `[MQTT5-2.2.1-3]` `[MQTT5-3.8.3-2]`
fn subscribe<'a>(reader: &mut Reader<'a>, limits: &Limits) -> Result<Subscribe<'a>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let properties = subscribe_properties(reader, limits)?;
    let list = reader.rest();
    let mut count = 0_u16;
    while !reader.is_empty() {
        reader.count_filter(&mut count, limits)?;
        let filter = reader.topic_filter()?;
        let byte = reader.u8()?;
        // [MQTT5-3.8.3-5]
        if byte & 0b1100_0000 != 0 {
            return Err(reader.error(Cause::SubscriptionOptionsReserved));
        }
        let Some(options) = SubscriptionOptions::from_u8(byte) else {
            return Err(reader.error(Cause::SubscriptionOptionsValue));
        };
        // [MQTT5-3.8.3-4]
        if options.no_local && filter.starts_with("$share/") {
            return Err(reader.error(Cause::NoLocalOnShared));
        }
    }
    // [MQTT5-3.8.3-2]
    if count == 0 {
        return Err(reader.error(Cause::FiltersMissing));
    }
    Ok(Subscribe { packet_id, properties, subscriptions: Subscriptions::from_wire(list) })
}

/// Reads the properties of SUBSCRIBE.
#[expect(clippy::wildcard_enum_match_arm, reason = "the table has refused all others")]
fn subscribe_properties<'a>(
    reader: &mut Reader<'a>,
    limits: &Limits,
) -> Result<SubscribeProperties<'a>, DecodeError> {
    let mut from = PropertyReader::new(reader, Carrier::Packet(PacketType::Subscribe), limits)?;
    let mut p = SubscribeProperties::default();
    while let Some(id) = from.next_id()? {
        match id {
            Id::SubscriptionIdentifier => {
                p.subscription_identifier = Some(read_subscription_id(&mut from)?);
            }
            other => return Err(from.not_allowed(other)),
        }
    }
    p.user_properties = from.user_properties();
    Ok(p)
}

/// Decodes an UNSUBSCRIBE. `[MQTT5-2.2.1-3]` `[MQTT5-3.10.3-2]`
fn unsubscribe<'a>(reader: &mut Reader<'a>, limits: &Limits) -> Result<Unsubscribe<'a>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let user_properties = only_user_properties(reader, PacketType::Unsubscribe, limits)?;
    let filters = reader.topic_filters(limits)?;
    Ok(Unsubscribe { packet_id, user_properties, filters: TopicFilters::from_wire(filters) })
}

/// Reads properties of which the table allows User Properties only.
fn only_user_properties<'a>(
    reader: &mut Reader<'a>,
    packet: PacketType,
    limits: &Limits,
) -> Result<UserProperties<'a>, DecodeError> {
    let mut from = PropertyReader::new(reader, Carrier::Packet(packet), limits)?;
    match from.next_id()? {
        None => Ok(from.user_properties()),
        Some(other) => Err(from.not_allowed(other)),
    }
}

/// Decodes the parts of SUBACK and UNSUBACK. `[MQTT5-2.2.1-6]` `[MQTT5-3.9.3-2]` `[MQTT5-3.11.3-2]`
fn suback<'a>(
    packet: PacketType,
    reader: &mut Reader<'a>,
    limits: &Limits,
) -> Result<(crate::types::PacketId, ReasonProperties<'a>, ReasonCodes<'a>), DecodeError> {
    let packet_id = reader.packet_id()?;
    let properties = reason_properties(packet, reader, limits)?;
    let list = reader.rest();
    while !reader.is_empty() {
        reason_code(packet, reader, limits.sender)?;
    }
    if list.is_empty() {
        return Err(reader.error(Cause::ReasonCodesMissing));
    }
    Ok((packet_id, properties, ReasonCodes::from_wire(list)))
}

/// Decodes a DISCONNECT. `[MQTT5-3.14.2-1]` `[MQTT5-3.14.2-2]`
#[expect(clippy::wildcard_enum_match_arm, reason = "the table has refused all others")]
fn disconnect<'a>(reader: &mut Reader<'a>, limits: &Limits) -> Result<Disconnect<'a>, DecodeError> {
    let mut p = DisconnectProperties::default();
    if reader.is_empty() {
        return Ok(Disconnect { code: ReasonCode::NORMAL_DISCONNECTION, properties: p });
    }
    let code = reason_code(PacketType::Disconnect, reader, limits.sender)?;
    if reader.is_empty() {
        return Ok(Disconnect { code, properties: p });
    }
    let mut from = PropertyReader::new(reader, Carrier::Packet(PacketType::Disconnect), limits)?;
    while let Some(id) = from.next_id()? {
        match id {
            Id::SessionExpiryInterval => p.session_expiry_interval = Some(from.value.u32()?),
            Id::ReasonString => p.reason_string = Some(from.value.string()?),
            Id::ServerReference => p.server_reference = Some(from.value.string()?),
            other => return Err(from.not_allowed(other)),
        }
    }
    p.user_properties = from.user_properties();
    Ok(Disconnect { code, properties: p })
}

/// Decodes an AUTH. `[MQTT5-3.15.2-1]`
///
/// An empty body is a bare success. Every other AUTH names its method (§MQTT5 3.15.2.2.2).
#[expect(clippy::wildcard_enum_match_arm, reason = "the table has refused all others")]
fn auth<'a>(reader: &mut Reader<'a>, limits: &Limits) -> Result<Auth<'a>, DecodeError> {
    let mut p = AuthProperties::default();
    if reader.is_empty() && limits.sender != Sender::Client {
        return Ok(Auth { code: ReasonCode::Success, properties: p });
    }
    let code = reason_code(PacketType::Auth, reader, limits.sender)?;
    let mut from = PropertyReader::new(reader, Carrier::Packet(PacketType::Auth), limits)?;
    while let Some(id) = from.next_id()? {
        match id {
            Id::AuthenticationMethod => p.authentication_method = Some(from.value.string()?),
            Id::AuthenticationData => p.authentication_data = Some(from.value.binary()?),
            Id::ReasonString => p.reason_string = Some(from.value.string()?),
            other => return Err(from.not_allowed(other)),
        }
    }
    p.user_properties = from.user_properties();
    let bare = p == AuthProperties::default() && code == ReasonCode::Success;
    if p.authentication_method.is_none() && !bare {
        return Err(from.value.error(Cause::AuthenticationMethodMissing));
    }
    Ok(Auth { code, properties: p })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::decode;
    use crate::types::Version;

    fn take<'a>(first_byte: u8, bytes: &'a [u8], sender: Sender) -> Result<Packet<'a>, DecodeError> {
        decode(Version::V5, first_byte, bytes, &Limits { sender, ..Limits::SERVER })
    }

    fn cause(first_byte: u8, bytes: &[u8]) -> Cause {
        take(first_byte, bytes, Sender::Either).unwrap_err().cause
    }

    /// A body with these properties at the place where the carrier has them, else complete.
    fn body_with(carrier: Carrier, properties: &[u8]) -> (u8, Vec<u8>) {
        let mut block = vec![u8::try_from(properties.len()).unwrap()];
        block.extend_from_slice(properties);
        let (first_byte, before, after): (u8, &[u8], &[u8]) = match carrier {
            Carrier::Will => (0x10, b"\0\x04MQTT\x05\x06\0\0\0\0\x01c", b"\0\x01t\0\0"),
            Carrier::Packet(packet) => match packet {
                PacketType::Connect => (0x10, b"\0\x04MQTT\x05\x02\0\0", b"\0\x01c"),
                PacketType::ConnAck => (0x20, b"\0\0", b""),
                PacketType::Publish => (0x30, b"\0\x01t", b"payload"),
                PacketType::PubAck => (0x40, b"\0\x01\0", b""),
                PacketType::PubRec => (0x50, b"\0\x01\0", b""),
                PacketType::PubRel => (0x62, b"\0\x01\0", b""),
                PacketType::PubComp => (0x70, b"\0\x01\0", b""),
                PacketType::Subscribe => (0x82, b"\0\x01", b"\0\x01a\0"),
                PacketType::SubAck => (0x90, b"\0\x01", b"\0"),
                PacketType::Unsubscribe => (0xA2, b"\0\x01", b"\0\x01a"),
                PacketType::UnsubAck => (0xB0, b"\0\x01", b"\0"),
                PacketType::Disconnect => (0xE0, b"\0", b""),
                PacketType::Auth => (0xF0, b"\x18", b""),
                PacketType::PingReq | PacketType::PingResp => panic!("{packet} has no properties"),
            },
        };
        (first_byte, [before, &block, after].concat())
    }

    fn carriers() -> impl Iterator<Item = Carrier> {
        PacketType::ALL
            .into_iter()
            .filter(|packet| !matches!(packet, PacketType::PingReq | PacketType::PingResp))
            .map(Carrier::Packet)
            .chain([Carrier::Will])
    }

    /// A property with a value that is allowed everywhere.
    fn sample(id: Id) -> Vec<u8> {
        use crate::properties::PropertyKind;
        let value: &[u8] = match id.kind() {
            PropertyKind::Byte => &[1],
            PropertyKind::TwoByteInteger => &[0, 1],
            PropertyKind::FourByteInteger => &[0, 0, 0, 1],
            PropertyKind::VariableByteInteger => &[1],
            PropertyKind::Utf8String | PropertyKind::BinaryData => b"\0\x01x",
            PropertyKind::Utf8StringPair => b"\0\x01n\0\x01v",
        };
        [&[id.as_u8()], value].concat()
    }

    /// Data alone is refused, so a method goes with it; and AUTH always has one.
    fn with_method(carrier: Carrier, id: Id) -> Vec<u8> {
        let wants = id == Id::AuthenticationData
            || (carrier == Carrier::Packet(PacketType::Auth) && id != Id::AuthenticationMethod);
        let method = if wants { sample(Id::AuthenticationMethod) } else { Vec::new() };
        [method, sample(id)].concat()
    }

    #[test]
    fn every_property_is_taken_where_the_table_allows_it_and_nowhere_else() {
        // §MQTT5 2.2.2.2
        let mut taken = 0;
        for carrier in carriers() {
            for id in Id::ALL {
                let allowed = id.is_allowed_in(carrier);
                let properties = if allowed { with_method(carrier, *id) } else { sample(*id) };
                let (first_byte, body) = body_with(carrier, &properties);
                let result = take(first_byte, &body, Sender::Either);
                if allowed {
                    assert!(result.is_ok(), "{carrier:?} {id:?}: {result:?}");
                    taken += 1;
                } else {
                    let cause = result.unwrap_err().cause;
                    assert_eq!(cause, Cause::PropertyNotAllowed { id: id.as_u8() }, "{carrier:?} {id:?}");
                    assert_eq!(cause.reason_code(), ReasonCode::MalformedPacket);
                }
            }
        }
        assert_eq!(taken, 9 + 17 + 8 + 4 * 2 + 2 + 2 + 1 + 2 + 4 + 4 + 7);
    }

    #[test]
    fn only_user_properties_and_the_ids_of_a_publish_may_repeat() {
        for carrier in carriers() {
            for id in Id::ALL.iter().filter(|id| id.is_allowed_in(carrier)) {
                let twice = [with_method(carrier, *id), sample(*id)].concat();
                let (first_byte, body) = body_with(carrier, &twice);
                let result = take(first_byte, &body, Sender::Either);
                if id.is_repeatable_in(carrier) {
                    assert!(result.is_ok(), "{carrier:?} {id:?}: {result:?}");
                } else {
                    let cause = result.unwrap_err().cause;
                    assert_eq!(cause, Cause::PropertyRepeated { id: id.as_u8() });
                    assert_eq!(cause.reason_code(), ReasonCode::ProtocolError);
                }
            }
        }
    }

    #[test]
    fn property_lengths_are_kept() {
        // [MQTT5-2.2.2-1]: there is always a length, and a property may not run past it.
        for carrier in carriers() {
            let (first_byte, body) = body_with(carrier, b"\x26\0\x01n\0\x09");
            assert_eq!(cause(first_byte, &body), Cause::Truncated, "{carrier:?}");
            let (first_byte, body) = body_with(carrier, &[0x7E]);
            assert_eq!(cause(first_byte, &body), Cause::PropertyUnknown { id: 0x7E });
            let (first_byte, body) = body_with(carrier, &[0xFE, 0x01]);
            assert_eq!(cause(first_byte, &body), Cause::PropertyUnknown { id: 0xFE });
        }
        assert_eq!(cause(0x82, b"\0\x01"), Cause::Truncated);
        assert_eq!(cause(0x30, b"\0\x01t"), Cause::Truncated);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let refused: [(Carrier, Id, &[u8]); 16] = [
            (Carrier::Packet(PacketType::Connect), Id::ReceiveMaximum, &[0, 0]),
            (Carrier::Packet(PacketType::Connect), Id::MaximumPacketSize, &[0, 0, 0, 0]),
            (Carrier::Packet(PacketType::Connect), Id::RequestProblemInformation, &[2]),
            (Carrier::Packet(PacketType::Connect), Id::RequestResponseInformation, &[2]),
            (Carrier::Will, Id::PayloadFormatIndicator, &[2]),
            (Carrier::Packet(PacketType::ConnAck), Id::ReceiveMaximum, &[0, 0]),
            (Carrier::Packet(PacketType::ConnAck), Id::MaximumPacketSize, &[0, 0, 0, 0]),
            (Carrier::Packet(PacketType::ConnAck), Id::MaximumQoS, &[2]),
            (Carrier::Packet(PacketType::ConnAck), Id::RetainAvailable, &[2]),
            (Carrier::Packet(PacketType::ConnAck), Id::WildcardSubscriptionAvailable, &[2]),
            (Carrier::Packet(PacketType::ConnAck), Id::SubscriptionIdentifierAvailable, &[2]),
            (Carrier::Packet(PacketType::ConnAck), Id::SharedSubscriptionAvailable, &[255]),
            (Carrier::Packet(PacketType::Publish), Id::PayloadFormatIndicator, &[2]),
            (Carrier::Packet(PacketType::Publish), Id::SubscriptionIdentifier, &[0]),
            (Carrier::Packet(PacketType::Subscribe), Id::SubscriptionIdentifier, &[0]),
            (Carrier::Packet(PacketType::Publish), Id::TopicAlias, &[0, 0]),
        ];
        for (carrier, id, value) in refused {
            let (first_byte, body) = body_with(carrier, &[&[id.as_u8()], value].concat());
            // [MQTT5-3.3.2-8]
            let expect = if id == Id::TopicAlias {
                Cause::TopicAliasZero
            } else {
                Cause::PropertyValue { id: id.as_u8() }
            };
            assert_eq!(cause(first_byte, &body), expect, "{carrier:?}");
        }
        assert_eq!(Cause::TopicAliasZero.reason_code(), ReasonCode::TopicAliasInvalid);
    }

    #[test]
    fn strings_in_properties_are_strings() {
        // [MQTT5-1.5.7-1] [MQTT5-3.3.2-13] [MQTT5-3.3.2-19] [MQTT5-1.5.4-1] [MQTT5-1.5.4-2]
        for carrier in carriers() {
            for id in Id::ALL.iter().filter(|id| id.is_allowed_in(carrier)) {
                use crate::properties::PropertyKind;
                let bad: &[&[u8]] = if id.kind() == PropertyKind::Utf8String {
                    &[b"\0\x01\xFF", b"\0\x01\0"]
                } else if id.kind() == PropertyKind::Utf8StringPair {
                    &[b"\0\x01\xFF\0\0", b"\0\0\0\x01\xFF", b"\0\x01\0\0\0", b"\0\0\0\x01\0"]
                } else {
                    &[]
                };
                for value in bad {
                    let (first_byte, body) = body_with(carrier, &[&[id.as_u8()], *value].concat());
                    let cause = cause(first_byte, &body);
                    assert!(
                        matches!(cause, Cause::StringNotUtf8 | Cause::StringHasNull),
                        "{carrier:?} {id:?} {cause:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn response_topics_are_topic_names() {
        // [MQTT5-3.3.2-14]
        for carrier in [Carrier::Will, Carrier::Packet(PacketType::Publish)] {
            for (value, expect) in [
                (&b"\x08\0\x03a/#"[..], Cause::TopicNameWildcard),
                (b"\x08\0\x01+", Cause::TopicNameWildcard),
                (b"\x08\0\0", Cause::TopicNameEmpty),
            ] {
                let (first_byte, body) = body_with(carrier, value);
                assert_eq!(cause(first_byte, &body), expect);
            }
        }
    }

    #[test]
    fn properties_of_one_end_are_refused_from_the_other() {
        // [MQTT5-3.3.4-6] [MQTT5-3.14.2-2]
        let publish = Carrier::Packet(PacketType::Publish);
        let disconnect = Carrier::Packet(PacketType::Disconnect);
        for (carrier, id, wrong, right) in [
            (publish, Id::SubscriptionIdentifier, Sender::Client, Sender::Server),
            (disconnect, Id::SessionExpiryInterval, Sender::Server, Sender::Client),
            (disconnect, Id::ServerReference, Sender::Client, Sender::Server),
        ] {
            let (first_byte, body) = body_with(carrier, &sample(id));
            assert_eq!(
                take(first_byte, &body, wrong).unwrap_err().cause,
                Cause::PropertyNotAllowed { id: id.as_u8() }
            );
            assert!(take(first_byte, &body, right).is_ok());
        }
    }

    #[test]
    fn every_reason_code_is_taken_where_its_table_lists_it() {
        // [MQTT5-3.2.2-8] [MQTT5-3.4.2-1] [MQTT5-3.5.2-1] [MQTT5-3.6.2-1] [MQTT5-3.7.2-1]
        // [MQTT5-3.9.3-2] [MQTT5-3.11.3-2] [MQTT5-3.14.2-1] [MQTT5-3.15.2-1]
        let method = b"\x04\x15\0\x01m";
        for value in 0..=u8::MAX {
            let bodies: [(PacketType, Vec<u8>); 9] = [
                (PacketType::ConnAck, vec![0, value, 0]),
                (PacketType::PubAck, vec![0, 1, value]),
                (PacketType::PubRec, vec![0, 1, value]),
                (PacketType::PubRel, vec![0, 1, value]),
                (PacketType::PubComp, vec![0, 1, value]),
                (PacketType::SubAck, vec![0, 1, 0, value]),
                (PacketType::UnsubAck, vec![0, 1, 0, value]),
                (PacketType::Disconnect, vec![value]),
                (PacketType::Auth, [&[value][..], method].concat()),
            ];
            for (packet, body) in bodies {
                let listed =
                    ReasonCode::from_u8(value).is_some_and(|code| code.senders(packet) != Senders::NONE);
                let result = take(packet.first_byte(), &body, Sender::Either);
                assert_eq!(result.is_ok(), listed, "{packet} {value:#x}");
                if let Err(error) = result {
                    assert_eq!(error.cause, Cause::ReasonCodeInvalid { value, packet });
                }
            }
        }
    }

    #[test]
    fn roles_in_an_authentication_are_fixed() {
        // [MQTT5-3.15.2-1]
        let step = |code: u8| [&[code][..], b"\x04\x15\0\x01m"].concat();
        for (code, client, server) in [(0x00, false, true), (0x18, true, true), (0x19, true, false)] {
            assert_eq!(take(0xF0, &step(code), Sender::Client).is_ok(), client);
            assert_eq!(take(0xF0, &step(code), Sender::Server).is_ok(), server);
        }
        assert!(take(0xF0, &[], Sender::Server).is_ok());
        assert!(take(0xF0, &[], Sender::Client).is_err());
        assert_eq!(cause(0xF0, &[0x18, 0]), Cause::AuthenticationMethodMissing);
    }

    #[test]
    fn subscription_options_are_judged() {
        // [MQTT5-3.8.3-5] [MQTT5-3.8.3-4]
        for options in 0..=u8::MAX {
            let plain = [&[0, 1, 0, 0, 1, b'a'][..], &[options]].concat();
            let result = take(0x82, &plain, Sender::Client);
            if options & 0xC0 != 0 {
                assert_eq!(result.unwrap_err().cause, Cause::SubscriptionOptionsReserved);
                continue;
            }
            let valid = SubscriptionOptions::from_u8(options).is_some();
            assert_eq!(result.is_ok(), valid);
            let shared = [b"\0\x01\0\0\x0A$share/g/a", &[options][..]].concat();
            let result = take(0x82, &shared, Sender::Client);
            assert_eq!(result.is_ok(), valid && options & 4 == 0, "{options:#010b} {result:?}");
        }
    }

    #[test]
    fn subscribe_and_unsubscribe_hold_filters() {
        // [MQTT5-3.8.3-1] [MQTT5-3.8.3-2] [MQTT5-3.10.3-1] [MQTT5-3.10.3-2] [MQTT5-2.2.1-3]
        // [MQTT5-4.7.1-1] [MQTT5-4.7.1-2] [MQTT5-4.7.3-1]
        for (first_byte, end) in [(0x82, &b"\0"[..]), (0xA2, b"")] {
            assert_eq!(cause(first_byte, b"\0\x01\0"), Cause::FiltersMissing);
            assert_eq!(cause(first_byte, b"\0\0\0\0\x01a"), Cause::PacketIdZero);
            for (filter, expect) in [
                (&b"\0\x01\xFF"[..], Cause::StringNotUtf8),
                (b"\0\x01\0", Cause::StringHasNull),
                (b"\0\0", Cause::TopicFilterInvalid),
                (b"\0\x02#a", Cause::TopicFilterInvalid),
                (b"\0\x03a+b", Cause::TopicFilterInvalid),
            ] {
                let body = [b"\0\x01\0", filter, end].concat();
                assert_eq!(cause(first_byte, &body), expect, "{body:x?}");
            }
        }
        let limits = Limits { filters_max: 1, ..Limits::SERVER };
        let error = decode(Version::V5, 0xA2, b"\0\x01\0\0\x01a\0\x01b", &limits).unwrap_err();
        assert_eq!(error.cause, Cause::FiltersTooMany { max: 1 });
    }

    #[test]
    fn publish_is_judged_as_a_whole() {
        // [MQTT5-3.3.1-2] [MQTT5-3.3.1-4] [MQTT5-3.3.2-1] [MQTT5-3.3.2-2] [MQTT5-4.7.0-1]
        // [MQTT5-2.2.1-2] [MQTT5-2.2.1-3] [MQTT5-4.7.3-2]
        assert_eq!(cause(0x38, b"\0\x01t\0"), Cause::DupWithoutQoS);
        assert_eq!(cause(0x36, b"\0\x01t\0\x01\0"), Cause::QoSInvalid);
        assert_eq!(cause(0x32, b"\0\x01t\0\0\0"), Cause::PacketIdZero);
        assert_eq!(cause(0x30, b"\0\x01\xFF\0"), Cause::StringNotUtf8);
        assert_eq!(cause(0x30, b"\0\x01\0\0"), Cause::StringHasNull);
        assert_eq!(cause(0x30, b"\0\x01#\0"), Cause::TopicNameWildcard);
        assert_eq!(cause(0x30, b"\0\0\0"), Cause::TopicNameEmpty);
        let Ok(Packet::Publish(alias)) = take(0x3D, b"\0\0\0\x09\x03\x23\0\x05hi", Sender::Client) else {
            panic!("an alias stands for the topic")
        };
        assert_eq!((alias.topic, alias.properties.topic_alias), ("", NonZeroU16::new(5)));
        assert_eq!((alias.dup, alias.retain, alias.qos), (true, true, QoS::ExactlyOnce));
        assert_eq!((alias.packet_id.unwrap().get(), alias.payload), (9, &b"hi"[..]));
        let zero = take(0x30, b"\0\x01t\0\0\x01", Sender::Client).unwrap();
        assert!(matches!(zero, Packet::Publish(Publish { packet_id: None, payload: [0, 1], .. })));
    }

    #[test]
    fn strict_looks_at_the_payload_and_at_single_characters() {
        let strict = Limits { strict: true, ..Limits::SERVER };
        let judge = |bytes| decode(Version::V5, 0x30, bytes, &strict).map_err(|error| error.cause);
        assert!(judge(b"\0\x01t\x02\x01\x01text").is_ok());
        assert!(judge(b"\0\x01t\x02\x01\0\xFF").is_ok());
        assert_eq!(judge(b"\0\x01t\x02\x01\x01\xFF"), Err(Cause::PayloadNotUtf8));
        assert_eq!(judge(b"\0\x01\x01\0"), Err(Cause::StringHasDisallowed));
        assert_eq!(judge(b"\0\x01#\0"), Err(Cause::TopicNameWildcard));
    }

    #[test]
    fn user_properties_are_counted() {
        let limits = Limits { user_properties_max: 2, ..Limits::SERVER };
        let pair = b"\x26\0\0\0\0";
        for (count, taken) in [(2_usize, true), (3, false)] {
            let (first_byte, body) = body_with(Carrier::Packet(PacketType::Publish), &pair.repeat(count));
            let result = decode(Version::V5, first_byte, &body, &limits);
            assert_eq!(result.is_ok(), taken);
        }
    }

    #[test]
    fn acknowledgements_come_in_three_lengths() {
        // [MQTT5-2.2.1-5] [MQTT5-2.2.1-6]
        for first_byte in [0x40, 0x50, 0x62, 0x70] {
            let decoded = [&b"\0\x07"[..], b"\0\x07\0", b"\0\x07\0\0"]
                .map(|body| format!("{:?}", take(first_byte, body, Sender::Either).unwrap()));
            assert!(decoded[0].contains("packet_id: 7") && decoded[0].contains("Success"));
            assert!(decoded.iter().all(|text| *text == decoded[0]));
            assert_eq!(cause(first_byte, b"\0\0"), Cause::PacketIdZero);
            assert_eq!(cause(first_byte, b"\0\x07\0\0\0"), Cause::TrailingBytes);
        }
        for first_byte in [0x90, 0xB0] {
            let Ok(packet) = take(first_byte, b"\0\x07\0\0\x87", Sender::Server) else { panic!() };
            assert!(format!("{packet:?}").contains("packet_id: 7"));
            assert_eq!(cause(first_byte, b"\0\x07\0"), Cause::ReasonCodesMissing);
        }
    }

    #[test]
    fn connack_flags_are_judged() {
        // [MQTT5-3.2.2-1] [MQTT5-3.2.2-6]
        assert_eq!(cause(0x20, &[2, 0, 0]), Cause::ConnAckFlagReserved);
        assert_eq!(cause(0x20, &[1, 0x87, 0]), Cause::SessionPresentInRefusal);
        assert!(take(0x20, &[1, 0, 0], Sender::Server).is_ok());
    }
}
