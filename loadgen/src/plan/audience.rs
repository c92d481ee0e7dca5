//! Who hears a topic: an estimate for `explain`, from the templates and a few samples.

use std::collections::BTreeSet;

use dunlin_wire::topic::{FilterKind, TopicFilter, TopicName};

use super::schema::{Behaviour, Group, Plan};
use super::template::{Scope, Template, Variable};
use super::traffic::{Publish, Subscription};
use crate::dice::Dice;

/// Copies of each message of `entry` that are delivered, on average over a few of its messages.
pub(crate) fn copies(plan: &Plan, group: &Group, entry: &Publish) -> f64 {
    let total: u64 = (0..MESSAGES_LOOKED_AT)
        .map(|sample| {
            let topic = sample_topic(plan, group, &entry.topic, sample);
            copies_of(plan, &topic)
        })
        .sum();
    total as f64 / f64::from(MESSAGES_LOOKED_AT)
}

/// Messages whose topics are tried, spread over the clients.
const MESSAGES_LOOKED_AT: u32 = 16;

/// The topic of some message of a group.
pub(crate) fn sample_topic(plan: &Plan, group: &Group, topic: &Template, sample: u32) -> String {
    let step = u64::from(sample) * u64::from(group.count) / u64::from(MESSAGES_LOOKED_AT);
    let index = u32::try_from(step).unwrap_or(0).min(group.count.saturating_sub(1));
    render(plan, group, topic, index, 0, u64::from(sample))
}

/// A template as it is for one client of a group.
pub(crate) fn render(
    plan: &Plan,
    group: &Group,
    template: &Template,
    index: u32,
    n: u32,
    seq: u64,
) -> String {
    let mut dice = Dice::new(u64::from(index) << 32 | seq << 8 | u64::from(n));
    let row = group.data.as_ref().and_then(|name| plan.data.get(name)).and_then(|data| data.row(index));
    let mut scope = Scope {
        index,
        n,
        seq,
        group: &group.name,
        client_id: "",
        run: 1,
        time_ms: 0,
        row,
        jwt: "",
        dice: &mut dice,
    };
    let client_id = group.client_id.text(&mut scope);
    scope.client_id = &client_id;
    template.text(&mut scope)
}

/// Copies of a message with this topic: one for each client with a matching filter, one for each shared group.
fn copies_of(plan: &Plan, topic: &str) -> u64 {
    let mut shared = BTreeSet::new();
    let mut copies = 0;
    for group in &plan.groups {
        if matches!(group.behaviour, Behaviour::Malformed { .. }) {
            continue;
        }
        // A client that two entries reach gets one copy.
        let reached = group.subscribe.iter().map(|entry| reached(plan, group, entry, topic, &mut shared));
        copies += reached.sum::<u64>().min(u64::from(group.count));
    }
    copies + shared.len() as u64
}

/// Clients of a group that a subscription entry makes hear `topic`. Shared groups are noted instead.
fn reached(
    plan: &Plan,
    group: &Group,
    entry: &Subscription,
    topic: &str,
    shared: &mut BTreeSet<String>,
) -> u64 {
    let mut hears =
        |index: u32, n: u32| hears(&render(plan, group, &entry.filter, index, n, 0), topic, shared);
    let per_client = varies(group, &entry.filter);
    let numbers = numbers_in(topic);
    let ns: Vec<u32> = if entry.filter.uses(Variable::N) && entry.repeat > 1 {
        numbers.iter().copied().filter(|n| *n < entry.repeat).collect()
    } else {
        vec![0]
    };
    let mut any = |index: u32| ns.iter().any(|n| hears(index, *n));
    match per_client {
        Varies::Not => u64::from(any(0)) * u64::from(group.count),
        Varies::AsItsNumber => {
            let candidates = numbers.iter().filter(|index| **index < group.count);
            candidates.filter(|index| any(**index)).count() as u64
        }
        Varies::Somehow => {
            let looked_at = group.count.min(CLIENTS_LOOKED_AT);
            let count = (0..looked_at).filter(|index| any(*index)).count() as u64;
            count * u64::from(group.count) / u64::from(looked_at.max(1))
        }
    }
}

/// Clients whose filters are tried one by one, when nothing better is known.
const CLIENTS_LOOKED_AT: u32 = 2_000;

/// How a filter differs from client to client.
enum Varies {
    Not,
    /// The client's number stands in it as it is, so only a topic with that number can match.
    AsItsNumber,
    Somehow,
}

fn varies(group: &Group, filter: &Template) -> Varies {
    let mut templates = vec![filter];
    if filter.uses(Variable::ClientId) {
        templates.push(&group.client_id);
    }
    let uses = |variable| templates.iter().any(|template| template.uses(variable));
    if templates.iter().any(|template| template.calculates()) || uses(Variable::Data) || uses(Variable::Rand)
    {
        Varies::Somehow
    } else if uses(Variable::Index) {
        Varies::AsItsNumber
    } else {
        Varies::Not
    }
}

/// Whether a filter matches; of a shared one, the group is noted and nobody in particular hears it.
fn hears(filter: &str, topic: &str, shared: &mut BTreeSet<String>) -> bool {
    let (inner, is_shared) = match FilterKind::parse(filter) {
        Ok(FilterKind::Shared { filter, .. }) => (filter, true),
        Ok(FilterKind::Exclusive { topic }) => (topic, false),
        Ok(FilterKind::Plain) => (filter, false),
        Err(_) => return false,
    };
    let matches = match (TopicFilter::new(inner), TopicName::new(topic)) {
        (Ok(inner), Ok(topic)) => inner.matches(topic),
        _ => false,
    };
    if matches && is_shared {
        shared.insert(filter.to_owned());
    }
    matches && !is_shared
}

/// The numbers whose digits stand in a topic.
fn numbers_in(topic: &str) -> BTreeSet<u32> {
    topic.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::load::{Overrides, load};
    use super::*;

    #[test]
    fn the_library_reaches_whom_it_means_to() {
        for (scenario, group, entry, expected) in [
            ("p2p-50k-50k", 1, 0, 1.0),
            ("fanout-5-1000", 1, 0, 1_000.0),
            ("sharedsub-50k-500", 1, 0, 1.0),
            ("wildcard-heavy", 1, 0, 1.0),
            ("wildcard-heavy", 1, 1, 1.0),
            ("wildcard-heavy", 1, 2, 1.0),
            ("retained-storm", 0, 0, 100.0),
            ("mixed-day", 0, 0, 1.0),
            ("mixed-day", 2, 0, 1.0),
            ("mixed-day", 2, 1, 6.0),
            ("slow-readers", 2, 0, 1_000.0),
        ] {
            let plan = load(scenario, &Overrides::default()).unwrap();
            let group = &plan.groups[group];
            let found = copies(&plan, group, &group.publish[entry]);
            assert!((found - expected).abs() < 1e-9, "{scenario}, {}: {found}", group.name);
        }
    }
}
