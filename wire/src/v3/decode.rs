//! Bodies of 3.1 and 3.1.1 packets, from bytes.

use crate::error::{Cause, DecodeError};
use crate::limits::Limits;
use crate::packet::{
    Ack, ConnAck, ConnAckProperties, Disconnect, Packet, Publish, PublishProperties, ReasonCodes,
    ReasonProperties, SubAck, Subscribe, SubscribeProperties, Subscriptions, TopicFilters, UnsubAck,
    Unsubscribe, UserProperties,
};
use crate::reader::Reader;
use crate::reason::ConnectReturnCode;
use crate::types::{PacketType, QoS, SubscriptionOptions, Version};

/// Decodes a PUBLISH.
///
/// `[MQTT311-3.3.1-2]` DUP needs a QoS; `[MQTT311-3.3.1-4]` QoS 3 does not exist; `[MQTT311-3.3.2-1]`
/// the topic comes first; `[MQTT311-2.3.1-1]` `[MQTT311-2.3.1-5]` a packet id, not zero, if and only
/// if the QoS is above 0.
#[inline]
pub(crate) fn publish<'a>(
    version: Version,
    first_byte: u8,
    body: &'a [u8],
    limits: &Limits,
) -> Result<Publish<'a>, DecodeError> {
    let mut reader = Reader::new(body, limits.strict);
    let Some(qos) = QoS::from_u8((first_byte >> 1) & 0b11) else {
        return Err(reader.error(Cause::QoSInvalid));
    };
    let mut dup = first_byte & 0b1000 != 0;
    if dup && qos == QoS::AtMostOnce {
        if version != Version::V31 {
            return Err(reader.error(Cause::DupWithoutQoS));
        }
        // 3.1 gives the flag no meaning at QoS 0.
        dup = false;
    }
    let topic = reader.topic_name(limits)?;
    let packet_id = if qos == QoS::AtMostOnce { None } else { Some(reader.packet_id()?) };
    Ok(Publish {
        dup,
        qos,
        retain: first_byte & 1 != 0,
        topic,
        packet_id,
        properties: PublishProperties::default(),
        payload: reader.take_rest(),
    })
}

/// Decodes the body of any other packet but CONNECT.
pub(crate) fn body<'a>(
    version: Version,
    packet_type: PacketType,
    reader: &mut Reader<'a>,
    limits: &Limits,
) -> Result<Packet<'a>, DecodeError> {
    Ok(match packet_type {
        PacketType::ConnAck => Packet::ConnAck(connack(version, reader)?),
        // [MQTT311-2.3.1-6]: the four carry the packet id of the PUBLISH and nothing else.
        PacketType::PubAck => Packet::PubAck(Ack::success(reader.packet_id()?)),
        PacketType::PubRec => Packet::PubRec(Ack::success(reader.packet_id()?)),
        PacketType::PubRel => Packet::PubRel(Ack::success(reader.packet_id()?)),
        PacketType::PubComp => Packet::PubComp(Ack::success(reader.packet_id()?)),
        PacketType::Subscribe => Packet::Subscribe(subscribe(reader, limits)?),
        PacketType::SubAck => Packet::SubAck(suback(reader)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(unsubscribe(reader, limits)?),
        PacketType::UnsubAck => Packet::UnsubAck(UnsubAck {
            packet_id: reader.packet_id()?,
            properties: ReasonProperties::NONE,
            codes: ReasonCodes::default(),
        }),
        PacketType::PingReq => Packet::PingReq,
        PacketType::PingResp => Packet::PingResp,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::default()),
        PacketType::Connect | PacketType::Publish | PacketType::Auth => {
            return Err(reader.error(Cause::PacketNotAllowed { packet: packet_type }));
        }
    })
}

/// Decodes a CONNACK. In 3.1 the first byte is not used.
fn connack<'a>(version: Version, reader: &mut Reader<'_>) -> Result<ConnAck<'a>, DecodeError> {
    let mut flags = reader.u8()?;
    if version == Version::V31 {
        flags = 0;
    }
    if flags & !1 != 0 {
        return Err(reader.error(Cause::ConnAckFlagReserved));
    }
    let session_present = flags == 1;
    let value = reader.u8()?;
    let Some(code) = ConnectReturnCode::from_u8(value) else {
        return Err(reader.error(Cause::ReasonCodeInvalid { value, packet: PacketType::ConnAck }));
    };
    // [MQTT311-3.2.2-4]
    if session_present && code != ConnectReturnCode::Accepted {
        return Err(reader.error(Cause::SessionPresentInRefusal));
    }
    Ok(ConnAck { session_present, code: code.to_reason_code(), properties: ConnAckProperties::default() })
}

