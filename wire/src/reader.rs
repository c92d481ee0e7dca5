//! A cursor over one packet's body. Every read is checked against the end; nothing is copied.

use crate::error::{Cause, DecodeError};
use crate::limits::Limits;
use crate::types::PacketId;
use crate::{topic, utf8, varint};

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

    /// A topic name: a string of at least one character, without wildcards, of not too many levels.
    #[inline]
    pub(crate) fn topic_name(&mut self, limits: &Limits) -> Result<&'a str, DecodeError> {
        let topic = self.topic_name_or_empty(limits)?;
        // [MQTT5-4.7.3-1] [MQTT311-4.7.3-1]
        if topic.is_empty() { Err(self.error(Cause::TopicNameEmpty)) } else { Ok(topic) }
    }

    /// As [`Reader::topic_name`], or nothing.
    ///
    /// One pass over the bytes looks for all that may be wrong; only then it is told apart. A topic
    /// has fewer slashes than bytes, so slashes are counted only in one that is long enough.
    #[inline]
    pub(crate) fn topic_name_or_empty(&mut self, limits: &Limits) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        let Ok(topic) = core::str::from_utf8(bytes) else {
            // [MQTT5-3.3.2-1] [MQTT311-3.3.2-1]
            return Err(self.error(Cause::StringNotUtf8));
        };
        let forbidden = bytes.iter().fold(false, |found, &b| found | (b == 0) | (b == b'+') | (b == b'#'));
        if forbidden || bytes.len() >= usize::from(limits.topic_levels_max) || self.strict {
            self.check_topic_name(topic, limits)?;
        }
        Ok(topic)
    }

    /// Tells what is wrong with a topic name, if anything.
    #[cold]
    fn check_topic_name(&self, topic: &str, limits: &Limits) -> Result<(), DecodeError> {
        utf8::check(topic.as_bytes(), self.strict).map_err(|cause| self.error(cause))?;
        // [MQTT5-3.3.2-2] [MQTT311-3.3.2-2] [MQTT5-4.7.0-1] [MQTT311-4.7.1-1]
        if topic::has_wildcard(topic) {
            return Err(self.error(Cause::TopicNameWildcard));
        }
        let max = limits.topic_levels_max;
        if topic::level_count(topic) > usize::from(max) {
            return Err(self.error(Cause::TopicLevelsTooMany { max }));
        }
        Ok(())
    }

    /// A topic filter of any number of levels: each filter has its own answer, which is the server's to give.
    /// `[MQTT5-3.8.3-1]` `[MQTT311-3.8.3-1]` `[MQTT5-3.10.3-1]` `[MQTT311-3.10.3-1]`
    pub(crate) fn topic_filter(&mut self) -> Result<&'a str, DecodeError> {
        let filter = self.string()?;
        // [MQTT5-4.7.1-1] [MQTT311-4.7.1-2] [MQTT5-4.7.1-2] [MQTT311-4.7.1-3] [MQTT5-4.7.3-1]
        // [MQTT311-4.7.3-1]
        if topic::check_filter(filter).is_err() {
            return Err(self.error(Cause::TopicFilterInvalid));
        }
        Ok(filter)
    }

    /// The list of an UNSUBSCRIBE, validated. `[MQTT5-3.10.3-2]` `[MQTT311-3.10.3-2]`: at least one.
    pub(crate) fn topic_filters(&mut self, limits: &Limits) -> Result<&'a [u8], DecodeError> {
        let list = self.rest;
        let mut count = 0;
        while !self.is_empty() {
            self.count_filter(&mut count, limits)?;
            self.topic_filter()?;
        }
        if list.is_empty() { Err(self.error(Cause::FiltersMissing)) } else { Ok(list) }
    }

    /// Counts one more filter, up to the limit.
    pub(crate) fn count_filter(&self, count: &mut u16, limits: &Limits) -> Result<(), DecodeError> {
        let max = limits.filters_max;
        if *count >= max {
            return Err(self.error(Cause::FiltersTooMany { max }));
        }
        *count = count.saturating_add(1);
        Ok(())
    }

    /// The next string of a list that was validated before; `None` at its end.
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
