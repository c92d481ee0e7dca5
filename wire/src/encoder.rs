//! From packets to bytes: exact size first, then one `reserve`, then the bytes.
//!
//! Two ways: [`Packet::encode`] for every packet, checked; and [`publish`] for the broker's hot path,
//! which writes all of a PUBLISH before its payload so that the payload can be shared.

use core::num::NonZeroU16;

use crate::error::EncodeError;
use crate::limits::{PACKET_BYTES_MAX, REMAINING_LENGTH_MAX};
use crate::packet::{Packet, UserProperties};
use crate::properties::PropertyId;
use crate::reason::ReasonCode;
use crate::types::{PacketId, PacketType, QoS, Version};
use crate::writer::{Counter, Sink};
use crate::{v3, v5, varint};

impl Packet<'_> {
    /// Size of the packet on the wire in bytes, fixed header included.
    ///
    /// # Errors
    /// As [`Packet::encode`].
    pub fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> {
        let body = self.body_len(version)?;
        Ok(total_len(body))
    }

    /// Appends the packet. Cost: one pass to count, at most one allocation, one pass to write.
    ///
    /// # Errors
    /// What the version cannot say or forbids. Nothing is appended then.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.encode_within(version, PACKET_BYTES_MAX, out)
    }

    /// As [`Packet::encode`], but never more than the peer takes. `[MQTT5-3.1.2-24]`
    ///
    /// # Errors
    /// Also [`EncodeError::PacketTooLarge`] above `packet_bytes_max`. Nothing is appended then.
    pub fn encode_within(
        &self,
        version: Version,
        packet_bytes_max: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let body = self.body_len(version)?;
        let total = total_len(body);
        if u32::try_from(total).map_or(true, |total| total > packet_bytes_max) {
            return Err(EncodeError::PacketTooLarge { bytes: total, max: packet_bytes_max });
        }
        let start = out.len();
        out.reserve(total);
        out.push(self.first_byte());
        let written =
            out.varint(u32::try_from(body).unwrap_or(u32::MAX)).and_then(|()| write_body(self, version, out));
        debug_assert_eq!(out.len().checked_sub(start), Some(total), "counted and written sizes differ");
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// As [`Packet::encode_within`], but a packet that would be too large loses its User Properties
    /// first and its Reason String second.
    ///
    /// For the packets that only explain something: `[MQTT5-3.2.2-19]` `[MQTT5-3.2.2-20]`
    /// `[MQTT5-3.4.2-2]` `[MQTT5-3.4.2-3]` `[MQTT5-3.5.2-2]` `[MQTT5-3.5.2-3]` `[MQTT5-3.6.2-2]`
    /// `[MQTT5-3.6.2-3]` `[MQTT5-3.7.2-2]` `[MQTT5-3.7.2-3]` `[MQTT5-3.9.2-1]` `[MQTT5-3.9.2-2]`
    /// `[MQTT5-3.11.2-1]` `[MQTT5-3.11.2-2]` `[MQTT5-3.14.2-3]` `[MQTT5-3.14.2-4]` `[MQTT5-3.15.2-2]`
    /// `[MQTT5-3.15.2-3]`. A PUBLISH, whose User Properties belong to the message, is left alone.
    ///
    /// # Errors
    /// As [`Packet::encode_within`], if even that is too large.
    pub fn encode_fitting(
        &self,
        version: Version,
        packet_bytes_max: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let too_large = |result| matches!(result, Err(EncodeError::PacketTooLarge { .. }));
        let result = self.encode_within(version, packet_bytes_max, out);
        if !too_large(result) {
            return result;
        }
        let mut smaller = *self;
        smaller.drop_user_properties();
        let result = smaller.encode_within(version, packet_bytes_max, out);
        if !too_large(result) {
            return result;
        }
        smaller.drop_reason_string();
        smaller.encode_within(version, packet_bytes_max, out)
    }

    /// Removes the User Properties of a packet that explains something.
    fn drop_user_properties(&mut self) {
        let none = UserProperties::NONE;
        match self {
            Self::ConnAck(p) => p.properties.user_properties = none,
            Self::PubAck(p) | Self::PubRec(p) | Self::PubRel(p) | Self::PubComp(p) => {
                p.properties.user_properties = none;
            }
            Self::SubAck(p) => p.properties.user_properties = none,
            Self::UnsubAck(p) => p.properties.user_properties = none,
            Self::Disconnect(p) => p.properties.user_properties = none,
            Self::Auth(p) => p.properties.user_properties = none,
            Self::Connect(_)
            | Self::Publish(_)
            | Self::Subscribe(_)
            | Self::Unsubscribe(_)
            | Self::PingReq
            | Self::PingResp => {}
        }
    }

    /// Removes the Reason String.
    fn drop_reason_string(&mut self) {
        match self {
            Self::ConnAck(p) => p.properties.reason_string = None,
            Self::PubAck(p) | Self::PubRec(p) | Self::PubRel(p) | Self::PubComp(p) => {
                p.properties.reason_string = None;
            }
            Self::SubAck(p) => p.properties.reason_string = None,
            Self::UnsubAck(p) => p.properties.reason_string = None,
            Self::Disconnect(p) => p.properties.reason_string = None,
            Self::Auth(p) => p.properties.reason_string = None,
            Self::Connect(_)
            | Self::Publish(_)
            | Self::Subscribe(_)
            | Self::Unsubscribe(_)
            | Self::PingReq
            | Self::PingResp => {}
        }
    }

    /// Packet type and flags.
    fn first_byte(&self) -> u8 {
        // [MQTT5-2.1.3-1] [MQTT311-2.2.2-1]
        if let Self::Publish(publish) = self {
            return publish_first_byte(publish.dup, publish.qos, publish.retain);
        }
        self.packet_type().first_byte()
    }

    /// Size of the body in bytes; finds every error that writing could meet.
    fn body_len(&self, version: Version) -> Result<usize, EncodeError> {
        if let Self::Publish(publish) = self {
            check_publish(publish.dup, publish.qos, publish.packet_id)?;
        }
        let mut counter = Counter::default();
        write_body(self, version, &mut counter)?;
        check_body_len(counter.0)?;
        Ok(counter.0)
    }
}

