//! What the agents of a run have sent back, put together.
//!
//! All send whole outcomes with histograms, which merge without loss. The quick commands send their reports with them:
//! counts and rates are added up, and of percentiles the worst of all agents is kept beside those of the whole.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::offset::Offset;
use crate::output::table;
use crate::record::{Outcome, Standard};

/// How an agent's part ended.
#[derive(Clone, Debug)]
pub(super) enum AgentEnd {
    /// Its process has ended; a code of `None` is a signal.
    Done { code: Option<i32>, output: String },
    /// The connection to it was lost.
    Lost { why: String, seconds: u64 },
    /// It was ended because another agent was lost.
    Ended,
}

/// One agent's part.
#[derive(Clone, Debug)]
pub(super) struct AgentResult {
    pub(super) agent: SocketAddr,
    pub(super) clock: Offset,
    pub(super) drift_ns: u64,
    pub(super) started_late_ns: Option<i64>,
    pub(super) end: AgentEnd,
}

/// A run over several agents.
#[derive(Clone, Debug)]
pub(crate) struct LabReport {
    agents: Vec<AgentNote>,
    /// Everything that was found; `None` when no agent has sent anything.
    outcome: Option<Box<Outcome>>,
    /// The sums of the reports of a quick command.
    total: Option<Value>,
    exit_code: u8,
}

/// What is said about an agent.
#[derive(Clone, Debug, Serialize)]
struct AgentNote {
    agent: String,
    /// Its clock minus the coordinator's.
    clock: Offset,
    /// How far that moved during the run, beyond what the uncertainty explains.
    clock_drift_ns: u64,
    /// How much later than agreed its process was started, by its own clock.
    started_late_ns: Option<i64>,
    /// `exit code N`, or why there is none.
    end: String,
    lost: bool,
}

impl LabReport {
    /// Puts together what has come back.
    pub(super) fn of(results: Vec<AgentResult>) -> Self {
        let mut outputs: Vec<Value> = Vec::new();
        let mut codes = Vec::new();
        let mut agents = Vec::new();
        for result in results {
            let (end, lost) = match result.end {
                AgentEnd::Done { code, output } => {
                    outputs.extend(serde_json::from_str::<Value>(&output));
                    codes.push(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(2));
                    (
                        code.map_or_else(
                            || "ended by a signal".to_owned(),
                            |code| format!("exit code {code}"),
                        ),
                        false,
                    )
                }
                AgentEnd::Lost { why, seconds } => {
                    codes.push(1);
                    (format!("lost after {seconds} s: {why}"), true)
                }
                AgentEnd::Ended => ("ended with the run".to_owned(), false),
            };
            agents.push(AgentNote {
                agent: result.agent.to_string(),
                clock: result.clock,
                clock_drift_ns: result.drift_ns,
                started_late_ns: result.started_late_ns,
                end,
                lost,
            });
        }
        let exit_code = SEVERITY.into_iter().find(|code| codes.contains(code)).unwrap_or(0);
        Self { outcome: merge(&outputs, &agents).map(Box::new), total: total(&outputs), agents, exit_code }
    }

    /// The worst of all agents' exit codes; 1 if one was lost.
    pub(crate) const fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// Everything for programs.
    pub(crate) fn json(&self) -> Value {
        let mut all = json!({ "agents": self.agents, "outcome": self.outcome });
        if let Some(total) = &self.total {
            all["total"] = total.clone();
        }
        all
    }

    /// Everything that was found, for the files of `--out`.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_deref()
    }

    /// The agents, and what they found together, for people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for note in &self.agents {
            writeln!(text, "agent {:<22} {}", note.agent, note.line())
                .expect("writing to a String can't fail");
        }
        if let Some(total) = &self.total {
            rows("", total, &mut text);
            text.push('\n');
        }
        if let Some(outcome) = self.outcome() {
            text.push_str(&table(outcome));
        }
        text
    }
}

