//! Levels of topics and filters: the rule of matching, and the hashes by which filters are found.
//!
//! A filter's *shape* says which of its levels are wildcards. Filters of one shape differ only in their literal levels, so
//! one hash over the literal levels of a topic finds all of them at once. The hash is a sum over levels, so the hash for
//! each shape is the sum of all levels minus those under a `+`.

use super::hash::HashKey;

/// Levels that a shape tells apart. Longer filters are filed under their first levels and told apart by their text.
/// `mqtt.max_topic_levels` is 128 by default.
pub(crate) const SHAPE_LEVEL_COUNT_MAX: usize = 128;

/// Whether a topic name matches a topic filter (§MQTT5 4.7, §MQTT311 4.7). Both must be valid.
///
/// Linear in the length of both; no allocation.
#[must_use]
pub fn filter_matches(filter: &str, topic: &str) -> bool {
    bytes_match(filter.as_bytes(), topic.as_bytes())
}

pub(crate) fn bytes_match(filter: &[u8], topic: &[u8]) -> bool {
    // [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]: a wildcard at the first level does not match a topic that begins with $.
    if topic.first() == Some(&b'$') && matches!(filter.first(), Some(b'+' | b'#')) {
        return false;
    }
    let (mut filter_at, mut topic_at) = (0, 0);
    loop {
        match filter.get(filter_at) {
            Some(b'#') => return true,
            Some(b'+') => {
                filter_at += 1;
                topic_at += level_len(&topic[topic_at..]);
            }
            _ => {
                let literal = &filter[filter_at..][..level_len(&filter[filter_at..])];
                let level = &topic[topic_at..][..level_len(&topic[topic_at..])];
                if literal != level {
                    return false;
                }
                filter_at += literal.len();
                topic_at += level.len();
            }
        }
        match (filter.get(filter_at), topic.get(topic_at)) {
            (None, None) => return true,
            (Some(_), Some(_)) => {
                filter_at += 1;
                topic_at += 1;
            }
            // §MQTT5 4.7.1.2: `a/#` also matches the parent level `a`.
            (Some(_), None) => return filter[filter_at..] == *b"/#",
            (None, Some(_)) => return false,
        }
    }
}

/// Whether a filter has a wildcard in it.
#[must_use]
pub fn has_wildcard(filter: &str) -> bool {
    filter.bytes().any(|byte| byte == b'+' || byte == b'#')
}

/// Which levels of a filter are wildcards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bit n set: level n is `+`.
    pub(crate) plus: u128,
    /// Levels without a final `#`.
    pub(crate) levels: u8,
    /// Whether it ends with `#`.
    pub(crate) multi: bool,
}

/// A filter taken apart: its shape (none: no wildcard) and the hash of its literal levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filed {
    pub(crate) shape: Option<Shape>,
    pub(crate) hash: u64,
}

impl Filed {
    /// Where `filter` is filed.
    pub(crate) fn of(filter: &str, key: &LevelKeys) -> Self {
        Self::within(filter, key, SHAPE_LEVEL_COUNT_MAX, u32::MAX)
    }

    /// Where `filter` is filed when shapes tell only so many levels and `+` apart. A wildcard filter beyond that is filed
    /// as if it ended there with `#`, so whoever needs an exact answer looks at its text.
    pub(crate) fn within(filter: &str, key: &LevelKeys, levels_max: usize, plus_max: u32) -> Self {
        let is_wild = has_wildcard(filter);
        let mut shape = Shape { plus: 0, levels: 0, multi: false };
        let mut hash = 0_u64;
        for (at, level) in filter.as_bytes().split(|byte| *byte == b'/').enumerate() {
            let is_plus = level == b"+";
            let is_beyond = at >= levels_max || (is_plus && shape.plus.count_ones() >= plus_max);
            if level == b"#" || (is_wild && is_beyond) {
                shape.multi = true;
                break;
            }
            shape.levels = shape.levels.saturating_add(1);
            if is_plus {
                shape.plus |= 1 << at;
            } else {
                hash = hash.wrapping_add(key.level(at, level));
            }
        }
        Self { shape: is_wild.then_some(shape), hash }
    }
}

