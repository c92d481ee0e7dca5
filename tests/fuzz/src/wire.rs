//! Targets over the codec of `wire`.

use dunlin_wire::{DecodeError, Frame, Limits, Packet, Sender, Version, decode, decode_one, frame_of};

use crate::build;

/// Bytes as a stream of 3.1 and of 3.1.1, from every sender.
pub fn wire_decode_v3(data: &[u8]) {
    check_stream(Version::V31, data);
    check_stream(Version::V311, data);
}

/// Bytes as a stream of 5.0, from every sender.
pub fn wire_decode_v5(data: &[u8]) {
    check_stream(Version::V5, data);
}

/// A packet built from the bytes comes back from its own encoding, in the size that was announced.
///
/// # Panics
/// If it does not.
pub fn wire_roundtrip(data: &[u8]) {
    build::packet(data, |version, packet| {
        let mut bytes = Vec::new();
        let announced = packet.encoded_len(version);
        match packet.encode(version, &mut bytes) {
            Ok(()) => {
                assert_eq!(announced, Ok(bytes.len()));
                let back = decode_one(&bytes, version, &Limits::UNBOUNDED);
                assert_eq!(back, Ok(Some((*packet, bytes.len()))));
            }
            Err(error) => {
                assert_eq!(announced, Err(error));
                assert!(bytes.is_empty(), "a failed encoding leaves nothing behind");
            }
        }
    });
}

/// The same bytes give the same packets and the same error, whole or in pieces.
///
/// The first byte tells how many bytes of piece sizes follow; the rest is the stream.
///
/// # Panics
/// If they do not.
pub fn wire_split(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else { return };
    let (sizes, stream) = rest.split_at(usize::from(count & 15).min(rest.len()));
    for version in Version::ALL {
        let (mut whole, mut pieces) = (Received::default(), Received::default());
        whole.feed(version, stream);
        let mut left = stream;
        let mut sizes = sizes.iter().chain([&1]).cycle();
        while !left.is_empty() {
            let size = sizes.next().map_or(1, |size| usize::from(*size).max(1)).min(left.len());
            let (head, tail) = left.split_at(size);
            pieces.feed(version, head);
            left = tail;
        }
        assert_eq!(whole.packets, pieces.packets);
        assert_eq!(whole.error, pieces.error);
    }
}

/// What a connection received so far.
#[derive(Default)]
struct Received {
    buffer: Vec<u8>,
    packets: Vec<String>,
    error: Option<DecodeError>,
}

impl Received {
    /// Takes bytes until the first error.
    fn feed(&mut self, version: Version, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while self.error.is_none() {
            match self.next(version) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => self.error = Some(error),
            }
        }
    }

    /// Takes one packet off the buffer, if there is a whole one.
    fn next(&mut self, version: Version) -> Result<bool, DecodeError> {
        let limits = Limits { packet_bytes_max: 1_000, ..Limits::UNBOUNDED };
        match frame_of(version, &self.buffer, limits.packet_bytes_max)? {
            Frame::Incomplete { needed_hint } => {
                assert!(needed_hint.is_none_or(|needed| needed > self.buffer.len()));
                Ok(false)
            }
            Frame::Whole { first_byte, body_range, total_bytes } => {
                let packet = decode(version, first_byte, &self.buffer[body_range], &limits)?;
                self.packets.push(format!("{packet:?}"));
                self.buffer.drain(..total_bytes);
                Ok(true)
            }
        }
    }
}

/// Decodes a stream in several ways and checks whatever comes out.
fn check_stream(version: Version, data: &[u8]) {
    for sender in [Sender::Client, Sender::Server, Sender::Either] {
        let narrow = Limits {
            packet_bytes_max: 64,
            clientid_bytes_max: 4,
            topic_levels_max: 2,
            user_properties_max: 1,
            filters_max: 1,
            sender,
            strict: true,
        };
        for limits in [Limits { sender, ..Limits::SERVER }, narrow] {
            let mut rest = data;
            while let Ok(Some((packet, size))) = decode_one(rest, version, &limits) {
                assert!(size <= rest.len() && size <= limits.packet_bytes_max as usize);
                check_packet(version, &packet);
                rest = &rest[size..];
            }
        }
    }
}

/// What was decoded can be encoded, and that decodes to the same.
fn check_packet(version: Version, packet: &Packet<'_>) {
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).expect("what decodes can be encoded");
    assert_eq!(packet.encoded_len(version), Ok(bytes.len()));
    let back = decode_one(&bytes, version, &Limits::UNBOUNDED);
    assert_eq!(back, Ok(Some((*packet, bytes.len()))));
    if let Packet::Publish(publish) = packet {
        check_forwarding(publish.properties);
    }
}

/// What is forwarded is a part of what came, in a form that parses.
fn check_forwarding(properties: dunlin_wire::packet::PublishProperties<'_>) {
    let mut wire = Vec::new();
    properties.write_forwardable(&mut wire);
    assert_eq!(wire.is_empty(), !properties.has_forwardable());
    let back = dunlin_wire::packet::PublishProperties::parse(&wire, &Limits::UNBOUNDED);
    let expect = dunlin_wire::packet::PublishProperties {
        message_expiry_interval: None,
        topic_alias: None,
        subscription_ids: dunlin_wire::packet::SubscriptionIds::NONE,
        ..properties
    };
    assert_eq!(back, Ok(expect));
}