impl AgentNote {
    fn line(&self) -> String {
        let micro = |nanoseconds: i64| nanoseconds / 1_000;
        let late = self
            .started_late_ns
            .map_or_else(String::new, |late| format!(", started {} us late", micro(late)));
        let drift = match self.clock_drift_ns {
            0 => String::new(),
            drift => format!(", moved by {} us during the run", drift / 1_000),
        };
        format!(
            "{}, clock {:+} us (± {} us{drift}){late}",
            self.end,
            micro(self.clock.offset_ns),
            self.clock.uncertainty_ns.div_ceil(1_000)
        )
    }
}

/// The outcomes of all agents as one.
fn merge(outputs: &[Value], agents: &[AgentNote]) -> Option<Outcome> {
    let outcomes: Vec<Outcome> = outputs
        .iter()
        .map(|output| output.get("outcome").unwrap_or(output))
        .filter(|output| output.get("format_version").is_some())
        .filter_map(|output| serde_json::from_value(output.clone()).ok())
        .collect();
    let (first, rest) = outcomes.split_first()?;
    let mut whole = first.clone();
    for outcome in rest {
        whole.merge(outcome);
    }
    whole.notes.extend(agents.iter().map(|note| format!("agent {}: {}", note.agent, note.line())));
    for note in agents.iter().filter(|note| note.lost) {
        whole.failures.note("agent lost", &note.agent);
        whole.counters.failures += 1;
    }
    whole.judge(&Standard::default());
    Some(whole)
}

/// The sums of the reports of a quick command; `None` of anything else.
fn total(outputs: &[Value]) -> Option<Value> {
    let mut sums = Map::new();
    for output in outputs.iter().filter(|output| output.get("format_version").is_none()) {
        add(&mut sums, output);
    }
    (!sums.is_empty()).then_some(Value::Object(sums))
}

/// Adds a quick command's report to the sums.
fn add(sums: &mut Map<String, Value>, report: &Value) {
    let Value::Object(report) = report else { return };
    for (name, value) in report {
        match (name.as_str(), value) {
            ("connections" | "count" | "per_second" | "failures" | "late", Value::Number(_)) => {
                add_number(sums, name, value, |a, b| a + b);
            }
            ("violations", Value::Object(fields)) => {
                let inner = sums.entry(name.as_str()).or_insert_with(|| json!({}));
                let Value::Object(inner) = inner else { continue };
                for (kind, count) in fields {
                    add_number(inner, kind, count, |a, b| a + b);
                }
            }
            ("latency_us" | "acknowledged_us" | "tcp_connect_us" | "connack_us", Value::Object(fields)) => {
                let inner = sums.entry(format!("{name}_worst_of_agents")).or_insert_with(|| json!({}));
                let Value::Object(inner) = inner else { continue };
                for (kind, figure) in fields {
                    let join: fn(f64, f64) -> f64 = match kind.as_str() {
                        "samples" => |a, b| a + b,
                        "min" => f64::min,
                        _ => f64::max,
                    };
                    add_number(inner, kind, figure, join);
                }
            }
            ("failure_examples" | "notes", Value::Array(items)) => {
                let inner = sums.entry(name.as_str()).or_insert_with(|| json!([]));
                if let Value::Array(inner) = inner {
                    inner.extend(items.iter().cloned());
                }
            }
            ("scenario" | "protocol" | "qos" | "payload_bytes" | "unit", value) => {
                sums.insert(name.clone(), value.clone());
            }
            _ => {}
        }
    }
}

fn add_number(sums: &mut Map<String, Value>, name: &str, value: &Value, join: fn(f64, f64) -> f64) {
    let Some(added) = value.as_f64() else { return };
    let known = sums.get(name).and_then(Value::as_f64);
    let joined = known.map_or(added, |known| join(known, added));
    sums.insert(name.to_owned(), json!(joined));
}

fn rows(prefix: &str, value: &Value, text: &mut String) {
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        let name = format!("{prefix}{}", name.replace('_', " "));
        let written = match value {
            Value::Object(_) => {
                rows(&format!("{name} "), value, text);
                Ok(())
            }
            Value::Array(items) => items.iter().try_for_each(|item| writeln!(text, "{name:<40} {item}")),
            Value::Number(number) => {
                let figure = format!("{:.3}", number.as_f64().unwrap_or(0.0));
                writeln!(text, "{name:<40} {}", figure.trim_end_matches('0').trim_end_matches('.'))
            }
            Value::String(word) => writeln!(text, "{name:<40} {word}"),
            Value::Null | Value::Bool(_) => writeln!(text, "{name:<40} {value}"),
        };
        written.expect("writing to a String can't fail");
    }
}

