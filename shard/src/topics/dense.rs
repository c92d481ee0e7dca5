//! A set of small values kept densely for fast loops, with removal by key that does not search.

use hashbrown::HashTable;

/// A value with a number that names it within a set.
pub(crate) trait Keyed: Copy {
    /// The number; unique within a set.
    fn key(&self) -> u32;
}

/// Values side by side, in an order that depends only on the operations before. Above [`SEARCH_COUNT_MAX`] values a
/// position table (about 6 B per value) makes finding one O(1); below, a search of one or two cache lines does.
#[derive(Debug)]
pub(crate) struct DenseSet<T> {
    values: Vec<T>,
    positions: Option<Box<HashTable<u32>>>,
}

impl<T: Keyed> DenseSet<T> {
    pub(crate) const fn new() -> Self {
        Self { values: Vec::new(), positions: None }
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        &self.values
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let positions =
            self.positions.as_ref().map_or(0, |table| size_of::<HashTable<u32>>() + table.allocation_size());
        self.values.capacity() * size_of::<T>() + positions
    }

    pub(crate) fn get(&self, key: u32) -> Option<T> {
        Some(self.values[self.position(key)?])
    }

    /// Puts `value` in; the one with its key that was there comes out.
    pub(crate) fn insert(&mut self, value: T) -> Option<T> {
        if let Some(at) = self.position(value.key()) {
            return Some(std::mem::replace(&mut self.values[at], value));
        }
        let at = u32::try_from(self.values.len()).expect("keys are u32, each at most once");
        self.values.push(value);
        let values = &self.values;
        match &mut self.positions {
            Some(table) => {
                table.insert_unique(spread(value.key()), at, |at| spread(values[*at as usize].key()));
            }
            None if values.len() > SEARCH_COUNT_MAX => {
                let mut table = HashTable::with_capacity(2 * values.len());
                for (value, at) in values.iter().zip(0_u32..) {
                    table.insert_unique(spread(value.key()), at, |at: &u32| {
                        spread(values[*at as usize].key())
                    });
                }
                self.positions = Some(Box::new(table));
            }
            None => {}
        }
        None
    }

    /// Takes the value with this key out. The last value takes its place.
    pub(crate) fn remove(&mut self, key: u32) -> Option<T> {
        let at = self.position(key)?;
        let last = self.values.len() - 1;
        if let Some(table) = &mut self.positions {
            let (at, last) = (index(at), index(last));
            if let Ok(entry) = table.find_entry(spread(key), |position| *position == at) {
                entry.remove();
            }
            if at != last {
                let moved = spread(self.values[last as usize].key());
                if let Some(position) = table.find_mut(moved, |position| *position == last) {
                    *position = at;
                }
            }
        }
        let value = self.values.swap_remove(at);
        self.shrink();
        Some(value)
    }

    fn position(&self, key: u32) -> Option<usize> {
        match &self.positions {
            None => self.values.iter().position(|value| value.key() == key),
            Some(table) => {
                let found = table.find(spread(key), |at| self.values[*at as usize].key() == key)?;
                Some(*found as usize)
            }
        }
    }

    /// Gives memory back when three quarters are unused.
    fn shrink(&mut self) {
        let len = self.values.len();
        if len <= SEARCH_COUNT_MAX / 2 {
            self.positions = None;
        }
        if self.values.capacity() > 8 && len < self.values.capacity() / 4 {
            self.values.shrink_to(len * 2);
            let values = &self.values;
            if let Some(table) = &mut self.positions {
                table.shrink_to(len * 2, |at| spread(values[*at as usize].key()));
            }
        }
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("keys are u32, each at most once")
}

fn spread(key: u32) -> u64 {
    u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Up to here a search through the values is as fast as a table.
const SEARCH_COUNT_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl Keyed for (u32, u32) {
        fn key(&self) -> u32 {
            self.0
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(ops in proptest::collection::vec((0_u8..3, 0_u32..120, any::<u32>()), 1..1_500)) {
            let mut set = DenseSet::new();
            let mut model = BTreeMap::new();
            for (op, key, value) in ops {
                if op == 0 {
                    prop_assert_eq!(set.remove(key).map(|pair: (u32, u32)| pair.1), model.remove(&key));
                } else {
                    prop_assert_eq!(set.insert((key, value)).map(|pair| pair.1), model.insert(key, value));
                }
                prop_assert_eq!(set.get(key).map(|pair| pair.1), model.get(&key).copied());
                prop_assert_eq!(set.as_slice().len(), model.len());
            }
            let mut all = set.as_slice().to_vec();
            all.sort_unstable();
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_million_go_in_and_out_without_searching() {
        let mut set = DenseSet::new();
        for key in 0..1_000_000 {
            assert!(set.insert((key, key)).is_none());
        }
        for key in (0..1_000_000).rev().step_by(2) {
            assert!(set.remove(key).is_some());
        }
        for key in (0..1_000_000).step_by(2) {
            assert_eq!(set.remove(key), Some((key, key)));
        }
        assert_eq!(set.as_slice().len(), 0);
        assert!(set.heap_bytes() < 1_024, "{}", set.heap_bytes());
    }
}
