//! Retained messages whose topic has its home on this shard (§MQTT5 3.3.1.3).
//!
//! An ordered map from topic to message, ordered level by level: `/` sorts below every other byte. Topics under one level
//! are then neighbours, so a filter with a literal prefix touches only that range, and a `+` in the middle leaps from one
//! level name to the next instead of reading what lies below. Chosen over a trie of levels because it needs no nodes
//! besides the topics (a third of the memory), because a position in it is just a topic, which stays valid whatever
//! changes, and because its worst case is one search, O(log topics), per topic or leap.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Retained messages of one shard, on its core. No part of any session: [MQTT311-3.1.2.7] they stay when it ends. About 50 B per topic besides the topic's text and the message.
#[derive(Debug)]
pub struct RetainedStore<M> {
    topics: BTreeMap<Box<[u8]>, Kept<M>>,
    bytes: u64,
    /// Where [`Self::sweep`] goes on.
    swept_to: Vec<u8>,
}

#[derive(Debug)]
struct Kept<M> {
    message: M,
    bytes: u32,
}

/// A position in a wildcard lookup. It stays valid while messages are set and cleared: topics that are there from the
/// first page to the last come exactly once.
#[derive(Clone, Debug)]
pub struct RetainedCursor {
    filter: Box<str>,
    /// The smallest key that may come next.
    seek: Vec<u8>,
}

/// Whether a lookup or sweep has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Ask again with the same cursor.
    More,
    /// All was seen.
    Done,
}

impl RetainedCursor {
    /// The beginning of a lookup of all topics that match `filter`.
    #[must_use]
    pub fn new(filter: &str) -> Self {
        Self { filter: filter.into(), seek: Vec::new() }
    }

    /// The filter.
    #[must_use]
    pub fn filter(&self) -> &str {
        &self.filter
    }
}

impl<M: Clone> RetainedStore<M> {
    /// An empty store; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { topics: BTreeMap::new(), bytes: 0, swept_to: Vec::new() }
    }

    /// How many topics have a retained message.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Bytes of all messages, as given to [`Self::set`], and of their topics.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps `message`, which occupies `bytes`, for `topic`; the one before comes out. O(log topics).
    pub fn set(&mut self, topic: &str, message: M, bytes: u32) -> Option<M> {
        self.bytes += u64::from(bytes) + topic.len() as u64;
        let old = self.topics.insert(key_of(topic).into_boxed_slice(), Kept { message, bytes })?;
        self.bytes -= u64::from(old.bytes) + topic.len() as u64;
        Some(old.message)
    }

    /// Forgets the message of `topic`. O(log topics).
    pub fn clear(&mut self, topic: &str) -> Option<M> {
        let old = self.topics.remove(&*key_of(topic))?;
        self.bytes -= u64::from(old.bytes) + topic.len() as u64;
        Some(old.message)
    }

    /// The message of `topic`. O(log topics).
    #[must_use]
    pub fn get(&self, topic: &str) -> Option<&M> {
        Some(&self.topics.get(&*key_of(topic))?.message)
    }

    /// Calls `each` with topics that match the cursor's filter, in order, and stops after looking at `step_count_max`
    /// topics (matching or not). Each step costs one search at most.
    pub fn page(
        &self,
        cursor: &mut RetainedCursor,
        step_count_max: usize,
        mut each: impl FnMut(&str, &M),
    ) -> Page {
        let levels: Vec<&[u8]> = cursor.filter.as_bytes().split(|byte| *byte == b'/').collect();
        let mut topic = Vec::new();
        let mut rest = self.from(&cursor.seek);
        for _ in 0..step_count_max {
            let Some((key, kept)) = rest.next() else { return Page::Done };
            let (is_match, leap) = judge(&levels, key);
            if is_match {
                each(topic_of(key, &mut topic), &kept.message);
            }
            match leap {
                Leap::Next => {
                    cursor.seek.clear();
                    cursor.seek.extend_from_slice(key);
                    cursor.seek.push(SLASH);
                }
                Leap::To(seek) => {
                    cursor.seek = seek;
                    rest = self.from(&cursor.seek);
                }
                Leap::End => return Page::Done,
            }
        }
        Page::More
    }

    /// Removes messages for which `is_expired` says so and hands them to `removed`. Looks at `step_count_max` topics and
    /// goes on there the next time; `Done` when it has come round.
    pub fn sweep(
        &mut self,
        step_count_max: usize,
        mut is_expired: impl FnMut(&M) -> bool,
        mut removed: impl FnMut(M),
    ) -> Page {
        let mut expired = Vec::new();
        let mut rest = self.from(&self.swept_to);
        let mut last = None;
        for (key, kept) in rest.by_ref().take(step_count_max) {
            if is_expired(&kept.message) {
                expired.push(key.clone());
            }
            last = Some(key);
        }
        let is_done = rest.next().is_none();
        let mut next = if is_done { Vec::new() } else { last.map_or_else(Vec::new, |key| key.to_vec()) };
        if !is_done {
            next.push(SLASH);
        }
        self.swept_to = next;
        for key in expired {
            if let Some(kept) = self.topics.remove(&key) {
                self.bytes -= u64::from(kept.bytes) + key.len() as u64;
                removed(kept.message);
            }
        }
        if is_done { Page::Done } else { Page::More }
    }

    fn from(&self, seek: &[u8]) -> std::collections::btree_map::Range<'_, Box<[u8]>, Kept<M>> {
        self.topics.range::<[u8], _>((Bound::Included(seek), Bound::Unbounded))
    }
}

