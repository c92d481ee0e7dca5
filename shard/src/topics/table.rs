//! Fingerprint → number, growing in small steps.
//!
//! One large hash table doubles with a pause of many milliseconds. This one is a directory of small tables that split in
//! two one at a time (extendible hashing): the longest pause is one split of some thousand entries, tens of µs.

use hashbrown::HashTable;

/// Pairs of a 32-bit fingerprint and a 32-bit number. The same fingerprint may be in it many times: what a number stands
/// for decides. About 14 B per entry.
#[derive(Debug, Default)]
pub(crate) struct FingerTable {
    segments: Vec<Segment>,
    /// Segment by the top `depth` bits of the fingerprint; empty while there is one segment at most.
    directory: Vec<u32>,
    depth: u32,
    len: usize,
}

#[derive(Debug, Default)]
struct Segment {
    entries: HashTable<Entry>,
    /// How many of the top bits all its fingerprints share.
    depth: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    fingerprint: u32,
    number: u32,
}

impl FingerTable {
    /// How many entries there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of heap, as asked from the allocator.
    pub(crate) fn heap_bytes(&self) -> usize {
        let entries: usize = self.segments.iter().map(|segment| segment.entries.allocation_size()).sum();
        entries + self.segments.capacity() * size_of::<Segment>() + self.directory.capacity() * 4
    }

    /// The first number under `fingerprint` that is the one.
    #[inline]
    pub(crate) fn find(&self, fingerprint: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let segment = self.segments.get(self.segment_of(fingerprint))?;
        let found = segment
            .entries
            .find(spread(fingerprint), |entry| entry.fingerprint == fingerprint && is_it(entry.number))?;
        Some(found.number)
    }

    /// Calls `each` with every number under `fingerprint`.
    #[inline]
    pub(crate) fn for_each(&self, fingerprint: u32, mut each: impl FnMut(u32)) {
        if let Some(segment) = self.segments.get(self.segment_of(fingerprint)) {
            for entry in segment.entries.iter_hash(spread(fingerprint)) {
                if entry.fingerprint == fingerprint {
                    each(entry.number);
                }
            }
        }
    }

    /// Adds an entry.
    pub(crate) fn insert(&mut self, fingerprint: u32, number: u32) {
        if self.segments.is_empty() {
            self.segments.push(Segment::default());
        }
        let mut at = self.segment_of(fingerprint);
        if self.segments[at].entries.len() >= SEGMENT_ENTRIES && self.can_split(at) {
            self.split(at);
            at = self.segment_of(fingerprint);
        }
        let entries = &mut self.segments[at].entries;
        entries.insert_unique(spread(fingerprint), Entry { fingerprint, number }, |entry| {
            spread(entry.fingerprint)
        });
        self.len += 1;
    }

    /// Replaces the first number under `fingerprint` for which `change` answers; a `None` within removes the entry.
    /// Returns whether there was one.
    pub(crate) fn update(
        &mut self,
        fingerprint: u32,
        mut change: impl FnMut(u32) -> Option<Option<u32>>,
    ) -> bool {
        let at = self.segment_of(fingerprint);
        let Some(segment) = self.segments.get_mut(at) else { return false };
        let mut changed = None;
        let found = segment.entries.find_entry(spread(fingerprint), |entry| {
            entry.fingerprint == fingerprint && {
                changed = change(entry.number);
                changed.is_some()
            }
        });
        let (Ok(mut found), Some(changed)) = (found, changed) else { return false };
        match changed {
            Some(number) => found.get_mut().number = number,
            None => {
                found.remove();
                self.len -= 1;
                self.shrink(at);
            }
        }
        true
    }

    /// Takes out the entry of `number`. Returns whether there was one.
    pub(crate) fn remove(&mut self, fingerprint: u32, number: u32) -> bool {
        self.update(fingerprint, |found| (found == number).then_some(None))
    }

    /// All fingerprints, in an order that must not be shown.
    pub(crate) fn fingerprints(&self) -> impl Iterator<Item = u32> {
        self.segments.iter().flat_map(|segment| segment.entries.iter()).map(|entry| entry.fingerprint)
    }

    #[inline]
    fn segment_of(&self, fingerprint: u32) -> usize {
        if self.directory.is_empty() {
            return 0;
        }
        self.directory[(fingerprint >> (32 - self.depth)) as usize] as usize
    }

