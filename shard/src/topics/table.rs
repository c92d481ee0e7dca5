//! Fingerprint → number, dense, and growing in small steps.
//!
//! One large hash table doubles with a pause of many milliseconds and is half empty afterwards. This one is a directory of
//! segments that split in two one at a time (extendible hashing); within a segment the entries lie in the order of their
//! fingerprints, each at or a little behind the place that its fingerprint points to (linear probing, sorted), with room for
//! a quarter more. So a search reads one cache line or two whether it finds something or not, a segment grows by a fifth,
//! and the longest pause is one split: some µs.

/// Pairs of a 32-bit fingerprint and a 32-bit number below [`EMPTY`]. The same fingerprint may be in it many times: what
/// a number stands for decides. About 10 B per entry.
#[derive(Debug, Default)]
pub(crate) struct FingerTable {
    segments: Vec<Segment>,
    /// Segment by the top `depth` bits of the fingerprint; empty while there is one segment at most.
    directory: Vec<u32>,
    depth: u32,
    len: usize,
}

/// Entries whose fingerprints share their top `depth` bits, ascending, with gaps.
#[derive(Debug, Default)]
struct Segment {
    slots: Vec<Entry>,
    /// Places that fingerprints point to. The slots behind them take what is pushed over the end.
    place_count: u32,
    len: u32,
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
        let slots: usize = self.segments.iter().map(|segment| segment.slots.capacity()).sum();
        slots * size_of::<Entry>()
            + self.segments.capacity() * size_of::<Segment>()
            + self.directory.capacity() * 4
    }

    /// The first number under `fingerprint` that is the one.
    #[inline]
    pub(crate) fn find(&self, fingerprint: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let segment = self.segments.get(self.segment_of(fingerprint))?;
        segment.under(fingerprint).find(|number| is_it(*number))
    }

    /// Calls `each` with every number under `fingerprint`.
    #[inline]
    pub(crate) fn for_each(&self, fingerprint: u32, each: impl FnMut(u32)) {
        if let Some(segment) = self.segments.get(self.segment_of(fingerprint)) {
            segment.under(fingerprint).for_each(each);
        }
    }

    /// Adds an entry. Amortised O(1).
    pub(crate) fn insert(&mut self, fingerprint: u32, number: u32) {
        assert!(number != EMPTY, "EMPTY marks a gap");
        if self.segments.is_empty() {
            self.segments.push(Segment::default());
        }
        let mut at = self.segment_of(fingerprint);
        if self.segments[at].len >= SEGMENT_ENTRIES && self.can_split(at) {
            self.split(at);
            at = self.segment_of(fingerprint);
        }
        self.segments[at].insert(Entry { fingerprint, number });
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
        let mut slot = segment.first_at_or_after(fingerprint);
        while let Some(entry) = segment.slots.get_mut(slot) {
            if entry.number == EMPTY || entry.fingerprint != fingerprint {
                return false;
            }
            match change(entry.number) {
                None => slot += 1,
                Some(Some(number)) => {
                    entry.number = number;
                    return true;
                }
                Some(None) => {
                    segment.remove(slot);
                    self.len -= 1;
                    if self.len == 0 {
                        *self = Self::default();
                    }
                    return true;
                }
            }
        }
        false
    }

    /// Takes out the entry of `number`. Returns whether there was one.
    pub(crate) fn remove(&mut self, fingerprint: u32, number: u32) -> bool {
        self.update(fingerprint, |found| (found == number).then_some(None))
    }

    /// All fingerprints, each as often as it is there.
    pub(crate) fn fingerprints(&self) -> impl Iterator<Item = u32> {
        self.segments.iter().flat_map(Segment::entries).map(|entry| entry.fingerprint)
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
        let old = std::mem::take(&mut self.segments[at]);
        let depth = old.depth + 1;
        let bit = 1_u32 << (32 - depth);
        let (lower, upper): (Vec<Entry>, Vec<Entry>) =
            old.entries().partition(|entry| entry.fingerprint & bit == 0);
        let Some(any) = lower.first().or_else(|| upper.first()).map(|entry| entry.fingerprint) else {
            return;
        };
        self.segments[at] = Segment::of(&lower, depth);
        let new = u32::try_from(self.segments.len()).expect("DEPTH_MAX bounds the segments");
        self.segments.push(Segment::of(&upper, depth));
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
}

impl Segment {
    /// A segment of some entries in ascending order.
    fn of(entries: &[Entry], depth: u32) -> Self {
        let len = u32::try_from(entries.len()).expect("as many as a segment held");
        Self::with_tail(entries, depth, 4 + len as usize / 32)
    }

    /// The same with so many slots behind the last place; with twice as many if they do not do.
    fn with_tail(entries: &[Entry], depth: u32, tail: usize) -> Self {
        let len = u32::try_from(entries.len()).expect("as many as a segment held");
        let place_count = len + len / 3 + 2;
        let mut segment = Self { slots: Vec::new(), place_count, len, depth };
        let slot_count = place_count as usize + tail;
        segment.slots.reserve_exact(slot_count);
        for entry in entries {
            let place = segment.place_of(entry.fingerprint);
            if segment.slots.len() < place {
                segment.slots.resize(place, GAP);
            }
            segment.slots.push(*entry);
            if segment.slots.len() > slot_count {
                return Self::with_tail(entries, depth, tail * 2);
            }
        }
        segment.slots.resize(slot_count, GAP);
        segment
    }