impl<M: Clone> Default for RetainedStore<M> {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a lookup goes after a key.
enum Leap {
    /// To the next key.
    Next,
    /// To the first key that is not below this.
    To(Vec<u8>),
    /// Nothing further can match.
    End,
}

/// Whether `key` matches the filter, and which key may match next.
fn judge(filter: &[&[u8]], key: &[u8]) -> (bool, Leap) {
    // [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]: no wildcard at the first level matches a topic that begins with $.
    if key.first() == Some(&b'$') && matches!(filter.first(), Some(&(b"+" | b"#"))) {
        return (false, Leap::To(vec![b'$' + 1]));
    }
    // Where the level at hand begins, and where the last level under a `+` ends.
    let (mut start, mut plus_end) = (0, None);
    let mut is_at_end = false;
    for level in filter {
        if *level == b"#" {
            return (true, Leap::Next);
        }
        if is_at_end {
            // The key is a parent of what is looked for.
            let mut seek = key.to_vec();
            seek.push(SLASH);
            if *level != b"+" {
                seek.extend_from_slice(level);
            }
            return (false, Leap::To(seek));
        }
        let name = key[start..].split(|byte| *byte == SLASH).next().unwrap_or_default();
        let end = start + name.len();
        if *level == b"+" {
            plus_end = Some(end);
        } else if name < *level {
            let mut seek = key[..start].to_vec();
            seek.extend_from_slice(level);
            return (false, Leap::To(seek));
        } else if name > *level {
            return (false, beyond(key, plus_end));
        }
        is_at_end = end == key.len();
        start = end + 1;
    }
    // Past what lies below this key, or past the level under the last `+`.
    (is_at_end, beyond(key, plus_end))
}

/// The first key after all that lies under the last `+`.
fn beyond(key: &[u8], plus_end: Option<usize>) -> Leap {
    match plus_end {
        None => Leap::End,
        Some(end) => {
            let mut seek = key[..end].to_vec();
            seek.push(SLASH + 1);
            Leap::To(seek)
        }
    }
}

/// A topic as a key: `/` becomes the lowest byte, which no topic has `[MQTT5-4.7.3-2]` `[MQTT311-4.7.3-2]`.
fn key_of(topic: &str) -> Vec<u8> {
    topic.bytes().map(|byte| if byte == b'/' { SLASH } else { byte }).collect()
}

/// The topic of a key, spelt out in `text`.
fn topic_of<'a>(key: &[u8], text: &'a mut Vec<u8>) -> &'a str {
    text.clear();
    text.extend(key.iter().map(|byte| if *byte == SLASH { b'/' } else { *byte }));
    std::str::from_utf8(text).expect("copied from a &str in key_of")
}