/// The keys with which levels are hashed, by position.
#[derive(Clone, Debug)]
pub(crate) struct LevelKeys {
    key: HashKey,
    positions: [u64; 16],
}

impl LevelKeys {
    pub(crate) fn new(seed: u64) -> Self {
        let key = HashKey::new(seed);
        let mut positions = [0; 16];
        for (at, position) in (0_u64..).zip(positions.iter_mut()) {
            *position = key.mix(at);
        }
        Self { key, positions }
    }

    /// The share of one level in a hash.
    #[inline]
    fn level(&self, at: usize, level: &[u8]) -> u64 {
        let position = match self.positions.get(at) {
            Some(position) => *position,
            None => self.key.mix(at as u64),
        };
        super::hash::fold(self.key.hash(level) ^ position, position | 1)
    }
}

/// The hashes of a topic, for all shapes at once.
#[derive(Debug)]
pub(crate) struct TopicHashes {
    /// `sums[n]`: sum over the first n levels.
    sums: [u64; SHAPE_LEVEL_COUNT_MAX + 1],
    /// Levels of the topic that shapes tell apart.
    pub(crate) levels: usize,
    /// Whether the topic has more levels than that.
    pub(crate) is_longer: bool,
    /// The hash over all levels.
    pub(crate) total: u64,
    /// Whether it begins with `$`.
    pub(crate) is_reserved: bool,
}

impl TopicHashes {
    #[inline]
    pub(crate) fn of(topic: &str, key: &LevelKeys) -> Self {
        let bytes = topic.as_bytes();
        let mut sums = [0; SHAPE_LEVEL_COUNT_MAX + 1];
        let (mut total, mut at, mut start) = (0_u64, 0, 0);
        loop {
            let length = level_len(&bytes[start..]);
            total = total.wrapping_add(key.level(at, &bytes[start..start + length]));
            at += 1;
            if let Some(sum) = sums.get_mut(at) {
                *sum = total;
            }
            start += length + 1;
            if start > bytes.len() {
                break;
            }
        }
        Self {
            sums,
            levels: at.min(SHAPE_LEVEL_COUNT_MAX),
            is_longer: at > SHAPE_LEVEL_COUNT_MAX,
            total,
            is_reserved: bytes.first() == Some(&b'$'),
        }
    }

    /// The hash of the levels that are literal in a shape of `levels` levels with wildcards at `plus`.
    /// `levels` must not exceed the topic's.
    #[inline]
    pub(crate) fn under(&self, levels: usize, plus: u128) -> u64 {
        let mut hash = self.sums[levels];
        let mut rest = plus;
        while rest != 0 {
            let at = (rest.trailing_zeros() & 127) as usize;
            hash = hash.wrapping_sub(self.sums[at + 1].wrapping_sub(self.sums[at]));
            rest &= rest - 1;
        }
        hash
    }
}

/// Bytes up to the next `/` or the end.
#[inline]
fn level_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk::<8>() {
        let found = slashes(u64::from_le_bytes(*word));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < bytes.len() && bytes[at] != b'/' {
        at += 1;
    }
    at
}

