//! CONNECT on the wire, both ways: the packet that tells the version of all that follow.

use crate::error::{Cause, DecodeError, EncodeError};
use crate::limits::{Limits, V31_CLIENTID_BYTES_MAX};
use crate::packet::{Connect, ConnectProperties, Will, WillProperties, check_payload_format};
use crate::reader::Reader;
use crate::types::{PacketType, QoS, Version};
use crate::v5;
use crate::writer::{Sink, block, text};

/// Decodes the body of a CONNECT of any version.
///
/// `[MQTT5-3.1.4-1]` `[MQTT311-3.1.4-1]`: whatever breaks the format is an error, and the connection
/// is to be closed.
pub(crate) fn decode<'a>(body: &'a [u8], limits: &Limits) -> Result<Connect<'a>, DecodeError> {
    let mut reader = Reader::new(body, limits.strict);
    let (version, bridge) = read_version(&mut reader)?;
    let flags = Flags::read(&mut reader, version)?;
    let keep_alive_seconds = reader.u16()?;
    let properties = if version.is_v5() {
        v5::decode::connect_properties(&mut reader, limits)?
    } else {
        ConnectProperties::default()
    };
    // [MQTT5-3.1.3-1] [MQTT311-3.1.3-1]: the fields of the payload come in this order.
    let client_id = read_client_id(&mut reader, version, limits)?;
    let will = if flags.will { Some(read_will(&mut reader, version, flags, limits)?) } else { None };
    // [MQTT5-3.1.2-16] [MQTT5-3.1.2-17] [MQTT311-3.1.2-18] [MQTT311-3.1.2-19]
    // In 3.1 the length of the packet counts for more than this flag: the name may be missing.
    let has_user_name = flags.user_name && !(version == Version::V31 && reader.is_empty());
    // [MQTT5-3.1.3-12] [MQTT311-3.1.3-11]
    let user_name = if has_user_name { Some(reader.string()?) } else { None };
    // [MQTT5-3.1.2-18] [MQTT5-3.1.2-19] [MQTT311-3.1.2-20] [MQTT311-3.1.2-21]
    let has_password = flags.password && !(version == Version::V31 && reader.is_empty());
    let password = if has_password { Some(reader.binary()?) } else { None };
    reader.finish()?;
    Ok(Connect {
        version,
        bridge,
        clean_start: flags.clean_start,
        keep_alive_seconds,
        client_id,
        will,
        user_name,
        password,
        properties,
    })
}

/// Reads protocol name and level. The highest bit of a 3.x level is the mark of a bridge.
///
/// `[MQTT5-3.1.2-1]` `[MQTT311-3.1.2-1]`: another name is another protocol.
/// `[MQTT5-3.1.2-2]` `[MQTT311-3.1.2-2]`: another level is answered with 0x84 or 0x01.
fn read_version(reader: &mut Reader<'_>) -> Result<(Version, bool), DecodeError> {
    let name = reader.binary()?;
    let known_name = Version::ALL.iter().any(|version| version.protocol_name().as_bytes() == name);
    if !known_name {
        return Err(reader.error(Cause::ProtocolName));
    }
    let level = reader.u8()?;
    let bridge = level & 0x80 != 0;
    Version::ALL
        .into_iter()
        .find(|version| {
            let level_fits = version.level() == level & 0x7F && !(bridge && version.is_v5());
            level_fits && version.protocol_name().as_bytes() == name
        })
        .map(|version| (version, bridge))
        .ok_or_else(|| reader.error(Cause::ProtocolLevel { level }))
}

/// The Connect Flags byte, checked.
#[derive(Clone, Copy)]
struct Flags {
    clean_start: bool,
    will: bool,
    will_qos: QoS,
    will_retain: bool,
    user_name: bool,
    password: bool,
}

