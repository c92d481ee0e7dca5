//! Stages: they refer to groups that are there, they end, and something is measured.

use super::super::document::steps;
use super::super::quantity::Period;
use super::super::schema::{Behaviour, Group, Plan};
use super::super::stage::{Stage, Until};
use super::Findings;

/// Checks all stages, one after the other, with what is running meanwhile.
pub(super) fn check(findings: &mut Findings<'_>) {
    let plan = findings.plan;
    let mut running = vec![Life::Before; plan.groups.len()];
    for (at, stage) in plan.stages.iter().enumerate() {
        if plan.stages[..at].iter().any(|other| other.name == stage.name) {
            tell(findings, at, "name", format!("there is another stage {:?}; rename one", stage.name));
        }
        check_end(findings, at, stage);
        check_groups(findings, at, stage, &mut running);
        check_traffic(findings, at, stage, &running);
    }
    for (number, group) in plan.groups.iter().enumerate() {
        check_use(findings, number, group, running[number]);
    }
    if !plan.stages.is_empty() && !plan.stages.iter().any(|stage| stage.measure) {
        let what = "no stage is measured, so there would be nothing to report; write measure = true in one";
        findings.add(&steps!["stage"], "stage".to_owned(), what);
    }
}

/// Where a group is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Before,
    Running,
    Stopped,
}

fn tell(findings: &mut Findings<'_>, at: usize, key: &str, what: impl Into<String>) {
    let name = findings.plan.stages.get(at).map_or("", |stage| &stage.name);
    let place = format!("stage {name:?}, {key}");
    findings.add(&steps!["stage", at, key], place, what);
}

fn check_end(findings: &mut Findings<'_>, at: usize, stage: &Stage) {
    match (stage.duration, stage.until) {
        (Some(Period::ZERO), None) => {
            tell(findings, at, "duration", "a stage of no time does nothing; leave it out")
        }
        (Some(_), None) => {
            if stage.timeout.is_some() {
                tell(
                    findings,
                    at,
                    "timeout",
                    "a stage with a duration ends by itself; leave the timeout out",
                );
            }
        }
        (None, Some(until)) => match stage.timeout {
            None => {
                let what = format!(
                    "the stage may never end: until = {:?} needs a timeout, such as \"1m\"",
                    until.to_string()
                );
                tell(findings, at, "until", what);
            }
            Some(Period::ZERO) => tell(findings, at, "timeout", "a timeout of no time always fails"),
            Some(_) => {}
        },
        (Some(_), Some(_)) => tell(findings, at, "until", "duration and until exclude each other; keep one"),
        (None, None) => {
            tell(findings, at, "duration", "the stage never ends; write duration, or until with a timeout")
        }
    }
}

fn check_groups(findings: &mut Findings<'_>, at: usize, stage: &Stage, running: &mut [Life]) {
    for name in &stage.start {
        if let Some(number) = known(findings, at, "start", name) {
            if running[number] == Life::Running {
                tell(findings, at, "start", format!("group {name:?} is running already"));
            }
            running[number] = Life::Running;
        }
    }
    for name in &stage.stop {
        if let Some(number) = known(findings, at, "stop", name) {
            if running[number] != Life::Running {
                tell(findings, at, "stop", format!("group {name:?} is not running here"));
            }
            running[number] = Life::Stopped;
        }
    }
    for name in &stage.churn {
        let Some(number) = known(findings, at, "churn", name) else { continue };
        if findings.plan.groups[number].lifecycle.is_none() {
            let what = format!(
                "group {name:?} has no lifecycle; write lifecycle = {{ online = \"30s\", offline = \"5s\" }}"
            );
            tell(findings, at, "churn", what);
        }
        if running[number] != Life::Running {
            tell(findings, at, "churn", format!("group {name:?} is not running here"));
        }
        if matches!(stage.until, Some(Until::Connected | Until::Subscribed)) {
            tell(
                findings,
                at,
                "churn",
                "while clients come and go, all of them are hardly ever there; give a duration",
            );
        }
    }
    for (number, fall) in stage.drop.iter().enumerate() {
        let Some(group) = known(findings, at, "drop", &fall.group) else { continue };
        let name = &fall.group;
        if running[group] != Life::Running {
            tell(findings, at, "drop", format!("group {name:?} is not running here"));
        }
        if stage.drop[..number].iter().any(|other| other.group == fall.group) {
            tell(findings, at, "drop", format!("group {name:?} is there twice; keep one"));
        }
        if fall.share.part() == 0.0 {
            tell(findings, at, "drop", "a share of 0 drops nobody; leave it out");
        }
    }
}

/// The number of a group, if there is one with this name.
fn known(findings: &mut Findings<'_>, at: usize, key: &str, name: &str) -> Option<usize> {
    let number = findings.plan.group_number(name);
    if number.is_none() {
        let names: Vec<&str> = findings.plan.groups.iter().map(|group| group.name.as_str()).collect();
        tell(findings, at, key, format!("there is no group {name:?}; the groups are {}", names.join(", ")));
    }
    number
}

