//! Small values that packets are made of: version, QoS, packet id, subscription options, packet type.

use core::fmt;
use core::num::NonZeroU16;

/// A version of MQTT that a connection speaks, chosen by its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1, protocol name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1, protocol name `MQTT`, level 4.
    V311,
    /// MQTT 5.0, protocol name `MQTT`, level 5.
    V5,
}

impl Version {
    /// All versions, oldest first.
    pub const ALL: [Self; 3] = [Self::V31, Self::V311, Self::V5];

    /// The protocol name that a CONNECT of this version carries.
    #[must_use]
    pub const fn protocol_name(self) -> &'static str {
        match self {
            Self::V31 => "MQIsdp",
            Self::V311 | Self::V5 => "MQTT",
        }
    }

    /// The protocol level (3.x) or protocol version (5.0) byte of a CONNECT.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::V31 => 3,
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }

    /// Whether packets of this version carry properties and reason codes.
    #[must_use]
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }
}

/// Quality of Service: how often a message may arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: sent once, never acknowledged.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: acknowledged by PUBACK, may arrive again.
    AtLeastOnce = 1,
    /// QoS 2: acknowledged in two steps, arrives once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS with this number; `None` for 3 and above, which no packet may carry.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The number on the wire: 0, 1 or 2.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }
}

/// A Packet Identifier: never zero `[MQTT5-2.2.1-3]` `[MQTT311-2.3.1-1]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(pub NonZeroU16);

impl PacketId {
    /// The smallest Packet Identifier.
    pub const FIRST: Self = Self(NonZeroU16::MIN);

    /// The Packet Identifier with this number; `None` for zero.
    #[must_use]
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// The next identifier, going round from 65,535 to 1.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(id) => Self(id),
            None => Self::FIRST,
        }
    }
}

impl fmt::Debug for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a subscriber wants of retained messages when it subscribes (5.0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RetainHandling {
    /// Send them at each SUBSCRIBE; the only behaviour of 3.x.
    #[default]
    SendAtSubscribe,
    /// Send them only if the subscription did not exist.
    SendIfNew,
    /// Do not send them.
    DoNotSend,
}

impl RetainHandling {
    /// The handling with this number; `None` for 3, which is a protocol error.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::SendAtSubscribe),
            1 => Some(Self::SendIfNew),
            2 => Some(Self::DoNotSend),
            _ => None,
        }
    }

    /// The number on the wire: 0, 1 or 2.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::SendAtSubscribe => 0,
            Self::SendIfNew => 1,
            Self::DoNotSend => 2,
        }
    }
}

/// The Subscription Options byte; 3.x knows only the QoS in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The highest QoS at which the subscriber wants messages.
    pub qos: QoS,
    /// Do not send back what this connection itself published.
    pub no_local: bool,
    /// Keep the RETAIN flag as the publisher set it.
    pub retain_as_published: bool,
    /// When to send retained messages.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// The options that a 3.x SUBSCRIBE with this QoS means.
    #[must_use]
    pub const fn with_qos(qos: QoS) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }
    }

    /// Reads the options byte; `None` if it has reserved bits set, QoS 3 or Retain Handling 3.
    ///
    /// `[MQTT5-3.8.3-5]` `[MQTT311-3.8.3-4]`: reserved bits set make the packet malformed.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        if byte & 0b1100_0000 != 0 {
            return None;
        }
        let (Some(qos), Some(retain_handling)) =
            (QoS::from_u8(byte & 0b11), RetainHandling::from_u8((byte >> 4) & 0b11))
        else {
            return None;
        };
        Some(Self {
            qos,
            no_local: byte & 0b0100 != 0,
            retain_as_published: byte & 0b1000 != 0,
            retain_handling,
        })
    }

    /// The byte on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        let no_local = if self.no_local { 0b0100 } else { 0 };
        let retain_as_published = if self.retain_as_published { 0b1000 } else { 0 };
        self.qos.as_u8() | no_local | retain_as_published | (self.retain_handling.as_u8() << 4)
    }
}

