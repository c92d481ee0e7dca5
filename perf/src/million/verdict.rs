//! What a run is held to, and how it is printed.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Options;
use crate::bench::machine::Environment;

/// One bar and what was measured.
#[derive(Debug)]
pub(super) struct Bar {
    name: &'static str,
    /// `None`: the report does not say.
    measured: Option<f64>,
    most: f64,
    unit: &'static str,
}

impl Bar {
    /// Whether it was measured and kept.
    pub(super) fn is_kept(&self) -> bool {
        self.measured.is_some_and(|measured| measured <= self.most)
    }

    /// Whether it depends on how busy the machine is.
    pub(super) fn is_of_time(&self) -> bool {
        self.unit == "s"
    }

    pub(super) fn as_json(&self) -> Value {
        json!({"name": self.name, "measured": self.measured, "most": self.most, "unit": self.unit, "kept": self.is_kept()})
    }
}

/// The bars of a run of so many connections. The time to connect and the host's memory grow with their number.
pub(super) fn of(report: &Value, connections: u32, peak: u64) -> Vec<Bar> {
    let share = f64::from(connections) / 2e6;
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64);
    let bar = |name, measured, most, unit| Bar { name, measured, most, unit };
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let peak_gib = peak as f64 / f64::from(1 << 30);
    vec![
        bar("all up after", figure(report, "all connected and subscribed after"), 180.0 * share, "s"),
        bar("messages lost", number("/violations/found/lost"), 0.0, ""),
        bar("broker memory per connection", number("/resources/per_connection/broker_bytes"), 600.0, "B"),
        bar(
            "generator memory per connection",
            number("/resources/per_connection/generator_bytes"),
            300.0,
            "B",
        ),
        bar("memory of the host in all", Some(peak_gib), 22.0 * share.max(0.05), "GiB"),
    ]
}

/// The run as text.
pub(super) fn text(
    machine: &Environment,
    options: &Options,
    report: &Value,
    peak: u64,
    bars: &[Bar],
) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(out, "{name:<38} {value}").expect("writing to a String can't fail");
    };
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
    line(
        "host",
        format!(
            "{} ({} cores), {} GiB, Linux {}",
            machine.cpu, machine.cores, machine.memory_gib, machine.kernel
        ),
    );
    line("commit", format!("{}, load before {}", machine.commit, machine.load_before));
    line("connections", format!("{} (MQTT 5, a session and a subscription each)", options.connections));
    for figure in report["figures"].as_array().into_iter().flatten() {
        let value = figure["value"].as_f64().unwrap_or(0.0);
        line(
            figure["name"].as_str().unwrap_or(""),
            format!("{value:.1} {}", figure["unit"].as_str().unwrap_or("")),
        );
    }
    for (name, pointer) in [
        ("broker memory per connection", "/resources/per_connection/broker_bytes"),
        ("kernel memory per connection, both ends", "/resources/per_connection/kernel_bytes"),
        ("generator memory per connection", "/resources/per_connection/generator_bytes"),
    ] {
        line(name, format!("{:.0} B", number(pointer)));
    }
    line("memory of the host in all", format!("{} MiB more than before", peak >> 20));
    line("while held: broker", format!("{:.1} % of a core", 100.0 * number("/resources/broker_cores")));
    line("while held: generator", format!("{:.1} % of a core", 100.0 * number("/resources/generator_cores")));
    for (name, leg) in [
        ("TCP connect", "tcp_connect"),
        ("CONNECT to CONNACK", "conn_ack"),
        ("PUBLISH to PUBACK", "pub_ack"),
        ("delivery", "deliver"),
    ] {
        if let Some(times) = report.pointer(&format!("/legs/{leg}/corrected")) {
            line(name, percentiles(times));
        }
    }
    for counter in ["sent", "delivered", "acknowledged", "redelivered", "pinged", "connects", "late"] {
        line(counter, format!("{:.0}", number(&format!("/counters/{counter}"))));
    }
    line("verified", violations(report));
    line("verdict", format!("{} {}", report["verdict"].as_str().unwrap_or("?"), reasons(report)));
    for bar in bars {
        let measured = bar.measured.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.1}"));
        let word = if bar.is_kept() { "pass" } else { "MISSED" };
        line(
            &format!("bar: {}", bar.name),
            format!("{measured} of at most {:.1} {}: {word}", bar.most, bar.unit),
        );
    }
    out
}

/// The same as a section of a page.
pub(super) fn markdown(text: &str, connections: u32) -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    format!(
        "## {connections} connections on one host\n\n`cargo perf {}`\n\n```\n{text}```\n",
        words.join(" ")
    )
}

fn percentiles(times: &Value) -> String {
    let milliseconds = |name: &str| times[name].as_f64().unwrap_or(0.0) / 1e6;
    format!(
        "p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} ms ({} samples)",
        milliseconds("p50_ns"),
        milliseconds("p90_ns"),
        milliseconds("p99_ns"),
        milliseconds("p99_9_ns"),
        milliseconds("max_ns"),
        times["samples"]
    )
}

fn violations(report: &Value) -> String {
    let found = report.pointer("/violations/found").and_then(Value::as_object);
    let words: Vec<String> =
        found.into_iter().flatten().map(|(kind, count)| format!("{kind} {count}")).collect();
    words.join("  ")
}

fn reasons(report: &Value) -> String {
    let reasons = report["reasons"].as_array();
    let words: Vec<&str> = reasons.into_iter().flatten().filter_map(Value::as_str).collect();
    if words.is_empty() { String::new() } else { format!("({})", words.join("; ")) }
}

fn figure(report: &Value, name: &str) -> Option<f64> {
    let figures = report["figures"].as_array()?;
    figures.iter().find(|figure| figure["name"] == name)?["value"].as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(seconds: f64, lost: u64) -> Value {
        json!({
            "figures": [{"name": "all connected and subscribed after", "value": seconds, "unit": "s"}],
            "violations": {"found": {"lost": lost}},
            "resources": {"per_connection": {"broker_bytes": 400.0, "generator_bytes": 120.0}},
        })
    }

    #[test]
    fn bars_scale_with_the_number_of_connections() {
        let kept = |seconds, lost, connections| {
            of(&report(seconds, lost), connections, 1 << 30).iter().all(Bar::is_kept)
        };
        assert!(kept(180.0, 0, 2_000_000));
        assert!(!kept(181.0, 0, 2_000_000));
        assert!(!kept(20.0, 0, 200_000));
        assert!(!kept(1.0, 1, 2_000_000));
    }

    #[test]
    fn what_the_report_does_not_say_is_not_kept() {
        assert!(!of(&json!({}), 2_000_000, 0)[0].is_kept());
    }
}
