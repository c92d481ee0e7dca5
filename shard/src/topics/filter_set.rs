//! The filters of one session, as numbers.

use super::dense::{DenseSet, Keyed};
use super::records::FilterId;

/// A set of filters: 16 B and no heap for none or one, then about 4 to 14 B per filter. The filters' texts, options and
/// identifiers are in the index; a session keeps only this. Insert and remove are amortised O(1).
#[derive(Debug, Default)]
pub struct FilterSet(Held);

#[derive(Debug, Default)]
enum Held {
    #[default]
    None,
    One(FilterId),
    Many(Box<DenseSet<FilterId>>),
}

impl FilterSet {
    /// An empty set; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(Held::None)
    }

    /// Adds a filter; false if it was there.
    pub fn insert(&mut self, filter: FilterId) -> bool {
        match &mut self.0 {
            Held::None => {
                self.0 = Held::One(filter);
                true
            }
            Held::One(there) if *there == filter => false,
            Held::One(there) => {
                let mut set = DenseSet::new();
                set.insert(*there);
                set.insert(filter);
                self.0 = Held::Many(Box::new(set));
                true
            }
            Held::Many(set) => set.insert(filter).is_none(),
        }
    }

    /// Takes a filter out; false if it was not there.
    pub fn remove(&mut self, filter: FilterId) -> bool {
        match &mut self.0 {
            Held::None => false,
            Held::One(there) => {
                let found = *there == filter;
                if found {
                    self.0 = Held::None;
                }
                found
            }
            Held::Many(set) => {
                let found = set.remove(filter.0).is_some();
                if let [only] = *set.as_slice() {
                    self.0 = Held::One(only);
                }
                found
            }
        }
    }

    /// Whether the filter is in the set.
    #[must_use]
    pub fn contains(&self, filter: FilterId) -> bool {
        match &self.0 {
            Held::None => false,
            Held::One(there) => *there == filter,
            Held::Many(set) => set.get(filter.0).is_some(),
        }
    }

    /// All filters, in an order that depends only on the operations before.
    #[must_use]
    pub fn as_slice(&self) -> &[FilterId] {
        match &self.0 {
            Held::None => &[],
            Held::One(filter) => std::slice::from_ref(filter),
            Held::Many(set) => set.as_slice(),
        }
    }

    /// How many filters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Bytes of heap, as asked from the allocator.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Held::None | Held::One(_) => 0,
            Held::Many(set) => size_of::<DenseSet<FilterId>>() + set.heap_bytes(),
        }
    }
}

impl Keyed for FilterId {
    fn key(&self) -> u32 {
        self.0
    }
}

const _: () = assert!(size_of::<FilterSet>() == 16, "what the doc comment says");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_from_none_to_many_and_back() {
        let mut set = FilterSet::new();
        for n in 0..1_000 {
            assert!(set.insert(FilterId(n)));
            assert!(!set.insert(FilterId(n)));
            assert!(set.contains(FilterId(n)));
            assert_eq!(set.len(), n as usize + 1);
        }
        assert!(set.heap_bytes() < 1_000 * 16);
        for n in (0..1_000).rev() {
            assert!(set.remove(FilterId(n)));
            assert!(!set.remove(FilterId(n)));
        }
        assert!(set.is_empty());
        assert_eq!(set.heap_bytes(), 0);
    }
}
