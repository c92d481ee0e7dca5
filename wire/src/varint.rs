//! The Variable Byte Integer (§MQTT5 1.5.5), in 3.x the form of the Remaining Length.

use crate::error::Cause;
use crate::limits::REMAINING_LENGTH_MAX;

/// What the start of a buffer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Varint {
    /// A number and how many bytes it took, 1 to 4.
    Whole {
        /// The number, at most 268,435,455.
        value: u32,
        /// Its length on the wire.
        bytes: usize,
    },
    /// The buffer ends before the number does.
    Incomplete,
}

/// Reads a number from the start of `buf`, in its shortest form only.
///
/// # Errors
/// [`Cause::VarintTooLong`] if a fourth byte says that a fifth follows; [`Cause::VarintNotMinimal`]
/// if a shorter form exists `[MQTT5-1.5.5-1]`.
#[inline]
pub fn decode(buf: &[u8]) -> Result<Varint, Cause> {
    // Nearly all numbers of the protocol are this short.
    if let Some(&byte) = buf.first()
        && byte < 0x80
    {
        return Ok(Varint::Whole { value: u32::from(byte), bytes: 1 });
    }
    let number = decode_any_form(buf);
    if let Ok(Varint::Whole { value, bytes }) = number {
        // [MQTT5-1.5.5-1]
        if bytes > 1 && len(value) != Some(bytes) {
            return Err(Cause::VarintNotMinimal);
        }
    }
    number
}

/// Reads a number from the start of `buf`, also in a longer form than it needs (3.x).
///
/// # Errors
/// [`Cause::VarintTooLong`] if a fourth byte says that a fifth follows.
#[inline]
pub fn decode_any_form(buf: &[u8]) -> Result<Varint, Cause> {
    let mut value = 0_u32;
    for (index, shift) in [0_u32, 7, 14, 21].into_iter().enumerate() {
        let Some(&byte) = buf.get(index) else {
            return Ok(Varint::Incomplete);
        };
        value |= u32::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(Varint::Whole { value, bytes: index.saturating_add(1) });
        }
    }
    Err(Cause::VarintTooLong)
}

/// How many bytes the number takes on the wire; `None` if it is above 268,435,455.
#[must_use]
#[inline]
pub const fn len(value: u32) -> Option<usize> {
    Some(match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        0x20_0000..=REMAINING_LENGTH_MAX => 4,
        _ => return None,
    })
}

/// The number's bytes and how many of them count; the caller has made sure that it fits.
///
/// A number above 268,435,455 loses its upper bits. `[MQTT5-1.5.5-1]`: always the shortest form.
#[must_use]
#[inline]
pub const fn encode(value: u32) -> ([u8; 4], usize) {
    let [a, b, c, d] = [value & 0x7F, (value >> 7) & 0x7F, (value >> 14) & 0x7F, (value >> 21) & 0x7F];
    if value < 0x80 {
        ([low(a), 0, 0, 0], 1)
    } else if value < 0x4000 {
        ([low(a) | 0x80, low(b), 0, 0], 2)
    } else if value < 0x20_0000 {
        ([low(a) | 0x80, low(b) | 0x80, low(c), 0], 3)
    } else {
        ([low(a) | 0x80, low(b) | 0x80, low(c) | 0x80, low(d)], 4)
    }
}

/// The lowest byte of a number.
const fn low(value: u32) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_of_each_length_go_both_ways() {
        // [MQTT5-1.5.5-1]: the table of §1.5.5.
        let borders = [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455];
        for (value, expect) in borders.into_iter().zip([1, 1, 2, 2, 3, 3, 4, 4]) {
            let (bytes, count) = encode(value);
            assert_eq!((count, len(value)), (expect, Some(expect)));
            assert_eq!(decode(&bytes[..count]), Ok(Varint::Whole { value, bytes: count }));
            for short in 0..count {
                assert_eq!(decode(&bytes[..short]), Ok(Varint::Incomplete));
            }
        }
        assert_eq!(len(268_435_456), None);
    }

    #[test]
    fn longer_forms_are_refused() {
        // [MQTT5-1.5.5-1]
        assert_eq!(decode(&[0x80, 0x00]), Err(Cause::VarintNotMinimal));
        assert_eq!(decode(&[0xFF, 0x80, 0x80, 0x00]), Err(Cause::VarintNotMinimal));
        assert_eq!(decode(&[0xFF, 0xFF, 0xFF, 0xFF]), Err(Cause::VarintTooLong));
        assert_eq!(decode(&[0x80, 0x80, 0x80, 0x80, 0x01]), Err(Cause::VarintTooLong));
    }
}
