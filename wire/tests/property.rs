//! Rules that hold for all packets: round trip, any chunking, no panic on any bytes, stable re-encoding.

mod strategies;

use dunlin_wire::packet::PublishProperties;
use dunlin_wire::{Frame, Limits, Packet, Sender, Version, decode, decode_one, frame_of};
use proptest::prelude::*;
use strategies::{OwnedPacket, any_packet, any_version};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is encoded decodes to the same packet, in exactly the size that was announced.
    #[test]
    fn round_trip((version, packet) in any_version().prop_flat_map(|v| (Just(v), any_packet(v)))) {
        packet.with(version, |packet| {
            let mut bytes = vec![0xEE];
            packet.encode(version, &mut bytes).expect("strategies make valid packets only");
            let bytes = &bytes[1..];
            assert_eq!(packet.encoded_len(version), Ok(bytes.len()));
            let back = decode_one(bytes, version, &Limits::UNBOUNDED);
            assert_eq!(back, Ok(Some((*packet, bytes.len()))));
        });
    }

    /// Packets in a row come out the same however the bytes are cut.
    #[test]
    fn any_chunking_gives_the_same_packets(
        (version, packets) in any_version()
            .prop_flat_map(|v| (Just(v), prop::collection::vec(any_packet(v), 1..5))),
        cuts in prop::collection::vec(1_usize..40, 1..60),
    ) {
        let mut stream = Vec::new();
        let mut expect = Vec::new();
        for packet in &packets {
            packet.with(version, |packet| {
                packet.encode(version, &mut stream).expect("strategies make valid packets only");
                expect.push(format!("{packet:?}"));
            });
        }
        prop_assert_eq!(decode_in_chunks(version, &stream, &cuts), expect);
    }

    /// No bytes make the decoder panic, in any version, from any sender; and what decodes can be
    /// encoded, to something that decodes to the same.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), strict: bool) {
        for version in Version::ALL {
            for sender in [Sender::Client, Sender::Server, Sender::Either] {
                check_any_bytes(version, &bytes, &Limits { sender, strict, ..Limits::SERVER });
            }
        }
    }

    /// The same for bytes that look like packets: a valid packet with some bytes changed.
    #[test]
    fn damaged_packets_never_panic(
        (version, packet) in any_version().prop_flat_map(|v| (Just(v), any_packet(v))),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = Vec::new();
        packet.with(version, |packet| packet.encode(version, &mut bytes).expect("valid"));
        for (index, byte) in damage {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        check_any_bytes(version, &bytes, &Limits::UNBOUNDED);
    }

    /// Forwarded properties parse back and forward the same bytes again.
    #[test]
    fn forwarded_properties_are_stable(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(properties) = PublishProperties::parse(&bytes, &Limits::UNBOUNDED) {
            let (mut once, mut twice) = (Vec::new(), Vec::new());
            properties.write_forwardable(&mut once);
            let again = PublishProperties::parse(&once, &Limits::UNBOUNDED).expect("was written by us");
            again.write_forwardable(&mut twice);
            prop_assert_eq!(&once, &twice);
            prop_assert_eq!(properties.user_properties, again.user_properties);
        }
    }
}

/// Feeds a stream in pieces of the given sizes, over and over, and tells what came out.
fn decode_in_chunks(version: Version, stream: &[u8], cuts: &[usize]) -> Vec<String> {
    let (mut buffer, mut decoded, mut rest) = (Vec::new(), Vec::new(), stream);
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (head, tail) = rest.split_at((*cut).min(rest.len()));
        buffer.extend_from_slice(head);
        rest = tail;
        while let Frame::Whole { first_byte, body_range, total_bytes } =
            frame_of(version, &buffer, u32::MAX).expect("the stream is valid")
        {
            let packet = decode(version, first_byte, &buffer[body_range], &Limits::UNBOUNDED);
            decoded.push(format!("{:?}", packet.expect("the stream is valid")));
            buffer.drain(..total_bytes);
        }
    }
    assert!(buffer.is_empty());
    decoded
}

fn check_any_bytes(version: Version, bytes: &[u8], limits: &Limits) {
    if let Ok(Some((packet, size))) = decode_one(bytes, version, limits) {
        assert!(size <= bytes.len());
        let mut again = Vec::new();
        let version = own_version(&packet, version);
        packet.encode(version, &mut again).expect("what decodes can be encoded");
        let unbounded = Limits::UNBOUNDED;
        assert_eq!(decode_one(&again, version, &unbounded), Ok(Some((packet, again.len()))));
    }
}

/// CONNECT tells its own version; all else is of the connection's.
fn own_version(packet: &Packet<'_>, version: Version) -> Version {
    if let Packet::Connect(connect) = packet { connect.version } else { version }
}

/// The strategies reach every packet type in every version that has it.
#[test]
fn strategies_reach_all_packets() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    for (version, types) in [(Version::V31, 14), (Version::V311, 14), (Version::V5, 15)] {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..600 {
            let packet: OwnedPacket = any_packet(version).new_tree(&mut runner).unwrap().current();
            packet.with(version, |packet| seen.insert(packet.packet_type()));
        }
        assert_eq!(seen.len(), types);
    }
}
