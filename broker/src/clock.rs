//! The clocks of the control plane, and their texts. Shards have a clock of their own.

use std::time::{Duration, Instant, SystemTime};

use dunlin_shard::WallMs;

/// A moment of the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the control plane's only reader of the monotonic clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time; 1970 if the host's clock stands before it.
#[expect(clippy::disallowed_methods, reason = "the control plane's only reader of the wall clock")]
pub(crate) fn wall() -> WallMs {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    WallMs(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}

/// RFC 3339 in UTC, with milliseconds: `2026-11-22T04:28:30.123Z`.
pub(crate) fn rfc3339(at: WallMs) -> String {
    let (seconds, ms) = (at.0 / 1_000, at.0 % 1_000);
    let (days, second) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a count of days since 1970-01-01 in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that a leap day is the last day of its year, in eras of 400 years.
    let days = days + DAYS_TO_1970;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let leap_days = day_of_era / 1_460 + day_of_era / (DAYS_PER_ERA - 1);
    let year_of_era = (day_of_era + day_of_era / 36_524 - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // March is month 0; five months take 153 days, again and again.
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let (month, next_year) = if from_march < 10 { (from_march + 3, 0) } else { (from_march - 9, 1) };
    (era * 400 + year_of_era + next_year, month, day)
}

const SECONDS_PER_DAY: u64 = 86_400;
const DAYS_PER_ERA: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: u64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_have_their_texts() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(WallMs(ms)), text);
        }
    }

    #[test]
    fn each_day_of_eight_centuries_follows_the_last() {
        let mut expected = (1970, 1, 1);
        for days in 0..292_194 {
            assert_eq!(civil(days), expected);
            let (year, month, day) = expected;
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (month, day) if day == length[usize::try_from(month - 1).expect("1 to 12")] => {
                    (year, month + 1, 1)
                }
                (month, day) => (year, month, day + 1),
            };
        }
    }
}
