//! Times, rates and spreads as a scenario file writes them: `"1m30s"`, `"100/s"`, `"10s..60s"`.
//!
//! Each is checked where it is read, so a value of these types is always in range.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::SECOND_NS;
use crate::dice::Dice;

/// A length of time from 0 to 366 days, in whole nanoseconds.
///
/// Written as a number with a unit, or several: `"250us"`, `"1.5s"`, `"1m30s"`, `"2d"`. Units are `ns`, `us`, `ms`,
/// `s`, `m`, `h` and `d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Period(u64);

impl Period {
    /// No time at all.
    pub(crate) const ZERO: Self = Self(0);

    /// `seconds` seconds, at most 366 days.
    pub(crate) const fn from_seconds(seconds: u32) -> Self {
        let ns = seconds as u64 * SECOND_NS;
        Self(if ns > PERIOD_NS_MAX { PERIOD_NS_MAX } else { ns })
    }

    /// In nanoseconds.
    pub(crate) const fn ns(self) -> u64 {
        self.0
    }

    /// In seconds.
    #[expect(clippy::cast_precision_loss, reason = "366 days in nanoseconds lose less than a microsecond")]
    pub(crate) const fn seconds(self) -> f64 {
        self.0 as f64 / SECOND_NS as f64
    }
}

/// The longest period that a file may name.
const PERIOD_NS_MAX: u64 = 366 * 86_400 * SECOND_NS;

/// Units from long to short; a period is printed with as few of them as possible.
const UNITS: [(&str, u64); 7] = [
    ("d", 86_400 * SECOND_NS),
    ("h", 3_600 * SECOND_NS),
    ("m", 60 * SECOND_NS),
    ("s", SECOND_NS),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a time; write a number with a unit, such as \"250ms\", \"30s\" or \"1m30s\""
            )
        };
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut total = 0.0_f64;
        while !rest.is_empty() {
            let digits =
                rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let number: f64 = number.replace('_', "").parse().map_err(|_| wrong())?;
            let (_, ns) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            total += number * ns as f64;
            rest = tail.trim_start();
        }
        if total > PERIOD_NS_MAX as f64 {
            return Err(format!("{text:?} is longer than 366 days"));
        }
        Ok(Self(whole(total)))
    }
}

/// The whole number nearest to a value that is known to lie between 0 and 2^63.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "callers have checked the range")]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return formatter.write_str("0s");
        }
        let mut rest = self.0;
        for (name, ns) in UNITS {
            if rest >= ns {
                write!(formatter, "{}{name}", rest / ns)?;
                rest %= ns;
            }
        }
        Ok(())
    }
}

/// How many a second: above 0, at most a thousand million.
///
/// Written as a number (`1000`, `0.5`) or as a number per unit of time (`"100/s"`, `"6/m"`, `"1/90s"`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate(f64);

impl Rate {
    /// One a second.
    pub(crate) const ONE: Self = Self(1.0);

    /// `per_second` each second.
    ///
    /// # Errors
    /// What is wrong with it, if it is not above 0 and at most [`RATE_MAX`].
    pub(crate) fn new(per_second: f64) -> Result<Self, String> {
        if per_second > 0.0 && per_second <= RATE_MAX {
            Ok(Self(per_second))
        } else if per_second == 0.0 {
            Err("a rate of 0 never sends; leave the line out, or give the stage a rate of 0".to_owned())
        } else {
            Err(format!("{per_second} is not a rate; it must be above 0 and at most {RATE_MAX:.0} a second"))
        }
    }

    /// How many a second.
    pub(crate) const fn per_second(self) -> f64 {
        self.0
    }

    /// This rate times `factor`, which must be above 0; kept within the bounds of a rate.
    pub(crate) fn times(self, factor: f64) -> Self {
        Self((self.0 * factor).clamp(f64::MIN_POSITIVE, RATE_MAX))
    }
}

/// The highest rate that a file may name, per second.
const RATE_MAX: f64 = 1e9;

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a rate; write a number a second, \"100/s\", \"6/m\" or \"1/90s\"");
        let (count, per) = text.split_once('/').unwrap_or((text, "s"));
        let count: f64 = count.trim().replace('_', "").parse().map_err(|_| wrong())?;
        let per = per.trim();
        let per =
            if per.starts_with(|c: char| c.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
        let per: Period = per.parse().map_err(|_| wrong())?;
        if per == Period::ZERO {
            return Err(wrong());
        }
        Self::new(count / per.seconds())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/s", self.0)
    }
}

