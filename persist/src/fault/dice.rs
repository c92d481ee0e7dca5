//! Chance from a seed.

/// A generator of numbers (splitmix64); the same seed gives the same ones.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let number = self.number() % end.max(1) as u64;
        usize::try_from(number).unwrap_or_default()
    }

    /// True in so many of a thousand cases.
    pub(super) fn one_in_thousand(&mut self, cases: u16) -> bool {
        cases > 0 && self.below(1_000) < usize::from(cases)
    }
}