/// The fifteen control packet types (fourteen in 3.x, which has no AUTH).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PacketType {
    /// Client asks to connect.
    Connect,
    /// Server answers CONNECT.
    ConnAck,
    /// A message.
    Publish,
    /// Acknowledges a QoS 1 message.
    PubAck,
    /// First answer to a QoS 2 message.
    PubRec,
    /// Releases a QoS 2 message.
    PubRel,
    /// Ends a QoS 2 exchange.
    PubComp,
    /// Client asks for subscriptions.
    Subscribe,
    /// Server answers SUBSCRIBE.
    SubAck,
    /// Client gives up subscriptions.
    Unsubscribe,
    /// Server answers UNSUBSCRIBE.
    UnsubAck,
    /// Client shows that it lives.
    PingReq,
    /// Server answers PINGREQ.
    PingResp,
    /// One side ends the connection.
    Disconnect,
    /// A step of enhanced authentication (5.0).
    Auth,
}

impl PacketType {
    /// All types in the order of their numbers, which begin at 1.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::ConnAck,
        Self::Publish,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::PingReq,
        Self::PingResp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// The type in the upper four bits of a packet's first byte; `None` for the forbidden 0.
    #[must_use]
    pub const fn from_first_byte(first_byte: u8) -> Option<Self> {
        Some(match first_byte >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The type's number, 1 to 15.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Connect => 1,
            Self::ConnAck => 2,
            Self::Publish => 3,
            Self::PubAck => 4,
            Self::PubRec => 5,
            Self::PubRel => 6,
            Self::PubComp => 7,
            Self::Subscribe => 8,
            Self::SubAck => 9,
            Self::Unsubscribe => 10,
            Self::UnsubAck => 11,
            Self::PingReq => 12,
            Self::PingResp => 13,
            Self::Disconnect => 14,
            Self::Auth => 15,
        }
    }

    /// The name as the standard writes it, for counters and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }

    /// The lower four bits of the first byte; PUBLISH has its own and counts as 0 here.
    ///
    /// `[MQTT5-2.1.3-1]` `[MQTT311-2.2.2-1]`: reserved flags have the listed value.
    #[must_use]
    pub const fn flags(self) -> u8 {
        match self {
            // [MQTT5-3.6.1-1] [MQTT311-3.6.1-1] [MQTT5-3.8.1-1] [MQTT311-3.8.1-1]
            // [MQTT5-3.10.1-1] [MQTT311-3.10.1-1]
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            Self::Connect
            | Self::ConnAck
            | Self::Publish
            | Self::PubAck
            | Self::PubRec
            | Self::PubComp
            | Self::SubAck
            | Self::UnsubAck
            | Self::PingReq
            | Self::PingResp
            | Self::Disconnect
            | Self::Auth => 0,
        }
    }

    /// The packet's first byte; for PUBLISH without DUP, QoS and RETAIN.
    #[must_use]
    pub const fn first_byte(self) -> u8 {
        (self.number() << 4) | self.flags()
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_byte_goes_both_ways_and_reserved_values_are_refused() {
        // [MQTT5-3.8.3-5] [MQTT311-3.8.3-4]
        let mut valid = 0;
        for byte in 0..=u8::MAX {
            if let Some(options) = SubscriptionOptions::from_u8(byte) {
                assert_eq!(options.as_u8(), byte);
                valid += 1;
            } else {
                assert!(byte & 0xC0 != 0 || byte & 3 == 3 || byte & 0x30 == 0x30, "{byte:#x}");
            }
        }
        assert_eq!(valid, 3 * 2 * 2 * 3);
    }

    #[test]
    fn packet_types_are_numbered_from_one() {
        for (index, kind) in PacketType::ALL.iter().enumerate() {
            assert_eq!(usize::from(kind.number()), index + 1);
            assert_eq!(PacketType::from_first_byte(kind.first_byte()), Some(*kind));
        }
        assert_eq!(PacketType::from_first_byte(0x0F), None);
    }

    #[test]
    fn packet_ids_skip_zero() {
        // [MQTT5-2.2.1-3] [MQTT311-2.3.1-1]
        assert_eq!(PacketId::new(0), None);
        assert_eq!(PacketId::new(u16::MAX).map(PacketId::next), Some(PacketId::FIRST));
        assert_eq!(PacketId::FIRST.next().get(), 2);
    }
}
