//! What a run has found: a table for people, JSON for programs.

use std::fmt::{Display, Write as _};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::observe::limit::GeneratorSigns;
use crate::record::Outcome;
use crate::verify::Violations;

/// The result of a run. Absent fields do not apply to the scenario or were not asked for.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Name of the scenario.
    pub(crate) scenario: String,
    /// MQTT version, or "floor".
    pub(crate) protocol: String,
    pub(crate) qos: u8,
    pub(crate) payload_bytes: usize,
    pub(crate) connections: u32,
    /// Length of the measured window.
    pub(crate) seconds: f64,
    /// What is counted: "message", "connect" or "subscription".
    pub(crate) unit: String,
    /// Units completed in the window.
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    /// Processor time of the broker per unit, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broker_cpu_us: Option<f64>,
    /// Share of one core that the broker used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broker_cores: Option<f64>,
    /// Processor time of the generator per unit, in microseconds.
    pub(crate) generator_cpu_us: f64,
    /// Share of one core that the generator used.
    pub(crate) generator_cores: f64,
    /// From the intended time of sending to arrival at the receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_us: Option<Percentiles>,
    /// From the intended time of sending to PUBACK or PUBCOMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) acknowledged_us: Option<Percentiles>,
    /// From opening a socket to its being connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tcp_connect_us: Option<Percentiles>,
    /// From sending CONNECT to CONNACK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connack_us: Option<Percentiles>,
    /// Messages sent more than a millisecond after their time (open loop).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) late: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<MemoryReport>,
    /// What the broker's resident memory grew by: while connections were held, or from the end of the first round of
    /// connections to the end of the last. Below 0 it shrank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) growth_bytes: Option<i64>,
    /// Memory of the broker in each round of a cycle.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rounds: Vec<RoundMemory>,
    /// What the oracle has found wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) violations: Option<Violations>,
    /// Connections that failed or were closed by the broker, refused subscriptions and messages, protocol errors.
    pub(crate) failures: u64,
    /// The first few failures in words.
    pub(crate) failure_examples: Vec<String>,
    /// What limits the meaning of the figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
    /// Why the generator was the limit; each of them is also a note.
    #[serde(skip)]
    pub(crate) limits: Vec<String>,
    /// Everything that was found, for the files of `--out`, and for those who put the parts of a run together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<Box<Outcome>>,
    /// Further figures of single scenarios.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) extra: Vec<Figure>,
}

/// A named figure.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

/// Bytes before and after the scenario's set-up, and the difference per item.
#[derive(Debug, Serialize)]
pub(crate) struct MemoryReport {
    pub(crate) item: &'static str,
    pub(crate) items: u64,
    pub(crate) broker_rss_before_bytes: u64,
    pub(crate) broker_rss_after_bytes: u64,
    pub(crate) broker_rss_per_item_bytes: f64,
    pub(crate) broker_pss_per_item_bytes: f64,
    pub(crate) kernel_slab_per_item_bytes: f64,
    pub(crate) generator_rss_per_item_bytes: f64,
}

/// Resident memory of the broker in one round of connections, in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct RoundMemory {
    /// Before the first round.
    pub(crate) before_rss_bytes: i64,
    /// When all are up and subscribed.
    pub(crate) open_rss_bytes: i64,
    /// When all are gone.
    pub(crate) closed_rss_bytes: i64,
}

/// A latency distribution in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) samples: u64,
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) p99_99: f64,
    pub(crate) max: f64,
}

impl Percentiles {
    /// The figures of a histogram; `None` when it is empty.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile: f64| micro(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Self {
            samples: histogram.len(),
            min: micro(histogram.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: micro(histogram.max()),
        })
    }
}

impl Report {
    /// Whether every message was accounted for and nothing failed.
    pub(crate) fn is_clean(&self) -> bool {
        self.failures == 0 && self.violations.is_none_or(Violations::is_clean)
    }

