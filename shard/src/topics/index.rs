//! The topic index of one shard: filters of its own sessions → who gets the messages.
//!
//! Literal filters are found by the hash of the whole topic, wildcard filters by tuple-space search over the shapes in use
//! ([`super::shapes`], ADR 0006). What a hash finds is checked against the filter's text, so there are no false matches.
//! Pure; one per shard, on its core.

use super::dense::DenseSet;
use super::levels::{Filed, LevelKeys, TopicHashes, bytes_match};
use super::records::{FilterId, Holder, Records};
use super::shapes::{ShapeTables, fingerprint};
use super::subscriber::{Subscriber, Target};
use super::table::FingerTable;
use crate::slab::Slab;

/// Filters and their subscribers.
///
/// Cost of one literal filter of 25 B with one subscriber: 40 B record, about 14 B in the table. A further subscriber of
/// the same filter: 12 B, and about 6 B in the position table when they are many (doubled at worst while the list grows).
/// Subscribe and unsubscribe are amortised O(1), also for a filter with a million subscribers.
#[derive(Debug)]
pub struct FilterIndex {
    keys: LevelKeys,
    literal: FingerTable,
    wildcard: ShapeTables,
    records: Records,
    lists: Slab<DenseSet<Subscriber>>,
    subscription_count: usize,
}

/// What a subscribe did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The filter: stable until its last subscriber leaves.
    pub filter: FilterId,
    /// The subscription that was there before, now replaced `[MQTT5-3.8.4-3]` `[MQTT311-3.8.4-3]`.
    pub replaced: Option<Subscriber>,
    /// Whether the filter had no subscriber before: other shards must learn of it.
    pub first_of_filter: bool,
}

/// What an unsubscribe did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribed {
    /// The subscription that ended.
    pub subscriber: Subscriber,
    /// Whether it was the filter's last: the filter is gone and its id may be used again.
    pub last_of_filter: bool,
}

/// Counts and sizes of an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Distinct filters.
    pub filter_count: usize,
    /// Of them, with wildcards.
    pub wildcard_count: usize,
    /// Shapes of wildcards in use: a match looks at those that fit the topic's number of levels.
    pub shape_count: usize,
    /// Subscribers over all filters.
    pub subscription_count: usize,
    /// Bytes of heap, as asked from the allocator.
    pub heap_bytes: usize,
}