/// Writes the body in the shape of its version.
fn write_body<S: Sink>(packet: &Packet<'_>, version: Version, out: &mut S) -> Result<(), EncodeError> {
    if version.is_v5() { v5::encode::body(packet, out) } else { v3::encode::body(version, packet, out) }
}

/// All of a PUBLISH but its payload, for [`publish`].
///
/// The topic and the properties have been decoded or checked before; they are not checked again.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishHead<'a> {
    /// Whether it may have been sent before.
    pub dup: bool,
    /// QoS of this transfer.
    pub qos: QoS,
    /// To the server: keep it. From the server: it was kept.
    pub retain: bool,
    /// The topic; empty if the alias stands for it.
    pub topic: &'a str,
    /// Present if and only if the QoS is above 0.
    pub packet_id: Option<PacketId>,
    /// A number that stands for the topic on this connection (5.0).
    pub topic_alias: Option<NonZeroU16>,
    /// Seconds that the message has left to live (5.0).
    pub message_expiry_interval: Option<u32>,
    /// The receiver's subscriptions that matched, each 1 to 268,435,455 (5.0).
    pub subscription_ids: &'a [u32],
    /// Properties in wire form, from
    /// [`write_forwardable`](crate::packet::PublishProperties::write_forwardable) (5.0).
    pub forwarded: &'a [u8],
    /// Length of the payload that will follow.
    pub payload_len: usize,
}

/// The sizes of a PUBLISH on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PublishSize {
    /// Length of the properties, without the Property Length itself.
    properties: u32,
    /// Remaining Length: all after the fixed header, payload included.
    body: u32,
}

