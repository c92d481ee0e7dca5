//! Retained messages whose topic has its home on this shard (§MQTT5 3.3.1.3).
//!
//! An ordered map from topic to message, ordered level by level: `/` sorts below every other byte. Topics under one level
//! are then neighbours, so a filter with a literal prefix touches only that range, and a `+` in the middle leaps from one
//! level name to the next instead of reading what lies below. Chosen over a trie of levels because it needs no nodes
//! besides the topics (a third of the memory), because a position in it is just a topic, which stays valid whatever
//! changes, and because its worst case is one search, O(log topics), per topic or leap.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Retained messages of one shard, on its core. About 50 B per topic besides the topic's text and the message.
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