    /// Adds notes about a generator that was the limit. `polls`: it fills its core by design.
    pub(crate) fn judge_generator(&mut self, polls: bool) {
        let doubts = |late_count| {
            let signs = GeneratorSigns {
                busy: self.generator_cores,
                polls,
                sent_count: self.count,
                late_count,
                overflow_count: 0,
                broker_busy: self.broker_cores,
            };
            signs.doubts().into_iter()
        };
        let late_count = self.late.unwrap_or(0);
        let notes: Vec<String> = doubts(late_count).map(|doubt| doubt.text).collect();
        // Late messages are counted by the recorder, which knows the measured ones.
        let unknown_count = if self.unit == "message" { 0 } else { late_count };
        let limits = doubts(unknown_count).filter(|doubt| doubt.disqualifies).map(|doubt| doubt.text);
        self.limits.extend(limits.collect::<Vec<_>>());
        self.notes.extend(notes);
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::default();
        let what =
            format!("{} ({}, QoS {}, {} B)", self.scenario, self.protocol, self.qos, self.payload_bytes);
        table.row("scenario", what);
        table.row("connections", self.connections);
        table.row("measured", format_args!("{} {}s in {:.2} s", self.count, self.unit, self.seconds));
        table.row("rate", format_args!("{:.0} {}s/s", self.per_second, self.unit));
        if let Some(cores) = self.broker_cores {
            table.row("broker CPU", self.cpu(self.broker_cpu_us, cores));
        }
        table.row("generator CPU", self.cpu(Some(self.generator_cpu_us), self.generator_cores));
        table.percentiles("latency", self.latency_us);
        table.percentiles("acknowledged after", self.acknowledged_us);
        table.percentiles("TCP connect", self.tcp_connect_us);
        table.percentiles("CONNECT to CONNACK", self.connack_us);
        if let Some(late) = self.late {
            table.row("sent late (> 1 ms)", late);
        }
        if let Some(memory) = &self.memory {
            let item = memory.item;
            table.row(
                "broker memory",
                format_args!("{:.0} B per {item} (RSS)", memory.broker_rss_per_item_bytes),
            );
            table.row(
                "kernel slab",
                format_args!("{:.0} B per {item} (both ends)", memory.kernel_slab_per_item_bytes),
            );
            table.row(
                "generator memory",
                format_args!("{:.0} B per {item}", memory.generator_rss_per_item_bytes),
            );
        }
        for (round, number) in self.rounds.iter().zip(1_u32..) {
            let kib = |bytes: i64| bytes / 1_024;
            table.row(
                &format!("round {number}, broker RSS"),
                format_args!(
                    "{} KiB open, {} KiB closed",
                    kib(round.open_rss_bytes),
                    kib(round.closed_rss_bytes)
                ),
            );
        }
        if let Some(bytes) = self.growth_bytes {
            table.row("broker memory grew by", format_args!("{} KiB", bytes / 1_024));
        }
        for figure in &self.extra {
            table.row(figure.name, format_args!("{:.3} {}", figure.value, figure.unit));
        }
        if let Some(found) = &self.violations {
            table.row("verified", found);
        }
        table.row("failures", self.failures);
        for example in &self.failure_examples {
            table.row("", example);
        }
        for note in &self.notes {
            table.row("note", note);
        }
        table.row("verdict", if self.is_clean() { "clean" } else { "VIOLATED" });
        table.text
    }

    fn cpu(&self, microseconds: Option<f64>, cores: f64) -> String {
        let share = format!("{:.1} % of a core", cores * 100.0);
        match microseconds.filter(|_| self.count > 0) {
            Some(microseconds) => format!("{microseconds:.2} us per {} ({share})", self.unit),
            None => share,
        }
    }
}

/// Names and values, one pair per line.
#[derive(Debug, Default)]
struct Table {
    text: String,
}

impl Table {
    fn row(&mut self, name: &str, value: impl Display) {
        writeln!(self.text, "{name:<28} {value}").expect("writing to a String can't fail");
    }

    fn percentiles(&mut self, name: &str, percentiles: Option<Percentiles>) {
        let Some(p) = percentiles else { return };
        let value = format_args!(
            "p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1} us",
            p.p50, p.p90, p.p99, p.p99_9, p.max
        );
        self.row(name, value);
    }
}

/// Nanoseconds as microseconds.
pub(crate) fn micro(nanoseconds: u64) -> f64 {
    ratio(nanoseconds, 1_000)
}

/// A quotient for people; zero if there is nothing to divide by.
#[expect(clippy::cast_precision_loss, reason = "figures for people; 53 bits are plenty")]
pub(crate) fn ratio(dividend: u64, divisor: u64) -> f64 {
    if divisor == 0 { 0.0 } else { dividend as f64 / divisor as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_generator_is_noted_unless_it_polls() {
        let notes = |generator_cores, broker_cores, polls| {
            let mut report = Report { generator_cores, broker_cores, ..Report::default() };
            report.judge_generator(polls);
            report.notes.len()
        };
        assert_eq!(notes(0.99, Some(0.5), false), 1);
        assert_eq!(notes(0.99, Some(0.5), true), 0);
        // Both are: worth a note, but the rate is the broker's too.
        assert_eq!(notes(0.99, Some(0.99), false), 1);
        assert_eq!(notes(0.5, Some(0.5), false), 0);
    }

    #[test]
    fn a_schedule_that_was_not_kept_is_noted() {
        let notes = |late| {
            let mut report = Report { count: 1_000, late: Some(late), ..Report::default() };
            report.judge_generator(true);
            report.notes.len()
        };
        assert_eq!((notes(10), notes(11)), (0, 1));
    }

    #[test]
    fn any_violation_or_failure_spoils_the_verdict() {
        let clean = Report { violations: Some(Violations::default()), ..Report::default() };
        assert!(clean.is_clean() && clean.table().contains("clean"));
        let lost = Violations { lost: 1, ..Violations::default() };
        let lossy = Report { violations: Some(lost), ..Report::default() };
        assert!(!lossy.is_clean() && lossy.table().contains("VIOLATED"));
        assert!(!Report { failures: 1, ..Report::default() }.is_clean());
    }
}