impl PublishSize {
    /// Counts; 3.x has no properties.
    #[inline]
    fn of(version: Version, head: &PublishHead<'_>) -> Result<Self, EncodeError> {
        let mut properties = 0_usize;
        let mut length_bytes = 0_usize;
        if version.is_v5() {
            properties = head.forwarded.len();
            if head.topic_alias.is_some() {
                properties = properties.saturating_add(3);
            }
            if head.message_expiry_interval.is_some() {
                properties = properties.saturating_add(5);
            }
            for &id in head.subscription_ids {
                let bytes = varint::len(id).unwrap_or(4);
                properties = properties.saturating_add(bytes).saturating_add(1);
            }
            length_bytes = length_len(properties);
        }
        let packet_id = if head.packet_id.is_some() { 2 } else { 0_usize };
        let body = head
            .topic
            .len()
            .saturating_add(2)
            .saturating_add(packet_id)
            .saturating_add(length_bytes)
            .saturating_add(properties)
            .saturating_add(head.payload_len);
        let body = check_body_len(body)?;
        Ok(Self { properties: u32::try_from(properties).unwrap_or(u32::MAX), body })
    }
}

/// Bytes that [`publish`] will write: all of the PUBLISH before its payload.
///
/// # Errors
/// [`EncodeError::PacketTooLarge`] if the protocol cannot carry it.
#[inline]
pub fn publish_head_len(version: Version, head: &PublishHead<'_>) -> Result<usize, EncodeError> {
    publish_len(version, head).map(|total| total.saturating_sub(head.payload_len))
}

/// Size of the whole PUBLISH in bytes, to compare with the peer's Maximum Packet Size
/// `[MQTT5-3.1.2-24]`.
///
/// # Errors
/// [`EncodeError::PacketTooLarge`] if the protocol cannot carry it.
#[inline]
pub fn publish_len(version: Version, head: &PublishHead<'_>) -> Result<usize, EncodeError> {
    let size = PublishSize::of(version, head)?;
    let body = usize::try_from(size.body).unwrap_or(usize::MAX);
    Ok(total_len(body))
}

/// Where the Packet Identifier stands in what [`publish`] writes, counted from its first byte;
/// `None` at QoS 0. With it a head that was encoded once serves many receivers.
///
/// # Errors
/// [`EncodeError::PacketTooLarge`] if the protocol cannot carry it.
#[inline]
pub fn packet_id_offset(version: Version, head: &PublishHead<'_>) -> Result<Option<usize>, EncodeError> {
    if head.packet_id.is_none() {
        return Ok(None);
    }
    let size = PublishSize::of(version, head)?;
    let length_bytes = varint::len(size.body).unwrap_or(4);
    Ok(Some(head.topic.len().saturating_add(3).saturating_add(length_bytes)))
}

/// Puts another Packet Identifier and DUP flag into a head that [`publish`] wrote; `offset` comes from
/// [`packet_id_offset`]. Does nothing if the offset is not inside the head.
#[inline]
pub fn patch_publish(head: &mut [u8], offset: usize, packet_id: PacketId, dup: bool) {
    if let Some(place) = head.get_mut(offset..offset.saturating_add(2)) {
        place.copy_from_slice(&packet_id.get().to_be_bytes());
        if let Some(first) = head.first_mut() {
            *first = (*first & !0b1000) | (u8::from(dup) << 3);
        }
    }
}

