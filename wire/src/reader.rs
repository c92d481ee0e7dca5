//! A cursor over one packet's body. Every read is checked against the end; nothing is copied.

use crate::error::{Cause, DecodeError};
use crate::types::PacketId;
use crate::{utf8, varint};

/// What is left of a body, and how long it was.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    total: usize,
    strict: bool,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `body`; `strict` as in [`crate::Limits`].
    #[inline]
    pub(crate) const fn new(body: &'a [u8], strict: bool) -> Self {
        Self { rest: body, total: body.len(), strict }
    }

    /// An error at this place.
    #[cold]
    pub(crate) const fn error(&self, cause: Cause) -> DecodeError {
        DecodeError { cause, offset: self.offset() }
    }

    /// How many bytes were read.
    #[inline]
    pub(crate) const fn offset(&self) -> usize {
        self.total.saturating_sub(self.rest.len())
    }

    /// Whether strings are held to the advice of the standard too.
    #[inline]
    pub(crate) const fn strict(&self) -> bool {
        self.strict
    }

    /// The bytes not read yet.
    #[inline]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether all was read.
    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Fails if bytes are left.
    #[inline]
    pub(crate) const fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error(Cause::TrailingBytes)) }
    }

    /// The next `count` bytes.
    #[inline]
    pub(crate) const fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((head, tail)) = self.rest.split_at_checked(count) else {
            return Err(self.error(Cause::Truncated));
        };
        self.rest = tail;
        Ok(head)
    }

    /// A cursor over the next `count` bytes that still tells places in the whole body.
    #[inline]
    pub(crate) fn sub(&mut self, count: usize) -> Result<Self, DecodeError> {
        let rest = self.take(count)?;
        Ok(Self { rest, total: self.offset(), strict: self.strict })
    }

    /// All bytes that are left.
    #[inline]
    pub(crate) const fn take_rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.rest = &[];
        rest
    }

    /// The next bytes as an array.
    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((head, tail)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.error(Cause::Truncated));
        };
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes, the higher first.
    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, the highest first.
    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A Variable Byte Integer.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, DecodeError> {
        match varint::decode(self.rest) {
            Ok(varint::Varint::Whole { value, bytes }) => {
                self.take(bytes)?;
                Ok(value)
            }
            Ok(varint::Varint::Incomplete) => Err(self.error(Cause::Truncated)),
            Err(cause) => Err(self.error(cause)),
        }
    }

    /// Binary Data: a two-byte length and that many bytes.
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = self.u16()?;
        self.take(usize::from(count))
    }

    /// A UTF-8 Encoded String.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        utf8::check(bytes, self.strict).map_err(|cause| self.error(cause))
    }

    /// A Packet Identifier. `[MQTT5-2.2.1-3]` `[MQTT311-2.3.1-1]`: it is not zero.
    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        let value = self.u16()?;
        PacketId::new(value).ok_or_else(|| self.error(Cause::PacketIdZero))
    }

    /// Skips a length-prefixed field of a list that was validated before; `None` at its end.
    #[inline]
    pub(crate) fn known_string(&mut self) -> Option<&'a str> {
        let bytes = self.binary().ok()?;
        core::str::from_utf8(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stop_at_the_end() {
        let mut reader = Reader::new(&[0, 3, b'a', b'b'], false);
        assert_eq!(reader.clone().string().unwrap_err().cause, Cause::Truncated);
        assert_eq!(reader.u16(), Ok(3));
        assert_eq!((reader.offset(), reader.rest()), (2, &b"ab"[..]));
        assert_eq!(reader.finish().unwrap_err(), DecodeError { cause: Cause::TrailingBytes, offset: 2 });
        assert_eq!(reader.u32().unwrap_err().cause, Cause::Truncated);
        assert_eq!(reader.take_rest(), b"ab");
        assert!(reader.is_empty());
    }
}
