//! The filters of one session, as numbers: what the session must give up when it ends, and what it may not exceed.
//!
//! The texts and options live once, in the shard's topic index; a session keeps only which entries are its own.

use hashbrown::HashTable;

use crate::topics::FilterId;

/// The subscriptions of one session.
///
/// 16 B inline, nothing on the heap for one; 4 B each up to [`LIST_MAX`], about 5 to 9 B each above. Insert and remove
/// are O(1) but for a scan of at most [`LIST_MAX`] numbers.
#[derive(Debug, Default)]
pub(crate) enum Subscriptions {
    /// None.
    #[default]
    None,
    /// The usual case of a device.
    One(FilterId),
    /// A few, in order of arrival.
    #[expect(clippy::box_collection, reason = "a session is 8 B smaller for it")]
    List(Box<Vec<FilterId>>),
    /// Many.
    Table(Box<HashTable<FilterId>>),
}

impl Subscriptions {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::List(list) => list.len(),
            Self::Table(table) => table.len(),
        }
    }

    /// Whether `wanted` is among them.
    pub(crate) fn contains(&self, wanted: FilterId) -> bool {
        match self {
            Self::None => false,
            Self::One(one) => *one == wanted,
            Self::List(list) => list.contains(&wanted),
            Self::Table(table) => table.find(hash(wanted), |held| *held == wanted).is_some(),
        }
    }

    /// Adds one; whether it was new.
    pub(crate) fn insert(&mut self, new: FilterId) -> bool {
        if self.contains(new) {
            return false;
        }
        match self {
            Self::None => *self = Self::One(new),
            Self::One(one) => *self = Self::List(Box::new(vec![*one, new])),
            Self::List(list) if list.len() < LIST_MAX => list.push(new),
            Self::List(list) => {
                let mut table = HashTable::with_capacity(LIST_MAX * 2);
                for held in list.iter().chain([&new]) {
                    table.insert_unique(hash(*held), *held, |held| hash(*held));
                }
                *self = Self::Table(Box::new(table));
            }
            Self::Table(table) => {
                table.insert_unique(hash(new), new, |held| hash(*held));
            }
        }
        true
    }

    /// Removes one; whether it was there.
    pub(crate) fn remove(&mut self, gone: FilterId) -> bool {
        let removed = match self {
            Self::None => false,
            Self::One(one) => *one == gone,
            Self::List(list) => match list.iter().position(|held| *held == gone) {
                Some(at) => {
                    list.remove(at);
                    true
                }
                None => false,
            },
            Self::Table(table) => match table.find_entry(hash(gone), |held| *held == gone) {
                Ok(entry) => {
                    entry.remove();
                    true
                }
                Err(_) => false,
            },
        };
        if removed && self.len() <= usize::from(matches!(self, Self::One(_))) {
            *self = Self::None;
        }
        removed
    }

    /// All of them in ascending order, which does not depend on how they are kept.
    pub(crate) fn sorted(&self) -> Vec<FilterId> {
        let mut all: Vec<FilterId> = match self {
            Self::None => Vec::new(),
            Self::One(one) => vec![*one],
            Self::List(list) => list.to_vec(),
            Self::Table(table) => table.iter().copied().collect(),
        };
        all.sort_unstable();
        all
    }
}

/// Spreads neighbouring numbers (the multiplier is 2⁶⁴ divided by the golden ratio, made odd).
fn hash(of: FilterId) -> u64 {
    u64::from(of.0).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Up to here a scan of neighbouring numbers is as fast as a table and smaller.
const LIST_MAX: usize = 32;

const _: () = assert!(size_of::<Subscriptions>() == 16, "part of what an idle session costs");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn behaves_as_a_set_through_all_its_forms() {
        let mut held = Subscriptions::default();
        let mut model = BTreeSet::new();
        let mut seed = 7_u32;
        for step in 0..4_000_u32 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Grows to about 80, shrinks to nothing, twice.
            let growing = (step / 1_000) % 2 == 0;
            let number = FilterId((seed >> 16) % 96);
            if growing != seed.is_multiple_of(8) {
                assert_eq!(held.insert(number), model.insert(number));
            } else {
                assert_eq!(held.remove(number), model.remove(&number));
            }
            assert_eq!(held.len(), model.len());
            assert_eq!(held.contains(number), model.contains(&number));
        }
        assert_eq!(held.sorted(), model.iter().copied().collect::<Vec<_>>());
        for number in model {
            assert!(held.remove(number));
        }
        assert!(matches!(held, Subscriptions::None));
    }
}