/// Appends all of a PUBLISH before its payload: the hot path of a broker.
///
/// Cost: one `reserve`, no other allocation, and copies of the topic and the forwarded properties.
/// The caller appends, or shares, exactly `payload_len` bytes afterwards. Returns how many bytes were
/// written.
///
/// # Errors
/// [`EncodeError::PacketTooLarge`] if the protocol cannot carry it; flags, QoS and packet id that do
/// not belong together; a topic above 65,535 bytes. Nothing is appended then.
#[inline]
pub fn publish(out: &mut Vec<u8>, version: Version, head: &PublishHead<'_>) -> Result<usize, EncodeError> {
    check_publish(head.dup, head.qos, head.packet_id)?;
    let size = PublishSize::of(version, head)?;
    let Ok(topic_len) = u16::try_from(head.topic.len()) else {
        return Err(EncodeError::FieldTooLong { bytes: head.topic.len() });
    };
    let start = out.len();
    let body = usize::try_from(size.body).unwrap_or(usize::MAX);
    out.reserve(total_len(body).saturating_sub(head.payload_len));
    let first = publish_first_byte(head.dup, head.qos, head.retain);
    let [high, low] = topic_len.to_be_bytes();
    // The parts of known length go in one piece: first byte, Remaining Length, length of the topic.
    match varint::encode(size.body) {
        ([a, ..], 1) => out.extend_from_slice(&[first, a, high, low]),
        ([a, b, ..], 2) => out.extend_from_slice(&[first, a, b, high, low]),
        ([a, b, c, _], 3) => out.extend_from_slice(&[first, a, b, c, high, low]),
        ([a, b, c, d], _) => out.extend_from_slice(&[first, a, b, c, d, high, low]),
    }
    out.extend_from_slice(head.topic.as_bytes());
    // [MQTT5-2.2.1-2] [MQTT311-2.3.1-5]: a packet id only above QoS 0.
    if let Some(packet_id) = head.packet_id {
        out.extend_from_slice(&packet_id.get().to_be_bytes());
    }
    if version.is_v5() {
        write_properties(out, head, size.properties);
    }
    Ok(out.len().saturating_sub(start))
}

/// Appends an acknowledgement without properties, the other half of the hot path: 4 bytes, or 5 for a
/// 5.0 code other than success. `packet` is one of PUBACK, PUBREC, PUBREL, PUBCOMP, UNSUBACK (3.x).
///
/// `[MQTT5-2.2.1-5]` `[MQTT311-2.3.1-6]`: it carries the packet id of the PUBLISH. Whether the code belongs
/// into the packet is not checked here. Cost: at most one allocation.
#[inline]
pub fn ack(out: &mut Vec<u8>, version: Version, packet: PacketType, packet_id: PacketId, code: ReasonCode) {
    let first = packet.first_byte();
    let [high, low] = packet_id.get().to_be_bytes();
    if code == ReasonCode::Success || !version.is_v5() {
        out.extend_from_slice(&[first, 2, high, low]);
    } else {
        out.extend_from_slice(&[first, 3, high, low, code.as_u8()]);
    }
}

/// Writes the Property Length and the properties. `[MQTT5-2.2.2-1]`: a zero if there are none.
#[inline]
fn write_properties(out: &mut Vec<u8>, head: &PublishHead<'_>, properties: u32) {
    if properties == 0 {
        out.push(0);
        return;
    }
    write_varint(out, properties);
    if let Some(alias) = head.topic_alias {
        let [high, low] = alias.get().to_be_bytes();
        out.extend_from_slice(&[PropertyId::TopicAlias.as_u8(), high, low]);
    }
    if let Some(seconds) = head.message_expiry_interval {
        let [a, b, c, d] = seconds.to_be_bytes();
        out.extend_from_slice(&[PropertyId::MessageExpiryInterval.as_u8(), a, b, c, d]);
    }
    for &id in head.subscription_ids {
        out.push(PropertyId::SubscriptionIdentifier.as_u8());
        write_varint(out, id);
    }
    out.extend_from_slice(head.forwarded);
}

/// Writes a number whose range is known.
#[inline]
fn write_varint(out: &mut Vec<u8>, value: u32) {
    let (bytes, count) = varint::encode(value);
    out.extend_from_slice(bytes.get(..count).unwrap_or(&bytes));
}

/// The first byte of a PUBLISH.
#[inline]
const fn publish_first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    let dup = if dup { 0b1000 } else { 0 };
    let retain = if retain { 1 } else { 0 };
    0x30 | dup | (qos.as_u8() << 1) | retain
}