/// Decodes a SUBSCRIBE. `[MQTT311-2.3.1-1]` `[MQTT311-3.8.3-3]`
fn subscribe<'a>(reader: &mut Reader<'a>, limits: &Limits) -> Result<Subscribe<'a>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let list = reader.rest();
    let mut count = 0_u16;
    while !reader.is_empty() {
        reader.count_filter(&mut count, limits)?;
        reader.topic_filter()?;
        let options = reader.u8()?;
        // [MQTT311-3.8.3-4]
        if options & 0b1111_1100 != 0 {
            return Err(reader.error(Cause::SubscriptionOptionsReserved));
        }
        if SubscriptionOptions::from_u8(options).is_none() {
            return Err(reader.error(Cause::SubscriptionOptionsValue));
        }
    }
    // [MQTT311-3.8.3-3]
    if count == 0 {
        return Err(reader.error(Cause::FiltersMissing));
    }
    Ok(Subscribe {
        packet_id,
        properties: SubscribeProperties::default(),
        subscriptions: Subscriptions::from_wire(list),
    })
}

/// Decodes a SUBACK. `[MQTT311-3.9.3-2]`: 0x00, 0x01, 0x02 and 0x80 are the only codes.
fn suback<'a>(reader: &mut Reader<'a>) -> Result<SubAck<'a>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let list = reader.rest();
    while !reader.is_empty() {
        let value = reader.u8()?;
        if !matches!(value, 0..=2 | 0x80) {
            return Err(reader.error(Cause::ReasonCodeInvalid { value, packet: PacketType::SubAck }));
        }
    }
    if list.is_empty() {
        return Err(reader.error(Cause::ReasonCodesMissing));
    }
    Ok(SubAck { packet_id, properties: ReasonProperties::NONE, codes: ReasonCodes::from_wire(list) })
}

