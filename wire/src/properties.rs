//! The property table of 5.0 (§MQTT5 2.2.2.2): identifier, type, and the packets that may carry it.

use crate::error::{Cause, DecodeError};
use crate::limits::{Limits, Sender};
use crate::packet::UserProperties;
use crate::reader::Reader;
use crate::types::PacketType;

/// What a property's value looks like on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyKind {
    /// One byte.
    Byte,
    /// Two bytes.
    TwoByteInteger,
    /// Four bytes.
    FourByteInteger,
    /// A Variable Byte Integer.
    VariableByteInteger,
    /// A UTF-8 Encoded String.
    Utf8String,
    /// Two of them.
    Utf8StringPair,
    /// Binary Data.
    BinaryData,
}

/// What carries properties: a packet, or the Will inside CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The packet's own properties.
    Packet(PacketType),
    /// The Will Properties of CONNECT.
    Will,
}

impl Carrier {
    /// This carrier's bit in a set.
    const fn bit(self) -> u16 {
        match self {
            Self::Will => 1,
            Self::Packet(packet) => 1 << packet.number(),
        }
    }
}

const WILL: u16 = Carrier::Will.bit();
const CONNECT: u16 = Carrier::Packet(PacketType::Connect).bit();
const CONNACK: u16 = Carrier::Packet(PacketType::ConnAck).bit();
const PUBLISH: u16 = Carrier::Packet(PacketType::Publish).bit();
const PUBACKS: u16 = Carrier::Packet(PacketType::PubAck).bit()
    | Carrier::Packet(PacketType::PubRec).bit()
    | Carrier::Packet(PacketType::PubRel).bit()
    | Carrier::Packet(PacketType::PubComp).bit();
const SUBSCRIBE: u16 = Carrier::Packet(PacketType::Subscribe).bit();
const UNSUBSCRIBE: u16 = Carrier::Packet(PacketType::Unsubscribe).bit();
const SUBACKS: u16 = Carrier::Packet(PacketType::SubAck).bit() | Carrier::Packet(PacketType::UnsubAck).bit();
const DISCONNECT: u16 = Carrier::Packet(PacketType::Disconnect).bit();
const AUTH: u16 = Carrier::Packet(PacketType::Auth).bit();
const ALL: u16 =
    WILL | CONNECT | CONNACK | PUBLISH | PUBACKS | SUBSCRIBE | UNSUBSCRIBE | SUBACKS | DISCONNECT | AUTH;

