//! From bytes to packets: framing at any chunking, then one dispatch by version and packet type.
//!
//! A caller keeps received bytes, asks [`frame`] whether a whole packet stands at their start, and
//! hands its body to [`decode`]. Nothing is allocated and nothing is copied; a packet that announces
//! more than it may is refused before its body is waited for.

use core::ops::Range;

use crate::error::{Cause, DecodeError};
use crate::limits::{Limits, Sender};
use crate::packet::{Connect, Packet, Publish};
use crate::reader::Reader;
use crate::types::{PacketType, Version};
use crate::varint::{self, Varint};
use crate::{greeting, v3, v5};

/// What stands at the start of a receive buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A packet has begun, or nothing is there; more bytes are needed.
    Incomplete {
        /// Size of the whole packet in bytes, once its length is known.
        needed_hint: Option<usize>,
    },
    /// A whole packet.
    Whole {
        /// Packet type and flags.
        first_byte: u8,
        /// Where its body is in the buffer.
        body_range: Range<usize>,
        /// Size of the whole packet in bytes: what to remove from the buffer afterwards.
        total_bytes: usize,
    },
}

/// Looks for a whole packet at the start of `buf` and checks its announced size.
///
/// For a connection whose version is known to be 3.x, [`frame_of`] is more tolerant.
///
/// # Errors
/// Packet type 0, a Remaining Length of more than four bytes or not in its shortest form
/// `[MQTT5-1.5.5-1]`, a packet above `packet_bytes_max`.
#[inline]
pub fn frame(buf: &[u8], packet_bytes_max: u32) -> Result<Frame, DecodeError> {
    frame_of(Version::V5, buf, packet_bytes_max)
}

/// As [`frame`], by the rules of one version: 3.x does not ask for the shortest form of the length.
///
/// # Errors
/// As [`frame`].
#[inline]
pub fn frame_of(version: Version, buf: &[u8], packet_bytes_max: u32) -> Result<Frame, DecodeError> {
    let Some((&first_byte, rest)) = buf.split_first() else {
        return Ok(Frame::Incomplete { needed_hint: None });
    };
    if PacketType::from_first_byte(first_byte).is_none() {
        return Err(DecodeError { cause: Cause::PacketTypeReserved, offset: 0 });
    }
    let length = match version {
        Version::V5 => varint::decode(rest),
        Version::V31 | Version::V311 => varint::decode_any_form(rest),
    };
    let (value, length_bytes) = match length {
        Ok(Varint::Whole { value, bytes }) => (value, bytes),
        Ok(Varint::Incomplete) => return Ok(Frame::Incomplete { needed_hint: None }),
        Err(cause) => return Err(DecodeError { cause, offset: 1 }),
    };
    let body_start = length_bytes.saturating_add(1);
    let total = value.saturating_add(u32::try_from(body_start).unwrap_or(u32::MAX));
    if total > packet_bytes_max {
        let cause = Cause::PacketTooLarge { bytes: total, max: packet_bytes_max };
        return Err(DecodeError { cause, offset: 1 });
    }
    let total_bytes = usize::try_from(total).unwrap_or(usize::MAX);
    if buf.len() < total_bytes {
        return Ok(Frame::Incomplete { needed_hint: Some(total_bytes) });
    }
    Ok(Frame::Whole { first_byte, body_range: body_start..total_bytes, total_bytes })
}

/// Decodes the body of a packet. For CONNECT `version` does not matter: the packet tells its own.
///
/// # Errors
/// Everything that the version forbids, with its cause and place. `[MQTT5-4.13.1-1]`
/// `[MQTT311-4.8.0-1]`: after an error the connection is to be closed.
#[inline]
pub fn decode<'a>(
    version: Version,
    first_byte: u8,
    body: &'a [u8],
    limits: &Limits,
) -> Result<Packet<'a>, DecodeError> {
    let Some(packet_type) = PacketType::from_first_byte(first_byte) else {
        return Err(DecodeError { cause: Cause::PacketTypeReserved, offset: 0 });
    };
    match packet_type {
        PacketType::Publish => publish(version, first_byte, body, limits).map(Packet::Publish),
        PacketType::Connect => connect(first_byte, body, limits).map(Packet::Connect),
        PacketType::ConnAck
        | PacketType::PubAck
        | PacketType::PubRec
        | PacketType::PubRel
        | PacketType::PubComp
        | PacketType::Subscribe
        | PacketType::SubAck
        | PacketType::Unsubscribe
        | PacketType::UnsubAck
        | PacketType::PingReq
        | PacketType::PingResp
        | PacketType::Disconnect
        | PacketType::Auth => decode_other(version, packet_type, first_byte, body, limits),
    }
}

