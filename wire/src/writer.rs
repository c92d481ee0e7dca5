//! Where encoders write to: first a counter, for the exact size, then the output itself.

use crate::error::EncodeError;
use crate::limits::{FIELD_BYTES_MAX, REMAINING_LENGTH_MAX};
use crate::properties::{Carrier, PropertyId};
use crate::types::PacketType;
use crate::{utf8, varint};

/// Takes bytes. Written once for all encoders, so that size and content cannot disagree.
pub(crate) trait Sink {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);

    /// One byte.
    #[inline]
    fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// Two bytes, the higher first.
    #[inline]
    fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    /// Four bytes, the highest first.
    #[inline]
    fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// A Variable Byte Integer. `[MQTT5-1.5.5-1]`
    #[inline]
    fn varint(&mut self, value: u32) -> Result<(), EncodeError> {
        if value > REMAINING_LENGTH_MAX {
            return Err(EncodeError::VarintTooLarge { value: u64::from(value) });
        }
        let (bytes, count) = varint::encode(value);
        self.put(bytes.get(..count).unwrap_or(&bytes));
        Ok(())
    }

    /// Binary Data: a two-byte length and the bytes.
    #[inline]
    fn binary(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let Ok(count) = u16::try_from(bytes.len()) else {
            return Err(EncodeError::FieldTooLong { bytes: bytes.len() });
        };
        self.u16(count);
        self.put(bytes);
        Ok(())
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts bytes and forgets them.
#[derive(Default)]
pub(crate) struct Counter(pub(crate) usize);

impl Sink for Counter {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }
}

/// Writes a UTF-8 Encoded String. `[MQTT5-1.5.4-2]` `[MQTT311-1.5.3-2]`: never with U+0000.
pub(crate) fn text<S: Sink>(out: &mut S, text: &str) -> Result<(), EncodeError> {
    if utf8::has_null(text) {
        return Err(EncodeError::StringHasNull);
    }
    out.binary(text.as_bytes())
}

/// Properties of one carrier that can write themselves, without their length.
pub(crate) trait WriteProperties {
    /// Writes identifiers and values.
    fn write<S: Sink>(&self, out: &mut PropertyWriter<'_, S>) -> Result<(), EncodeError>;
}

/// Writes the Property Length and the properties. `[MQTT5-2.2.2-1]`: a zero if there are none.
pub(crate) fn block<S: Sink, P: WriteProperties>(
    out: &mut S,
    packet: PacketType,
    properties: &P,
) -> Result<(), EncodeError> {
    let mut counter = Counter::default();
    properties.write(&mut PropertyWriter { out: &mut counter, packet })?;
    out.varint(u32::try_from(counter.0).unwrap_or(u32::MAX))?;
    properties.write(&mut PropertyWriter { out, packet })
}

/// Writes single properties; absent ones are left out.
pub(crate) struct PropertyWriter<'a, S> {
    out: &'a mut S,
    packet: PacketType,
}

impl<S: Sink> PropertyWriter<'_, S> {
    /// Writes the identifier, which the table must allow in this packet or in a Will.
    fn id(&mut self, id: PropertyId) {
        debug_assert!(id.is_allowed_in(Carrier::Packet(self.packet)) || id.is_allowed_in(Carrier::Will));
        self.out.u8(id.as_u8());
    }

    /// A byte.
    pub(crate) fn u8(&mut self, id: PropertyId, value: Option<u8>) {
        if let Some(value) = value {
            self.id(id);
            self.out.u8(value);
        }
    }

    /// A byte that is 0 or 1.
    pub(crate) fn boolean(&mut self, id: PropertyId, value: Option<bool>) {
        self.u8(id, value.map(u8::from));
    }

    /// Two bytes.
    pub(crate) fn u16(&mut self, id: PropertyId, value: Option<u16>) {
        if let Some(value) = value {
            self.id(id);
            self.out.u16(value);
        }
    }

    /// Four bytes.
    pub(crate) fn u32(&mut self, id: PropertyId, value: Option<u32>) {
        if let Some(value) = value {
            self.id(id);
            self.out.u32(value);
        }
    }

    /// A Subscription Identifier, which is not zero.
    pub(crate) fn subscription_id(&mut self, value: u32) -> Result<(), EncodeError> {
        let id = PropertyId::SubscriptionIdentifier;
        if value == 0 {
            return Err(EncodeError::PropertyValue { id: id.as_u8() });
        }
        self.id(id);
        self.out.varint(value)
    }

    /// A string.
    pub(crate) fn text(&mut self, id: PropertyId, value: Option<&str>) -> Result<(), EncodeError> {
        let Some(value) = value else { return Ok(()) };
        self.id(id);
        text(self.out, value)
    }

    /// Binary Data.
    pub(crate) fn binary(&mut self, id: PropertyId, value: Option<&[u8]>) -> Result<(), EncodeError> {
        let Some(value) = value else { return Ok(()) };
        self.id(id);
        self.out.binary(value)
    }

    /// All User Properties, in order. `[MQTT5-1.5.7-1]`
    pub(crate) fn user_properties(
        &mut self,
        pairs: crate::packet::UserProperties<'_>,
    ) -> Result<(), EncodeError> {
        for (name, value) in pairs {
            self.id(PropertyId::UserProperty);
            text(self.out, name)?;
            text(self.out, value)?;
        }
        Ok(())
    }
}

const _: () = assert!(FIELD_BYTES_MAX == 65_535, "a field's length is written in two bytes");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_and_vector_agree() {
        fn write<S: Sink>(out: &mut S) {
            out.u8(1);
            out.u16(2);
            out.u32(3);
            out.varint(128).unwrap();
            out.binary(b"abc").unwrap();
        }
        let (mut bytes, mut counter) = (Vec::new(), Counter::default());
        write(&mut bytes);
        write(&mut counter);
        assert_eq!(bytes, [1, 0, 2, 0, 0, 0, 3, 0x80, 1, 0, 3, b'a', b'b', b'c']);
        assert_eq!(counter.0, bytes.len());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        // [MQTT5-1.5.4-2] [MQTT311-1.5.3-2] [MQTT5-1.5.5-1]
        let mut out = Vec::new();
        assert_eq!(text(&mut out, "a\0"), Err(EncodeError::StringHasNull));
        assert_eq!(out.binary(&[0; 65_536]), Err(EncodeError::FieldTooLong { bytes: 65_536 }));
        assert_eq!(out.varint(268_435_456), Err(EncodeError::VarintTooLarge { value: 268_435_456 }));
        assert!(out.is_empty());
    }
}
