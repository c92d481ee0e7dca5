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
        let filter = reader.topic_filter(limits)?;
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