/// Decodes all packets but CONNECT and PUBLISH, which have flags or versions of their own.
fn decode_other<'a>(
    version: Version,
    packet_type: PacketType,
    first_byte: u8,
    body: &'a [u8],
    limits: &Limits,
) -> Result<Packet<'a>, DecodeError> {
    check_sender(version, packet_type, limits.sender)?;
    check_flags(version, packet_type, first_byte)?;
    let mut reader = Reader::new(body, limits.strict);
    let packet = if version.is_v5() {
        v5::decode::body(packet_type, &mut reader, limits)?
    } else {
        v3::decode::body(version, packet_type, &mut reader, limits)?
    };
    // [MQTT311-3.10.3-1]: fields are packed without gaps, and nothing follows them.
    reader.finish()?;
    Ok(packet)
}

/// Decodes the body of a CONNECT: the only packet that a server takes first.
///
/// # Errors
/// As [`decode`]; [`Cause::ProtocolLevel`] and [`Cause::ProtocolName`] for other protocols.
pub fn connect<'a>(first_byte: u8, body: &'a [u8], limits: &Limits) -> Result<Connect<'a>, DecodeError> {
    check_sender(Version::V5, PacketType::Connect, limits.sender)?;
    let connect = greeting::decode(body, limits)?;
    check_flags(connect.version, PacketType::Connect, first_byte)?;
    Ok(connect)
}

/// Decodes the body of a PUBLISH: the hot path, also reached through [`decode`].
///
/// # Errors
/// As [`decode`].
#[inline]
pub fn publish<'a>(
    version: Version,
    first_byte: u8,
    body: &'a [u8],
    limits: &Limits,
) -> Result<Publish<'a>, DecodeError> {
    if version.is_v5() {
        v5::decode::publish(first_byte, body, limits)
    } else {
        v3::decode::publish(version, first_byte, body, limits)
    }
}

/// Decodes the packet at the start of `buf`; `None` if it is not whole yet. Also tells its size.
///
/// # Errors
/// As [`frame_of`] and [`decode`].
#[inline]
pub fn decode_one<'a>(
    buf: &'a [u8],
    version: Version,
    limits: &Limits,
) -> Result<Option<(Packet<'a>, usize)>, DecodeError> {
    let Frame::Whole { first_byte, body_range, total_bytes } =
        frame_of(version, buf, limits.packet_bytes_max)?
    else {
        return Ok(None);
    };
    let body = buf.get(body_range).unwrap_or(&[]);
    decode(version, first_byte, body, limits).map(|packet| Some((packet, total_bytes)))
}

/// Fails if the version has no such packet or the sender may not send it.
fn check_sender(version: Version, packet_type: PacketType, sender: Sender) -> Result<(), DecodeError> {
    let client = match packet_type {
        PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PingReq => {
            sender != Sender::Server
        }
        PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => {
            sender != Sender::Client
        }
        // Until 5.0 only the client says goodbye.
        PacketType::Disconnect => version.is_v5() || sender != Sender::Server,
        PacketType::Auth => version.is_v5(),
        PacketType::Publish
        | PacketType::PubAck
        | PacketType::PubRec
        | PacketType::PubRel
        | PacketType::PubComp => true,
    };
    if client {
        Ok(())
    } else {
        Err(DecodeError { cause: Cause::PacketNotAllowed { packet: packet_type }, offset: 0 })
    }
}

