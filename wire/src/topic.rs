//! Topic names and topic filters (§4.7): validity, levels, kinds of subscription, matching.

use core::fmt;

use thiserror::Error;

use crate::limits::FIELD_BYTES_MAX;

/// Why a string is not a topic name or filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TopicError {
    /// It has no character.
    #[error("topic is empty")]
    Empty,
    /// It has more than 65,535 bytes.
    #[error("topic is longer than 65535 bytes")]
    TooLong,
    /// It contains U+0000.
    #[error("topic contains the null character")]
    Null,
    /// A topic name contains `+` or `#`.
    #[error("topic name contains a wildcard")]
    Wildcard,
    /// A `#` that is not the whole last level, or a `+` that is not a whole level.
    #[error("wildcard in a place where it may not stand")]
    WildcardPlace,
    /// `$share/` without a group, without a filter, or with a wildcard in the group.
    #[error("shared subscription without a proper group and filter")]
    Shared,
    /// `$exclusive/` without a topic.
    #[error("exclusive subscription without a topic")]
    Exclusive,
}

/// A topic to which messages are published: at least one character, no wildcard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Takes a string that is a valid topic name.
    ///
    /// # Errors
    /// As [`check_name`].
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        check_name(text).map(|()| Self(text))
    }

    /// The name as it was sent.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels, between the slashes.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        levels(self.0)
    }
}

impl fmt::Debug for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

/// A pattern of topics, as a subscriber asks for: wildcards only where they may stand.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    /// Takes a string that is a valid topic filter.
    ///
    /// # Errors
    /// As [`check_filter`].
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        check_filter(text).map(|()| Self(text))
    }

    /// The filter as it was sent.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels, between the slashes.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        levels(self.0)
    }

    /// Whether a message with this topic is wanted.
    #[must_use]
    pub fn matches(self, topic: TopicName<'_>) -> bool {
        matches(self.0, topic.0)
    }
}

impl fmt::Debug for TopicFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

/// Checks a topic name; its characters are compared nowhere, only looked at.
///
/// # Errors
/// [`TopicError::Empty`] `[MQTT5-4.7.3-1]` `[MQTT311-4.7.3-1]`, [`TopicError::Null`]
/// `[MQTT5-4.7.3-2]` `[MQTT311-4.7.3-2]`, [`TopicError::TooLong`] `[MQTT5-4.7.3-3]`
/// `[MQTT311-4.7.3-3]`, [`TopicError::Wildcard`] `[MQTT5-4.7.0-1]` `[MQTT311-4.7.1-1]`.
pub fn check_name(topic: &str) -> Result<(), TopicError> {
    check_common(topic)?;
    // [MQTT5-4.7.0-1] [MQTT311-4.7.1-1] [MQTT5-3.3.2-2] [MQTT311-3.3.2-2]
    if has_wildcard(topic) { Err(TopicError::Wildcard) } else { Ok(()) }
}

/// Checks a topic filter. Of a shared or exclusive one this looks at the whole string only;
/// [`FilterKind::parse`] looks inside.
///
/// # Errors
/// As [`check_name`], but wildcards are allowed: `#` as the whole last level, else
/// [`TopicError::WildcardPlace`] `[MQTT5-4.7.1-1]` `[MQTT311-4.7.1-2]`; `+` as a whole level
/// `[MQTT5-4.7.1-2]` `[MQTT311-4.7.1-3]`.
pub fn check_filter(filter: &str) -> Result<(), TopicError> {
    check_common(filter)?;
    if !has_wildcard(filter) {
        return Ok(());
    }
    let mut levels = levels(filter).peekable();
    while let Some(level) = levels.next() {
        // [MQTT5-4.7.1-1] [MQTT311-4.7.1-2]
        let hash_misplaced = level.contains('#') && (level != "#" || levels.peek().is_some());
        // [MQTT5-4.7.1-2] [MQTT311-4.7.1-3]
        let plus_misplaced = level.contains('+') && level != "+";
        if hash_misplaced || plus_misplaced {
            return Err(TopicError::WildcardPlace);
        }
    }
    Ok(())
}

/// What names and filters have in common.
fn check_common(topic: &str) -> Result<(), TopicError> {
    // [MQTT5-4.7.3-1] [MQTT311-4.7.3-1]
    if topic.is_empty() {
        return Err(TopicError::Empty);
    }
    // [MQTT5-4.7.3-3] [MQTT311-4.7.3-3]
    if topic.len() > FIELD_BYTES_MAX {
        return Err(TopicError::TooLong);
    }
    // [MQTT5-4.7.3-2] [MQTT311-4.7.3-2]
    if crate::utf8::has_null(topic) { Err(TopicError::Null) } else { Ok(()) }
}

/// Whether the string contains `+` or `#`.
#[must_use]
#[inline]
pub fn has_wildcard(topic: &str) -> bool {
    topic.as_bytes().iter().fold(false, |found, &byte| found | (byte == b'+') | (byte == b'#'))
}

