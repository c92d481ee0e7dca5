//! Subscriptions, publish entries, wills and Sparkplug groups.

use dunlin_wire::topic::{FilterKind, TopicError, check_name};

use super::super::limits::{DEVICES_MAX, METRICS_MAX, PAYLOAD_BYTES_MAX, REPEAT_MAX};
use super::super::quantity::Period;
use super::super::schema::{Arrivals, Behaviour, Group};
use super::super::template::{Template, Variable};
use super::super::traffic::{Expect, Payload, Publish, Subscription};
use super::sessions::misplaced;
use super::{Findings, with_sample};
use crate::clock::SECOND_NS;
use crate::stamp::STAMP_BYTES;

/// Checks what a group subscribes to and publishes.
pub(super) fn check(findings: &mut Findings<'_>, at: usize, group: &Group) {
    for (number, subscription) in group.subscribe.iter().enumerate() {
        check_subscription(findings, at, group, number, subscription);
    }
    for (number, publish) in group.publish.iter().enumerate() {
        check_publish(findings, at, group, number, publish);
    }
    check_will(findings, at, group);
    check_sparkplug(findings, at, group);
}

fn check_subscription(
    findings: &mut Findings<'_>,
    at: usize,
    group: &Group,
    number: usize,
    entry: &Subscription,
) {
    let mut tell = |key: &str, what: String| findings.entry(at, "subscribe", number, key, what);
    if let Some(variable) = misplaced(Some(&entry.filter), &[PER_CLIENT.as_slice(), &[Variable::N]].concat())
    {
        tell("filter", format!("{variable} has no value in a filter"));
        return;
    }
    if entry.repeat == 0 || entry.repeat > REPEAT_MAX {
        tell("repeat", format!("it must be 1 to {REPEAT_MAX}"));
    }
    if entry.repeat > 1 && !entry.filter.uses(Variable::N) && !entry.filter.uses(Variable::Rand) {
        tell("repeat", "all of them would be the same filter; put {n} into it".to_owned());
    }
    let plan = findings.plan;
    let mut wrong = None;
    for index in samples(group) {
        let n = entry.repeat.saturating_sub(1);
        let filter = with_sample(plan, group, index, n, |scope| entry.filter.text(scope));
        match FilterKind::parse(&filter) {
            Ok(FilterKind::Shared { .. }) if entry.no_local => {
                wrong = Some((
                    "no_local",
                    "MQTT 5 forbids No Local on a shared subscription; leave it out".to_owned(),
                ));
            }
            Ok(_) => {}
            Err(error) => {
                wrong = Some(("filter", format!("{filter:?} is no valid filter: {}", advice(error))))
            }
        }
        if wrong.is_some() {
            break;
        }
    }
    if let Some((key, what)) = wrong {
        findings.entry(at, "subscribe", number, key, what);
    }
}

/// What has a value wherever a client is known.
const PER_CLIENT: [Variable; 6] =
    [Variable::Index, Variable::Group, Variable::ClientId, Variable::Run, Variable::Rand, Variable::Data];

/// Which clients are looked at: all that have a row of their own, else the first and the last.
fn samples(group: &Group) -> Vec<u32> {
    if group.data.is_some() {
        (0..group.count.min(ROWS_LOOKED_AT)).collect()
    } else {
        vec![0, group.count.saturating_sub(1)]
    }
}

/// Rows of a data file whose topics and filters are tried.
const ROWS_LOOKED_AT: u32 = 10_000;

/// What is wrong with a topic or filter, and what to do.
fn advice(error: TopicError) -> String {
    let known = ADVICE.iter().find(|(kind, _)| *kind == error);
    known.map_or_else(|| error.to_string(), |(_, advice)| format!("{error}; {advice}"))
}

const ADVICE: [(TopicError, &str); 4] = [
    (TopicError::Wildcard, "a topic to publish to has no + and no #"),
    (TopicError::WildcardPlace, "+ must be a whole level, and # the whole last one"),
    (TopicError::Shared, "a shared subscription is $share/group/filter"),
    (TopicError::Empty, "write at least one character"),
];

fn check_topic(plan: &super::Plan, group: &Group, topic: &Template) -> Result<(), String> {
    let allowed = [PER_CLIENT.as_slice(), &[Variable::Seq, Variable::Time]].concat();
    if let Some(variable) = misplaced(Some(topic), &allowed) {
        return Err(format!("{variable} has no value in a topic"));
    }
    for index in samples(group) {
        let text = with_sample(plan, group, index, 0, |scope| topic.text(scope));
        check_name(&text).map_err(|error| format!("{text:?} is no valid topic: {}", advice(error)))?;
    }
    Ok(())
}