/// Decodes an UNSUBSCRIBE. `[MQTT311-2.3.1-1]` `[MQTT311-3.10.3-2]`
fn unsubscribe<'a>(reader: &mut Reader<'a>, limits: &Limits) -> Result<Unsubscribe<'a>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let filters = reader.topic_filters(limits)?;
    Ok(Unsubscribe {
        packet_id,
        user_properties: UserProperties::NONE,
        filters: TopicFilters::from_wire(filters),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::decode;

    fn cause(first_byte: u8, bytes: &[u8]) -> Cause {
        decode(Version::V311, first_byte, bytes, &Limits::UNBOUNDED).unwrap_err().cause
    }

    #[test]
    fn publish_flags_and_packet_id_belong_together() {
        // [MQTT311-3.3.1-2] [MQTT311-3.3.1-4] [MQTT311-3.3.2-1] [MQTT311-2.3.1-1] [MQTT311-2.3.1-5]
        let take = |first, bytes| publish(Version::V311, first, bytes, &Limits::SERVER);
        let zero = take(0x31, b"\x00\x01thi").unwrap();
        assert_eq!((zero.retain, zero.packet_id, zero.payload), (true, None, &b"hi"[..]));
        let one = take(0x3A, b"\x00\x01t\x00\x07hi").unwrap();
        assert_eq!((one.dup, one.packet_id.unwrap().get(), one.payload), (true, 7, &b"hi"[..]));
        assert_eq!(cause(0x36, b"\x00\x01t\x00\x07"), Cause::QoSInvalid);
        assert_eq!(cause(0x38, b"\x00\x01t"), Cause::DupWithoutQoS);
        assert_eq!(cause(0x32, b"\x00\x01t\x00\x00"), Cause::PacketIdZero);
        assert_eq!(cause(0x32, b"\x00\x01t"), Cause::Truncated);
        assert_eq!(cause(0x30, b"\x00\x01\xFF"), Cause::StringNotUtf8);
        let old = publish(Version::V31, 0x38, b"\x00\x01t", &Limits::SERVER).unwrap();
        assert!(!old.dup);
    }

    #[test]
    fn topic_names_of_publish_are_checked() {
        // [MQTT311-3.3.2-2] [MQTT311-4.7.1-1] [MQTT311-4.7.3-1] [MQTT311-4.7.3-2] [MQTT311-1.5.3-2]
        assert_eq!(cause(0x30, b"\x00\x03a/+"), Cause::TopicNameWildcard);
        assert_eq!(cause(0x30, b"\x00\x01#"), Cause::TopicNameWildcard);
        assert_eq!(cause(0x30, b"\x00\x00"), Cause::TopicNameEmpty);
        assert_eq!(cause(0x30, b"\x00\x01\x00"), Cause::StringHasNull);
        let limits = Limits { topic_levels_max: 2, ..Limits::SERVER };
        assert!(publish(Version::V311, 0x30, b"\x00\x03a/b", &limits).is_ok());
        let error = publish(Version::V311, 0x30, b"\x00\x04a/b/", &limits).unwrap_err();
        assert_eq!(error.cause, Cause::TopicLevelsTooMany { max: 2 });
    }

    #[test]
    fn acknowledgements_carry_a_packet_id_and_nothing_else() {
        // [MQTT311-2.3.1-6] [MQTT311-2.3.1-7]
        for first_byte in [0x40, 0x50, 0x62, 0x70, 0xB0] {
            let packet = decode(Version::V311, first_byte, &[0, 9], &Limits::UNBOUNDED).unwrap();
            let expect = format!("packet_id: {}", 9);
            assert!(format!("{packet:?}").contains(&expect), "{packet:?}");
            assert_eq!(cause(first_byte, &[0, 0]), Cause::PacketIdZero);
            assert_eq!(cause(first_byte, &[0]), Cause::Truncated);
            assert_eq!(cause(first_byte, &[0, 9, 0]), Cause::TrailingBytes);
        }
        let suback = decode(Version::V311, 0x90, &[0, 9, 0x80], &Limits::UNBOUNDED).unwrap();
        assert!(matches!(suback, Packet::SubAck(SubAck { packet_id, .. }) if packet_id.get() == 9));
    }

    #[test]
    fn subscribe_holds_filters_with_a_qos_each() {
        // [MQTT311-2.3.1-1] [MQTT311-3.8.3-1] [MQTT311-3.8.3-3] [MQTT311-3.8.3-4]
        let good = decode(Version::V311, 0x82, b"\x00\x01\x00\x03a/#\x02\x00\x01b\x00", &Limits::SERVER);
        let Ok(Packet::Subscribe(subscribe)) = good else { panic!("{good:?}") };
        let filters: Vec<_> = subscribe.filters().map(|s| (s.filter, s.options.qos)).collect();
        assert_eq!(filters, [("a/#", QoS::ExactlyOnce), ("b", QoS::AtMostOnce)]);
        assert_eq!(cause(0x82, b"\x00\x00\x00\x01a\x00"), Cause::PacketIdZero);
        assert_eq!(cause(0x82, b"\x00\x01"), Cause::FiltersMissing);
        assert_eq!(cause(0x82, b"\x00\x01\x00\x01a"), Cause::Truncated);
        assert_eq!(cause(0x82, b"\x00\x01\x00\x01\xFF\x00"), Cause::StringNotUtf8);
        assert_eq!(cause(0x82, b"\x00\x01\x00\x01a\x03"), Cause::SubscriptionOptionsValue);
        for options in 4..=u8::MAX {
            let bytes = [0, 1, 0, 1, b'a', options];
            assert_eq!(cause(0x82, &bytes), Cause::SubscriptionOptionsReserved);
        }
    }

    #[test]
    fn unsubscribe_holds_filters_without_gaps() {
        // [MQTT311-2.3.1-1] [MQTT311-3.10.3-1] [MQTT311-3.10.3-2]
        let good = decode(Version::V311, 0xA2, b"\x00\x01\x00\x01a\x00\x01#", &Limits::SERVER);
        let Ok(Packet::Unsubscribe(unsubscribe)) = good else { panic!("{good:?}") };
        assert_eq!(unsubscribe.filters().collect::<Vec<_>>(), ["a", "#"]);
        assert_eq!(cause(0xA2, b"\x00\x01"), Cause::FiltersMissing);
        assert_eq!(cause(0xA2, b"\x00\x00\x00\x01a"), Cause::PacketIdZero);
        assert_eq!(cause(0xA2, b"\x00\x01\x00\x01\xFF"), Cause::StringNotUtf8);
        assert_eq!(cause(0xA2, b"\x00\x01\x00\x01a\x00"), Cause::Truncated);
    }

    #[test]
    fn suback_knows_four_codes() {
        // [MQTT311-3.9.3-2]
        for value in 0..=u8::MAX {
            let taken = decode(Version::V311, 0x90, &[0, 1, value], &Limits::CLIENT).is_ok();
            assert_eq!(taken, [0, 1, 2, 0x80].contains(&value), "{value:#x}");
        }
        assert_eq!(cause(0x90, &[0, 1]), Cause::ReasonCodesMissing);
    }

    #[test]
    fn connack_reports_a_session_only_with_success() {
        // [MQTT311-3.2.2-4]
        assert_eq!(cause(0x20, &[1, 5]), Cause::SessionPresentInRefusal);
        assert_eq!(cause(0x20, &[2, 0]), Cause::ConnAckFlagReserved);
        assert_eq!(cause(0x20, &[0, 6]), Cause::ReasonCodeInvalid { value: 6, packet: PacketType::ConnAck });
    }
}