/// Fails if flags, QoS and packet id do not belong together.
///
/// `[MQTT5-3.3.1-2]` `[MQTT311-3.3.1-2]` no DUP at QoS 0; `[MQTT5-2.2.1-2]` `[MQTT311-2.3.1-5]` no
/// packet id at QoS 0; `[MQTT5-2.2.1-4]` `[MQTT311-2.3.1-4]` a packet id above, never zero by its type.
#[inline]
const fn check_publish(dup: bool, qos: QoS, packet_id: Option<PacketId>) -> Result<(), EncodeError> {
    match (qos, packet_id) {
        (QoS::AtMostOnce, None) if dup => Err(EncodeError::DupWithoutQoS),
        (QoS::AtMostOnce, Some(_)) => Err(EncodeError::PacketIdUnexpected),
        (QoS::AtLeastOnce | QoS::ExactlyOnce, None) => Err(EncodeError::PacketIdMissing),
        _ => Ok(()),
    }
}

/// The Remaining Length as a number, if the protocol can say it.
#[inline]
fn check_body_len(body: usize) -> Result<u32, EncodeError> {
    match u32::try_from(body) {
        Ok(body) if body <= REMAINING_LENGTH_MAX => Ok(body),
        _ => Err(EncodeError::PacketTooLarge { bytes: total_len(body), max: PACKET_BYTES_MAX }),
    }
}

/// Size of a packet with a body of this size.
#[inline]
fn total_len(body: usize) -> usize {
    body.saturating_add(length_len(body)).saturating_add(1)
}

