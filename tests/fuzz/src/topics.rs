//! Topic names and filters: two definitions of matching must agree.

use dunlin_wire::topic::{self, FilterKind, TopicError};

/// The input is split at its first line feed into a filter and a topic.
///
/// # Panics
/// If the two definitions disagree, or a kind of filter does not add up.
pub fn topic_match(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (filter, name) = text.split_once('\n').unwrap_or((text, ""));
    check_kind(filter);
    if topic::check_filter(filter).is_ok() && topic::check_name(name).is_ok() {
        assert_eq!(topic::matches(filter, name), by_recursion(filter, name), "{filter:?} {name:?}");
        assert_eq!(topic::level_count(name), topic::levels(name).count());
    }
}

/// The parts of a shared or exclusive filter are valid themselves and make up the whole.
fn check_kind(text: &str) {
    match FilterKind::parse(text) {
        Ok(FilterKind::Plain) => assert!(topic::check_filter(text).is_ok()),
        Ok(FilterKind::Shared { group, filter }) => {
            assert!(topic::check_filter(filter).is_ok());
            assert!(!group.is_empty() && !group.contains(['/', '+', '#']));
            assert!(text == format!("$share/{group}/{filter}") || text == format!("$queue/{filter}"));
        }
        Ok(FilterKind::Exclusive { topic }) => {
            assert!(topic::check_filter(topic).is_ok());
            assert_eq!(text, format!("$exclusive/{topic}"));
        }
        Err(TopicError::Shared | TopicError::Exclusive) => assert!(topic::check_filter(text).is_ok()),
        Err(_) => {}
    }
}

/// Matching by taking one level off each side.
fn by_recursion(filter: &str, name: &str) -> bool {
    fn rest(filter: Option<&str>, name: Option<&str>) -> bool {
        match (filter, name) {
            (None, None) => true,
            (Some("#"), _) => true,
            (Some(filter), Some(name)) => {
                let (f, filter) = cut(filter);
                let (n, name) = cut(name);
                (f == "+" || f == n) && rest(filter, name)
            }
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
    let hidden = name.starts_with('$') && filter.starts_with(['+', '#']);
    !hidden && rest(Some(filter), Some(name))
}

/// The first level and what follows it.
fn cut(text: &str) -> (&str, Option<&str>) {
    text.split_once('/').map_or((text, None), |(head, tail)| (head, Some(tail)))
}