/// The top bit of each byte of `word` that is a `/`; exact for the lowest one, which is what counts.
#[inline]
const fn slashes(word: u64) -> u64 {
    let zero_where_slash = word ^ 0x2F2F_2F2F_2F2F_2F2F;
    zero_where_slash.wrapping_sub(0x0101_0101_0101_0101) & !zero_where_slash & 0x8080_8080_8080_8080
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The rule of §4.7 written down level by level, without any cleverness.
    pub(crate) fn naive_match(filter: &str, topic: &str) -> bool {
        let filter: Vec<&str> = filter.split('/').collect();
        let topic: Vec<&str> = topic.split('/').collect();
        if topic[0].starts_with('$') && (filter[0] == "+" || filter[0] == "#") {
            return false;
        }
        for (at, level) in filter.iter().enumerate() {
            if *level == "#" {
                return true;
            }
            match topic.get(at) {
                None => return false,
                Some(_) if *level == "+" => {}
                Some(name) if name == level => {}
                Some(_) => return false,
            }
            if at + 1 == topic.len() && filter.len() == at + 2 && filter[at + 1] == "#" {
                return true;
            }
        }
        filter.len() == topic.len()
    }

    /// All texts of 1 to 3 levels over some level names.
    pub(crate) fn all_texts(names: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut last = all.clone();
        for _ in 0..2 {
            last =
                last.iter().flat_map(|head| names.iter().map(move |name| format!("{head}/{name}"))).collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    /// All valid filters and all topics of 1 to 3 levels.
    pub(crate) fn all_filters_and_topics() -> (Vec<String>, Vec<String>) {
        let filters = all_texts(&["a", "b", "", "$a", "+", "#"])
            .into_iter()
            .filter(|filter| !filter.is_empty())
            .filter(|filter| !filter.contains("#/"))
            .collect();
        let topics = all_texts(&["a", "b", "", "$a"]).into_iter().filter(|topic| !topic.is_empty()).collect();
        (filters, topics)
    }

    #[test]
    fn every_filter_of_three_levels_matches_every_topic_as_the_rule_says() {
        // [MQTT5-4.7.1-1] [MQTT5-4.7.1-2] [MQTT5-4.7.2-1] [MQTT311-4.7.1-2] [MQTT311-4.7.1-3] [MQTT311-4.7.2-1]
        let (filters, topics) = all_filters_and_topics();
        let mut matched = 0;
        for filter in &filters {
            for topic in &topics {
                let expected = naive_match(filter, topic);
                assert_eq!(filter_matches(filter, topic), expected, "{filter} {topic}");
                matched += u32::from(expected);
            }
        }
        assert!(matched > 500);
    }

    #[test]
    fn examples_of_the_standard() {
        // §MQTT5 4.7.1.2, 4.7.1.3, 4.7.2.
        let check =
            |filter, topic, expected| assert_eq!(filter_matches(filter, topic), expected, "{filter} {topic}");
        check("sport/tennis/player1/#", "sport/tennis/player1", true);
        check("sport/tennis/player1/#", "sport/tennis/player1/ranking", true);
        check("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true);
        check("sport/#", "sport", true);
        check("sport/+", "sport", false);
        check("sport/+", "sport/", true);
        check("+/+", "/finance", true);
        check("/+", "/finance", true);
        check("+", "/finance", false);
        check("#", "$SYS/uptime", false);
        check("+/monitor/Clients", "$SYS/monitor/Clients", false);
        check("$SYS/#", "$SYS/uptime", true);
        check("$SYS/monitor/+", "$SYS/monitor/Clients", true);
    }

    #[test]
    fn a_topic_under_a_shape_hashes_like_the_filter() {
        let key = LevelKeys::new(5);
        let (filters, topics) = all_filters_and_topics();
        for filter in &filters {
            let filed = Filed::of(filter, &key);
            for topic in &topics {
                let hashes = TopicHashes::of(topic, &key);
                let found = match filed.shape {
                    None => hashes.total == filed.hash,
                    Some(shape) => {
                        let levels = usize::from(shape.levels);
                        let fits =
                            if shape.multi { hashes.levels >= levels } else { hashes.levels == levels };
                        fits && hashes.under(levels, shape.plus) == filed.hash
                            && !(hashes.is_reserved && (shape.plus & 1 == 1 || shape.levels == 0))
                    }
                };
                assert_eq!(found, filter_matches(filter, topic), "{filter} {topic}");
            }
        }
    }

    #[test]
    fn levels_are_cut_at_each_slash() {
        for text in ["", "a", "/", "abcdefgh/", "abcdefghi/jk", "0123456789abcdef/x", "\u{af}/\u{2f}"] {
            let expected = text.find('/').unwrap_or(text.len());
            assert_eq!(level_len(text.as_bytes()), expected, "{text}");
        }
    }
}