/// Exit codes, the worst first: not carried out, something wrong, the generator was the limit.
const SEVERITY: [u8; 3] = [2, 1, 3];

#[cfg(test)]
mod tests {
    use super::*;

    fn result(end: AgentEnd) -> AgentResult {
        let clock = Offset { offset_ns: -1_500_000, uncertainty_ns: 40_100 };
        AgentResult {
            agent: "10.0.0.1:7".parse().unwrap(),
            clock,
            drift_ns: 0,
            started_late_ns: Some(90_000),
            end,
        }
    }

    fn done(code: i32, output: &Value) -> AgentResult {
        result(AgentEnd::Done { code: Some(code), output: output.to_string() })
    }

    fn quick(count: u64, lost: u64, p99: f64) -> Value {
        json!({ "scenario": "p2p", "count": count, "per_second": 1.5, "failures": 0,
                "violations": { "lost": lost }, "latency_us": { "min": p99 / 2.0, "p99": p99, "samples": 5 } })
    }

    #[test]
    fn counts_of_quick_commands_are_added_and_percentiles_are_the_worst() {
        let report = LabReport::of(vec![done(0, &quick(10, 0, 40.0)), done(1, &quick(20, 3, 50.0))]);
        let total = &report.json()["total"];
        assert_eq!((total["count"].as_f64(), total["per_second"].as_f64()), (Some(30.0), Some(3.0)));
        assert_eq!(total["violations"]["lost"].as_f64(), Some(3.0));
        let worst = &total["latency_us_worst_of_agents"];
        assert_eq!(
            (worst["p99"].as_f64(), worst["min"].as_f64(), worst["samples"].as_f64()),
            (Some(50.0), Some(20.0), Some(10.0))
        );
        assert_eq!(report.exit_code(), 1);
        assert!(report.text().contains("clock -1500 us (± 41 us), started 90 us late"), "{}", report.text());
    }

    #[test]
    fn a_lost_agent_spoils_the_result_and_is_named() {
        let lost = AgentEnd::Lost { why: "the other side has gone".to_owned(), seconds: 7 };
        let report = LabReport::of(vec![done(0, &quick(10, 0, 40.0)), result(lost)]);
        assert_eq!(report.exit_code(), 1);
        assert!(report.text().contains("lost after 7 s: the other side has gone"), "{}", report.text());
    }

    #[test]
    fn outcomes_merge_and_a_lost_agent_is_a_failure_in_them() {
        let mut outcome = Outcome::default();
        outcome.counters.sent = 5;
        let output = serde_json::to_value(&outcome).unwrap();
        let lost = AgentEnd::Lost { why: "x".to_owned(), seconds: 1 };
        let report = LabReport::of(vec![done(0, &output), done(0, &output), result(lost)]);
        let merged = report.outcome().unwrap();
        assert_eq!((merged.counters.sent, merged.counters.failures, merged.notes.len()), (10, 1, 3));
        assert!(report.total.is_none() && report.text().contains("agent lost"));
    }

    #[test]
    fn a_quick_command_brings_its_outcome_along() {
        let mut output = quick(10, 0, 40.0);
        output["outcome"] = serde_json::to_value(Outcome::default()).unwrap();
        let report = LabReport::of(vec![done(0, &output), done(0, &output)]);
        assert_eq!(report.json()["total"]["count"].as_f64(), Some(20.0));
        assert!(report.outcome().is_some() && report.json()["outcome"]["format_version"] == 1);
    }

    #[test]
    fn a_run_that_could_not_be_carried_out_is_worse_than_a_violation() {
        let report = LabReport::of(vec![done(1, &json!({})), done(2, &json!({})), done(3, &json!({}))]);
        assert_eq!(report.exit_code(), 2);
    }
}
