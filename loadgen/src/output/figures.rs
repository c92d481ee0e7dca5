//! Numbers for people: times, rates, bytes, counts, with the unit that suits them.

/// A time in the unit that leaves one to three digits before the point: `420 ns`, `1.25 ms`, `38.1 s`.
pub(crate) fn time(nanoseconds: u64) -> String {
    scaled(
        crate::report::ratio(nanoseconds, 1),
        &[("ns", 1e3), ("µs", 1e3), ("ms", 1e3), ("s", f64::INFINITY)],
    )
}

/// Bytes in binary units.
pub(crate) fn bytes(bytes: f64) -> String {
    scaled(bytes, &[("B", 1024.0), ("KiB", 1024.0), ("MiB", 1024.0), ("GiB", f64::INFINITY)])
}

/// A count with thin groups of three digits: `2 000 000`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{2009}');
        }
        text.push(digit);
    }
    text
}

/// A rate: whole from a hundred up, with digits below.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second >= 100.0 || per_second.fract() == 0.0 {
        count(rounded(per_second))
    } else {
        digits(per_second)
    }
}

/// A figure with three significant digits.
pub(crate) fn digits(value: f64) -> String {
    let size = value.abs();
    // What would be rounded up to the next digit is written like it.
    if size >= 99.95 || size == 0.0 {
        format!("{value:.0}")
    } else if size >= 9.995 {
        format!("{value:.1}")
    } else if size >= 0.9995 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

/// A length of time in hours, minutes and seconds: `1:02:03` or `2:03`.
pub(crate) fn clock(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A date and time of day, UTC, from milliseconds since 1970: `2026-03-01 12:00:00 UTC`.
pub(crate) fn date(unix_ms: u64) -> String {
    let (days, second) = (unix_ms / 86_400_000, unix_ms / 1000 % 86_400);
    // Days to a date by counting eras of 400 years, each of which begins on a March 1.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// A value with its unit, three significant digits.
fn scaled(value: f64, steps: &[(&str, f64)]) -> String {
    let mut value = value;
    for (unit, next) in steps {
        // A value that would be rounded up to the next unit is shown in it.
        if value.abs() < next * 0.9995 {
            let number =
                if unit.len() == 1 && value.fract() == 0.0 { format!("{value:.0}") } else { digits(value) };
            return format!("{number} {unit}");
        }
        value /= next;
    }
    digits(value)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people; rates are not negative"
)]
fn rounded(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_get_the_unit_that_suits_them() {
        let of = [
            (0, "0 ns"),
            (420, "420 ns"),
            (1_250_000, "1.25 ms"),
            (999_900_000, "1.00 s"),
            (38_100_000_000, "38.1 s"),
        ];
        for (nanoseconds, text) in of {
            assert_eq!(time(nanoseconds), text);
        }
    }

    #[test]
    fn counts_bytes_and_clocks() {
        assert_eq!(count(2_000_000), "2\u{2009}000\u{2009}000");
        assert_eq!((bytes(512.0), bytes(1536.0)), ("512 B".to_owned(), "1.50 KiB".to_owned()));
        assert_eq!(
            (clock(123_000_000_000), clock(3_723_000_000_000)),
            ("2:03".to_owned(), "1:02:03".to_owned())
        );
        assert_eq!((rate(12.345), rate(1234.6)), ("12.3".to_owned(), "1\u{2009}235".to_owned()));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(date(1_772_366_399_000), "2026-03-01 11:59:59 UTC");
        assert_eq!(date(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
    }
}
