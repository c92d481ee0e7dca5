//! Interest: which other shards want a topic.
//!
//! Built like the topic index, but without texts: a filter is the hash of its literal levels. Two filters with one hash
//! look like one that is wanted twice, so a shard may now and then get a message that nobody there wants (about one in
//! 400 at ten million filters); it never misses one. The receiving shard matches exactly.

use super::levels::{Filed, LevelKeys, TopicHashes};
use super::shapes::{ShapeTables, fingerprint};
use super::table::FingerTable;
use crate::ids::ShardId;
use crate::limits::SHARD_COUNT_MAX;

/// Filters of the other shards, counted per shard. One per shard, on its core; about 14 B per literal filter and shard.
///
/// With one shard it holds nothing and answers nothing.
///
/// Filters with a wildcard and more than four `+` or more than sixteen levels are held as the
/// wider filter that ends with `#` there. That bounds the shapes that one topic can meet, whatever peers subscribe to.
#[derive(Debug)]
pub struct InterestTable {
    keys: LevelKeys,
    literal: FingerTable,
    wildcard: ShapeTables,
    is_alone: bool,
}

impl InterestTable {
    /// An empty table for a process of `shard_count` shards, its hashes keyed with a random `seed`.
    #[must_use]
    pub fn new(shard_count: u16, seed: u64) -> Self {
        Self {
            keys: LevelKeys::new(seed),
            literal: FingerTable::default(),
            wildcard: ShapeTables::default(),
            is_alone: shard_count <= 1,
        }
    }

    /// Notes that `shard` wants `filter`: once for each filter that got its first subscriber there. Amortised O(length).
    pub fn add(&mut self, shard: ShardId, filter: &str) {
        if self.is_alone {
            return;
        }
        let filed = self.filed(filter);
        let one_more = |number: u32| (shard_of(number) == shard.0).then(|| Some(count_up(number)));
        let known = match filed.shape {
            None => self.literal.update(fingerprint(filed.hash), one_more),
            Some(shape) => self.wildcard.update(shape, filed.hash, one_more),
        };
        if known {
            return;
        }
        let first = u32::from(shard.0) << COUNT_BITS | 1;
        match filed.shape {
            None => self.literal.insert(fingerprint(filed.hash), first),
            Some(shape) => self.wildcard.insert(shape, filed.hash, first),
        }
    }

    /// Notes that `shard` no longer wants `filter`, which it had added. False if it had not.
    pub fn remove(&mut self, shard: ShardId, filter: &str) -> bool {
        if self.is_alone {
            return false;
        }
        let filed = self.filed(filter);
        let one_less = |number: u32| (shard_of(number) == shard.0).then(|| count_down(number));
        match filed.shape {
            None => self.literal.update(fingerprint(filed.hash), one_less),
            Some(shape) => self.wildcard.update(shape, filed.hash, one_less),
        }
    }

    /// Adds to `shards` every shard that wants `topic`, and rarely one that does not. Allocates nothing.
    #[inline]
    pub fn wants(&self, topic: &str, shards: &mut ShardSet) {
        if self.literal.len() + self.wildcard.len() == 0 {
            return;
        }
        let hashes = TopicHashes::of(topic, &self.keys);
        self.literal.for_each(fingerprint(hashes.total), |number| shards.insert(ShardId(shard_of(number))));
        self.wildcard.for_each(&hashes, |number| shards.insert(ShardId(shard_of(number))));
    }

    /// How many (filter, shard) pairs it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.literal.len() + self.wildcard.len()
    }

    /// Whether no other shard wants anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of heap, as asked from the allocator.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.literal.heap_bytes() + self.wildcard.heap_bytes()
    }

    fn filed(&self, filter: &str) -> Filed {
        Filed::within(filter, &self.keys, LEVEL_COUNT_MAX, PLUS_COUNT_MAX)
    }
}

/// A set of shards: one bit for each of [`SHARD_COUNT_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSet {
    words: [u64; WORD_COUNT],
}

impl ShardSet {
    /// No shard.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: [0; WORD_COUNT] }
    }

    /// Adds a shard.
    ///
    /// # Panics
    /// If it is [`SHARD_COUNT_MAX`] or above, which no process has.
    #[inline]
    pub fn insert(&mut self, shard: ShardId) {
        self.words[usize::from(shard.0 / 64)] |= 1 << (shard.0 % 64);
    }

    /// Takes a shard out.
    pub fn remove(&mut self, shard: ShardId) {
        self.words[usize::from(shard.0 / 64)] &= !(1 << (shard.0 % 64));
    }

    /// Whether the shard is in the set.
    #[must_use]
    pub fn contains(&self, shard: ShardId) -> bool {
        self.words[usize::from(shard.0 / 64)] >> (shard.0 % 64) & 1 == 1
    }

    /// Whether no shard is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many shards are in it.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.words = [0; WORD_COUNT];
    }

    /// The shards, ascending.
    pub fn iter(&self) -> impl Iterator<Item = ShardId> {
        self.words.iter().zip(0_u16..).flat_map(|(word, at)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = u16::try_from(rest.trailing_zeros()).ok().filter(|bit| *bit < 64)?;
                rest &= rest - 1;
                Some(ShardId(at * 64 + bit))
            })
        })
    }
}

