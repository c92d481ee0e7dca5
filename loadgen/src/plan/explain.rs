//! What a plan will do, in plain words: clients, messages, stages, and what it needs.

use std::fmt::Write as _;

use dunlin_wire::Version;

use super::audience;
use super::quantity::Period;
use super::schema::{Arrivals, Behaviour, Group, Leave, Plan};
use super::stage::{Stage, Until};
use super::traffic::{Expect, Pacing, Publish, Sparkplug};
use super::verify::Check;

/// Explains a plan to who is about to run it.
pub(crate) fn explain(plan: &Plan) -> String {
    let mut out = format!("{}: {}\n", plan.name, plan.about);
    if !plan.parameters.is_empty() {
        let values: Vec<String> =
            plan.parameters.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        line(&mut out, "Parameters", &values.join(", "));
        line(&mut out, "", "change one with --set NAME=VALUE; --scale 0.01 makes all of it a hundredth");
    }
    out.push_str("\nGroups\n");
    let flows: Vec<Vec<Flow>> = plan.groups.iter().map(|group| flows(plan, group)).collect();
    for (group, flows) in plan.groups.iter().zip(&flows) {
        describe_group(&mut out, plan, group, flows);
    }
    out.push_str("\nStages\n");
    let mut totals = Totals::default();
    for (number, stage) in plan.stages.iter().enumerate() {
        describe_stage(&mut out, plan, number, stage, &flows, &mut totals);
    }
    out.push_str("\nNeeds\n");
    describe_needs(&mut out, &flows, &totals);
    out.push_str("\nVerified\n");
    describe_checks(&mut out, plan);
    out
}

/// What one publish entry, or a Sparkplug group, sends.
struct Flow {
    entry: Option<String>,
    /// Messages a second at a factor of 1; `None` in a closed loop.
    rate: Option<f64>,
    /// Deliveries of each message.
    copies: f64,
    /// Messages over the whole run, at most.
    most: Option<u64>,
    is_retained: bool,
    /// Different topics, for what is retained.
    topics: u64,
}

fn flows(plan: &Plan, group: &Group) -> Vec<Flow> {
    let clients = u64::from(group.count);
    let mut flows: Vec<Flow> = group
        .publish
        .iter()
        .map(|entry| Flow {
            entry: entry.name.clone(),
            rate: match entry.pacing(group.count) {
                Pacing::Open { rate } => Some(rate.per_second()),
                Pacing::Closed { .. } => None,
            },
            copies: match entry.expect {
                Expect::Nobody => 0.0,
                Expect::Matching | Expect::Unchecked => audience::copies(plan, group, entry),
            },
            most: entry.messages.map(|messages| u64::from(messages) * clients),
            is_retained: entry.retain,
            topics: if entry.topic.is_constant() { 1 } else { clients },
        })
        .collect();
    flows.extend(group.sparkplug.as_ref().map(|sparkplug| {
        let sample = Publish::sample(sparkplug.data_topic());
        Flow {
            entry: None,
            rate: Some(sparkplug.total_rate(group.count).per_second()),
            copies: audience::copies(plan, group, &sample),
            most: None,
            is_retained: false,
            topics: clients,
        }
    }));
    flows
}

fn describe_group(out: &mut String, plan: &Plan, group: &Group, flows: &[Flow]) {
    let version = match group.protocol {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    };
    let mut facts = vec![format!("{} clients", grouped(f64::from(group.count))), format!("MQTT {version}")];
    facts.push(match group.keep_alive {
        Period::ZERO => "no Keep Alive".to_owned(),
        period => format!("Keep Alive {period}"),
    });
    if let Some(rate) = group.connect.rate {
        let how = arrivals(group.connect.arrivals);
        facts.push(format!("connecting at {}/s{how}", grouped(rate.per_second())));
    }
    if group.session_expiry != Period::ZERO {
        facts.push(format!("sessions kept for {}", group.session_expiry));
    }
    line(out, &group.name, &facts.join(", "));
    for entry in &group.subscribe {
        let each = if entry.repeat > 1 {
            format!(" {} times", grouped(f64::from(entry.repeat)))
        } else {
            String::new()
        };
        let sample = audience::render(plan, group, &entry.filter, 0, 0, 0);
        let such = if entry.filter.is_constant() { String::new() } else { format!(", such as {sample}") };
        line(
            out,
            "",
            &format!("subscribes{each} to {} (QoS {}){such}", entry.filter.source(), entry.qos as u8),
        );
    }
    for (entry, flow) in group.publish.iter().zip(flows) {
        describe_publish(out, plan, group, entry, flow);
    }
    if let Some(sparkplug) = &group.sparkplug {
        describe_sparkplug(out, group, sparkplug);
    }
    if let Some(will) = &group.will {
        line(out, "", &format!("leaves a will on {}", will.topic.source()));
    }
    describe_habits(out, group);
}