impl FilterIndex {
    /// An empty index whose hashes are keyed with a random `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            keys: LevelKeys::new(seed),
            literal: FingerTable::default(),
            wildcard: ShapeTables::default(),
            records: Records::default(),
            lists: Slab::new(),
            subscription_count: 0,
        }
    }

    /// Adds or replaces the subscription of `subscriber`'s session or group to `filter`, a valid topic filter (without
    /// `$share/…/`). Amortised O(length of the filter).
    pub fn subscribe(&mut self, filter: &str, subscriber: Subscriber) -> Subscribed {
        let filed = Filed::of(filter, &self.keys);
        let (id, first_of_filter) = match self.find(filter, filed) {
            Some(id) => (id, false),
            None => (self.insert(filter, filed), true),
        };
        let replaced = match self.records.holder(id) {
            Holder::Nobody => {
                self.records.set_holder(id, Holder::One(subscriber));
                None
            }
            Holder::One(old) if old.target() == subscriber.target() => {
                self.records.set_holder(id, Holder::One(subscriber));
                Some(old)
            }
            Holder::One(old) => {
                let mut list = DenseSet::new();
                list.insert(old);
                list.insert(subscriber);
                let list = self.lists.insert(list).index;
                self.records.set_holder(id, Holder::List(list));
                None
            }
            Holder::List(list) => self.lists.at_mut(list).and_then(|list| list.insert(subscriber)),
        };
        self.subscription_count += usize::from(replaced.is_none());
        Subscribed { filter: id, replaced, first_of_filter }
    }

    /// Ends the subscription of `target` to the filter. Amortised O(1); with the last subscriber the filter goes too.
    pub fn unsubscribe(&mut self, filter: FilterId, target: Target) -> Option<Unsubscribed> {
        if !self.records.contains(filter) {
            return None;
        }
        let (subscriber, last_of_filter) = match self.records.holder(filter) {
            Holder::Nobody => return None,
            Holder::One(subscriber) if subscriber.target() == target => {
                self.remove(filter);
                (subscriber, true)
            }
            Holder::One(_) => return None,
            Holder::List(at) => {
                let list = self.lists.at_mut(at)?;
                let subscriber = list.remove(target.key())?;
                if let [only] = *list.as_slice() {
                    self.lists.remove_at(at);
                    self.records.set_holder(filter, Holder::One(only));
                }
                (subscriber, false)
            }
        };
        self.subscription_count -= 1;
        Some(Unsubscribed { subscriber, last_of_filter })
    }

    /// The id of a filter that has subscribers.
    #[must_use]
    pub fn lookup(&self, filter: &str) -> Option<FilterId> {
        self.find(filter, Filed::of(filter, &self.keys))
    }

    /// The subscription of `target` to a filter.
    #[must_use]
    pub fn subscription(&self, filter: FilterId, target: Target) -> Option<Subscriber> {
        if !self.records.contains(filter) {
            return None;
        }
        match self.records.holder(filter) {
            Holder::One(subscriber) => (subscriber.target() == target).then_some(subscriber),
            Holder::List(list) => self.lists.at(list)?.get(target.key()),
            Holder::Nobody => None,
        }
    }

    /// The text of a filter; empty if there is no such filter.
    #[must_use]
    pub fn filter_text(&self, filter: FilterId) -> &str {
        self.records.text(filter)
    }

    /// Calls `each` with every filter that matches `topic` and its subscribers, side by side for a tight loop. The order
    /// depends only on the operations before.
    ///
    /// Allocates nothing. Cost: one hash over the topic, one table probe for literal filters, and what
    /// [`super::shapes`] says for wildcards.
    #[inline]
    pub fn for_each_match(&self, topic: &str, mut each: impl FnMut(FilterId, &[Subscriber])) {
        let hashes = TopicHashes::of(topic, &self.keys);
        let bytes = topic.as_bytes();
        let literal =
            self.literal.find(fingerprint(hashes.total), |id| self.records.text_bytes(FilterId(id)) == bytes);
        if let Some(id) = literal {
            self.visit(FilterId(id), &mut each);
        }
        self.wildcard.for_each(&hashes, |id| {
            if bytes_match(self.records.text_bytes(FilterId(id)), bytes) {
                self.visit(FilterId(id), &mut each);
            }
        });
    }

    /// Whether any filter matches `topic`.
    #[must_use]
    pub fn has_match(&self, topic: &str) -> bool {
        let mut found = false;
        self.for_each_match(topic, |_, _| found = true);
        found
    }

    /// All filters with their subscribers, in an order that depends only on the operations before.
    pub fn for_each(&self, mut each: impl FnMut(FilterId, &str, &[Subscriber])) {
        for id in self.records.ids() {
            let text = self.filter_text(id);
            self.visit(id, &mut |id, subscribers: &[Subscriber]| each(id, text, subscribers));
        }
    }

    /// Subscribers over all filters.
    #[must_use]
    pub const fn subscription_count(&self) -> usize {
        self.subscription_count
    }

    /// Distinct filters.
    #[must_use]
    pub fn filter_count(&self) -> usize {
        self.records.len()
    }

    /// Counts and sizes. Walks the index's chunks: for metrics, not per message.
    #[must_use]
    pub fn stats(&self) -> IndexStats {
        let lists: usize = self.lists.iter().map(|(_, list)| list.heap_bytes()).sum();
        IndexStats {
            filter_count: self.records.len(),
            wildcard_count: self.wildcard.len(),
            shape_count: self.wildcard.shape_count(),
            subscription_count: self.subscription_count,
            heap_bytes: lists
                + self.lists.heap_bytes()
                + self.literal.heap_bytes()
                + self.wildcard.heap_bytes()
                + self.records.heap_bytes(),
        }
    }

    #[inline]
    fn visit(&self, id: FilterId, each: &mut impl FnMut(FilterId, &[Subscriber])) {
        match self.records.holder(id) {
            Holder::One(subscriber) => each(id, &[subscriber]),
            Holder::List(list) => {
                if let Some(list) = self.lists.at(list) {
                    each(id, list.as_slice());
                }
            }
            Holder::Nobody => {}
        }
    }

    fn find(&self, filter: &str, filed: Filed) -> Option<FilterId> {
        let is_it = |id| self.records.text_bytes(FilterId(id)) == filter.as_bytes();
        let found = match filed.shape {
            None => self.literal.find(fingerprint(filed.hash), is_it),
            Some(shape) => self.wildcard.find(shape, filed.hash, is_it),
        };
        found.map(FilterId)
    }

    fn insert(&mut self, filter: &str, filed: Filed) -> FilterId {
        let id = self.records.insert(filter);
        match filed.shape {
            None => self.literal.insert(fingerprint(filed.hash), id.0),
            Some(shape) => self.wildcard.insert(shape, filed.hash, id.0),
        }
        id
    }

    fn remove(&mut self, id: FilterId) {
        let filed = Filed::of(self.filter_text(id), &self.keys);
        let was_there = match filed.shape {
            None => self.literal.remove(fingerprint(filed.hash), id.0),
            Some(shape) => self.wildcard.remove(shape, filed.hash, id.0),
        };
        assert!(was_there, "each record is filed once");
        self.records.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::levels::tests::{all_filters_and_topics, naive_match};
    use dunlin_wire::types::{QoS, SubscriptionOptions};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn subscriber(session: u32) -> Subscriber {
        Subscriber::session(session, SubscriptionOptions::with_qos(QoS::AtLeastOnce), 0)
    }

    fn matches(index: &FilterIndex, topic: &str) -> Vec<(String, Vec<u32>)> {
        let mut found = Vec::new();
        index.for_each_match(topic, |id, subscribers| {
            let sessions = subscribers.iter().map(|one| one.target().key()).collect();
            found.push((index.filter_text(id).to_owned(), sessions));
        });
        found.sort();
        found
    }

    #[test]
    fn every_filter_of_three_levels_against_every_topic() {
        // [MQTT5-4.7.1-1] [MQTT5-4.7.1-2] [MQTT5-4.7.2-1] [MQTT311-4.7.1-2] [MQTT311-4.7.1-3] [MQTT311-4.7.2-1]
        let (filters, topics) = all_filters_and_topics();
        let mut index = FilterIndex::new(11);
        let ids: Vec<FilterId> =
            filters.iter().map(|filter| index.subscribe(filter, subscriber(1)).filter).collect();
        for topic in &topics {
            let mut expected: Vec<String> =
                filters.iter().filter(|filter| naive_match(filter, topic)).cloned().collect();
            expected.sort();
            let found: Vec<String> = matches(&index, topic).into_iter().map(|(filter, _)| filter).collect();
            assert_eq!(found, expected, "{topic}");
        }
        for id in ids {
            assert!(index.unsubscribe(id, Target::Session(1)).unwrap().last_of_filter);
        }
        assert_eq!(index.stats().filter_count, 0);
        assert_eq!(index.stats().shape_count, 0);
    }

    #[test]
    fn a_second_subscribe_replaces_the_first() {
        // [MQTT5-3.8.4-3] [MQTT311-3.8.4-3]
        let mut index = FilterIndex::new(1);
        let first = index.subscribe("a/+", subscriber(4));
        assert!(first.first_of_filter && first.replaced.is_none());
        let again = Subscriber::session(4, SubscriptionOptions::with_qos(QoS::ExactlyOnce), 9);
        let second = index.subscribe("a/+", again);
        assert_eq!(
            second,
            Subscribed { filter: first.filter, replaced: Some(subscriber(4)), first_of_filter: false }
        );
        assert_eq!(index.subscription(first.filter, Target::Session(4)), Some(again));
        assert_eq!(matches(&index, "a/b"), [("a/+".to_owned(), vec![4])]);
        assert_eq!(index.stats().subscription_count, 1);
    }

    #[test]
    fn groups_and_sessions_with_one_number_are_different() {
        let mut index = FilterIndex::new(1);
        let group = Subscriber::group(crate::topics::GroupId(3));
        let id = index.subscribe("a", group).filter;
        assert!(index.subscribe("a", subscriber(3)).replaced.is_none());
        assert_eq!(index.subscription(id, group.target()), Some(group));
        assert!(index.unsubscribe(id, Target::Session(3)).is_some());
        assert_eq!(index.unsubscribe(id, Target::Session(3)), None);
        let last = index.unsubscribe(id, group.target()).unwrap();
        assert_eq!(last, Unsubscribed { subscriber: group, last_of_filter: true });
        assert_eq!(index.unsubscribe(id, group.target()), None);
        assert_eq!(index.filter_text(id), "");
    }

    #[test]
    fn filters_beyond_the_levels_of_a_shape_and_long_texts_match() {
        let deep = |levels: usize, last: &str| {
            let mut text = "a/".repeat(levels - 1);
            text.push_str(last);
            text
        };
        let mut index = FilterIndex::new(3);
        for levels in [127, 128, 129, 130, 400] {
            for last in ["a", "+", "#", "b"] {
                index.subscribe(&deep(levels, last), subscriber(1));
            }
            index.subscribe(&format!("+/{}", deep(levels - 1, "a")), subscriber(1));
            index.subscribe(&deep(levels, "x").replace("/x", "/+/c"), subscriber(1));
        }
        let mut all = Vec::new();
        index.for_each(|_, text, _| all.push(text.to_owned()));
        for levels in 126..=131 {
            for last in ["a", "b", "c"] {
                let topic = deep(levels, last);
                let mut expected: Vec<String> =
                    all.iter().filter(|filter| naive_match(filter, &topic)).cloned().collect();
                expected.sort();
                let found: Vec<String> = matches(&index, &topic).into_iter().map(|(text, _)| text).collect();
                assert_eq!(found, expected, "{levels} {last}");
            }
        }
        let long = "x".repeat(60_000);
        let id = index.subscribe(&long, subscriber(2)).filter;
        assert_eq!(index.filter_text(id), long);
        assert!(index.has_match(&long));
        assert!(index.unsubscribe(id, Target::Session(2)).is_some());
        assert!(!index.has_match(&long));
    }

    #[test]
    fn a_hundred_thousand_come_and_go_and_leave_nothing() {
        let mut index = FilterIndex::new(8);
        for round in 0..3 {
            let ids: Vec<FilterId> = (0..100_000)
                .map(|n| {
                    let filter = match n % 3 {
                        0 => format!("device/{n}/#"),
                        1 => format!("site/{n}/+/temperature"),
                        _ => format!("device/{n}/state"),
                    };
                    index.subscribe(&filter, subscriber(n)).filter
                })
                .collect();
            let stats = index.stats();
            assert_eq!((stats.filter_count, stats.shape_count), (100_000, 2));
            assert!(stats.heap_bytes < 100_000 * 75, "{}", stats.heap_bytes);
            for (id, n) in ids.iter().zip(0..) {
                assert!(index.unsubscribe(*id, Target::Session(n)).is_some(), "round {round}");
            }
            assert!(index.stats().heap_bytes < 16_384, "{:?}", index.stats());
        }
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just("c"), Just(""), Just("$x"), Just("+"), Just("longer-name")]
    }

    proptest! {
        #[test]
        fn matches_like_the_rule_after_any_operations(
            ops in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(level(), 1..6), any::<bool>(), 0_u32..40), 1..300),
            topics in proptest::collection::vec(proptest::collection::vec(level(), 1..6), 1..30),
            seed in any::<u64>(),
        ) {
            let mut index = FilterIndex::new(seed);
            let mut model: BTreeMap<String, BTreeMap<u32, FilterId>> = BTreeMap::new();
            for (add, levels, multi, session) in ops {
                let mut filter = levels.join("/");
                if multi { filter.push_str("/#"); }
                if filter.is_empty() { continue; }
                if add {
                    let done = index.subscribe(&filter, subscriber(session));
                    let sessions = model.entry(filter).or_default();
                    prop_assert_eq!(done.first_of_filter, sessions.is_empty());
                    prop_assert_eq!(done.replaced.is_some(), sessions.insert(session, done.filter).is_some());
                } else if let Some(sessions) = model.get_mut(&filter) {
                    let id = index.lookup(&filter).unwrap();
                    let gone = index.unsubscribe(id, Target::Session(session));
                    prop_assert_eq!(gone.is_some(), sessions.remove(&session).is_some());
                    if let Some(gone) = gone {
                        prop_assert_eq!(gone.last_of_filter, sessions.is_empty());
                    }
                    if sessions.is_empty() { model.remove(&filter); }
                } else {
                    prop_assert_eq!(index.lookup(&filter), None);
                }
            }
            for topic in topics {
                let topic = topic.join("/").replace('+', "p");
                if topic.is_empty() { continue; }
                let expected: Vec<(String, Vec<u32>)> = model
                    .iter()
                    .filter(|(filter, _)| naive_match(filter, &topic))
                    .map(|(filter, sessions)| (filter.clone(), sessions.keys().copied().collect()))
                    .collect();
                let mut found = matches(&index, &topic);
                for (_, sessions) in &mut found { sessions.sort_unstable(); }
                prop_assert_eq!(found, expected);
            }
            prop_assert_eq!(index.stats().filter_count, model.len());
        }
    }
}