/// The levels of a topic name or filter: what stands between the slashes, empty ones among them.
#[inline]
pub fn levels(topic: &str) -> impl DoubleEndedIterator<Item = &str> {
    topic.split('/')
}

/// How many levels a topic name or filter has: one more than slashes.
#[must_use]
#[inline]
pub fn level_count(topic: &str) -> usize {
    topic.as_bytes().iter().filter(|&&byte| byte == b'/').count().saturating_add(1)
}

/// What a subscription asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterKind<'a> {
    /// All messages that match.
    Plain,
    /// `$share/{group}/{filter}` or `$queue/{filter}`: one member of the group gets each message.
    Shared {
        /// The share name; `$queue` for the second form.
        group: &'a str,
        /// What messages must match.
        filter: &'a str,
    },
    /// `$exclusive/{topic}`: only one subscriber may have it.
    Exclusive {
        /// What messages must match.
        topic: &'a str,
    },
}

impl<'a> FilterKind<'a> {
    /// The group that all `$queue/` subscriptions form.
    pub const QUEUE_GROUP: &'static str = "$queue";

    /// Tells the kinds apart by their prefix.
    ///
    /// # Errors
    /// Those of [`check_filter`] for the filter inside; [`TopicError::Shared`] for a share name that
    /// is missing or has `+` or `#` in it, or without a filter after it `[MQTT5-4.8.2-1]`
    /// `[MQTT5-4.8.2-2]`; [`TopicError::Exclusive`] for `$exclusive/` with nothing after it.
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        check_filter(text)?;
        if let Some(rest) = text.strip_prefix("$share/") {
            // [MQTT5-4.8.2-1]: a share name of at least one character;
            // [MQTT5-4.8.2-2]: without `/`, `+`, `#`, then `/` and a filter.
            return match rest.split_once('/') {
                Some((group, filter)) if !group.is_empty() && !has_wildcard(group) => {
                    Self::shared(group, filter)
                }
                _ => Err(TopicError::Shared),
            };
        }
        if let Some(filter) = text.strip_prefix("$queue/") {
            return Self::shared(Self::QUEUE_GROUP, filter);
        }
        if let Some(topic) = text.strip_prefix("$exclusive/") {
            return match check_filter(topic) {
                Err(TopicError::Empty) => Err(TopicError::Exclusive),
                Err(error) => Err(error),
                Ok(()) => Ok(Self::Exclusive { topic }),
            };
        }
        Ok(Self::Plain)
    }

    /// A shared subscription, once its filter is known to be valid.
    fn shared(group: &'a str, filter: &'a str) -> Result<Self, TopicError> {
        match check_filter(filter) {
            Err(TopicError::Empty) => Err(TopicError::Shared),
            Err(error) => Err(error),
            Ok(()) => Ok(Self::Shared { group, filter }),
        }
    }

    /// What messages must match; `text` is what was parsed.
    #[must_use]
    pub const fn filter(self, text: &'a str) -> &'a str {
        match self {
            Self::Plain => text,
            Self::Shared { filter, .. } => filter,
            Self::Exclusive { topic } => topic,
        }
    }
}

