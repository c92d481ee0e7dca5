//! One run at one rate: what it was worth, and whether it kept a bound.

use super::arguments::Bound;
use super::rate::{Heard, float};
use crate::observe::limit::GeneratorSigns;
use crate::output::span;
use crate::record::{Leg, Outcome, Summary, Trial, Watch};
use crate::report::Report;
use crate::scenario::traffic::{self, Pacing, Plan};
use crate::scenario::{RunError, Settings};

/// A load that can be run at any rate.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    plan: Plan,
    settings: Settings,
    spin: bool,
    run: u32,
}

/// What a run at one rate showed.
#[derive(Clone, Debug)]
pub(crate) struct Tried {
    pub(crate) rate: u64,
    /// Messages per second that were sent.
    pub(crate) sent_per_second: f64,
    /// Messages per second that arrived.
    pub(crate) delivered_per_second: f64,
    pub(crate) deliver: Option<Summary>,
    pub(crate) broker_cores: Option<f64>,
    pub(crate) generator_cores: f64,
    /// What the broker did wrong: lost, repeated, refused, fell behind. Empty if nothing.
    pub(crate) faults: Vec<String>,
    /// Why the generator may have been the limit. Empty if it was not.
    pub(crate) doubts: Vec<String>,
}

impl Load {
    /// A load after a plan, whose own rate does not matter.
    pub(crate) fn new(plan: Plan, settings: Settings) -> Self {
        let spin = match plan.pacing {
            Pacing::Open { spin, .. } | Pacing::Closed { spin, .. } => spin,
            Pacing::Silent => false,
        };
        let run = settings.run;
        Self { plan, settings, spin, run }
    }

    /// The load in words.
    pub(crate) fn describe(&self) -> String {
        let Plan { name, qos, payload_bytes, .. } = &self.plan;
        let connections = self.plan.topology.connections();
        format!("{name}, QoS {}, {payload_bytes} B, {connections} connections", qos.as_u8())
    }

    /// The process of the broker, if it is known.
    pub(crate) const fn broker_pid(&self) -> Option<u32> {
        self.settings.broker_pid
    }

    /// The load with runs of another length, of which somebody else takes the samples of processes and kernel.
    pub(crate) fn unobserved(self, duration_ns: u64) -> Self {
        Self { settings: Settings { duration_ns, observes: false, ..self.settings }, ..self }
    }

    /// Runs it at `rate` messages a second. Each run has a number of its own, so that leftovers of the one before are told apart.
    ///
    /// # Errors
    /// When it could not be carried out.
    pub(crate) fn run(&mut self, rate: u64, watch: Box<dyn Watch>) -> Result<(Tried, Outcome), RunError> {
        let pacing = Pacing::Open { per_second: rate, spin: self.spin };
        let plan = Plan { pacing, ..self.plan.clone() };
        self.run = self.run.wrapping_add(1);
        let mut report = traffic::run(plan, &Settings { run: self.run, ..self.settings.clone() }, watch)?;
        let outcome = report.outcome.take().map(|outcome| *outcome).unwrap_or_default();
        Ok((self.judge(rate, &report, &outcome), outcome))
    }

    /// What a run says.
    fn judge(&self, rate: u64, report: &Report, outcome: &Outcome) -> Tried {
        let copies = u64::from(self.plan.topology.copies());
        let offered = float(rate) * report.seconds * float(copies);
        let mut faults = Vec::new();
        if let Some(found) = report.violations.filter(|found| !found.is_clean()) {
            faults.push(found.to_string());
        }
        if report.failures > 0 {
            faults.push(format!("{} failures: {}", report.failures, report.failure_examples.join("; ")));
        }
        let missing = offered - float(report.count);
        if missing > (offered * BACKLOG_SHARE).max(BACKLOG_MIN) {
            faults.push(format!("the backlog grew by {missing:.0} messages"));
        }
        let measured = outcome.measured();
        let signs = GeneratorSigns {
            busy: report.generator_cores,
            polls: self.spin,
            sent_count: measured.sent,
            late_count: measured.late,
            overflow_count: 0,
            broker_busy: report.broker_cores,
        };
        let doubts = signs.doubts().into_iter().filter(|doubt| doubt.disqualifies).map(|doubt| doubt.text);
        let (sent_per_second, delivered_per_second) = outcome.rates();
        Tried {
            rate,
            sent_per_second,
            delivered_per_second,
            deliver: outcome.legs.of(Leg::Deliver).and_then(|times| times.corrected.summary()),
            broker_cores: report.broker_cores,
            generator_cores: report.generator_cores,
            faults,
            doubts: doubts.collect(),
        }
    }
}

