//! Cuts one share out of a plan: an equal part of all clients and rates, with topics and client ids of its own.

use super::share::Share;
use crate::plan::{Plan, Template};

/// Puts all topics, filters and client ids of a plan into a share's own world, and gives its clients rows of their own in data
/// files. Its sizes are cut when it is loaded.
///
/// # Errors
/// When that is impossible: Sparkplug's topics have a fixed beginning, and the name of a shared subscription must be
/// constant.
pub(crate) fn cut(plan: &mut Plan, share: Share) -> Result<(), String> {
    let level = share.level();
    for data in plan.data.values_mut() {
        let first = share.before(data.rows.count() as u64);
        data.rows.begin_at(usize::try_from(first).unwrap_or(0));
    }
    for group in &mut plan.groups {
        if group.sparkplug.is_some() {
            return Err(format!("group {}: Sparkplug topics can't stand below another level", group.name));
        }
        if !group.client_id.is_empty() {
            group.client_id.insert(0, &level.replace('/', "-"));
        }
        let filters = group.subscribe.iter_mut().map(|subscription| &mut subscription.filter);
        let topics = group.publish.iter_mut().map(|publish| &mut publish.topic);
        for template in filters.chain(topics).chain(group.will.as_mut().map(|will| &mut will.topic)) {
            let source = template.source().to_owned();
            if !descend(template, &level) {
                return Err(format!("group {}: {source:?} can't be put below the level {level}", group.name));
            }
        }
    }
    Ok(())
}

/// Puts a topic or filter below a level: a shared subscription behind its name, `$SYS` and its like not at all.
fn descend(template: &mut Template, level: &str) -> bool {
    let source = template.source();
    let at = match source.strip_prefix(SHARED) {
        Some(rest) => rest.find('/').map(|end| SHARED.len() + end + 1),
        None if source.starts_with('$') => return true,
        None => Some(0),
    };
    at.is_some_and(|at| template.insert(at, level))
}

/// What a shared subscription begins with.
const SHARED: &str = "$share/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_filters_stand_below_the_level_of_their_share() {
        for (source, expected) in [
            ("a/{index}", Some("a2/a/{index}")),
            ("#", Some("a2/#")),
            ("$share/g/b/+", Some("$share/g/a2/b/+")),
            ("$share/g{index}/b", None),
            ("$SYS/#", Some("$SYS/#")),
        ] {
            let mut template: Template = source.parse().unwrap();
            let put = descend(&mut template, "a2/");
            assert_eq!(put.then(|| template.source()), expected, "{source}");
        }
    }
}