/// A time left to chance: how it is spread.
///
/// Written as a period (`"30s"`: always the same), a range (`"10s..60s"`: any of it equally likely),
/// `"exponential(30s)"` (that mean, as of independent events) or `"normal(30s, 5s)"` (mean and deviation; below zero is
/// zero).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Always this.
    Always(Period),
    /// Equally likely anywhere between the two.
    Uniform {
        /// The least.
        from: Period,
        /// The most.
        to: Period,
    },
    /// Exponential with this mean, cut at 20 times the mean.
    Exponential {
        /// The mean.
        mean: Period,
    },
    /// Normal, cut at zero.
    Normal {
        /// The mean.
        mean: Period,
        /// The standard deviation.
        deviation: Period,
    },
}

impl Spread {
    /// No time at all.
    pub(crate) const ZERO: Self = Self::Always(Period::ZERO);

    /// Draws a time, in nanoseconds.
    pub(crate) fn draw_ns(self, dice: &mut Dice) -> u64 {
        match self {
            Self::Always(period) => period.ns(),
            Self::Uniform { from, to } => from.ns() + whole(unit(dice) * (to.ns() - from.ns()) as f64),
            Self::Exponential { mean } => whole((-unit(dice).ln()).min(20.0) * mean.ns() as f64),
            Self::Normal { mean, deviation } => {
                // Box and Muller's transform.
                let (radius, turn) = ((-2.0 * unit(dice).ln()).sqrt(), std::f64::consts::TAU * unit(dice));
                whole((radius * turn.cos()).mul_add(deviation.ns() as f64, mean.ns() as f64).max(0.0))
            }
        }
    }

    /// What it is on average (of a normal one: before it is cut at zero).
    pub(crate) const fn mean(self) -> Period {
        match self {
            Self::Always(period) => period,
            Self::Uniform { from, to } => Period(u64::midpoint(from.0, to.0)),
            Self::Exponential { mean } | Self::Normal { mean, .. } => mean,
        }
    }
}

/// A chance above 0 and at most 1.
fn unit(dice: &mut Dice) -> f64 {
    let bits = u64::from(dice.roll()) << 21 | u64::from(dice.roll()) >> 11;
    (bits + 1) as f64 / (1_u64 << 53) as f64
}

impl FromStr for Spread {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inside = |name: &str| {
            text.trim().strip_prefix(name)?.trim_start().strip_prefix('(')?.trim_end().strip_suffix(')')
        };
        if let Some(mean) = inside("exponential") {
            return Ok(Self::Exponential { mean: mean.parse()? });
        }
        if let Some(both) = inside("normal") {
            let (mean, deviation) = both
                .split_once(',')
                .ok_or_else(|| format!("{text:?} needs a mean and a deviation: \"normal(30s, 5s)\""))?;
            return Ok(Self::Normal { mean: mean.parse()?, deviation: deviation.parse()? });
        }
        if let Some((from, to)) = text.split_once("..") {
            let (from, to): (Period, Period) = (from.parse()?, to.parse()?);
            return if from <= to {
                Ok(Self::Uniform { from, to })
            } else {
                Err(format!("{text:?} ends before it begins; write the shorter time first"))
            };
        }
        text.parse().map(Self::Always).map_err(|wrong: String| {
            format!("{wrong}; or a range \"10s..60s\", \"exponential(30s)\", \"normal(30s, 5s)\"")
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always(period) => write!(formatter, "{period}"),
            Self::Uniform { from, to } => write!(formatter, "{from}..{to}"),
            Self::Exponential { mean } => write!(formatter, "exponential({mean})"),
            Self::Normal { mean, deviation } => write!(formatter, "normal({mean}, {deviation})"),
        }
    }
}

/// A part of a whole, from 0 to 1. Written as a number (`0.25`) or in percent (`"25%"`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share(f64);

impl Share {
    /// All.
    pub(crate) const ALL: Self = Self(1.0);

