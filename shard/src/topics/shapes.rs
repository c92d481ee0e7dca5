//! Tuple-space search: the shapes in use, each with a table of its filters' hashes.
//!
//! A topic is hashed once; for each shape that fits its number of levels there is one probe. Two things keep a probe cheap
//! when shapes are many: shapes are grouped by their number of levels, so a topic of n levels meets at most 2ⁿ exact shapes
//! and 2ⁿ⁺¹ with `#`; and each shape has a small Bloom filter beside its wildcard mask, so a shape with few filters costs
//! one cache line, read in order. See ADR 0006.

use super::levels::{SHAPE_LEVEL_COUNT_MAX, Shape, TopicHashes};
use super::table::FingerTable;

/// The wildcard filters of one index, as numbers.
#[derive(Debug, Default)]
pub(crate) struct ShapeTables {
    /// By number of levels; grown on demand.
    exact: Vec<Vec<Head>>,
    /// Those that end with `#`, by number of levels before it.
    multi: Vec<Vec<Head>>,
    tables: Vec<FingerTable>,
    free_tables: Vec<u32>,
    len: usize,
}

/// What a search reads of each shape: one cache line.
#[derive(Debug)]
struct Head {
    plus: u128,
    bloom: Bloom,
    table: u32,
    /// Removals since the Bloom filter was made.
    stale: u32,
}

/// 256 bits, one per fingerprint.
#[derive(Clone, Copy, Debug, Default)]
struct Bloom([u64; 4]);

impl Bloom {
    #[inline]
    fn add(&mut self, fingerprint: u32) {
        self.0[(fingerprint >> 6 & 3) as usize] |= 1 << (fingerprint & 63);
    }

    #[inline]
    const fn may_have(&self, fingerprint: u32) -> bool {
        self.0[(fingerprint >> 6 & 3) as usize] >> (fingerprint & 63) & 1 == 1
    }
}

impl ShapeTables {
    /// How many entries there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// How many shapes are in use.
    pub(crate) fn shape_count(&self) -> usize {
        self.tables.len() - self.free_tables.len()
    }

    /// Bytes of heap, as asked from the allocator.
    pub(crate) fn heap_bytes(&self) -> usize {
        let heads: usize =
            self.exact.iter().chain(&self.multi).map(|group| group.capacity() * size_of::<Head>()).sum();
        let groups = (self.exact.capacity() + self.multi.capacity()) * size_of::<Vec<Head>>();
        let tables: usize = self.tables.iter().map(FingerTable::heap_bytes).sum();
        heads
            + groups
            + tables
            + self.tables.capacity() * size_of::<FingerTable>()
            + self.free_tables.capacity() * 4
    }

    /// The first number under `hash` in `shape` that is the one.
    pub(crate) fn find(&self, shape: Shape, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let head = self.group(shape)?.iter().find(|head| head.plus == shape.plus)?;
        self.tables[head.table as usize].find(fingerprint(hash), is_it)
    }

    /// Adds an entry.
    pub(crate) fn insert(&mut self, shape: Shape, hash: u64, number: u32) {
        let fingerprint = fingerprint(hash);
        let groups = if shape.multi { &mut self.multi } else { &mut self.exact };
        let levels = usize::from(shape.levels);
        if groups.len() <= levels {
            groups.resize_with(levels + 1, Vec::new);
        }
        let group = &mut groups[levels];
        let at = match group.iter().position(|head| head.plus == shape.plus) {
            Some(at) => at,
            None => {
                let table = take_table(&mut self.tables, &mut self.free_tables);
                group.push(Head { plus: shape.plus, bloom: Bloom::default(), table, stale: 0 });
                group.len() - 1
            }
        };
        let head = &mut group[at];
        head.bloom.add(fingerprint);
        self.tables[head.table as usize].insert(fingerprint, number);
        self.len += 1;
    }

    /// Replaces the first number under `hash` for which `change` answers; a `None` within removes the entry.
    /// Returns whether there was one.
    pub(crate) fn update(
        &mut self,
        shape: Shape,
        hash: u64,
        change: impl FnMut(u32) -> Option<Option<u32>>,
    ) -> bool {
        let groups = if shape.multi { &mut self.multi } else { &mut self.exact };
        let Some(group) = groups.get_mut(usize::from(shape.levels)) else { return false };
        let Some(at) = group.iter().position(|head| head.plus == shape.plus) else { return false };
        let head = &mut group[at];
        let table = &mut self.tables[head.table as usize];
        let before = table.len();
        if !table.update(fingerprint(hash), change) {
            return false;
        }
        if table.len() < before {
            self.len -= 1;
            if table.len() == 0 {
                self.free_tables.push(head.table);
                group.swap_remove(at);
                self.release_groups();
            } else {
                head.forget(table);
            }
        }
        true
    }

    /// Takes out the entry of `number`. Returns whether there was one.
    pub(crate) fn remove(&mut self, shape: Shape, hash: u64, number: u32) -> bool {
        self.update(shape, hash, |found| (found == number).then_some(None))
    }

    /// Calls `each` with the number of every entry whose shape and hash fit the topic. Different texts with one hash are
    /// told apart by the caller.
    ///
    /// Cost: one cache line per shape that fits the topic's levels, one probe per shape that passes its Bloom filter.
    #[inline]
    pub(crate) fn for_each(&self, topic: &TopicHashes, mut each: impl FnMut(u32)) {
        if self.len == 0 {
            return;
        }
        if let Some(group) = self.exact.get(topic.levels)
            && !topic.is_longer
        {
            self.probe(group, topic, topic.levels, &mut each);
        }
        for (levels, group) in self.multi.iter().enumerate().take(topic.levels + 1) {
            self.probe(group, topic, levels, &mut each);
        }
    }

    #[inline]
    fn probe(&self, group: &[Head], topic: &TopicHashes, levels: usize, each: &mut impl FnMut(u32)) {
        for head in group {
            // [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]: no wildcard at the first level of a topic that begins with $.
            if topic.is_reserved && (head.plus & 1 == 1 || levels == 0) {
                continue;
            }
            let fingerprint = fingerprint(topic.under(levels, head.plus));
            if head.bloom.may_have(fingerprint) {
                self.tables[head.table as usize].for_each(fingerprint, &mut *each);
            }
        }
    }

    fn group(&self, shape: Shape) -> Option<&Vec<Head>> {
        let groups = if shape.multi { &self.multi } else { &self.exact };
        groups.get(usize::from(shape.levels))
    }

    /// Gives the lists back when the last shape has left.
    fn release_groups(&mut self) {
        if self.len == 0 {
            *self = Self::default();
        }
    }
}

impl Head {
    /// Counts a removal; makes the Bloom filter anew when half of what it knows is gone. Amortised O(1).
    fn forget(&mut self, table: &FingerTable) {
        self.stale += 1;
        if self.stale as usize > table.len() + 8 {
            self.stale = 0;
            self.bloom = Bloom::default();
            for fingerprint in table.fingerprints() {
                self.bloom.add(fingerprint);
            }
        }
    }
}

/// The part of a hash that tables keep.
#[inline]
pub(crate) const fn fingerprint(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn take_table(tables: &mut Vec<FingerTable>, free: &mut Vec<u32>) -> u32 {
    if let Some(table) = free.pop() {
        return table;
    }
    tables.push(FingerTable::default());
    u32::try_from(tables.len() - 1).expect("fewer shapes than filters, which are fewer than 2^32")
}

const _: () = assert!(size_of::<Head>() == 64, "one cache line per shape");
const _: () = assert!(SHAPE_LEVEL_COUNT_MAX <= 128, "one bit of Head::plus per level");