fn describe_publish(out: &mut String, plan: &Plan, group: &Group, entry: &Publish, flow: &Flow) {
    let bytes = super::sample_length(plan, group, &entry.payload);
    let retained = if entry.retain { ", retained" } else { "" };
    let name = entry.name.as_ref().map(|name| format!(" {name}:")).unwrap_or_default();
    let head = format!(
        "publishes{name} {} (QoS {}, {} bytes{retained}), such as {}",
        entry.topic.source(),
        entry.qos as u8,
        grouped(bytes as f64),
        audience::sample_topic(plan, group, &entry.topic, 0),
    );
    line(out, "", &head);
    let pace = match entry.pacing(group.count) {
        Pacing::Open { rate } => {
            format!("{}/s in all{}", grouped(rate.per_second()), arrivals(entry.arrivals))
        }
        Pacing::Closed { window } => format!("closed loop, {window} under way per client"),
    };
    let bound =
        entry.messages.map(|messages| format!(", {messages} per client and no more")).unwrap_or_default();
    let audience = match entry.expect {
        Expect::Nobody => "nobody may receive them".to_owned(),
        Expect::Unchecked => format!("about {} receive each, unchecked", grouped(flow.copies)),
        Expect::Matching if flow.copies == 0.0 => "NOBODY subscribes to them (sampled)".to_owned(),
        Expect::Matching => format!("{} deliveries of each", grouped(flow.copies)),
    };
    line(out, "", &format!("  {pace}{bound}; {audience}"));
}

fn describe_sparkplug(out: &mut String, group: &Group, sparkplug: &Sparkplug) {
    let who = match sparkplug.devices {
        0 => "Sparkplug edge nodes".to_owned(),
        devices => format!("Sparkplug edge nodes with {devices} devices each"),
    };
    let rate = grouped(sparkplug.total_rate(group.count).per_second());
    let what = format!(
        "{who}: {} metrics, {} of them in each of {rate} data messages/s in all",
        sparkplug.metrics, sparkplug.changing
    );
    line(out, "", &what);
}

fn describe_habits(out: &mut String, group: &Group) {
    if let Some(life) = &group.lifecycle {
        let how = match life.leave {
            Leave::Disconnect => "leaves with DISCONNECT",
            Leave::Drop => "is cut off",
            Leave::HalfOpen => "falls silent",
            Leave::Takeover => "takes its own session over",
        };
        let cycle = life.online.mean().seconds() + life.offline.mean().seconds();
        let rate = grouped(f64::from(group.count) / cycle.max(1e-9));
        let what = format!(
            "while churning: online {}, offline {}, {how}: about {rate}/s",
            life.online, life.offline
        );
        line(out, "", &what);
    }
    if let Some(reconnect) = &group.reconnect {
        line(out, "", &format!("reconnects after {}, at most {}", reconnect.delay, reconnect.delay_max));
    }
    match &group.behaviour {
        Behaviour::Normal => {}
        Behaviour::SlowReader { bytes_per_second } => {
            line(out, "", &format!("reads only {} bytes/s", grouped(f64::from(*bytes_per_second))));
        }
        Behaviour::HalfOpen { after } => line(out, "", &format!("falls silent {after} after subscribing")),
        Behaviour::Malformed { kinds, rate } => {
            let what = format!(
                "sends {} kinds of malformed packets, {} connections/s",
                kinds.len(),
                grouped(rate.per_second())
            );
            line(out, "", &what);
        }
    }
}

/// What adds up over the stages.
#[derive(Default)]
struct Totals {
    running: Vec<bool>,
    most_connections: u64,
    fixed_seconds: f64,
    waiting_seconds: f64,
    sent: f64,
    delivered: f64,
    has_closed_loop: bool,
}