/// Fails if the flags of the first byte are not the listed ones; 3.1 leaves them unused.
///
/// `[MQTT5-2.1.3-1]` `[MQTT311-2.2.2-1]` `[MQTT311-2.2.2-2]`, and for single packets
/// `[MQTT5-3.6.1-1]` `[MQTT311-3.6.1-1]` `[MQTT5-3.8.1-1]` `[MQTT311-3.8.1-1]` `[MQTT5-3.10.1-1]`
/// `[MQTT311-3.10.1-1]` `[MQTT5-3.14.1-1]` `[MQTT311-3.14.1-1]` `[MQTT5-3.15.1-1]`.
fn check_flags(version: Version, packet_type: PacketType, first_byte: u8) -> Result<(), DecodeError> {
    if first_byte & 0x0F == packet_type.flags() || version == Version::V31 {
        Ok(())
    } else {
        Err(DecodeError { cause: Cause::PacketFlags { packet: packet_type }, offset: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_whole_only_with_its_last_byte() {
        let bytes = [0x30, 0x05, 0, 1, b'a', b'h', b'i', 0xC0];
        assert_eq!(frame(&[], 100), Ok(Frame::Incomplete { needed_hint: None }));
        assert_eq!(frame(&bytes[..1], 100), Ok(Frame::Incomplete { needed_hint: None }));
        for end in 2..7 {
            assert_eq!(frame(&bytes[..end], 100), Ok(Frame::Incomplete { needed_hint: Some(7) }));
        }
        let whole = Frame::Whole { first_byte: 0x30, body_range: 2..7, total_bytes: 7 };
        assert_eq!(frame(&bytes[..7], 100), Ok(whole.clone()));
        assert_eq!(frame(&bytes, 7), Ok(whole));
    }

    #[test]
    fn the_limit_is_checked_before_the_body_is_there() {
        let cause = frame(&[0x30, 0x80, 0x01], 130).unwrap_err().cause;
        assert_eq!(cause, Cause::PacketTooLarge { bytes: 131, max: 130 });
        assert!(frame(&[0x30, 0x80, 0x01], 131).is_ok());
        let largest = frame(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], u32::MAX);
        assert_eq!(largest, Ok(Frame::Incomplete { needed_hint: Some(268_435_460) }));
    }

    #[test]
    fn longer_forms_of_the_length_are_refused_in_5_only() {
        // [MQTT5-1.5.5-1]
        let ping = [0xC0, 0x80, 0x00];
        assert_eq!(frame(&ping, 100).unwrap_err().cause, Cause::VarintNotMinimal);
        assert_eq!(decode_one(&ping, Version::V311, &Limits::SERVER), Ok(Some((Packet::PingReq, 3))));
        let endless = [0xC0, 0x80, 0x80, 0x80, 0x80];
        for version in Version::ALL {
            assert_eq!(frame_of(version, &endless, 100).unwrap_err().cause, Cause::VarintTooLong);
        }
    }

    #[test]
    fn all_first_bytes_keep_to_the_table_of_flags() {
        // [MQTT5-2.1.3-1] [MQTT311-2.2.2-1] [MQTT311-2.2.2-2] [MQTT5-3.6.1-1] [MQTT311-3.6.1-1]
        // [MQTT5-3.8.1-1] [MQTT311-3.8.1-1] [MQTT5-3.10.1-1] [MQTT311-3.10.1-1] [MQTT5-3.14.1-1]
        // [MQTT311-3.14.1-1] [MQTT5-3.15.1-1]
        for first_byte in 0..=u8::MAX {
            let Some(packet_type) = PacketType::from_first_byte(first_byte) else {
                let cause = decode(Version::V5, first_byte, &[], &Limits::SERVER).unwrap_err().cause;
                assert_eq!(cause, Cause::PacketTypeReserved);
                continue;
            };
            if packet_type == PacketType::Publish {
                continue;
            }
            for version in Version::ALL {
                let listed = first_byte & 15 == packet_type.flags() || version == Version::V31;
                assert_eq!(check_flags(version, packet_type, first_byte).is_ok(), listed);
                let refused = decode(version, first_byte, &[0, 1, 0, 0], &Limits::UNBOUNDED)
                    .is_err_and(|error| error.cause == Cause::PacketFlags { packet: packet_type });
                let reached = packet_type != PacketType::Connect
                    && (packet_type != PacketType::Auth || version.is_v5());
                assert_eq!(refused, !listed && reached, "{first_byte:#x} {version:?}");
            }
        }
    }

    #[test]
    fn each_end_takes_only_what_the_other_may_send() {
        let taken = |version, sender| {
            PacketType::ALL.iter().filter(|t| check_sender(version, **t, sender).is_ok()).count()
        };
        for (version, client, server, either) in
            [(Version::V31, 10, 9, 14), (Version::V311, 10, 9, 14), (Version::V5, 11, 11, 15)]
        {
            assert_eq!(taken(version, Sender::Client), client);
            assert_eq!(taken(version, Sender::Server), server);
            assert_eq!(taken(version, Sender::Either), either);
        }
    }
}