/// Writes the table once and derives the enum and its lookups from it.
macro_rules! property_table {
    ($($name:ident = $id:literal, $kind:ident, $carriers:expr;)*) => {
        /// A property of 5.0.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the names are those of the standard's table 2-4")]
        pub enum PropertyId {
            $($name,)*
        }

        impl PropertyId {
            /// All properties, by ascending identifier.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The property with this identifier.
            #[must_use]
            #[inline]
            pub const fn from_u8(id: u8) -> Option<Self> {
                match id {
                    $($id => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The identifier on the wire.
            #[must_use]
            #[inline]
            pub const fn as_u8(self) -> u8 {
                match self {
                    $(Self::$name => $id,)*
                }
            }

            /// The form of its value.
            #[must_use]
            #[inline]
            pub const fn kind(self) -> PropertyKind {
                match self {
                    $(Self::$name => PropertyKind::$kind,)*
                }
            }

            /// The set of its carriers.
            #[inline]
            const fn carriers(self) -> u16 {
                match self {
                    $(Self::$name => $carriers,)*
                }
            }
        }
    };
}

property_table! {
    PayloadFormatIndicator = 0x01, Byte, PUBLISH | WILL;
    MessageExpiryInterval = 0x02, FourByteInteger, PUBLISH | WILL;
    ContentType = 0x03, Utf8String, PUBLISH | WILL;
    ResponseTopic = 0x08, Utf8String, PUBLISH | WILL;
    CorrelationData = 0x09, BinaryData, PUBLISH | WILL;
    SubscriptionIdentifier = 0x0B, VariableByteInteger, PUBLISH | SUBSCRIBE;
    SessionExpiryInterval = 0x11, FourByteInteger, CONNECT | CONNACK | DISCONNECT;
    AssignedClientIdentifier = 0x12, Utf8String, CONNACK;
    ServerKeepAlive = 0x13, TwoByteInteger, CONNACK;
    AuthenticationMethod = 0x15, Utf8String, CONNECT | CONNACK | AUTH;
    AuthenticationData = 0x16, BinaryData, CONNECT | CONNACK | AUTH;
    RequestProblemInformation = 0x17, Byte, CONNECT;
    WillDelayInterval = 0x18, FourByteInteger, WILL;
    RequestResponseInformation = 0x19, Byte, CONNECT;
    ResponseInformation = 0x1A, Utf8String, CONNACK;
    ServerReference = 0x1C, Utf8String, CONNACK | DISCONNECT;
    ReasonString = 0x1F, Utf8String, CONNACK | PUBACKS | SUBACKS | DISCONNECT | AUTH;
    ReceiveMaximum = 0x21, TwoByteInteger, CONNECT | CONNACK;
    TopicAliasMaximum = 0x22, TwoByteInteger, CONNECT | CONNACK;
    TopicAlias = 0x23, TwoByteInteger, PUBLISH;
    MaximumQoS = 0x24, Byte, CONNACK;
    RetainAvailable = 0x25, Byte, CONNACK;
    UserProperty = 0x26, Utf8StringPair, ALL;
    MaximumPacketSize = 0x27, FourByteInteger, CONNECT | CONNACK;
    WildcardSubscriptionAvailable = 0x28, Byte, CONNACK;
    SubscriptionIdentifierAvailable = 0x29, Byte, CONNACK;
    SharedSubscriptionAvailable = 0x2A, Byte, CONNACK;
}

impl PropertyId {
    /// Whether the table lets this carrier have the property.
    #[must_use]
    #[inline]
    pub const fn is_allowed_in(self, carrier: Carrier) -> bool {
        self.carriers() & carrier.bit() != 0
    }

    /// Whether this carrier may have the property more than once.
    #[must_use]
    #[inline]
    pub const fn is_repeatable_in(self, carrier: Carrier) -> bool {
        matches!(
            (self, carrier),
            // A message carries the identifier of each subscription that matched.
            (Self::UserProperty, _) | (Self::SubscriptionIdentifier, Carrier::Packet(PacketType::Publish))
        )
    }

    /// Whether only one end may send the property in this carrier, and it is not `sender`.
    const fn is_foreign_to(self, sender: Sender, carrier: Carrier) -> bool {
        match (self, carrier, sender) {
            // [MQTT5-3.3.4-6]: a client's PUBLISH has no Subscription Identifier.
            (Self::SubscriptionIdentifier, Carrier::Packet(PacketType::Publish), Sender::Client)
            // [MQTT5-3.14.2-2]: a server's DISCONNECT has no Session Expiry Interval.
            | (Self::SessionExpiryInterval, Carrier::Packet(PacketType::Disconnect), Sender::Server)
            // §MQTT5 3.14.2.2.5: the server refers to another server, not the client.
            | (Self::ServerReference, Carrier::Packet(PacketType::Disconnect), Sender::Client) => true,
            _ => false,
        }
    }
}

/// Reads the properties of one carrier, one identifier at a time; the caller reads the values.
pub(crate) struct PropertyReader<'a> {
    /// At the value of the property that was announced last.
    pub(crate) value: Reader<'a>,
    block: &'a [u8],
    base: usize,
    carrier: Carrier,
    sender: Sender,
    seen: u64,
    user: UserRun,
    user_properties_max: u16,
}

/// Where the User Properties of a block are.
#[derive(Clone, Copy, Default)]
struct UserRun {
    start: usize,
    end: usize,
    count: u16,
    /// Something else stands between them.
    mixed: bool,
}

impl<'a> PropertyReader<'a> {
    /// Starts at the Property Length.
    #[inline]
    pub(crate) fn new(body: &mut Reader<'a>, carrier: Carrier, limits: &Limits) -> Result<Self, DecodeError> {
        let count = body.varint()?;
        let Ok(count) = usize::try_from(count) else {
            return Err(body.error(Cause::Truncated));
        };
        Ok(Self::over(body.sub(count)?, carrier, limits))
    }

    /// Starts at the first property of a block without its length.
    pub(crate) fn over(block: Reader<'a>, carrier: Carrier, limits: &Limits) -> Self {
        Self {
            block: block.rest(),
            base: block.offset(),
            value: block,
            carrier,
            sender: limits.sender,
            seen: 0,
            user: UserRun::default(),
            user_properties_max: limits.user_properties_max,
        }
    }

    /// The next property, or `None` at the end. User Properties are read here and not announced.
    ///
    /// The checks stand in the order of §MQTT5 2.2.2.2: it exists, it belongs here, it is not there yet.
    pub(crate) fn next_id(&mut self) -> Result<Option<PropertyId>, DecodeError> {
        while !self.value.is_empty() {
            let start = self.position();
            let id = self.read_id()?;
            if id != PropertyId::UserProperty {
                self.check_repeat(id)?;
                return Ok(Some(id));
            }
            // [MQTT5-1.5.7-1]: both strings are held to the rules of strings.
            self.value.string()?;
            self.value.string()?;
            self.count_user_property(start)?;
        }
        Ok(None)
    }

    /// Bytes of the block that were read.
    fn position(&self) -> usize {
        self.value.offset().saturating_sub(self.base)
    }

    /// Reads an identifier and checks that it exists and belongs here.
    fn read_id(&mut self) -> Result<PropertyId, DecodeError> {
        let number = self.value.varint()?;
        let known = u8::try_from(number).ok().and_then(PropertyId::from_u8);
        let Some(id) = known else {
            return Err(self.value.error(Cause::PropertyUnknown { id: number }));
        };
        if !id.is_allowed_in(self.carrier) || id.is_foreign_to(self.sender, self.carrier) {
            return Err(self.not_allowed(id));
        }
        Ok(id)
    }

    /// Fails if the property was there before and may not repeat.
    fn check_repeat(&mut self, id: PropertyId) -> Result<(), DecodeError> {
        let bit = 1_u64 << (id.as_u8() & 63);
        if self.seen & bit != 0 && !id.is_repeatable_in(self.carrier) {
            return Err(self.value.error(Cause::PropertyRepeated { id: id.as_u8() }));
        }
        self.seen |= bit;
        Ok(())
    }

    /// Notes one more User Property, which began at `start` and ends here.
    fn count_user_property(&mut self, start: usize) -> Result<(), DecodeError> {
        if self.user.count >= self.user_properties_max {
            return Err(self.value.error(Cause::UserPropertiesTooMany { max: self.user_properties_max }));
        }
        if self.user.count == 0 {
            self.user.start = start;
        } else if start != self.user.end {
            self.user.mixed = true;
        }
        self.user.count = self.user.count.saturating_add(1);
        self.user.end = self.position();
        Ok(())
    }

    /// The User Properties that were read.
    pub(crate) fn user_properties(&self) -> UserProperties<'a> {
        let run = self.block.get(self.user.start..self.user.end).unwrap_or(&[]);
        UserProperties::from_wire(run, self.user.count, !self.user.mixed)
    }

    /// The whole block if it has a property of this kind, else nothing.
    pub(crate) const fn block_with(&self, id: PropertyId) -> &'a [u8] {
        if self.seen & (1_u64 << (id.as_u8() & 63)) == 0 { &[] } else { self.block }
    }

    /// The error for a property that does not belong here.
    #[cold]
    pub(crate) const fn not_allowed(&self, id: PropertyId) -> DecodeError {
        self.value.error(Cause::PropertyNotAllowed { id: id.as_u8() })
    }

    /// The error for a value out of range.
    #[cold]
    pub(crate) const fn bad_value(&self, id: PropertyId) -> DecodeError {
        self.value.error(Cause::PropertyValue { id: id.as_u8() })
    }

    /// A byte that is 0 or 1.
    pub(crate) fn boolean(&mut self, id: PropertyId) -> Result<bool, DecodeError> {
        match self.value.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.bad_value(id)),
        }
    }
}

