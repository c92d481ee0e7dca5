//! Groups: names, counts, client ids, data files, behaviour.

use std::collections::BTreeMap;

use dunlin_wire::Version;
use dunlin_wire::limits::V31_CLIENTID_BYTES_MAX;

use super::super::document::steps;
use super::super::schema::{Behaviour, Group};
use super::super::template::{Template, Variable};
use super::{Findings, with_sample};

/// Checks what belongs to a group as a whole.
pub(super) fn check(findings: &mut Findings<'_>, at: usize, group: &Group) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if group.name.is_empty() || !group.name.chars().all(is_word) {
        findings.group(at, "name", "a name has letters, digits, '-' and '_' only; stages and reports use it");
    }
    if findings.plan.groups[..at].iter().any(|other| other.name == group.name) {
        findings.group(at, "name", format!("there is another group {:?}; rename one", group.name));
    }
    if group.count == 0 {
        findings.group(at, "count", "a group of 0 does nothing; leave the group out");
    }
    check_data(findings, at, group);
    check_behaviour(findings, at, group);
    if let Some(reconnect) = &group.reconnect
        && !(1.0..=BACKOFF_MAX).contains(&reconnect.backoff)
    {
        let what = format!("backoff must lie between 1 and {BACKOFF_MAX}, and not be {}", reconnect.backoff);
        findings.group(at, "reconnect", what);
    }
    if let Some(lifecycle) = &group.lifecycle
        && lifecycle.online.mean().ns() == 0
    {
        findings.group(at, "lifecycle", "online is no time at all; clients would never be there");
    }
    if let super::super::schema::Arrivals::Burst(0) = group.connect.arrivals {
        findings.group(at, "connect", "a burst of 0 never comes; write { burst = 10 }");
    }
}

/// The steepest backoff.
const BACKOFF_MAX: f64 = 100.0;

fn check_data(findings: &mut Findings<'_>, at: usize, group: &Group) {
    let Some(name) = &group.data else {
        if let Some(column) = columns(group).next() {
            let what =
                format!("{{data.{column}}} is used, and the group has no data file; write data = \"…\"");
            findings.group(at, "data", what);
        }
        return;
    };
    let Some(data) = findings.plan.data.get(name) else {
        let what = format!("there is no [data.{name}]; write one with the file's path");
        findings.group(at, "data", what);
        return;
    };
    let rows = data.rows.count();
    if rows == 0 {
        // The file could not be loaded, which has been told.
        return;
    }
    if !data.wrap && u64::from(group.count) > rows as u64 {
        let what = format!(
            "{:?} has {rows} rows for {} clients; add rows, or write wrap = true to begin again at the first",
            data.file, group.count
        );
        findings.group(at, "data", what);
    }
    let unknown: Vec<String> = columns(group)
        .filter(|column| !data.rows.columns().any(|known| known == *column))
        .map(|column| format!("{{data.{column}}}"))
        .collect();
    if let Some(first) = unknown.first() {
        let known: Vec<&str> = data.rows.columns().collect();
        let what = format!("{:?} has no column for {first}; its columns are {}", data.file, known.join(", "));
        findings.group(at, "data", what);
    }
}

/// All columns that a group's templates read.
fn columns(group: &Group) -> impl Iterator<Item = &str> {
    templates(group).into_iter().flat_map(Template::columns)
}

/// All templates of a group.
fn templates(group: &Group) -> Vec<&Template> {
    let mut all = vec![&group.client_id];
    all.extend(&group.username);
    all.extend(&group.password);
    all.extend(group.jwt.as_ref().map(|jwt| &jwt.claims));
    all.extend(group.subscribe.iter().map(|subscription| &subscription.filter));
    all.extend(group.publish.iter().map(|publish| &publish.topic));
    all.extend(group.publish.iter().filter_map(|publish| publish.payload.text.as_ref()));
    if let Some(will) = &group.will {
        all.push(&will.topic);
        all.extend(&will.payload.text);
    }
    if let Some(sparkplug) = &group.sparkplug {
        all.extend([&sparkplug.group_id, &sparkplug.edge_node]);
    }
    all
}

fn check_behaviour(findings: &mut Findings<'_>, at: usize, group: &Group) {
    match &group.behaviour {
        Behaviour::Normal | Behaviour::HalfOpen { .. } => {}
        Behaviour::SlowReader { bytes_per_second } => {
            if *bytes_per_second == 0 {
                let what = "reading 0 bytes a second is not reading; use half_open for that";
                findings.group(at, "behaviour", what);
            }
        }
        Behaviour::Malformed { kinds, .. } => {
            if kinds.is_empty() {
                findings.group(at, "behaviour", "kinds is empty; name at least one, such as \"garbage\"");
            }
            let does_more = !group.subscribe.is_empty()
                || !group.publish.is_empty()
                || group.sparkplug.is_some()
                || group.lifecycle.is_some();
            if does_more {
                let what = "clients that send malformed packets do nothing else; move subscribe, publish, sparkplug and \
                            lifecycle to another group";
                findings.group(at, "behaviour", what);
            }
        }
    }
    if !matches!(group.behaviour, Behaviour::Normal) && group.lifecycle.is_some() {
        let what = "a lifecycle is for well-behaved clients; leave one of the two out";
        findings.group(at, "lifecycle", what);
    }
}

/// Client ids: valid, and different from client to client over all groups, as far as a sample tells.
pub(super) fn check_client_ids(findings: &mut Findings<'_>) {
    let plan = findings.plan;
    let mut seen: BTreeMap<String, (usize, u32)> = BTreeMap::new();
    for (at, group) in plan.groups.iter().enumerate() {
        let allowed = [Variable::Index, Variable::Group, Variable::Run, Variable::Rand, Variable::Data];
        if let Some(variable) = group.client_id.variables().find(|used| !allowed.contains(used)) {
            findings.group(at, "client_id", format!("{variable} has no value here"));
            continue;
        }
        let longest =
            with_sample(plan, group, group.count.saturating_sub(1), 0, |scope| scope.client_id.len());
        if group.protocol == Version::V31 && !(1..=V31_CLIENTID_BYTES_MAX).contains(&longest) {
            let what = format!(
                "MQTT 3.1 wants client ids of 1 to {V31_CLIENTID_BYTES_MAX} bytes, and they get {longest}"
            );
            findings.group(at, "client_id", what);
        }
        if longest == 0 {
            findings.group(at, "client_id", "it is empty; sessions and reports need a name for each client");
            continue;
        }
        for index in 0..group.count.min(SAMPLE_COUNT) {
            let id = with_sample(plan, group, index, 0, |scope| scope.client_id.to_owned());
            if let Some((other, number)) = seen.insert(id.clone(), (at, index)) {
                let other = &plan.groups[other].name;
                let what = format!(
                    "{id:?} is the client id of number {number} of {other:?} and of number {index} here, and each would \
                     end the other's connection; put {{group}} and {{index}} into it"
                );
                findings.add(
                    &steps!["group", at, "client_id"],
                    format!("group {:?}, client_id", group.name),
                    what,
                );
                break;
            }
        }
    }
}

/// Clients of each group whose ids are compared. Whoever forgets `{index}` is found with two.
const SAMPLE_COUNT: u32 = 1_000;