/// Bytes that a length takes as a Variable Byte Integer, 4 for what does not fit.
#[inline]
fn length_len(length: usize) -> usize {
    u32::try_from(length).ok().and_then(varint::len).unwrap_or(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::decode_one;
    use crate::limits::Limits;
    use crate::packet::{
        Ack, Auth, AuthProperties, ConnAck, ConnAckProperties, Disconnect, DisconnectProperties, Publish,
        PublishProperties, ReasonCodes, ReasonProperties, SubAck, SubscriptionIds, UnsubAck,
    };

    const ID: PacketId = PacketId::FIRST;

    fn bytes_of(packet: &Packet<'_>, version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        packet.encode(version, &mut out).unwrap();
        assert_eq!(packet.encoded_len(version), Ok(out.len()));
        out
    }

    #[test]
    fn hot_path_writes_what_the_checked_path_writes() {
        // [MQTT5-2.2.1-2] [MQTT311-2.3.1-5] [MQTT5-2.2.2-1] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18]
        let pairs = [("a", "1"), ("b", "2"), ("a", "3")];
        let properties = PublishProperties {
            message_expiry_interval: Some(77),
            topic_alias: NonZeroU16::new(5),
            subscription_ids: SubscriptionIds::from_slice(&[1, 200, 268_435_455]),
            user_properties: UserProperties::from_pairs(&pairs),
            payload_format_indicator: Some(true),
            response_topic: Some("r/t"),
            correlation_data: Some(b"\0\xFF"),
            content_type: Some("text"),
        };
        for payload_len in [0, 100, 127, 128, 16_383, 20_000, 2_097_151] {
            let payload = vec![7; payload_len];
            for version in Version::ALL {
                for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
                    for properties in [PublishProperties::default(), properties] {
                        check_hot_path(version, qos, properties, &payload);
                    }
                }
            }
        }
    }

    fn check_hot_path(version: Version, qos: QoS, properties: PublishProperties<'_>, payload: &[u8]) {
        let packet_id = (qos > QoS::AtMostOnce).then_some(ID);
        let publish_packet =
            Publish { dup: false, qos, retain: true, topic: "a/b", packet_id, properties, payload };
        let mut forwarded = Vec::new();
        properties.write_forwardable(&mut forwarded);
        assert_eq!(forwarded.is_empty(), !properties.has_forwardable());
        let ids: Vec<u32> = properties.subscription_ids.iter().collect();
        let head = PublishHead {
            dup: false,
            qos,
            retain: true,
            topic: "a/b",
            packet_id,
            topic_alias: properties.topic_alias,
            message_expiry_interval: properties.message_expiry_interval,
            subscription_ids: &ids,
            forwarded: &forwarded,
            payload_len: payload.len(),
        };
        let mut hot = Vec::new();
        let head_len = publish(&mut hot, version, &head).unwrap();
        assert_eq!(publish_head_len(version, &head), Ok(head_len));
        assert_eq!((hot.len(), hot.capacity() >= head_len), (head_len, true));
        hot.extend_from_slice(payload);
        assert_eq!(publish_len(version, &head), Ok(hot.len()));
        let (decoded, size) = decode_one(&hot, version, &Limits::UNBOUNDED).unwrap().unwrap();
        let checked = bytes_of(&Packet::Publish(publish_packet), version);
        assert_eq!((size, checked.len()), (hot.len(), hot.len()));
        let Packet::Publish(decoded) = decoded else { panic!("{decoded:?}") };
        let expect = if version.is_v5() { properties } else { PublishProperties::default() };
        assert_eq!(decoded, Publish { properties: expect, ..publish_packet });
        // What was decoded forwards the same bytes again.
        let mut again = Vec::new();
        decoded.properties.write_forwardable(&mut again);
        assert_eq!(again, if version.is_v5() { forwarded } else { Vec::new() });
    }

    #[test]
    fn forwarded_properties_are_those_that_came() {
        // [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-20] [MQTT5-3.1.3-10]
        let pairs = [("k", "2"), ("k", "1")];
        let will = crate::packet::WillProperties {
            will_delay_interval: Some(1),
            payload_format_indicator: Some(false),
            message_expiry_interval: Some(2),
            content_type: Some("c"),
            response_topic: Some("r"),
            correlation_data: Some(b"d"),
            user_properties: UserProperties::from_pairs(&pairs),
        };
        let mut wire = Vec::new();
        will.write_forwardable(&mut wire);
        let got = PublishProperties::parse(&wire, &Limits::SERVER).unwrap();
        let expect = PublishProperties {
            payload_format_indicator: Some(false),
            content_type: Some("c"),
            response_topic: Some("r"),
            correlation_data: Some(b"d"),
            user_properties: UserProperties::from_pairs(&pairs),
            ..PublishProperties::default()
        };
        assert_eq!(got, expect);
    }

    #[test]
    fn a_head_can_be_patched_for_the_next_receiver() {
        for version in Version::ALL {
            let mut head = PublishHead {
                qos: QoS::AtLeastOnce,
                topic: "some/topic",
                packet_id: Some(ID),
                payload_len: 300,
                ..PublishHead::default()
            };
            let mut patched = Vec::new();
            publish(&mut patched, version, &head).unwrap();
            let offset = packet_id_offset(version, &head).unwrap().unwrap();
            let other = PacketId::new(0xABCD).unwrap();
            patch_publish(&mut patched, offset, other, true);
            (head.packet_id, head.dup) = (Some(other), true);
            let mut fresh = Vec::new();
            publish(&mut fresh, version, &head).unwrap();
            assert_eq!(patched, fresh);
        }
        let head = PublishHead { topic: "t", ..PublishHead::default() };
        assert_eq!(packet_id_offset(Version::V5, &head), Ok(None));
    }

    #[test]
    fn short_acknowledgements_are_what_the_checked_path_writes() {
        // [MQTT5-2.2.1-5] [MQTT311-2.3.1-6]
        let id = PacketId::new(0x1234).unwrap();
        for version in Version::ALL {
            for code in [ReasonCode::Success, ReasonCode::PacketIdentifierNotFound] {
                for packet in [Packet::PubRel, Packet::PubComp] {
                    let packet = packet(Ack::with_code(id, code));
                    let mut out = Vec::new();
                    ack(&mut out, version, packet.packet_type(), id, code);
                    assert_eq!(out, bytes_of(&packet, version));
                }
            }
        }
    }

    #[test]
    fn flags_qos_and_packet_id_belong_together() {
        // [MQTT5-3.3.1-2] [MQTT311-3.3.1-2] [MQTT5-2.2.1-4] [MQTT311-2.3.1-4] [MQTT5-2.2.1-2]
        // [MQTT311-2.3.1-5]
        let mut out = Vec::new();
        let mut try_it = |dup, qos, packet_id| {
            let head = PublishHead { dup, qos, packet_id, topic: "t", ..PublishHead::default() };
            let hot = publish(&mut out, Version::V311, &head).err();
            let packet = Publish { dup, qos, packet_id, topic: "t", ..Publish::default() };
            assert_eq!(Packet::Publish(packet).encoded_len(Version::V5).err(), hot);
            hot
        };
        assert_eq!(try_it(true, QoS::AtMostOnce, None), Some(EncodeError::DupWithoutQoS));
        assert_eq!(try_it(false, QoS::AtMostOnce, Some(ID)), Some(EncodeError::PacketIdUnexpected));
        assert_eq!(try_it(false, QoS::ExactlyOnce, None), Some(EncodeError::PacketIdMissing));
        assert_eq!(try_it(true, QoS::ExactlyOnce, Some(ID)), None);
    }

    #[test]
    fn nothing_is_appended_on_failure_nor_above_the_peers_maximum() {
        // [MQTT5-3.1.2-24]
        let packet = Packet::Publish(Publish { topic: "t", payload: &[0; 90], ..Publish::default() });
        let size = packet.encoded_len(Version::V5).unwrap();
        let mut out = vec![1, 2, 3];
        for max in 0..u32::try_from(size).unwrap() {
            let result = packet.encode_within(Version::V5, max, &mut out);
            assert_eq!(result, Err(EncodeError::PacketTooLarge { bytes: size, max }));
        }
        assert_eq!(out, [1, 2, 3]);
        assert_eq!(packet.encode_within(Version::V5, u32::try_from(size).unwrap(), &mut out), Ok(()));
        let bad = Packet::Publish(Publish { topic: "a/+", ..Publish::default() });
        let before = out.len();
        assert_eq!(bad.encode(Version::V5, &mut out), Err(EncodeError::TopicNameInvalid));
        assert_eq!(out.len(), before);
    }

    #[test]
    fn packets_that_explain_shed_their_explanation_to_fit() {
        // [MQTT5-3.2.2-19] [MQTT5-3.2.2-20] [MQTT5-3.4.2-2] [MQTT5-3.4.2-3] [MQTT5-3.5.2-2]
        // [MQTT5-3.5.2-3] [MQTT5-3.6.2-2] [MQTT5-3.6.2-3] [MQTT5-3.7.2-2] [MQTT5-3.7.2-3]
        // [MQTT5-3.9.2-1] [MQTT5-3.9.2-2] [MQTT5-3.11.2-1] [MQTT5-3.11.2-2] [MQTT5-3.14.2-3]
        // [MQTT5-3.14.2-4] [MQTT5-3.15.2-2] [MQTT5-3.15.2-3]
        for (with_both, reason_only, bare) in explaining_packets() {
            let sizes = [&with_both, &reason_only, &bare].map(|p| p.encoded_len(Version::V5).unwrap());
            let expect = [with_both, reason_only, bare].map(|p| bytes_of(&p, Version::V5));
            for max in 0..=sizes[0] {
                let mut out = Vec::new();
                let max_u32 = u32::try_from(max).unwrap();
                let result = with_both.encode_fitting(Version::V5, max_u32, &mut out);
                match sizes.iter().position(|size| *size <= max) {
                    Some(which) => assert_eq!(out, expect[which]),
                    None => assert!(matches!(result, Err(EncodeError::PacketTooLarge { .. }))),
                }
            }
        }
    }

    /// Each packet that explains something: with everything, with a Reason String only, with neither.
    fn explaining_packets() -> Vec<(Packet<'static>, Packet<'static>, Packet<'static>)> {
        let reason = Some("because");
        let user = UserProperties::from_pairs(&[("name", "value")]);
        let shapes = [(reason, user), (reason, UserProperties::NONE), (None, UserProperties::NONE)];
        let make = |build: fn(ReasonProperties<'static>) -> Packet<'static>| {
            let [a, b, c] = shapes.map(|(reason_string, user_properties)| {
                build(ReasonProperties { reason_string, user_properties })
            });
            (a, b, c)
        };
        vec![
            make(|p| {
                Packet::ConnAck(ConnAck {
                    properties: ConnAckProperties {
                        reason_string: p.reason_string,
                        user_properties: p.user_properties,
                        ..ConnAckProperties::default()
                    },
                    ..ConnAck::default()
                })
            }),
            make(|properties| Packet::PubAck(Ack { packet_id: ID, code: ReasonCode::Success, properties })),
            make(|properties| Packet::PubRec(Ack { packet_id: ID, code: ReasonCode::Success, properties })),
            make(|properties| Packet::PubRel(Ack { packet_id: ID, code: ReasonCode::Success, properties })),
            make(|properties| Packet::PubComp(Ack { packet_id: ID, code: ReasonCode::Success, properties })),
            make(|properties| {
                let codes = ReasonCodes::from_slice(&[ReasonCode::Success]);
                Packet::SubAck(SubAck { packet_id: ID, properties, codes })
            }),
            make(|properties| {
                let codes = ReasonCodes::from_slice(&[ReasonCode::Success]);
                Packet::UnsubAck(UnsubAck { packet_id: ID, properties, codes })
            }),
            make(|p| {
                Packet::Disconnect(Disconnect {
                    code: ReasonCode::UnspecifiedError,
                    properties: DisconnectProperties {
                        reason_string: p.reason_string,
                        user_properties: p.user_properties,
                        ..DisconnectProperties::default()
                    },
                })
            }),
            make(|p| {
                Packet::Auth(Auth {
                    code: ReasonCode::ContinueAuthentication,
                    properties: AuthProperties {
                        authentication_method: Some("m"),
                        reason_string: p.reason_string,
                        user_properties: p.user_properties,
                        ..AuthProperties::default()
                    },
                })
            }),
        ]
    }

    #[test]
    fn refusals_report_no_session() {
        // [MQTT5-3.2.2-1] [MQTT5-3.2.2-6] [MQTT311-3.2.2-4] [MQTT311-3.2.2-6]
        let refusal = Packet::ConnAck(ConnAck {
            session_present: true,
            code: ReasonCode::NotAuthorized,
            properties: ConnAckProperties::default(),
        });
        assert_eq!(bytes_of(&refusal, Version::V5), [0x20, 3, 0, 0x87, 0]);
        assert_eq!(bytes_of(&refusal, Version::V311), [0x20, 2, 0, 5]);
        let good = Packet::ConnAck(ConnAck { session_present: true, ..ConnAck::default() });
        assert_eq!(bytes_of(&good, Version::V311), [0x20, 2, 1, 0]);
        assert_eq!(bytes_of(&good, Version::V31), [0x20, 2, 0, 0]);
        let odd = Packet::ConnAck(ConnAck { code: ReasonCode::ProtocolError, ..ConnAck::default() });
        let packet = PacketType::ConnAck;
        assert_eq!(
            odd.encoded_len(Version::V311),
            Err(EncodeError::ReasonCodeInvalid { code: 0x82, packet })
        );
    }

    #[test]
    fn the_largest_packet_is_that_of_the_protocol() {
        let mut head = PublishHead { topic: "t", payload_len: 268_435_452, ..PublishHead::default() };
        assert_eq!(publish_len(Version::V311, &head), Ok(268_435_460));
        head.payload_len += 1;
        assert!(matches!(publish_len(Version::V311, &head), Err(EncodeError::PacketTooLarge { .. })));
        head.payload_len = usize::MAX;
        assert!(matches!(
            publish(&mut Vec::new(), Version::V5, &head),
            Err(EncodeError::PacketTooLarge { .. })
        ));
    }
}