impl Flags {
    /// Reads and checks the byte. 3.1 does not use the reserved bit, nor will bits without a Will.
    fn read(reader: &mut Reader<'_>, version: Version) -> Result<Self, DecodeError> {
        let byte = reader.u8()?;
        let will = byte & 0b0000_0100 != 0;
        let will_bits = byte & 0b0011_1000;
        // [MQTT5-3.1.2-3] [MQTT311-3.1.2-3]
        if byte & 1 != 0 && version != Version::V31 {
            return Err(reader.error(Cause::ConnectFlagReserved));
        }
        // [MQTT5-3.1.2-11] [MQTT5-3.1.2-13] [MQTT311-3.1.2-11] [MQTT311-3.1.2-13] [MQTT311-3.1.2-15]
        if !will && will_bits != 0 && version != Version::V31 {
            return Err(reader.error(Cause::WillFlags));
        }
        // [MQTT5-3.1.2-12] [MQTT311-3.1.2-14]
        let Some(will_qos) = QoS::from_u8((byte >> 3) & 0b11) else {
            return Err(reader.error(Cause::WillFlags));
        };
        let user_name = byte & 0b1000_0000 != 0;
        let password = byte & 0b0100_0000 != 0;
        // [MQTT311-3.1.2-22]
        if password && !user_name && !version.is_v5() {
            return Err(reader.error(Cause::PasswordWithoutUserName));
        }
        let will_retain = byte & 0b0010_0000 != 0;
        Ok(Self { clean_start: byte & 0b10 != 0, will, will_qos, will_retain, user_name, password })
    }

    /// The flags of a CONNECT that is to be written.
    const fn of(connect: &Connect<'_>) -> u8 {
        let mut byte = 0;
        if connect.clean_start {
            byte |= 0b10;
        }
        if let Some(will) = &connect.will {
            byte |= 0b100 | (will.qos.as_u8() << 3);
            if will.retain {
                byte |= 0b0010_0000;
            }
        }
        if connect.password.is_some() {
            byte |= 0b0100_0000;
        }
        if connect.user_name.is_some() {
            byte |= 0b1000_0000;
        }
        byte
    }
}

/// Reads the client identifier, the first field of the payload.
///
/// `[MQTT5-3.1.3-3]` `[MQTT311-3.1.3-3]` it is always there; `[MQTT5-3.1.3-4]` `[MQTT311-3.1.3-4]`
/// it is a string; `[MQTT5-3.1.3-5]` `[MQTT311-3.1.3-5]` any characters, and up to the limit.
fn read_client_id<'a>(
    reader: &mut Reader<'a>,
    version: Version,
    limits: &Limits,
) -> Result<&'a str, DecodeError> {
    let client_id = reader.string()?;
    let strict_v31 = limits.strict && version == Version::V31;
    if strict_v31 && client_id.is_empty() {
        return Err(reader.error(Cause::ClientIdEmpty));
    }
    let v31_max = if strict_v31 { V31_CLIENTID_BYTES_MAX } else { usize::MAX };
    let max = usize::from(limits.clientid_bytes_max).min(v31_max);
    if client_id.len() > max {
        let bytes = u16::try_from(client_id.len()).unwrap_or(u16::MAX);
        return Err(
            reader.error(Cause::ClientIdTooLong { bytes, max: u16::try_from(max).unwrap_or(u16::MAX) })
        );
    }
    Ok(client_id)
}

/// Reads the Will: properties (5.0), topic, payload. `[MQTT5-3.1.2-9]` `[MQTT311-3.1.2-9]`
fn read_will<'a>(
    reader: &mut Reader<'a>,
    version: Version,
    flags: Flags,
    limits: &Limits,
) -> Result<Will<'a>, DecodeError> {
    let properties = if version.is_v5() {
        v5::decode::will_properties(reader, limits)?
    } else {
        WillProperties::default()
    };
    // [MQTT5-3.1.3-11] [MQTT311-3.1.3-10]
    let topic = reader.topic_name(limits)?;
    let payload = reader.binary()?;
    if limits.strict {
        check_payload_format(properties.payload_format_indicator, payload)
            .map_err(|cause| reader.error(cause))?;
    }
    Ok(Will { qos: flags.will_qos, retain: flags.will_retain, topic, payload, properties })
}