fn describe_stage(
    out: &mut String,
    plan: &Plan,
    number: usize,
    stage: &Stage,
    flows: &[Vec<Flow>],
    totals: &mut Totals,
) {
    let length = match (stage.duration, stage.until) {
        (Some(duration), _) => duration.to_string(),
        (None, until) => {
            format!("until {}, at most {}", until.map_or("", waits_for), stage.timeout.unwrap_or_default())
        }
    };
    let measured = if stage.measure { ", measured" } else { "" };
    line(out, &format!("{} {}", number + 1, stage.name), &format!("{length}{measured}"));
    totals.running.resize(plan.groups.len(), false);
    for (verb, names, is_running) in [("starts", &stage.start, true), ("stops", &stage.stop, false)] {
        for group in names.iter().filter_map(|name| plan.group_number(name)) {
            totals.running[group] = is_running;
            let took = plan.groups[group].connect.rate.filter(|_| is_running).map(|rate| {
                let seconds = f64::from(plan.groups[group].count) / rate.per_second();
                format!(", which takes {}", seconds_text(seconds))
            });
            line(out, "", &format!("{verb} {}{}", plan.groups[group].name, took.unwrap_or_default()));
        }
    }
    for name in &stage.churn {
        line(out, "", &format!("{name} come and go"));
    }
    for fall in &stage.drop {
        line(
            out,
            "",
            &format!("{:.0} % of {} fall within {}", fall.share.part() * 100.0, fall.group, fall.within),
        );
    }
    let connections = plan.groups.iter().zip(&totals.running).filter(|(_, is_running)| **is_running);
    let connections: u64 = connections.map(|(group, _)| u64::from(group.count)).sum();
    totals.most_connections = totals.most_connections.max(connections);
    let seconds = stage.duration.map(Period::seconds);
    totals.fixed_seconds += seconds.unwrap_or(0.0);
    totals.waiting_seconds += stage.timeout.map_or(0.0, Period::seconds);
    describe_traffic(out, plan, stage, flows, totals);
}

fn describe_traffic(out: &mut String, plan: &Plan, stage: &Stage, flows: &[Vec<Flow>], totals: &mut Totals) {
    let (mut sent, mut delivered, mut at_end) = (0.0, 0.0, 0.0);
    let mut loops = false;
    for (number, (group, flows)) in plan.groups.iter().zip(flows).enumerate() {
        if !totals.running.get(number).copied().unwrap_or(false) {
            continue;
        }
        for flow in flows {
            let factor = stage.factor(&group.name, flow.entry.as_deref());
            if factor.is_zero() {
                continue;
            }
            let Some(rate) = flow.rate else {
                loops = true;
                continue;
            };
            sent += rate * factor.mean();
            delivered += rate * factor.mean() * flow.copies;
            at_end += rate * factor.to;
            let of_stage = stage.duration.map_or(0.0, |duration| rate * factor.mean() * duration.seconds());
            let most = flow.most.map_or(f64::INFINITY, |most| most as f64);
            let messages =
                if stage.duration.is_none() && flow.most.is_some() { most } else { of_stage.min(most) };
            totals.sent += messages;
            totals.delivered += messages * flow.copies;
        }
    }
    totals.has_closed_loop |= loops;
    if sent > 0.0 {
        let ramp = if (at_end - sent).abs() > sent * 1e-6 {
            format!(" on average (ending at {}/s in)", grouped(at_end))
        } else {
            String::new()
        };
        line(out, "", &format!("{}/s in, {}/s out{ramp}", grouped(sent), grouped(delivered)));
    }
    if loops {
        line(out, "", "closed loops run as fast as the broker lets them");
    }
}

const fn waits_for(until: Until) -> &'static str {
    match until {
        Until::Connected => "all are connected",
        Until::Subscribed => "all subscriptions are acknowledged",
        Until::Published => "all bounded publish entries have ended",
        Until::Drained => "every expected delivery has come",
        Until::Disconnected => "half of the connections have fallen (restart the broker then)",
    }
}

fn describe_needs(out: &mut String, flows: &[Vec<Flow>], totals: &Totals) {
    let connections = totals.most_connections;
    line(out, "connections", &format!("{} at the same time", grouped(connections as f64)));
    let addresses = connections.div_ceil(u64::from(CONNECTIONS_PER_ADDRESS)).max(1);
    let hint = if addresses > 1 { "; on loopback: --source 127.1.0.0/16" } else { "" };
    let per_address = grouped(f64::from(CONNECTIONS_PER_ADDRESS));
    line(
        out,
        "addresses",
        &format!("{addresses} local, at {per_address} connections to one port of the broker{hint}"),
    );
    let bytes = connections as f64 * GENERATOR_BYTES_PER_CLIENT + GENERATOR_BYTES;
    line(out, "generator", &format!("about {} of memory", bytes_text(bytes)));
    let kernel = connections as f64 * KERNEL_BYTES_PER_CONNECTION;
    line(
        out,
        "kernel",
        &format!(
            "about {} for sockets, and as much again if the broker runs on this host",
            bytes_text(kernel)
        ),
    );
    let closed = if totals.has_closed_loop { ", and what the closed loops move" } else { "" };
    let messages =
        format!("{} sent, {} deliveries expected{closed}", grouped(totals.sent), grouped(totals.delivered));
    line(out, "messages", &messages);
    let kept = flows.iter().flatten().filter(|flow| flow.is_retained);
    let retained: f64 = kept.map(|flow| flow.topics as f64 * flow.copies).sum();
    if retained > 0.0 {
        let what =
            format!("up to {} retained messages go to those who subscribe afterwards", grouped(retained));
        line(out, "", &what);
    }
    let waiting = Period::from_seconds(whole_seconds(totals.waiting_seconds));
    let fixed = Period::from_seconds(whole_seconds(totals.fixed_seconds));
    line(out, "time", &format!("{fixed}, and at most {waiting} of waiting"));
}