    /// A segment splits unless its entries share so many bits that the directory would outgrow the entries.
    fn can_split(&self, at: usize) -> bool {
        let segment_depth = self.segments[at].depth;
        segment_depth < self.depth
            || (self.depth < DEPTH_MAX && self.directory.len() <= 16 * self.segments.len())
    }

    fn split(&mut self, at: usize) {
        if self.segments[at].depth == self.depth {
            self.double_directory();
        }
        let old = &mut self.segments[at];
        old.depth += 1;
        let depth = old.depth;
        let bit = 1_u32 << (32 - depth);
        let all = std::mem::take(&mut old.entries);
        let upper_count = all.iter().filter(|entry| entry.fingerprint & bit != 0).count();
        let mut lower = HashTable::with_capacity(all.len() - upper_count);
        let mut upper = HashTable::with_capacity(upper_count);
        let mut any = 0;
        for entry in all {
            any = entry.fingerprint;
            let side = if entry.fingerprint & bit == 0 { &mut lower } else { &mut upper };
            side.insert_unique(spread(entry.fingerprint), entry, |entry| spread(entry.fingerprint));
        }
        self.segments[at].entries = lower;
        let new = u32::try_from(self.segments.len()).expect("DEPTH_MAX bounds the segments");
        self.segments.push(Segment { entries: upper, depth });
        let first = ((any | bit) & !(bit - 1)) >> (32 - self.depth);
        let count = 1_usize << (self.depth - depth);
        self.directory[first as usize..][..count].fill(new);
    }

    fn double_directory(&mut self) {
        let old = std::mem::take(&mut self.directory);
        self.depth += 1;
        self.directory = if old.is_empty() {
            vec![0, 0]
        } else {
            old.iter().flat_map(|segment| [*segment, *segment]).collect()
        };
    }

    /// Gives memory back when little is left of a segment, or nothing of the table.
    fn shrink(&mut self, at: usize) {
        if self.len == 0 {
            *self = Self::default();
            return;
        }
        let entries = &mut self.segments[at].entries;
        if entries.capacity() > 16 && entries.len() < entries.capacity() / 8 {
            entries.shrink_to(entries.len() * 2, |entry| spread(entry.fingerprint));
        }
    }
}

/// The hash of a fingerprint within a segment: the directory has used up its top bits.
#[inline]
fn spread(fingerprint: u32) -> u64 {
    u64::from(fingerprint).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Entries at which a segment splits: 4,096 buckets filled to seven eighths.
const SEGMENT_ENTRIES: usize = 3_584;

/// Bits of the directory: 2²⁰ segments are 3.7 billion entries.
const DEPTH_MAX: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(n: u32) -> u32 {
        n.wrapping_mul(0x9E37_79B1)
    }

    #[test]
    fn a_hundred_thousand_go_in_and_out() {
        let mut table = FingerTable::default();
        for n in 0..100_000 {
            table.insert(fingerprint(n), n);
        }
        assert_eq!(table.len(), 100_000);
        assert!(table.heap_bytes() < 100_000 * 16, "{}", table.heap_bytes());
        for n in 0..100_000 {
            assert_eq!(table.find(fingerprint(n), |found| found == n), Some(n));
            assert_eq!(table.find(fingerprint(n + 100_000), |_| true), None);
        }
        for n in 0..100_000 {
            assert!(table.remove(fingerprint(n), n));
            assert!(!table.remove(fingerprint(n), n));
        }
        assert_eq!((table.len(), table.heap_bytes()), (0, 0));
    }

    #[test]
    fn one_fingerprint_many_times_stays_small() {
        let mut table = FingerTable::default();
        for n in 0..20_000 {
            table.insert(42, n);
        }
        let mut seen = 0;
        table.for_each(42, |_| seen += 1);
        assert_eq!(seen, 20_000);
        assert!(table.directory.len() <= 512);
        for n in 0..20_000 {
            assert!(table.remove(42, n));
        }
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn numbers_change_in_place() {
        let mut table = FingerTable::default();
        table.insert(7, 1);
        table.insert(7, 2);
        assert!(table.update(7, |found| (found == 2).then_some(Some(3))));
        assert!(!table.update(7, |found| (found == 2).then_some(None)));
        assert_eq!(table.find(7, |found| found == 3), Some(3));
        assert!(table.update(7, |found| (found == 1).then_some(None)));
        assert_eq!(table.len(), 1);
    }
}