fn check_publish(findings: &mut Findings<'_>, at: usize, group: &Group, number: usize, entry: &Publish) {
    let plan = findings.plan;
    let mut tell = |key: &str, what: &str| findings.entry(at, "publish", number, key, what);
    if let Err(what) = check_topic(plan, group, &entry.topic) {
        tell("topic", &what);
    }
    if let Err((key, what)) = check_payload(&entry.payload) {
        tell("payload", &format!("{key}: {what}"));
    }
    let paces = [entry.rate.is_some(), entry.per_client.is_some(), entry.window.is_some()];
    match paces.iter().filter(|is_set| **is_set).count() {
        1 => {}
        0 => tell("rate", "nothing says how fast; write rate (over the group), per_client or window"),
        _ => tell("rate", "rate, per_client and window exclude each other; keep one"),
    }
    if entry.window.is_some() {
        if entry.window == Some(0) {
            tell("window", "a window of 0 never sends; it must be 1 to 65535");
        }
        if entry.arrivals != Arrivals::Constant {
            tell("arrivals", "a closed loop has no schedule; leave arrivals out, or use rate");
        }
        if entry.expect != Expect::Matching {
            tell(
                "expect",
                "a closed loop waits for deliveries, so they must be expected; use rate instead of window",
            );
        }
    }
    if entry.arrivals == Arrivals::Burst(0) {
        tell("arrivals", "a burst of 0 never comes; write { burst = 10 }");
    }
    if entry.messages == Some(0) {
        tell("messages", "0 messages are none; leave the entry out");
    }
    if entry.message_expiry.is_some_and(|expiry| !is_whole_seconds(expiry) || expiry == Period::ZERO) {
        tell("message_expiry", "it must be a whole number of seconds, at least 1");
    }
    let same_name = |other: &Publish| other.name == entry.name;
    if group.publish.len() > 1 && entry.name.is_none() {
        tell("name", "the group has several publish entries; give each a name, for stages and reports");
    } else if entry.name.is_some() && group.publish[..number].iter().any(same_name) {
        tell("name", "another entry of the group has this name; rename one");
    }
    if entry.name.as_ref().is_some_and(|name| name.is_empty() || name.contains('.')) {
        tell("name", "a name has at least one character, and no dot");
    }
}

fn is_whole_seconds(period: Period) -> bool {
    period.ns().is_multiple_of(SECOND_NS)
}

fn check_payload(payload: &Payload) -> Result<(), (&'static str, String)> {
    let kinds = [payload.bytes.is_some(), payload.text.is_some(), payload.file.is_some()];
    if kinds.iter().filter(|is_set| **is_set).count() > 1 {
        return Err(("bytes", "bytes, text and file exclude each other; keep one".to_owned()));
    }
    if let Some(bytes) = payload.bytes {
        let least = u32::try_from(STAMP_BYTES).unwrap_or(u32::MAX);
        if bytes < least {
            return Err((
                "bytes",
                format!("{bytes} has no room for the stamp of {least} bytes that verification needs"),
            ));
        }
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(("bytes", format!("{bytes} is more than {PAYLOAD_BYTES_MAX}")));
        }
    }
    let length = u32::try_from(payload.content.len()).unwrap_or(u32::MAX);
    if length > PAYLOAD_BYTES_MAX {
        return Err(("file", format!("it has {length} bytes, which is more than {PAYLOAD_BYTES_MAX}")));
    }
    let stamps =
        payload.text.iter().flat_map(Template::variables).filter(|used| *used == Variable::Stamp).count();
    if stamps > 1 {
        return Err(("text", "{stamp} stands there twice; one is enough".to_owned()));
    }
    let Some(text) = &payload.text else { return Ok(()) };
    if text.uses(Variable::N) {
        return Err(("text", "{n} has no value in a payload; {seq} counts the messages".to_owned()));
    }
    if text.uses(Variable::Jwt) {
        return Err(("text", "{jwt} is for username and password only".to_owned()));
    }
    Ok(())
}

fn check_will(findings: &mut Findings<'_>, at: usize, group: &Group) {
    let Some(will) = &group.will else { return };
    if will.topic.uses(Variable::Seq) {
        findings.group(at, "will", "{seq} has no value in a will");
    } else if let Err(what) = check_topic(findings.plan, group, &will.topic) {
        findings.group(at, "will", what);
    }
    if let Err((key, what)) = check_payload(&will.payload) {
        findings.group(at, "will", format!("{key}: {what}"));
    }
    if will.payload.length_max() > usize::from(u16::MAX) {
        findings.group(at, "will", "the payload of a will has at most 65535 bytes");
    }
    if matches!(group.behaviour, Behaviour::Malformed { .. }) {
        findings.group(at, "will", "clients that send malformed packets have no will; leave it out");
    }
}

fn check_sparkplug(findings: &mut Findings<'_>, at: usize, group: &Group) {
    let Some(sparkplug) = &group.sparkplug else { return };
    let plan = findings.plan;
    let mut tell = |what: String| findings.group(at, "sparkplug", what);
    if group.will.is_some() {
        tell("the will of a Sparkplug node is its NDEATH; leave will out".to_owned());
    }
    if !group.publish.is_empty() {
        tell("a Sparkplug node publishes what Sparkplug says; move publish to another group".to_owned());
    }
    match (sparkplug.rate, sparkplug.per_client) {
        (Some(_), None) | (None, Some(_)) => {}
        (None, None) => {
            tell("nothing says how often data comes; write rate (over the group) or per_client".to_owned())
        }
        (Some(_), Some(_)) => tell("rate and per_client exclude each other; keep one".to_owned()),
    }
    if sparkplug.devices > DEVICES_MAX {
        tell(format!("devices must be 0 to {DEVICES_MAX}"));
    }
    if sparkplug.metrics == 0 || sparkplug.metrics > METRICS_MAX {
        tell(format!("metrics must be 1 to {METRICS_MAX}"));
    }
    if sparkplug.changing == 0 || sparkplug.changing > sparkplug.metrics {
        tell(format!("changing must be 1 to the number of metrics, {}", sparkplug.metrics));
    }
    for (key, template) in [("group_id", &sparkplug.group_id), ("edge_node", &sparkplug.edge_node)] {
        if let Some(variable) = misplaced(Some(template), &PER_CLIENT) {
            tell(format!("{variable} has no value in {key}"));
            continue;
        }
        let text = with_sample(plan, group, 0, 0, |scope| template.text(scope));
        if text.is_empty() || text.contains(['/', '+', '#']) {
            tell(format!("{key}: {text:?} is one level of a topic, so it can't be empty or have / + #"));
        }
    }
}
