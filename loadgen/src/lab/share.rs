//! The part of a run that one agent has.

use std::fmt;
use std::str::FromStr;

/// One of several equal parts, counted from 1: `2/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    number: u32,
    of: u32,
}

impl Share {
    /// Part `number` of `of`, counted from 1.
    pub(crate) const fn new(number: u32, of: u32) -> Self {
        assert!(0 < number && number <= of && of <= SHARES_MAX, "a part is one of the parts");
        Self { number, of }
    }

    /// How many of `total` things belong to this part. The parts of all shares add up to the total and differ
    /// by one at most.
    pub(crate) fn part(self, total: u64) -> u64 {
        self.end(self.number, total) - self.before(total)
    }

    /// How many of `total` things belong to the parts before this one.
    pub(crate) fn before(self, total: u64) -> u64 {
        self.end(self.number - 1, total)
    }

    /// How many belong to the first `number` parts.
    fn end(self, number: u32, total: u64) -> u64 {
        let end = u128::from(total) * u128::from(number) / u128::from(self.of);
        u64::try_from(end).expect("no more than the total, which has 64 bits")
    }

    /// [`Share::part`] of a number of clients; at least one.
    pub(crate) fn clients(self, total: u32) -> u32 {
        u32::try_from(self.part(total.into())).expect("a part of 32 bits").max(1)
    }

    /// The part as a factor.
    pub(crate) fn factor(self) -> f64 {
        1.0 / f64::from(self.of)
    }

    /// The topic level that everything of this part stands under.
    pub(crate) fn level(self) -> String {
        format!("a{}/", self.number)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((number, of)) if 0 < number && number <= of && of <= SHARES_MAX => Ok(Self { number, of }),
            _ => Err(format!("{text:?} is not a part such as 2/4 (at most {SHARES_MAX} parts)")),
        }
    }
}

/// Agents of one run at most.
pub(crate) const SHARES_MAX: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_differ_by_one_at_most() {
        for (total, of) in [(10, 3), (3, 10), (2_000_000, 7), (0, 2), (u64::MAX, 3)] {
            let parts: Vec<u64> = (1..=of).map(|number| Share::new(number, of).part(total)).collect();
            assert_eq!(parts.iter().map(|part| u128::from(*part)).sum::<u128>(), u128::from(total));
            assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1, "{parts:?}");
        }
    }

    #[test]
    fn parts_are_read_from_text() {
        assert_eq!("2/4".parse(), Ok(Share::new(2, 4)));
        for text in ["", "2", "0/4", "5/4", "1/0", "1/1001", "a/b"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        assert_eq!(
            (Share::new(2, 4).level(), Share::new(2, 4).to_string()),
            ("a2/".to_owned(), "2/4".to_owned())
        );
    }
}
