//! Everything that a run found. One of these is a JSON file, a page, a table.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Counters, Environment, FailureCounts, Legs, Resources, Series, Standard, Summary, Verdict, Violations,
};
use crate::report::ratio;

/// Version of the JSON form. It grows when a reader of the old form would misread the new one; new fields alone do not
/// change it.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome {
    /// See [`FORMAT_VERSION`].
    pub(crate) format_version: u32,
    /// What was run.
    pub(crate) plan: PlanNote,
    /// What it is worth.
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    /// The stages in their order.
    pub(crate) stages: Vec<Stage>,
    /// Times over all stages: of messages from the measured ones, of connections and subscriptions from all.
    pub(crate) legs: Legs,
    /// Counts over all stages.
    pub(crate) counters: Counters,
    /// What was verified and what was found.
    pub(crate) violations: Violations,
    /// What failed, by reason. What a plan provokes on purpose is not in here.
    pub(crate) failures: FailureCounts,
    /// Why the generator, not the broker, was the limit. Any entry keeps the run from being certified.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) limits: Vec<String>,
    /// What limits the meaning of the figures otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
    /// Further figures of single scenarios.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) figures: Vec<Value>,
    /// What a search over several runs found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) search: Option<Search>,
    /// Processor time and memory.
    pub(crate) resources: Resources,
    /// Where and how it was run.
    pub(crate) environment: Environment,
    /// The run second by second.
    pub(crate) series: Series,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            format_version: FORMAT_VERSION,
            plan: PlanNote::default(),
            verdict: Verdict::default(),
            stages: Vec::new(),
            legs: Legs::default(),
            counters: Counters::default(),
            violations: Violations::default(),
            failures: FailureCounts::default(),
            limits: Vec::new(),
            notes: Vec::new(),
            figures: Vec::new(),
            search: None,
            resources: Resources::default(),
            environment: Environment::default(),
            series: Series::default(),
        }
    }
}

/// The plan as far as a reader needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PlanNote {
    /// Its name.
    pub(crate) name: String,
    /// What it is about, in a sentence or two.
    pub(crate) about: String,
    /// What it was run with: target, protocol, QoS, payload, rates, in words.
    pub(crate) parameters: BTreeMap<String, String>,
    /// The scenario file itself, so that the run can be repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
}

/// A stage and what happened in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Stage {
    pub(crate) name: String,
    /// Since the start of the run.
    pub(crate) start_ns: u64,
    /// Since the start of the run.
    pub(crate) end_ns: u64,
    /// Whether its messages are in the result.
    pub(crate) measured: bool,
    pub(crate) counters: Counters,
    pub(crate) legs: Legs,
}

/// A named figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Value {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
}

/// The result of trying several rates, or one for very long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Search {
    /// What was sought: "rate", "knee" or "soak".
    pub(crate) kind: String,
    /// The question in words: "highest rate with p99 of delivery at most 5 ms".
    pub(crate) question: String,
    /// The answer in words.
    pub(crate) answer: String,
    /// The answer in figures.
    pub(crate) figures: Vec<Value>,
    /// What was tried, in the order of trying.
    pub(crate) trials: Vec<Trial>,
}

/// One rate that was tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Trial {
    /// Messages per second that were to be sent.
    pub(crate) offered_per_second: f64,
    /// Messages per second that were sent.
    pub(crate) sent_per_second: f64,
    /// Messages per second that arrived.
    pub(crate) delivered_per_second: f64,
    /// Corrected times of delivery.
    pub(crate) deliver: Option<Summary>,
    /// Cores that the broker used.
    pub(crate) broker_cores: Option<f64>,
    /// Cores that the generator used.
    pub(crate) generator_cores: Option<f64>,
    /// Whether it kept what was asked.
    pub(crate) passed: bool,
    /// Why not, or what else is worth knowing.
    pub(crate) note: String,
}

impl Outcome {
    /// Counts of the measured stages.
    pub(crate) fn measured(&self) -> Counters {
        let mut counters = Counters::default();
        for stage in self.stages.iter().filter(|stage| stage.measured) {
            counters.merge(&stage.counters);
        }
        counters
    }

    /// Length of the measured stages together.
    pub(crate) fn measured_ns(&self) -> u64 {
        self.stages.iter().filter(|stage| stage.measured).map(Stage::length_ns).sum()
    }

