//! Human units: durations such as `1h30m` and sizes such as `1MB`, to numbers and back.
//!
//! Pure. What is printed reads back as the same number.

/// Milliseconds of a duration text: one or more of `d h m s ms` in falling order, for example `15s` or `1d2h`. A bare `0`
/// is zero.
///
/// # Errors
/// What is wrong with the text, as the end of a sentence.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err("is empty".to_owned());
    }
    let mut total = 0_u64;
    let mut units = DURATION_UNITS.iter();
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let word_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (word, after) = after.split_at(word_len);
        if word.is_empty() {
            return Err("has no unit".to_owned());
        }
        let Some((_, factor)) = units.by_ref().find(|(name, _)| *name == word.trim()) else {
            return Err(format!("has the unit '{}' that is not known, or not in falling order", word.trim()));
        };
        let part = number.checked_mul(*factor);
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(|| "is too large".to_owned())?;
        rest = after;
    }
    Ok(total)
}

/// The shortest single-unit text of a duration: `7200000` is `2h`, `90000` is `90s`.
pub(crate) fn show_duration(ms: u64) -> String {
    let exact = DURATION_UNITS.iter().find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor));
    exact.map_or_else(|| "0s".to_owned(), |(name, factor)| format!("{}{name}", ms / factor))
}

/// Bytes of a size text: a number with `B`, `KB`, `MB` or `GB` (powers of 1,024, as EMQX counts; `KiB` … mean the same),
/// or a bare number of bytes.
///
/// # Errors
/// What is wrong with the text, as the end of a sentence.
pub(crate) fn size_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    let (number, word) = leading_number(text)?;
    let word = word.trim().to_ascii_uppercase().replace("IB", "B");
    let Some((_, factor)) =
        SIZE_UNITS.iter().find(|(name, _)| *name == word || (word.is_empty() && *name == "B"))
    else {
        return Err(format!("has the unit '{word}' that is not known"));
    };
    number.checked_mul(*factor).ok_or_else(|| "is too large".to_owned())
}

/// The shortest text of a size: `1048576` is `1MB`.
pub(crate) fn show_size(bytes: u64) -> String {
    let exact = SIZE_UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    exact.map_or_else(|| "0B".to_owned(), |(name, factor)| format!("{}{name}", bytes / factor))
}

/// The number that a text begins with, and what follows it.
fn leading_number(text: &str) -> Result<(u64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Err("does not begin with a whole number".to_owned());
    }
    let number = digits.parse().map_err(|_too_large| "is too large".to_owned())?;
    Ok((number, rest.trim_start()))
}

/// Largest first; the order in which a text may combine them.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, ms) in [
            ("15s", 15_000),
            ("2h", 7_200_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("1h 30m", 5_400_000),
            ("250ms", 250),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn durations_without_sense_say_why() {
        for (text, problem) in [
            ("15", "has no unit"),
            ("", "is empty"),
            ("s", "does not begin with a whole number"),
            ("-3s", "does not begin with a whole number"),
            ("1.5s", "has the unit '.' that is not known, or not in falling order"),
            ("4s3m", "has the unit 'm' that is not known, or not in falling order"),
            ("99999999999999999999s", "is too large"),
            ("999999999999999999d", "is too large"),
        ] {
            assert_eq!(duration_ms(text), Err(problem.to_owned()), "{text}");
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in
            [("1MB", 1 << 20), ("256mb", 256 << 20), ("4 KiB", 4096), ("17", 17), ("2GB", 2 << 30)]
        {
            assert_eq!(size_bytes(text), Ok(bytes), "{text}");
        }
        assert_eq!(size_bytes("1XB"), Err("has the unit 'XB' that is not known".to_owned()));
        assert_eq!(size_bytes("MB"), Err("does not begin with a whole number".to_owned()));
        assert_eq!(size_bytes("99999999999GB"), Err("is too large".to_owned()));
    }

    #[test]
    fn what_is_printed_reads_back() {
        for ms in [0, 1, 999, 1_000, 90_000, 7_200_000, 86_400_000, 93_784_005, 4_294_967_295_000] {
            assert_eq!(duration_ms(&show_duration(ms)), Ok(ms));
        }
        for bytes in [0, 1, 1023, 1024, 1536, 1 << 20, 268_435_455, 3 << 30] {
            assert_eq!(size_bytes(&show_size(bytes)), Ok(bytes));
        }
        assert_eq!(show_duration(7_200_000), "2h");
        assert_eq!(show_size(1 << 20), "1MB");
    }
}