/// Ports that a local address has for one port of the broker, with the usual `ip_local_port_range`.
const CONNECTIONS_PER_ADDRESS: u32 = 28_000;
/// Memory of the generator whatever it does: figures to plan with, from runs with 50,000 and 100,000 clients.
const GENERATOR_BYTES: f64 = 15e6;
/// Memory of the generator for a client with a subscription of its own.
const GENERATOR_BYTES_PER_CLIENT: f64 = 200.0;
/// Memory of the kernel for an idle TCP socket: a figure to plan with.
const KERNEL_BYTES_PER_CONNECTION: f64 = 3_500.0;

fn describe_checks(out: &mut String, plan: &Plan) {
    let verify = &plan.verify;
    let checks = verify.named();
    let on: Vec<&str> = checks.iter().filter(|(_, check)| check.is_on()).map(|(name, _)| *name).collect();
    line(out, "fail the run", &on.join(", "));
    for (name, check) in checks {
        if let Check::Off { why } = check {
            line(out, "only counted", &format!("{name}: {why}"));
        }
    }
}

const fn arrivals(arrivals: Arrivals) -> &'static str {
    match arrivals {
        Arrivals::Constant => "",
        Arrivals::Poisson => " by chance (Poisson)",
        Arrivals::Burst(_) => " in bursts",
    }
}

/// A line with its label in a column of its own; a label that is too long gets a line to itself.
fn line(out: &mut String, label: &str, text: &str) {
    let written = if label.chars().count() > LABEL_WIDTH {
        writeln!(out, "  {label}\n  {:LABEL_WIDTH$}  {text}", "")
    } else {
        writeln!(out, "  {label:LABEL_WIDTH$}  {text}")
    };
    debug_assert!(written.is_ok(), "a String takes everything");
}

const LABEL_WIDTH: usize = 16;

/// `1,234,567`, and two digits after the point for what is small and broken.
fn grouped(value: f64) -> String {
    if value > 0.0 && value < 10.0 && (value - value.round()).abs() > 1e-9 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn bytes_text(bytes: f64) -> String {
    for (unit, size) in [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)] {
        if bytes >= size {
            return format!("{:.1} {unit}", bytes / size);
        }
    }
    format!("{bytes:.0} B")
}

fn seconds_text(seconds: f64) -> String {
    if seconds < 1.0 {
        "less than 1s".to_owned()
    } else {
        Period::from_seconds(whole_seconds(seconds)).to_string()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range")]
fn whole_seconds(seconds: f64) -> u32 {
    seconds.round().clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::super::library::SCENARIOS;
    use super::super::load::{Overrides, load};
    use super::*;

    fn explained(name: &str, overrides: &Overrides) -> String {
        explain(&load(name, overrides).unwrap_or_else(|error| panic!("{error}")))
    }

    #[test]
    fn every_scenario_of_the_library_is_loaded_and_explained() {
        for (name, _) in SCENARIOS {
            let plan = load(name, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(plan.name, name);
            let text = explain(&plan);
            assert!(!text.contains("NOBODY"), "{text}");
            for group in &plan.groups {
                assert!(text.contains(&group.name), "{name}: {}", group.name);
            }
            // And small, as on a developer's machine.
            load(name, &Overrides { scale: 0.001, ..Overrides::default() })
                .unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn the_figures_are_those_of_the_scenario() {
        let text = explained("fanout-5-1000", &Overrides::default());
        for part in [
            "1,000 clients, MQTT 5.0, Keep Alive 5m, connecting at 1,000/s",
            "250/s in all; 1,000 deliveries of each",
            "250/s in, 250,000/s out",
            "1,005 at the same time",
            "30m10s, and at most 1m30s of waiting",
            "loss, duplicates",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let overrides =
            Overrides { parameters: vec![("subscribers".to_owned(), "100".to_owned())], scale: 0.5 };
        let text = explained("fanout-5-1000", &overrides);
        assert!(text.contains("50 deliveries of each"), "{text}");
    }

    #[test]
    fn what_is_retained_is_counted() {
        let text = explained("retained-storm", &Overrides::default());
        assert!(text.contains("up to 10,000,000 retained messages"), "{text}");
        assert!(text.contains("200,000 sent"), "{text}");
    }

    #[test]
    fn numbers_are_readable() {
        let shown: Vec<String> = [0.0, 0.25, 999.0, 1_000.0, 1_234_567.4].into_iter().map(grouped).collect();
        assert_eq!(shown, ["0", "0.25", "999", "1,000", "1,234,567"]);
    }
}