    /// Messages sent and delivered per second over the measured stages.
    pub(crate) fn rates(&self) -> (f64, f64) {
        let seconds = ratio(self.measured_ns(), crate::clock::SECOND_NS);
        let counters = self.measured();
        let per_second = |count| if seconds > 0.0 { ratio(count, 1) / seconds } else { 0.0 };
        (per_second(counters.sent), per_second(counters.delivered))
    }

    /// Length of the whole run.
    pub(crate) fn length_ns(&self) -> u64 {
        self.stages.iter().map(|stage| stage.end_ns).max().unwrap_or(0)
    }

    /// Judges the run anew.
    pub(crate) fn judge(&mut self, standard: &Standard) {
        self.verdict = standard.judge(self);
    }

    /// Moves everything later on the run's clock: for a part of a run that started later than the others. The series
    /// moves by whole points.
    pub(crate) fn delay(&mut self, by: Duration) {
        let nanoseconds = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        for stage in &mut self.stages {
            stage.start_ns = stage.start_ns.saturating_add(nanoseconds);
            stage.end_ns = stage.end_ns.saturating_add(nanoseconds);
        }
        for point in &mut self.resources.points {
            point.at_ms = point.at_ms.saturating_add(nanoseconds / 1_000_000);
        }
        self.series.delay(by);
    }

    /// Adds what another part of the same run has found (another thread, another host), whose clock started at the same
    /// moment. Stages are paired by their place and name. Judge it again afterwards.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (index, stage) in other.stages.iter().enumerate() {
            match self.stages.get_mut(index).filter(|own| own.name == stage.name) {
                Some(own) => own.merge(stage),
                None => self.stages.push(stage.clone()),
            }
        }
        self.legs.merge(&other.legs);
        self.counters.merge(&other.counters);
        self.violations.merge(&other.violations);
        self.failures.merge(&other.failures);
        add_new(&mut self.limits, &other.limits);
        add_new(&mut self.notes, &other.notes);
        add_new(&mut self.figures, &other.figures);
        self.resources.merge(&other.resources);
        self.series.merge(&other.series);
        if self.plan.name.is_empty() {
            self.plan = other.plan.clone();
        }
        if self.environment.tool.is_empty() {
            self.environment = other.environment.clone();
        }
        if self.search.is_none() {
            self.search.clone_from(&other.search);
        }
    }
}

impl Stage {
    /// How long it took.
    pub(crate) const fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    fn merge(&mut self, other: &Self) {
        self.start_ns = self.start_ns.min(other.start_ns);
        self.end_ns = self.end_ns.max(other.end_ns);
        self.measured |= other.measured;
        self.counters.merge(&other.counters);
        self.legs.merge(&other.legs);
    }
}

fn add_new<T: Clone + PartialEq>(list: &mut Vec<T>, more: &[T]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Leg, Violation};
    use super::*;

    #[test]
    fn json_and_back() {
        let mut outcome = Outcome::default();
        outcome.plan.name = "p2p".to_owned();
        outcome.plan.parameters.insert("qos".to_owned(), "1".to_owned());
        outcome.legs.of_mut(Leg::Deliver).corrected.record(1_234_567);
        outcome.violations.check(Violation::Lost);
        outcome.violations.leave_out(Violation::Reordered, "several publishers per topic");
        outcome.failures.note("connecting: refused", "connection 3");
        outcome.stages.push(Stage { name: "run".to_owned(), measured: true, end_ns: 5, ..Stage::default() });
        outcome.search =
            Some(Search { kind: "knee".to_owned(), trials: vec![Trial::default()], ..Search::default() });
        outcome.judge(&Standard::default());
        let text = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
        assert!(text.contains("\"verdict\":\"failed\""));
    }

    #[test]
    fn fields_of_a_later_version_are_tolerated_and_missing_ones_too() {
        let text = r#"{"format_version": 1, "novelty": [1], "verdict": "certified", "stages": [{"name": "s", "x": 1}]}"#;
        let outcome: Outcome = serde_json::from_str(text).unwrap();
        assert_eq!((outcome.verdict, outcome.stages.len()), (Verdict::Certified, 1));
    }

    #[test]
    fn rates_are_over_the_measured_stages() {
        let counters = Counters { sent: 100, delivered: 300, ..Counters::default() };
        let stage =
            |measured| Stage { measured, counters, start_ns: 0, end_ns: 2_000_000_000, ..Stage::default() };
        let outcome = Outcome { stages: vec![stage(true), stage(false)], ..Outcome::default() };
        assert_eq!(outcome.rates(), (50.0, 150.0));
    }
}
