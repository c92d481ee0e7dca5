//! A set of CPUs, in the two forms that the kernel reads and writes.

use std::collections::BTreeSet;
use std::fmt;

use crate::limits::CPU_COUNT_MAX;

/// CPU numbers, without repeats, in order. May be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// Reads `0-3,8`, the kernel's list form. `None` for anything else, and for numbers beyond [`CPU_COUNT_MAX`].
    #[must_use]
    pub fn of_list(text: &str) -> Option<Self> {
        let mut cpus = BTreeSet::new();
        for part in text.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
            if first > last || last >= CPU_COUNT_MAX {
                return None;
            }
            cpus.extend(first..=last);
        }
        Some(Self(cpus))
    }

    /// Reads `00000000,000000ff`, the kernel's mask form: groups of eight hexadecimal digits, the highest first.
    #[must_use]
    pub fn of_mask(text: &str) -> Option<Self> {
        let mut cpus = BTreeSet::new();
        for (group, digits) in text.trim().rsplit(',').enumerate() {
            let base = u32::try_from(group).ok()?.checked_mul(32).filter(|base| *base < CPU_COUNT_MAX)?;
            let bits = u32::from_str_radix(digits, 16).ok()?;
            cpus.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| base + bit));
        }
        Some(Self(cpus))
    }

    /// The mask form, without leading groups of zeros.
    #[must_use]
    pub fn to_mask(&self) -> String {
        let groups = self.0.last().map_or(1, |last| last / 32 + 1);
        let group = |group: u32| {
            let inside = self.0.iter().filter(|cpu| **cpu / 32 == group);
            inside.fold(0u32, |bits, cpu| bits | 1 << (cpu % 32))
        };
        let mut text = format!("{:x}", group(groups - 1));
        for lower in (0..groups - 1).rev() {
            text.push_str(&format!(",{:08x}", group(lower)));
        }
        text
    }

    /// How many CPUs.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest CPU.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        self.0.first().copied()
    }

    /// The CPU in this place, counted round and round. `None` when the set is empty.
    #[must_use]
    pub fn round(&self, place: usize) -> Option<u32> {
        let place = place.checked_rem(self.0.len())?;
        self.0.iter().nth(place).copied()
    }

    /// Every `of`-th CPU from the place `first` on: the share of one queue of several.
    #[must_use]
    pub fn share(&self, first: usize, of: usize) -> Self {
        Self(self.0.iter().skip(first).step_by(of.max(1)).copied().collect())
    }

    /// These without those.
    #[must_use]
    pub fn without(&self, those: &Self) -> Self {
        Self(self.0.difference(&those.0).copied().collect())
    }

    /// Both.
    #[must_use]
    pub fn with(&self, those: &Self) -> Self {
        Self(self.0.union(&those.0).copied().collect())
    }

    /// Those that both have.
    #[must_use]
    pub fn both(&self, those: &Self) -> Self {
        Self(self.0.intersection(&those.0).copied().collect())
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuSet {
    /// The list form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if(|next| *next == last + 1) {
                last = next;
            }
            write!(f, "{comma}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_read() {
        let set = CpuSet::of_list("0-2,8,40").expect("a list");
        assert_eq!(set.to_string(), "0-2,8,40");
        assert_eq!(set.to_mask(), "100,00000107");
        assert_eq!(CpuSet::of_mask("00000000,00000100,00000107\n"), Some(set));
        assert_eq!(CpuSet::of_mask("0"), Some(CpuSet::default()));
        assert_eq!(CpuSet::default().to_mask(), "0");
        for wrong in ["3-1", "x", "1-", "99999999999", "0-99999999"] {
            assert_eq!(CpuSet::of_list(wrong), None, "{wrong}");
        }
        assert_eq!(CpuSet::of_mask("no"), None);
        assert_eq!(CpuSet::of_mask(""), None);
    }

    #[test]
    fn queues_take_turns() {
        let set = CpuSet::of_list("2-5").expect("a list");
        assert_eq!([set.round(0), set.round(3), set.round(4)], [Some(2), Some(5), Some(2)]);
        assert_eq!(set.share(1, 2).to_string(), "3,5");
        assert_eq!(CpuSet::default().round(1), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(cpus in prop::collection::btree_set(0u32..300, 0..40)) {
            let set: CpuSet = cpus.into_iter().collect();
            prop_assert_eq!(CpuSet::of_list(&set.to_string()), Some(set.clone()));
            prop_assert_eq!(CpuSet::of_mask(&set.to_mask()), Some(set));
        }
    }
}