impl Tried {
    /// What it says about a bound. A fault counts only if the generator was not the limit; a generator that was is no reason to
    /// blame the broker.
    pub(crate) fn heard(&self, bound: &Bound) -> Heard {
        let latency = self.deliver.as_ref().map(bound.of);
        if !self.doubts.is_empty() {
            Heard::Unclear
        } else if self.faults.is_empty() && latency.is_some_and(|latency| latency <= bound.bound_ns) {
            Heard::Passed(latency.unwrap_or(0))
        } else {
            Heard::Missed(latency)
        }
    }

    /// Whether the broker took all of it and the generator was not the limit.
    pub(crate) fn carried(&self) -> bool {
        self.not_carried().is_none()
    }

    /// Why it did not keep a bound, if it did not.
    pub(crate) fn missed(&self, bound: &Bound) -> Option<String> {
        self.not_carried().or_else(|| {
            let over = self.deliver.as_ref().map(bound.of).filter(|latency| *latency > bound.bound_ns)?;
            Some(format!("{} {} > {}", bound.name, span(over), span(bound.bound_ns)))
        })
    }

    /// Whether the broker, and not the generator, could not keep up.
    pub(crate) const fn overloads_the_broker(&self) -> bool {
        !self.faults.is_empty() && self.doubts.is_empty()
    }

    /// Why the broker did not take all of it, or nothing is known of the broker; `None` when it did.
    pub(crate) fn not_carried(&self) -> Option<String> {
        let reasons: Vec<&str> = self.faults.iter().chain(&self.doubts).map(String::as_str).collect();
        let nothing = reasons.is_empty() && self.deliver.is_none();
        let what = if nothing { "nothing was delivered".to_owned() } else { reasons.join("; ") };
        (!what.is_empty()).then_some(what)
    }

    /// In the form of a result; with why it missed, if it did.
    pub(crate) fn trial(&self, missed: Option<String>) -> Trial {
        Trial {
            offered_per_second: float(self.rate),
            sent_per_second: self.sent_per_second,
            delivered_per_second: self.delivered_per_second,
            deliver: self.deliver,
            broker_cores: self.broker_cores,
            generator_cores: Some(self.generator_cores),
            passed: missed.is_none(),
            note: missed.unwrap_or_default(),
        }
    }
}

/// A window in which more than this share of the messages did not arrive has a growing backlog.
const BACKLOG_SHARE: f64 = 0.01;
/// Fewer missing messages are just under way.
const BACKLOG_MIN: f64 = 20.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(p99_ns: u64, faults: &[&str], doubts: &[&str]) -> Tried {
        let mut deliver = crate::record::Times::default();
        deliver.record(p99_ns);
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        Tried {
            rate: 1_000,
            sent_per_second: 1_000.0,
            delivered_per_second: 1_000.0,
            deliver: deliver.summary(),
            broker_cores: None,
            generator_cores: 0.5,
            faults: words(faults),
            doubts: words(doubts),
        }
    }

    #[test]
    fn a_run_passes_only_without_faults_and_doubts() {
        let bound = Bound { name: "p99", bound_ns: 2_000_000, of: |summary| summary.p99_ns };
        assert!(matches!(tried(1_000_000, &[], &[]).heard(&bound), Heard::Passed(_)));
        assert!(matches!(tried(3_000_000, &[], &[]).heard(&bound), Heard::Missed(Some(_))));
        assert!(matches!(tried(1_000_000, &["lost 1"], &[]).heard(&bound), Heard::Missed(_)));
        assert_eq!(tried(1_000_000, &[], &["late"]).heard(&bound), Heard::Unclear);
        assert_eq!(tried(9_000_000, &["lost 1"], &["late"]).heard(&bound), Heard::Unclear);
        assert!(tried(1, &[], &[]).carried() && !tried(1, &["x"], &[]).carried());
        assert!(
            tried(1, &["x"], &[]).overloads_the_broker()
                && !tried(1, &["x"], &["late"]).overloads_the_broker()
        );
        assert_eq!(tried(1_000_000, &[], &[]).missed(&bound), None);
        assert_eq!(tried(3_000_000, &[], &[]).missed(&bound).unwrap(), "p99 3.00 ms > 2.00 ms");
        assert_eq!(tried(3_000_000, &["lost 1"], &["late"]).missed(&bound).unwrap(), "lost 1; late");
    }
}