fn check_traffic(findings: &mut Findings<'_>, at: usize, stage: &Stage, running: &[Life]) {
    let plan = findings.plan;
    for (key, factor) in &stage.rates {
        if !names_traffic(plan, key) {
            let what = format!(
                "{key:?} is neither a group that publishes nor one of its entries (\"group.entry\"); \
                 those are {}",
                traffic_names(plan).join(", ")
            );
            tell(findings, at, "rates", what);
        }
        if factor.from.to_bits() != factor.to.to_bits() && stage.duration.is_none() {
            tell(findings, at, "rates", "a line from one factor to another needs a duration");
        }
    }
    if stage.rate.from.to_bits() != stage.rate.to.to_bits() && stage.duration.is_none() {
        tell(findings, at, "rate", "a line from one factor to another needs a duration");
    }
    let sends = !stage.rate.is_zero() || stage.rates.values().any(|factor| !factor.is_zero());
    let has_sender =
        plan.groups.iter().zip(running).any(|(group, life)| *life == Life::Running && publishes(group));
    if sends && !has_sender {
        tell(
            findings,
            at,
            "rate",
            "no group that publishes is running here; start one, or leave the rate out",
        );
    }
    match stage.until {
        Some(Until::Published) => {
            let bounded = |group: &Group| group.publish.iter().any(|entry| entry.messages.is_some());
            if !plan.groups.iter().any(bounded) {
                tell(findings, at, "until", "no publish entry has an end; write messages = 1 in one");
            } else if !sends {
                tell(
                    findings,
                    at,
                    "rate",
                    "nothing is sent in this stage, so it waits in vain; write rate = 1.0",
                );
            }
        }
        Some(Until::Drained) if sends && has_unbounded(plan, stage) => {
            tell(
                findings,
                at,
                "rate",
                "messages go on being sent, so it is never drained; leave the rate out",
            );
        }
        Some(Until::Connected | Until::Subscribed | Until::Disconnected) => {
            if !running.contains(&Life::Running) {
                tell(findings, at, "until", "no group is running here; start one");
            }
        }
        Some(Until::Drained) | None => {}
    }
}

/// Whether something that never ends by itself is sent in a stage.
fn has_unbounded(plan: &Plan, stage: &Stage) -> bool {
    plan.groups.iter().any(|group| {
        let unbounded = |name: &Option<String>| {
            let factor = stage.factor(&group.name, name.as_deref());
            !factor.is_zero()
        };
        group.publish.iter().any(|entry| entry.messages.is_none() && unbounded(&entry.name))
            || group.sparkplug.is_some() && unbounded(&None)
    })
}

/// Whether a group sends anything of its own accord.
fn publishes(group: &Group) -> bool {
    !group.publish.is_empty() || group.sparkplug.is_some()
}

/// Whether `key` is a group that publishes, or one of its entries.
fn names_traffic(plan: &Plan, key: &str) -> bool {
    traffic_names(plan).iter().any(|name| name == key)
}

fn traffic_names(plan: &Plan) -> Vec<String> {
    let mut names = Vec::new();
    for group in plan.groups.iter().filter(|group| publishes(group)) {
        names.push(group.name.clone());
        let entries = group.publish.iter().filter_map(|entry| entry.name.as_ref());
        names.extend(entries.map(|name| format!("{}.{name}", group.name)));
    }
    names
}

fn check_use(findings: &mut Findings<'_>, number: usize, group: &Group, life: Life) {
    let plan = findings.plan;
    if life == Life::Before {
        findings.group(
            number,
            "name",
            format!("no stage starts this group; write start = [{:?}] in one", group.name),
        );
        return;
    }
    let churns = |stage: &Stage| stage.churn.contains(&group.name);
    if group.lifecycle.is_some() && !plan.stages.iter().any(churns) {
        let what = format!("no stage lets it run; write churn = [{:?}] in one", group.name);
        findings.group(number, "lifecycle", what);
    }
    let sends =
        |name: Option<&str>| plan.stages.iter().any(|stage| !stage.factor(&group.name, name).is_zero());
    for (entry, publish) in group.publish.iter().enumerate() {
        if !sends(publish.name.as_deref()) {
            let what = "no stage has a rate for it, so nothing is sent; write rate = 1.0 in one";
            findings.entry(number, "publish", entry, "topic", what);
        }
    }
    if group.sparkplug.is_some() && !sends(None) {
        findings.group(
            number,
            "sparkplug",
            "no stage has a rate for it, so no data is sent; write rate = 1.0 in one",
        );
    }
    let only_malformed =
        plan.groups.iter().all(|group| matches!(group.behaviour, Behaviour::Malformed { .. }));
    if only_malformed && number == 0 {
        findings.group(
            number,
            "behaviour",
            "every group is malformed; add an honest one that must not notice",
        );
    }
}