/// Writes the body of a CONNECT.
pub(crate) fn encode<S: Sink>(connect: &Connect<'_>, out: &mut S) -> Result<(), EncodeError> {
    let version = connect.version;
    // [MQTT311-3.1.2-22]
    if connect.password.is_some() && connect.user_name.is_none() && !version.is_v5() {
        return Err(EncodeError::PasswordWithoutUserName);
    }
    text(out, version.protocol_name())?;
    let bridge = if connect.bridge && !version.is_v5() { 0x80 } else { 0 };
    out.u8(version.level() | bridge);
    out.u8(Flags::of(connect));
    out.u16(connect.keep_alive_seconds);
    if version.is_v5() {
        block(out, PacketType::Connect, &connect.properties)?;
    }
    // [MQTT5-3.1.3-1] [MQTT311-3.1.3-1]
    text(out, connect.client_id)?;
    if let Some(will) = &connect.will {
        if version.is_v5() {
            block(out, PacketType::Connect, &will.properties)?;
        }
        crate::topic::check_name(will.topic).map_err(|_| EncodeError::TopicNameInvalid)?;
        text(out, will.topic)?;
        out.binary(will.payload)?;
    }
    if let Some(user_name) = connect.user_name {
        text(out, user_name)?;
    }
    if let Some(password) = connect.password {
        out.binary(password)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::ReasonCode;

    /// A CONNECT of the given name, level, flags and what follows the Keep Alive.
    fn connect(name: &str, level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
        let mut body = vec![0, u8::try_from(name.len()).unwrap()];
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&[level, flags, 0, 60]);
        body.extend_from_slice(rest);
        body
    }

    fn cause(body: &[u8]) -> Cause {
        decode(body, &Limits::SERVER).unwrap_err().cause
    }

    #[test]
    fn name_and_level_choose_the_version() {
        // [MQTT5-3.1.2-1] [MQTT5-3.1.2-2] [MQTT311-3.1.2-1] [MQTT311-3.1.2-2]
        for (name, level, expect, bridge) in [
            ("MQIsdp", 3, Version::V31, false),
            ("MQIsdp", 0x83, Version::V31, true),
            ("MQTT", 4, Version::V311, false),
            ("MQTT", 0x84, Version::V311, true),
        ] {
            let body = connect(name, level, 2, &[0, 1, b'c']);
            let got = decode(&body, &Limits::SERVER).unwrap();
            assert_eq!((got.version, got.bridge), (expect, bridge));
        }
        for (name, level) in [("MQTT", 3), ("MQTT", 6), ("MQTT", 0x85), ("MQIsdp", 4), ("MQTT", 0)] {
            let cause = cause(&connect(name, level, 2, &[0, 1, b'c']));
            assert_eq!(cause, Cause::ProtocolLevel { level });
            assert_eq!(cause.reason_code(), ReasonCode::UnsupportedProtocolVersion);
        }
        assert_eq!(cause(&connect("mqtt", 4, 2, &[0, 1, b'c'])), Cause::ProtocolName);
        assert_eq!(cause(&connect("MQTT ", 4, 2, &[0, 1, b'c'])), Cause::ProtocolName);
    }

    #[test]
    fn all_flag_bytes_are_judged() {
        // [MQTT5-3.1.2-3] [MQTT311-3.1.2-3] [MQTT5-3.1.2-11] [MQTT5-3.1.2-12] [MQTT5-3.1.2-13]
        // [MQTT311-3.1.2-11] [MQTT311-3.1.2-13] [MQTT311-3.1.2-14] [MQTT311-3.1.2-15]
        // [MQTT311-3.1.2-22]
        for (level, version) in [(4, Version::V311), (5, Version::V5)] {
            for flags in 0..=u8::MAX {
                let mut reader = Reader::new(core::slice::from_ref(&flags), false);
                let verdict = Flags::read(&mut reader, version);
                let will = flags & 4 != 0;
                let bad = flags & 1 != 0
                    || (!will && flags & 0x38 != 0)
                    || flags & 0x18 == 0x18
                    || (flags & 0xC0 == 0x40 && level == 4);
                assert_eq!(verdict.is_err(), bad, "{flags:#010b} level {level}");
            }
        }
    }

    #[test]
    fn fields_are_there_if_and_only_if_their_flags_are_set() {
        // [MQTT5-3.1.2-16] [MQTT5-3.1.2-17] [MQTT5-3.1.2-18] [MQTT5-3.1.2-19] [MQTT5-3.1.2-9]
        // [MQTT311-3.1.2-18] [MQTT311-3.1.2-19] [MQTT311-3.1.2-20] [MQTT311-3.1.2-21]
        // [MQTT311-3.1.2-9] [MQTT311-3.1.2-11] [MQTT5-3.1.3-1] [MQTT311-3.1.3-1]
        let payload = [0, 1, b'c', 0, 1, b't', 0, 1, b'w', 0, 1, b'u', 0, 1, b'p'];
        let full = connect("MQTT", 4, 0b1100_0100, &payload);
        let got = decode(&full, &Limits::SERVER).unwrap();
        assert_eq!(got.client_id, "c");
        assert_eq!(got.will.map(|will| (will.topic, will.payload)), Some(("t", &b"w"[..])));
        assert_eq!((got.user_name, got.password), (Some("u"), Some(&b"p"[..])));
        // A flag too many makes the packet too short, a flag too few leaves bytes over.
        assert_eq!(cause(&connect("MQTT", 4, 0b1100_0100, &payload[..12])), Cause::Truncated);
        assert_eq!(cause(&connect("MQTT", 4, 0b1000_0100, &payload)), Cause::TrailingBytes);
        assert_eq!(cause(&connect("MQTT", 4, 0b0000_0100, &payload)), Cause::TrailingBytes);
        assert_eq!(cause(&connect("MQTT", 4, 0, &payload)), Cause::TrailingBytes);
        let five = connect("MQTT", 5, 0b0100_0000, &[0, 0, 1, b'c', 0, 1, b'p']);
        assert_eq!(decode(&five, &Limits::SERVER).unwrap().password, Some(&b"p"[..]));
    }

    #[test]
    fn client_id_is_always_there_and_bounded() {
        // [MQTT5-3.1.3-3] [MQTT311-3.1.3-3] [MQTT5-3.1.3-4] [MQTT311-3.1.3-4] [MQTT5-3.1.3-5]
        // [MQTT311-3.1.3-5]
        assert_eq!(cause(&connect("MQTT", 4, 2, &[])), Cause::Truncated);
        assert_eq!(cause(&connect("MQTT", 4, 2, &[0, 1, 0xFF])), Cause::StringNotUtf8);
        let letters = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        for part in letters.chunks(23) {
            let mut rest = vec![0, u8::try_from(part.len()).unwrap()];
            rest.extend_from_slice(part);
            for (name, level) in [("MQIsdp", 3), ("MQTT", 4)] {
                let limits = Limits { strict: true, ..Limits::SERVER };
                assert!(decode(&connect(name, level, 2, &rest), &limits).is_ok());
            }
        }
        let limits = Limits { clientid_bytes_max: 2, ..Limits::SERVER };
        let error = decode(&connect("MQTT", 4, 2, b"\0\x03abc"), &limits).unwrap_err();
        assert_eq!(error.cause, Cause::ClientIdTooLong { bytes: 3, max: 2 });
        assert_eq!(error.reason_code(), ReasonCode::ClientIdentifierNotValid);
        let strict = Limits { strict: true, ..Limits::SERVER };
        let empty = connect("MQIsdp", 3, 2, &[0, 0]);
        assert_eq!(decode(&empty, &strict).unwrap_err().cause, Cause::ClientIdEmpty);
        assert!(decode(&empty, &Limits::SERVER).is_ok());
    }

    #[test]
    fn a_3_1_client_may_leave_out_the_user_name_that_it_announced() {
        let got = connect("MQIsdp", 3, 0b1000_0010, &[0, 1, b'c']);
        assert_eq!(decode(&got, &Limits::SERVER).unwrap().user_name, None);
        assert_eq!(cause(&connect("MQTT", 4, 0b1000_0010, &[0, 1, b'c'])), Cause::Truncated);
    }
}