impl Default for ShardSet {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
const fn shard_of(number: u32) -> u16 {
    (number >> COUNT_BITS) as u16
}

/// A count that has reached its top stays there: rather a message too many for ever than one too few.
const fn count_up(number: u32) -> u32 {
    if number & COUNT_TOP == COUNT_TOP { number } else { number + 1 }
}

const fn count_down(number: u32) -> Option<u32> {
    match number & COUNT_TOP {
        COUNT_TOP => Some(number),
        0 | 1 => None,
        _ => Some(number - 1),
    }
}

/// `+` levels of a filter that interest tells apart.
const PLUS_COUNT_MAX: u32 = 4;
/// Levels of a wildcard filter that interest tells apart.
const LEVEL_COUNT_MAX: usize = 16;

const COUNT_BITS: u32 = 16;
const COUNT_TOP: u32 = (1 << COUNT_BITS) - 1;
const WORD_COUNT: usize = SHARD_COUNT_MAX as usize / 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::levels::filter_matches;
    use crate::topics::levels::tests::all_filters_and_topics;
    use proptest::prelude::*;

    fn wanted(table: &InterestTable, topic: &str) -> Vec<u16> {
        let mut set = ShardSet::new();
        table.wants(topic, &mut set);
        set.iter().map(|shard| shard.0).collect()
    }

    #[test]
    fn every_filter_of_three_levels_is_wanted_exactly() {
        let (filters, topics) = all_filters_and_topics();
        for filter in &filters {
            let mut table = InterestTable::new(8, 3);
            table.add(ShardId(5), filter);
            for topic in &topics {
                let expected = if filter_matches(filter, topic) { vec![5] } else { vec![] };
                assert_eq!(wanted(&table, topic), expected, "{filter} {topic}");
            }
            assert!(table.remove(ShardId(5), filter));
            assert!(table.is_empty());
            assert_eq!(table.heap_bytes(), 0);
        }
    }

    #[test]
    fn alone_it_costs_nothing() {
        let mut table = InterestTable::new(1, 3);
        table.add(ShardId(0), "a/#");
        assert_eq!(wanted(&table, "a/b"), [] as [u16; 0]);
        assert_eq!(table.heap_bytes(), 0);
    }

    #[test]
    fn filters_beyond_the_limits_are_widened_never_missed() {
        let deep = vec!["a"; 40].join("/");
        let filters = [
            "+/+/+/+/+/x".to_owned(),
            format!("{deep}/+"),
            format!("+/{deep}"),
            format!("{deep}/#"),
            deep.clone(),
        ];
        let topics =
            ["1/2/3/4/5/x".to_owned(), format!("{deep}/b"), format!("b/{deep}"), format!("{deep}/c/d"), deep];
        let mut table = InterestTable::new(4, 9);
        for filter in &filters {
            table.add(ShardId(2), filter);
        }
        for topic in &topics {
            assert!(filters.iter().any(|filter| filter_matches(filter, topic)));
            assert_eq!(wanted(&table, topic), [2], "{topic}");
        }
        for filter in &filters {
            assert!(table.remove(ShardId(2), filter));
        }
        assert!(table.is_empty());
    }

    #[test]
    fn a_literal_filter_costs_at_most_sixteen_bytes() {
        let mut table = InterestTable::new(2, 1);
        for n in 0..200_000 {
            table.add(ShardId(1), &format!("device/{n}/state"));
        }
        assert!(table.heap_bytes() <= 200_000 * 16, "{}", table.heap_bytes());
        let strangers = (0..200_000).filter(|n| !wanted(&table, &format!("other/{n}")).is_empty()).count();
        assert!(strangers < 60, "{strangers} false positives, about 9 expected");
    }

    #[test]
    fn shards_come_out_in_order() {
        let mut set = ShardSet::new();
        for shard in [1_023, 0, 63, 64, 500] {
            set.insert(ShardId(shard));
        }
        assert_eq!(set.iter().map(|shard| shard.0).collect::<Vec<_>>(), [0, 63, 64, 500, 1_023]);
        assert_eq!(set.len(), 5);
        set.remove(ShardId(64));
        assert!(!set.contains(ShardId(64)) && set.contains(ShardId(63)));
        set.clear();
        assert!(set.is_empty());
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just("$x"), Just("+")]
    }

    proptest! {
        #[test]
        fn nothing_wanted_is_missed(
            filters in proptest::collection::vec(
                (0_u16..6, proptest::collection::vec(level(), 1..22), any::<bool>()), 1..60),
            topics in proptest::collection::vec(proptest::collection::vec(level(), 1..22), 1..20),
        ) {
            let mut table = InterestTable::new(6, 77);
            let filters: Vec<(ShardId, String)> = filters
                .into_iter()
                .map(|(shard, levels, multi)| (ShardId(shard), levels.join("/") + if multi { "/#" } else { "" }))
                .collect();
            for (shard, filter) in &filters {
                table.add(*shard, filter);
            }
            let mut kept = filters;
            while !kept.is_empty() {
                for topic in &topics {
                    let topic = topic.join("/").replace('+', "a");
                    let found = wanted(&table, &topic);
                    for (shard, filter) in &kept {
                        prop_assert!(!filter_matches(filter, &topic) || found.contains(&shard.0), "{} {}", filter, topic);
                    }
                }
                for (shard, filter) in kept.drain(..kept.len().div_ceil(2)) {
                    prop_assert!(table.remove(shard, &filter));
                }
            }
            prop_assert!(table.is_empty());
        }
    }
}