/// Skips the value of a property; `None` if the identifier is unknown or the bytes end.
pub(crate) fn skip_value(reader: &mut Reader<'_>, id: u8) -> Option<()> {
    match PropertyId::from_u8(id)?.kind() {
        PropertyKind::Byte => reader.take(1).map(drop),
        PropertyKind::TwoByteInteger => reader.take(2).map(drop),
        PropertyKind::FourByteInteger => reader.take(4).map(drop),
        PropertyKind::VariableByteInteger => reader.varint().map(drop),
        PropertyKind::Utf8String | PropertyKind::BinaryData => reader.binary().map(drop),
        PropertyKind::Utf8StringPair => reader.binary().and_then(|_| reader.binary()).map(drop),
    }
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_the_standard() {
        // §MQTT5 2.2.2.2, counted by carrier.
        let count = |carrier| PropertyId::ALL.iter().filter(|id| id.is_allowed_in(carrier)).count();
        assert_eq!(PropertyId::ALL.len(), 27);
        let expect = [
            (PacketType::Connect, 9),
            (PacketType::ConnAck, 17),
            (PacketType::Publish, 8),
            (PacketType::PubAck, 2),
            (PacketType::PubRec, 2),
            (PacketType::PubRel, 2),
            (PacketType::PubComp, 2),
            (PacketType::Subscribe, 2),
            (PacketType::SubAck, 2),
            (PacketType::Unsubscribe, 1),
            (PacketType::UnsubAck, 2),
            (PacketType::PingReq, 0),
            (PacketType::PingResp, 0),
            (PacketType::Disconnect, 4),
            (PacketType::Auth, 4),
        ];
        for (packet, properties) in expect {
            assert_eq!(count(Carrier::Packet(packet)), properties, "{packet}");
        }
        assert_eq!(count(Carrier::Will), 7);
    }

    #[test]
    fn identifiers_go_both_ways() {
        for id in PropertyId::ALL {
            assert_eq!(PropertyId::from_u8(id.as_u8()), Some(*id));
            assert!(id.as_u8() < 64, "the set of seen properties has 64 bits");
        }
        assert!(PropertyId::ALL.is_sorted());
    }
}