const SLASH: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::levels::filter_matches;
    use crate::topics::levels::tests::all_filters_and_topics;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// All topics that match, in pages of some steps, and how many steps it took.
    fn lookup(store: &RetainedStore<u32>, filter: &str, step_count_max: usize) -> (Vec<String>, usize) {
        let mut cursor = RetainedCursor::new(filter);
        let (mut found, mut pages) = (Vec::new(), 1);
        while store.page(&mut cursor, step_count_max, |topic, _| found.push(topic.to_owned())) == Page::More {
            pages += 1;
        }
        (found, pages * step_count_max)
    }

    fn store_of(topics: &[String]) -> RetainedStore<u32> {
        let mut store = RetainedStore::new();
        for (topic, n) in topics.iter().zip(0..) {
            assert_eq!(store.set(topic, n, 10), None);
        }
        store
    }

    #[test]
    fn every_filter_of_three_levels_finds_its_topics_in_any_page_size() {
        // [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]
        let (filters, topics) = all_filters_and_topics();
        let store = store_of(&topics);
        for filter in &filters {
            let expected: BTreeSet<&String> =
                topics.iter().filter(|topic| filter_matches(filter, topic)).collect();
            for steps in [1, 3, 1_000] {
                let (found, _) = lookup(&store, filter, steps);
                assert_eq!(found.len(), expected.len(), "{filter} {steps}: {found:?}");
                assert_eq!(found.iter().collect::<BTreeSet<_>>(), expected, "{filter} {steps}");
            }
        }
    }

    #[test]
    fn the_last_message_of_a_topic_is_kept_and_counted() {
        // [MQTT5-3.3.1-5] [MQTT5-3.3.1-6] [MQTT311-3.3.1-5]
        let mut store = RetainedStore::new();
        assert_eq!(store.set("a/b", 1, 100), None);
        assert_eq!(store.set("a/b", 2, 50), Some(1));
        assert_eq!((store.get("a/b"), store.len(), store.bytes()), (Some(&2), 1, 53));
        assert_eq!(store.clear("a/b"), Some(2));
        assert_eq!((store.clear("a/b"), store.bytes()), (None, 0));
        assert!(store.is_empty());
    }

    #[test]
    fn a_literal_prefix_or_a_leap_saves_steps() {
        let topics: Vec<String> =
            (0..100).flat_map(|site| (0..100).map(move |n| format!("site/{site}/device/{n}"))).collect();
        let store = store_of(&topics);
        let steps_of = |filter: &str| {
            let (found, steps) = lookup(&store, filter, 1);
            (found.len(), steps)
        };
        assert_eq!(steps_of("site/7/device/7").0, 1);
        assert!(steps_of("site/7/device/7").1 <= 3);
        assert!(matches!(steps_of("site/7/#"), (100, steps) if steps <= 103));
        assert!(matches!(steps_of("site/+/device/7"), (100, steps) if steps <= 305));
        assert!(matches!(steps_of("site/+/nothing"), (0, steps) if steps <= 205));
        assert!(matches!(steps_of("other/#"), (0, steps) if steps <= 2));
        assert_eq!(steps_of("#").0, 10_000);
    }

    #[test]
    fn a_lookup_goes_on_while_topics_come_and_go() {
        let topics: Vec<String> = (0..100).map(|n| format!("t/{n:03}")).collect();
        let mut store = store_of(&topics);
        let mut cursor = RetainedCursor::new("t/+");
        let mut found = Vec::new();
        let mut round = 0;
        while store.page(&mut cursor, 10, |topic, _| found.push(topic.to_owned())) == Page::More {
            // What was just seen goes, something new comes behind it.
            for topic in &found[found.len() - 5..] {
                store.clear(topic);
            }
            store.set(&format!("t/{round:03}a"), 0, 1);
            round += 1;
        }
        assert_eq!(found, topics);
    }

    #[test]
    fn the_sweep_comes_round_and_takes_what_has_expired() {
        let topics: Vec<String> = (0..1_000).map(|n| format!("t/{n}")).collect();
        let mut store = store_of(&topics);
        let mut gone = Vec::new();
        let mut pages = 1;
        while store.sweep(64, |message| message % 3 == 0, |message| gone.push(message)) == Page::More {
            pages += 1;
        }
        gone.sort_unstable();
        assert_eq!(gone, (0..1_000).step_by(3).collect::<Vec<_>>());
        assert_eq!((pages, store.len()), (16, 666));
        assert_eq!(
            store.bytes(),
            topics
                .iter()
                .filter(|topic| store.get(topic).is_some())
                .map(|t| t.len() as u64 + 10)
                .sum::<u64>()
        );
        assert_eq!(store.sweep(10_000, |_| true, |_| {}), Page::Done);
        assert!(store.is_empty() && store.bytes() == 0);
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop_oneof![
            Just("a"),
            Just("ab"),
            Just("a-b"),
            Just("b"),
            Just(""),
            Just("$a"),
            Just("\u{1}"),
            Just("+")
        ]
    }

    proptest! {
        #[test]
        fn finds_what_matches(
            topics in proptest::collection::vec(proptest::collection::vec(level(), 1..5), 0..60),
            filter in proptest::collection::vec(level(), 1..5), multi in any::<bool>(), steps in 1_usize..9,
        ) {
            let mut topics: Vec<String> = topics.into_iter().map(|levels| levels.join("/").replace('+', "x")).collect();
            topics.retain(|topic| !topic.is_empty());
            topics.sort();
            topics.dedup();
            let filter = filter.join("/") + if multi { "/#" } else { "" };
            let (mut found, _) = lookup(&store_of(&topics), &filter, steps);
            found.sort();
            topics.retain(|topic| filter_matches(&filter, topic));
            prop_assert_eq!(found, topics);
        }
    }
}
