//! Rules of UTF-8 Encoded Strings (§MQTT5 1.5.4, §MQTT311 1.5.3).

use crate::error::Cause;

/// Checks that bytes are a string of MQTT and returns it unchanged.
///
/// Nothing is stripped: U+FEFF stays wherever it stands `[MQTT5-1.5.4-3]` `[MQTT311-1.5.3-3]`.
/// Cost: one pass, two if `strict`; no allocation.
///
/// # Errors
/// [`Cause::StringNotUtf8`] for ill-formed UTF-8, encoded surrogates among it `[MQTT5-1.5.4-1]`
/// `[MQTT311-1.5.3-1]`; [`Cause::StringHasNull`] for U+0000 `[MQTT5-1.5.4-2]` `[MQTT311-1.5.3-2]`;
/// if `strict`, [`Cause::StringHasDisallowed`] for what §1.5.4 advises against.
#[inline]
pub fn check(bytes: &[u8], strict: bool) -> Result<&str, Cause> {
    // [MQTT5-1.5.4-1] [MQTT311-1.5.3-1]
    let Ok(text) = core::str::from_utf8(bytes) else {
        return Err(Cause::StringNotUtf8);
    };
    // [MQTT5-1.5.4-2] [MQTT311-1.5.3-2]
    if has_null(text) {
        return Err(Cause::StringHasNull);
    }
    if strict && text.chars().any(is_disallowed) {
        return Err(Cause::StringHasDisallowed);
    }
    Ok(text)
}

/// Whether the string contains U+0000. Without an early exit, so that it runs many bytes at a time.
#[must_use]
#[inline]
pub fn has_null(text: &str) -> bool {
    text.as_bytes().iter().fold(false, |found, &byte| found | (byte == 0))
}

/// Characters that a string should not include: controls and Unicode non-characters.
#[must_use]
pub fn is_disallowed(c: char) -> bool {
    let point = u32::from(c);
    matches!(point, 0x01..=0x1F | 0x7F..=0x9F | 0xFDD0..=0xFDEF) || point & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ill_formed_strings_are_refused() {
        // [MQTT5-1.5.4-1] [MQTT311-1.5.3-1]: stray continuation, overlong, surrogates, above U+10FFFF.
        let cases: [&[u8]; 5] = [b"\x80", b"\xC0\xAF", b"\xED\xA0\x80", b"\xED\xBF\xBF", b"\xF4\x90\x80\x80"];
        for bytes in cases {
            assert_eq!(check(bytes, false), Err(Cause::StringNotUtf8), "{bytes:x?}");
        }
    }

    #[test]
    fn the_null_character_is_refused() {
        // [MQTT5-1.5.4-2] [MQTT311-1.5.3-2]
        assert_eq!(check(b"a\0b", false), Err(Cause::StringHasNull));
    }

    #[test]
    fn a_byte_order_mark_is_kept() {
        // [MQTT5-1.5.4-3] [MQTT311-1.5.3-3]
        let bytes = b"\xEF\xBB\xBFa\xEF\xBB\xBF";
        assert_eq!(check(bytes, true), Ok("\u{FEFF}a\u{FEFF}"));
    }

    #[test]
    fn disallowed_characters_are_refused_only_if_strict() {
        for text in ["\u{1}", "\u{1F}", "\u{7F}", "\u{9F}", "\u{FDD0}", "\u{FFFE}", "\u{10FFFF}"] {
            assert_eq!(check(text.as_bytes(), true), Err(Cause::StringHasDisallowed));
            assert_eq!(check(text.as_bytes(), false), Ok(text));
        }
        for text in ["", "A", "\u{A0}", "\u{FFFD}", "\u{10FFFD}", "\u{2A6D4}"] {
            assert_eq!(check(text.as_bytes(), true), Ok(text));
        }
    }
}