    /// `part` of the whole.
    ///
    /// # Errors
    /// What is wrong with it, if it does not lie between 0 and 1.
    pub(crate) fn new(part: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&part) {
            Ok(Self(part))
        } else {
            Err(format!("{part} is not a share; it must lie between 0 and 1, or between \"0%\" and \"100%\""))
        }
    }

    /// From 0 to 1.
    pub(crate) const fn part(self) -> f64 {
        self.0
    }

    /// This share of `count`, rounded; at least one unless the share or the count is zero.
    pub(crate) fn of(self, count: u32) -> u32 {
        let rounded = u32::try_from(whole(f64::from(count) * self.0)).unwrap_or(count).min(count);
        if self.0 > 0.0 { rounded.max(count.min(1)) } else { 0 }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a share; write a number from 0 to 1, or percent such as \"25%\"");
        let percent = text.trim().strip_suffix('%').ok_or_else(wrong)?;
        Self::new(percent.trim().parse::<f64>().map_err(|_| wrong())? / 100.0)
    }
}

/// How a value that may be text or a number is read.
struct TextOrNumber<T> {
    expecting: &'static str,
    from_text: fn(&str) -> Result<T, String>,
    from_number: fn(f64) -> Result<T, String>,
}

impl<T> Visitor<'_> for TextOrNumber<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.from_text)(text).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        (self.from_number)(number).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        (self.from_number)(number as f64).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(TextOrNumber {
            expecting: "a time with its unit, such as \"30s\"",
            from_text: str::parse,
            from_number: |number| Err(format!("{number} has no unit; write \"{number}s\" for seconds")),
        })
    }
}

impl<'de> Deserialize<'de> for Spread {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(TextOrNumber {
            expecting: "a time such as \"30s\", \"10s..60s\" or \"exponential(30s)\"",
            from_text: str::parse,
            from_number: |number| Err(format!("{number} has no unit; write \"{number}s\" for seconds")),
        })
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(TextOrNumber {
            expecting: "a rate: a number a second, or text such as \"1/90s\"",
            from_text: str::parse,
            from_number: Self::new,
        })
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(TextOrNumber {
            expecting: "a share: a number from 0 to 1, or percent such as \"25%\"",
            from_text: str::parse,
            from_number: Self::new,
        })
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
        sink.collect_str(self)
    }
}

impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
        sink.collect_str(self)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
        sink.serialize_f64(self.0)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
        sink.serialize_f64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_and_printed() {
        for (text, ns, printed) in [
            ("0s", 0, "0s"),
            ("250us", 250_000, "250us"),
            ("1.5s", 1_500_000_000, "1s500ms"),
            ("90s", 90 * SECOND_NS, "1m30s"),
            ("1m 30s", 90 * SECOND_NS, "1m30s"),
            ("2d", 172_800 * SECOND_NS, "2d"),
            ("1_000ms", SECOND_NS, "1s"),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!((period.ns(), period.to_string().as_str()), (ns, printed), "{text}");
            assert_eq!(printed.parse(), Ok(period));
        }
        for text in ["", "5", "s", "5 parsecs", "-1s", "1..2s", "400d", "1e3s"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_read() {
        for (text, per_second) in
            [("100", 100.0), ("100/s", 100.0), ("6/m", 0.1), ("1/90s", 1.0 / 90.0), ("1/2m", 1.0 / 120.0)]
        {
            assert_eq!(text.parse::<Rate>().map(Rate::per_second), Ok(per_second), "{text}");
        }
        for text in ["", "0", "-1", "x", "1/", "1/0s", "1/fortnight", "2e9", "inf", "nan"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn spreads_are_read_printed_and_drawn() {
        for text in ["30s", "10s..1m", "exponential(30s)", "normal(30s, 5s)"] {
            let spread: Spread = text.parse().unwrap();
            assert_eq!(spread.to_string(), text);
            let mut dice = Dice::new(7);
            let sum: f64 = (0..20_000).map(|_| spread.draw_ns(&mut dice) as f64).sum();
            let ratio = sum / 20_000.0 / spread.mean().ns() as f64;
            assert!((0.97..1.03).contains(&ratio), "{text}: {ratio}");
        }
        for text in ["", "60s..10s", "normal(30s)", "exponential 30s", "about 30s"] {
            assert!(text.parse::<Spread>().is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_read_and_taken() {
        assert_eq!("25%".parse::<Share>().map(|share| share.of(1_000)), Ok(250));
        assert_eq!("0.01%".parse::<Share>().map(|share| (share.of(10), share.of(0))), Ok((1, 0)));
        assert_eq!(Share::new(0.0).map(|share| share.of(10)), Ok(0));
        assert!("101%".parse::<Share>().is_err() && "0.5".parse::<Share>().is_err());
    }
}
