//! A packet that came from the broker, with its bytes.

use dunlin_wire::packet::{Ack, Auth, ConnAck, Disconnect, Packet, Publish, SubAck, UnsubAck};
use dunlin_wire::{Limits, PacketType, ReasonCode, Version, decoder};

/// One whole packet as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    version: Version,
    bytes: Vec<u8>,
}

impl Received {
    /// Takes the packet at the start of `buffer` out of it, if it is whole.
    pub(crate) fn take(version: Version, buffer: &mut Vec<u8>) -> Option<Self> {
        let length = match decoder::decode_one(buffer, version, &Limits::CLIENT) {
            Ok(Some((_, length))) => length,
            Ok(None) => return None,
            Err(error) => panic!("the broker sent {buffer:02x?}: {error:?}"),
        };
        let bytes = buffer.drain(..length).collect();
        Some(Self { version, bytes })
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The packet.
    #[must_use]
    pub fn packet(&self) -> Packet<'_> {
        let decoded = decoder::decode_one(&self.bytes, self.version, &Limits::CLIENT);
        decoded.expect("decoded before").expect("whole").0
    }

    /// What kind of packet it is.
    #[must_use]
    pub fn kind(&self) -> PacketType {
        self.packet().packet_type()
    }

    /// As CONNACK.
    #[must_use]
    pub fn connack(&self) -> ConnAck<'_> {
        match self.packet() {
            Packet::ConnAck(packet) => packet,
            other => panic!("CONNACK expected, not {other:?}"),
        }
    }

    /// As PUBLISH.
    #[must_use]
    pub fn publish(&self) -> Publish<'_> {
        match self.packet() {
            Packet::Publish(packet) => packet,
            other => panic!("PUBLISH expected, not {other:?}"),
        }
    }

    /// As one of PUBACK, PUBREC, PUBREL and PUBCOMP.
    #[must_use]
    pub fn ack(&self) -> Ack<'_> {
        match self.packet() {
            Packet::PubAck(packet)
            | Packet::PubRec(packet)
            | Packet::PubRel(packet)
            | Packet::PubComp(packet) => packet,
            other => panic!("an acknowledgement expected, not {other:?}"),
        }
    }

    /// As SUBACK.
    #[must_use]
    pub fn suback(&self) -> SubAck<'_> {
        match self.packet() {
            Packet::SubAck(packet) => packet,
            other => panic!("SUBACK expected, not {other:?}"),
        }
    }

    /// As UNSUBACK.
    #[must_use]
    pub fn unsuback(&self) -> UnsubAck<'_> {
        match self.packet() {
            Packet::UnsubAck(packet) => packet,
            other => panic!("UNSUBACK expected, not {other:?}"),
        }
    }

    /// As AUTH.
    #[must_use]
    pub fn auth(&self) -> Auth<'_> {
        match self.packet() {
            Packet::Auth(packet) => packet,
            other => panic!("AUTH expected, not {other:?}"),
        }
    }

    /// As DISCONNECT.
    #[must_use]
    pub fn disconnect(&self) -> Disconnect<'_> {
        match self.packet() {
            Packet::Disconnect(packet) => packet,
            other => panic!("DISCONNECT expected, not {other:?}"),
        }
    }

    /// The reason codes of a SUBACK.
    #[must_use]
    pub fn granted(&self) -> Vec<ReasonCode> {
        self.suback().reason_codes().collect()
    }
}