    /// Where a fingerprint belongs: the bits below the shared ones, scaled to the places. Ascends with the fingerprint.
    #[inline]
    fn place_of(&self, fingerprint: u32) -> usize {
        let below = u64::from(fingerprint << self.depth);
        usize::try_from((below * u64::from(self.place_count)) >> 32).unwrap_or(0)
    }

    /// The first slot that is a gap or holds this fingerprint or a greater one, from its place on.
    #[inline]
    fn first_at_or_after(&self, fingerprint: u32) -> usize {
        let mut at = self.place_of(fingerprint);
        while self.slots.get(at).is_some_and(|entry| entry.number != EMPTY && entry.fingerprint < fingerprint)
        {
            at += 1;
        }
        at
    }

    /// The numbers under a fingerprint.
    #[inline]
    fn under(&self, fingerprint: u32) -> impl Iterator<Item = u32> {
        let from = self.slots.get(self.place_of(fingerprint)..).unwrap_or_default();
        from.iter()
            .take_while(move |entry| entry.number != EMPTY && entry.fingerprint <= fingerprint)
            .filter(move |entry| entry.fingerprint == fingerprint)
            .map(|entry| entry.number)
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        self.slots.iter().copied().filter(|entry| entry.number != EMPTY)
    }

    fn insert(&mut self, new: Entry) {
        // Seven eighths of the places at most.
        if self.len >= self.place_count - self.place_count / 8 {
            self.rebuild();
        }
        loop {
            let at = self.first_at_or_after(new.fingerprint);
            let free =
                self.slots.get(at..).and_then(|rest| rest.iter().position(|entry| entry.number == EMPTY));
            if let Some(free) = free {
                self.slots.copy_within(at..at + free, at + 1);
                self.slots[at] = new;
                self.len += 1;
                return;
            }
            let entries: Vec<Entry> = self.entries().collect();
            let tail = self.slots.len() - self.place_count as usize;
            *self = Self::with_tail(&entries, self.depth, 2 * tail + 4);
        }
    }

    /// Closes the gap: entries behind it that stand beyond their place move up.
    fn remove(&mut self, at: usize) {
        let mut end = at + 1;
        while let Some(entry) = self.slots.get(end) {
            if entry.number == EMPTY || self.place_of(entry.fingerprint) >= end {
                break;
            }
            end += 1;
        }
        self.slots.copy_within(at + 1..end, at);
        self.slots[end - 1] = GAP;
        self.len -= 1;
        if self.slots.len() > 16 && (self.len as usize) < self.slots.len() / 3 {
            self.rebuild();
        }
    }

    fn rebuild(&mut self) {
        let entries: Vec<Entry> = self.entries().collect();
        *self = Self::of(&entries, self.depth);
    }
}

/// The number that marks a gap.
pub(crate) const EMPTY: u32 = u32::MAX;
const GAP: Entry = Entry { fingerprint: 0, number: EMPTY };

/// Entries at which a segment splits.
const SEGMENT_ENTRIES: u32 = 4_096;

/// Bits of the directory: 2²⁰ segments are 4 billion entries.
const DEPTH_MAX: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fingerprint(n: u32) -> u32 {
        n.wrapping_mul(0x9E37_79B1)
    }

    #[test]
    fn a_hundred_thousand_go_in_and_out() {
        let mut table = FingerTable::default();
        let mut most = 0;
        for n in 0..100_000 {
            table.insert(fingerprint(n), n);
            if n > 1_000 {
                most = most.max(table.heap_bytes() * 10 / (n as usize + 1));
            }
        }
        assert_eq!(table.len(), 100_000);
        assert!(most <= 120, "12 B per entry at any size, {most} tenths");
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
        for shared in [42, u32::MAX] {
            let mut table = FingerTable::default();
            for n in 0..6_000 {
                table.insert(shared, n);
            }
            let mut seen = 0;
            table.for_each(shared, |_| seen += 1);
            assert_eq!(seen, 6_000);
            assert!(table.heap_bytes() < 6_000 * 40, "{}", table.heap_bytes());
            for n in 0..6_000 {
                assert!(table.remove(shared, n));
            }
            assert_eq!(table.len(), 0);
        }
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

    proptest! {
        #[test]
        fn behaves_like_a_list(
            ops in proptest::collection::vec((any::<bool>(), 0_u32..60, 0_u32..4), 1..600), spread in any::<bool>(),
        ) {
            let mut table = FingerTable::default();
            let mut model: Vec<(u32, u32)> = Vec::new();
            for (add, n, number) in ops {
                let fingerprint = if spread { fingerprint(n) } else { u32::MAX - n };
                if add {
                    table.insert(fingerprint, number);
                    model.push((fingerprint, number));
                } else {
                    let there = model.iter().position(|pair| *pair == (fingerprint, number));
                    prop_assert_eq!(table.remove(fingerprint, number), there.is_some());
                    if let Some(at) = there { model.swap_remove(at); }
                }
                let mut found = Vec::new();
                table.for_each(fingerprint, |number| found.push(number));
                let mut expected: Vec<u32> =
                    model.iter().filter(|pair| pair.0 == fingerprint).map(|pair| pair.1).collect();
                found.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(found, expected);
                prop_assert_eq!((table.len(), table.fingerprints().count()), (model.len(), model.len()));
            }
        }
    }
}