/// Whether a topic name matches a filter: the rule of §4.7 word by word, as a yardstick for indexes.
///
/// Both must be valid; a shared filter must have been taken apart. Levels are compared byte by byte,
/// without normalisation `[MQTT5-4.7.3-4]` `[MQTT311-4.7.3-4]`.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    // [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]: a leading wildcard does not reach topics that begin with `$`.
    if topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#')) {
        return false;
    }
    let mut topic_levels = levels(topic);
    for wanted in levels(filter) {
        // `#` stands for its parent level and all below.
        if wanted == "#" {
            return true;
        }
        match topic_levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    topic_levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_filters_of_no_or_too_many_characters_are_refused() {
        // [MQTT5-4.7.3-1] [MQTT311-4.7.3-1] [MQTT5-4.7.3-3] [MQTT311-4.7.3-3]
        assert_eq!(check_name(""), Err(TopicError::Empty));
        assert_eq!(check_filter(""), Err(TopicError::Empty));
        let long = "a".repeat(65_536);
        assert_eq!(check_name(&long), Err(TopicError::TooLong));
        assert_eq!(check_filter(&long), Err(TopicError::TooLong));
        assert_eq!(check_name(&long[1..]), Ok(()));
    }

    #[test]
    fn null_characters_are_refused() {
        // [MQTT5-4.7.3-2] [MQTT311-4.7.3-2]
        assert_eq!(check_name("a\0"), Err(TopicError::Null));
        assert_eq!(check_filter("\0/#"), Err(TopicError::Null));
    }

    #[test]
    fn names_have_no_wildcards() {
        // [MQTT5-4.7.0-1] [MQTT311-4.7.1-1] [MQTT5-3.3.2-2] [MQTT311-3.3.2-2]
        for topic in ["+", "#", "a/+", "a+", "a/#"] {
            assert_eq!(check_name(topic), Err(TopicError::Wildcard), "{topic}");
        }
        for topic in ["/", "a b", "a//b", "$SYS/x", "\u{FEFF}"] {
            assert_eq!(check_name(topic), Ok(()), "{topic}");
        }
    }

    #[test]
    fn wildcards_stand_only_in_their_places() {
        // [MQTT5-4.7.1-1] [MQTT311-4.7.1-2] [MQTT5-4.7.1-2] [MQTT311-4.7.1-3]
        for filter in ["#", "+", "a/#", "+/#", "/+", "+/a/#", "sport/tennis/+", "$SYS/#", "a"] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        for filter in ["a#", "#/a", "a/#/b", "a/b#", "a+", "+a", "a/+b/c", "##", "++", "#+"] {
            assert_eq!(check_filter(filter), Err(TopicError::WildcardPlace), "{filter}");
        }
    }

    #[test]
    fn examples_of_the_standard_match_as_they_say() {
        // [MQTT5-4.7.2-1] [MQTT311-4.7.2-1] [MQTT5-4.7.3-4] [MQTT311-4.7.3-4]
        let cases = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/a", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/a", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("ACCOUNTS", "Accounts", false),
            ("/A", "A", false),
            ("A\u{301}", "\u{C1}", false),
        ];
        for (filter, topic, expect) in cases {
            assert_eq!(matches(filter, topic), expect, "{filter} {topic}");
        }
    }

    #[test]
    fn all_short_filters_match_as_a_second_definition_says() {
        // The second definition turns the filter into a walk over byte positions, from the end.
        let words = words_of_up_to_three_levels(&["", "a", "$b", "+", "#"]);
        let filters: Vec<_> = words.iter().filter(|w| check_filter(w).is_ok()).collect();
        let topics: Vec<_> = words.iter().filter(|w| check_name(w).is_ok()).collect();
        assert!(filters.len() > 60 && topics.len() > 30);
        for filter in &filters {
            for topic in &topics {
                assert_eq!(matches(filter, topic), matches_again(filter, topic), "{filter} {topic}");
            }
        }
    }

    fn words_of_up_to_three_levels(parts: &[&str]) -> Vec<String> {
        let mut words: Vec<String> = parts.iter().map(ToString::to_string).collect();
        for _ in 0..2 {
            let longer: Vec<_> =
                words.iter().flat_map(|w| parts.iter().map(move |p| format!("{w}/{p}"))).collect();
            words.extend(longer);
        }
        words.sort();
        words.dedup();
        words
    }

    fn matches_again(filter: &str, topic: &str) -> bool {
        let (filter, topic): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
        if topic[0].starts_with('$') && ["+", "#"].contains(&filter[0]) {
            return false;
        }
        let (fixed, open) = match filter.last() {
            Some(&"#") => (&filter[..filter.len() - 1], true),
            _ => (&filter[..], false),
        };
        let long_enough = if open { topic.len() >= fixed.len() } else { topic.len() == fixed.len() };
        long_enough && fixed.iter().zip(&topic).all(|(f, t)| *f == "+" || f == t)
    }

    #[test]
    fn shared_subscriptions_are_taken_apart() {
        // [MQTT5-4.8.2-1] [MQTT5-4.8.2-2]
        let shared = |group, filter| Ok(FilterKind::Shared { group, filter });
        assert_eq!(FilterKind::parse("$share/g/a/+"), shared("g", "a/+"));
        assert_eq!(FilterKind::parse("$share/g//"), shared("g", "/"));
        assert_eq!(FilterKind::parse("$queue/#"), shared("$queue", "#"));
        for text in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$queue/"] {
            assert_eq!(FilterKind::parse(text), Err(TopicError::Shared), "{text}");
        }
        assert_eq!(FilterKind::parse("$share/g#/a"), Err(TopicError::WildcardPlace));
        assert_eq!(FilterKind::parse("$share"), Ok(FilterKind::Plain));
        assert_eq!(FilterKind::parse("a/$share/b"), Ok(FilterKind::Plain));
    }

    #[test]
    fn exclusive_subscriptions_are_taken_apart() {
        assert_eq!(FilterKind::parse("$exclusive/a/b"), Ok(FilterKind::Exclusive { topic: "a/b" }));
        assert_eq!(FilterKind::parse("$exclusive/"), Err(TopicError::Exclusive));
        assert_eq!(FilterKind::parse("$exclusive/a").unwrap().filter("$exclusive/a"), "a");
    }

    #[test]
    fn levels_are_counted_as_they_are_split() {
        for topic in ["a", "/", "a/b", "//a//"] {
            assert_eq!(level_count(topic), levels(topic).count());
        }
    }
}
