//! What a run is worth: certified, not certified, or failed.
//!
//! *Failed* is about the broker: something was lost, repeated, or refused. *Uncertified* is about the measurement: the
//! generator fell behind or was itself the limit, so its figures say nothing about the broker.

use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::report::ratio;

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "reasons", rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Everything was accounted for, and the generator kept its schedule.
    Certified,
    /// Nothing went wrong, but the figures are not the broker's. Why.
    Uncertified(Vec<String>),
    /// The broker (or the network) did something wrong. What.
    Failed(Vec<String>),
}

impl Default for Verdict {
    fn default() -> Self {
        Self::Uncertified(vec!["the run has not been judged".to_owned()])
    }
}

impl Verdict {
    /// The word for it.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Certified => "certified",
            Self::Uncertified(_) => "not certified",
            Self::Failed(_) => "FAILED",
        }
    }

    /// Why it is not better.
    pub(crate) fn reasons(&self) -> &[String] {
        match self {
            Self::Certified => &[],
            Self::Uncertified(reasons) | Self::Failed(reasons) => reasons,
        }
    }

    /// Exit code of a program that ends with this verdict: 0, 3 (uncertified) or 1 (failed); 2 is for runs that could
    /// not be carried out.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Certified => 0,
            Self::Uncertified(_) => 3,
            Self::Failed(_) => 1,
        }
    }
}

/// What a run has to keep to be certified.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Standard {
    /// Share of the measured messages that may leave late.
    pub(crate) late_share_max: f64,
    /// Share of its core that the busiest generator thread may use, while the broker has processor time left.
    pub(crate) generator_cores_max: f64,
}

impl Default for Standard {
    fn default() -> Self {
        Self { late_share_max: 0.01, generator_cores_max: 0.97 }
    }
}

impl Standard {
    /// Judges a run by what it found.
    pub(crate) fn judge(&self, outcome: &Outcome) -> Verdict {
        let failed = failures(outcome);
        if !failed.is_empty() {
            return Verdict::Failed(failed);
        }
        let doubts = self.doubts(outcome);
        if doubts.is_empty() { Verdict::Certified } else { Verdict::Uncertified(doubts) }
    }

    /// Why the figures may not be the broker's.
    fn doubts(&self, outcome: &Outcome) -> Vec<String> {
        let mut doubts = Vec::new();
        let measured = outcome.measured();
        if measured.late > 0 && ratio(measured.late, measured.sent) > self.late_share_max {
            doubts.push(format!(
                "{} of {} messages ({:.1} %) left more than a millisecond late, {:.1} % are allowed: the latencies are \
                 the generator's; lower the rate, or give it a core of its own",
                measured.late,
                measured.sent,
                100.0 * ratio(measured.late, measured.sent),
                100.0 * self.late_share_max
            ));
        }
        doubts.extend(outcome.limits.iter().cloned());
        if measured.sent + measured.delivered + measured.connects + outcome.counters.connects == 0 {
            doubts.push("nothing was measured: no connection and no message".to_owned());
        }
        doubts
    }
}

/// What went wrong, one line for each kind.
fn failures(outcome: &Outcome) -> Vec<String> {
    let found = outcome.violations.found().filter(|(_, count)| *count > 0);
    let violations = found.map(|(kind, count)| format!("{count} {}", kind.meaning()));
    let failures = outcome.failures.by_reason().map(|(reason, count)| format!("{count} × {reason}"));
    violations.chain(failures).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Counters, Stage, Violation};
    use super::*;

    fn run(sent: u64, late: u64) -> Outcome {
        let counters = Counters { sent, late, delivered: sent, connects: 2, ..Counters::default() };
        let stage = Stage { counters, measured: true, ..Stage::default() };
        Outcome { stages: vec![stage], counters, ..Outcome::default() }
    }

    fn judge(outcome: &Outcome) -> Verdict {
        Standard::default().judge(outcome)
    }

    #[test]
    fn a_clean_run_on_time_is_certified() {
        assert_eq!(judge(&run(10_000, 100)), Verdict::Certified);
    }

    #[test]
    fn a_generator_that_fell_behind_is_not_certified() {
        let verdict = judge(&run(10_000, 101));
        assert!(matches!(&verdict, Verdict::Uncertified(reasons) if reasons[0].contains("101 of 10000")));
        assert_eq!(verdict.exit_code(), 3);
        let lenient = Standard { late_share_max: 0.5, ..Standard::default() };
        assert_eq!(lenient.judge(&run(10_000, 101)), Verdict::Certified);
    }

    #[test]
    fn lateness_outside_measured_stages_is_forgiven() {
        let mut outcome = run(10_000, 0);
        let counters = Counters { sent: 10, late: 10, ..Counters::default() };
        outcome.stages.push(Stage { counters, measured: false, ..Stage::default() });
        assert_eq!(judge(&outcome), Verdict::Certified);
    }

    #[test]
    fn a_generator_that_was_the_limit_is_not_certified() {
        let limits = vec!["the generator filled its core".to_owned()];
        let outcome = Outcome { limits: limits.clone(), ..run(10, 0) };
        assert_eq!(judge(&outcome), Verdict::Uncertified(limits));
    }

    #[test]
    fn any_violation_or_failure_fails_whatever_else() {
        let mut lossy = run(10, 10);
        lossy.violations.add(Violation::Lost, 1);
        assert_eq!(judge(&lossy), Verdict::Failed(vec!["1 messages that never came".to_owned()]));
        let mut refused = run(10, 0);
        refused.failures.note("connection refused: NotAuthorized", "connection 7");
        assert_eq!(judge(&refused).exit_code(), 1);
        let mut looked = run(10, 0);
        looked.violations.check(Violation::Lost);
        assert_eq!(judge(&looked), Verdict::Certified);
    }

    #[test]
    fn a_run_without_anything_proves_nothing() {
        assert!(matches!(judge(&Outcome::default()), Verdict::Uncertified(_)));
    }

    #[test]
    fn verdicts_in_json() {
        let json = serde_json::to_value(Verdict::Failed(vec!["x".to_owned()])).unwrap();
        assert_eq!(json, serde_json::json!({"verdict": "failed", "reasons": ["x"]}));
        assert_eq!(serde_json::to_value(Verdict::Certified).unwrap()["verdict"], "certified");
    }
}
