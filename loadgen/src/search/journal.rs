//! All runs of a search as one outcome: one clock, the stages one after the other, and as its result what the runs that are the
//! answer have measured.

use std::time::Duration;

use crate::clock::{Clock, Nanos};
use crate::record::{Legs, Outcome, Search, Stage, Verdict};

/// What is kept of the runs of a search.
#[derive(Debug)]
pub(crate) struct Journal {
    clock: Clock,
    /// Stages, series, counts and samples of all runs.
    whole: Outcome,
    runs: Vec<Entry>,
}

/// A run, as far as it may become a part of the result.
#[derive(Debug)]
struct Entry {
    rate: u64,
    passed: bool,
    /// Places of its measured stages.
    measured: Vec<usize>,
    /// Its times as JSON: a few KB, where the histograms themselves have 270 KB each.
    legs: String,
    /// The rest of what it found, without times and series.
    rest: Outcome,
}

impl Journal {
    /// An empty one whose clock starts now.
    pub(crate) fn new() -> Self {
        Self { clock: Clock::start(), whole: Outcome::default(), runs: Vec::new() }
    }

    /// The time since the search began.
    pub(crate) fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// Runs so far.
    pub(crate) fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Takes down a run that began at `start`.
    pub(crate) fn keep(&mut self, start: Nanos, rate: u64, mut run: Outcome, passed: bool) {
        let number = self.runs.len() + 1;
        run.delay(Duration::from_nanos(start.0));
        if number == 1 {
            self.whole.plan = run.plan.clone();
            self.whole.environment = run.environment.clone();
        }
        self.whole.counters.merge(&run.counters);
        // Its connections are closed before the next run begins, in a second that both may share.
        run.series.end_with_none_open();
        self.whole.series.merge(&std::mem::take(&mut run.series));
        for point in std::mem::take(&mut run.resources.points) {
            self.whole.resources.observe(point);
        }
        let legs = serde_json::to_string(&std::mem::take(&mut run.legs))
            .expect("times have only names, numbers and strings");
        let measured = self.keep_stages(number, rate, std::mem::take(&mut run.stages));
        self.runs.push(Entry { rate, passed, measured, legs, rest: run });
    }

    /// Appends the stages of a run: one before it is measured, the measured one, and one after it. Returns the places of
    /// the measured ones. Their times stay with the trial.
    fn keep_stages(&mut self, number: usize, rate: u64, stages: Vec<Stage>) -> Vec<usize> {
        let first = self.whole.stages.len();
        let mut measured = Vec::new();
        for stage in stages {
            let place = self.whole.stages.len();
            let own = self.whole.stages.get_mut(first..).and_then(<[Stage]>::last_mut);
            match own.filter(|last| !last.measured && !stage.measured) {
                Some(last) => {
                    last.end_ns = stage.end_ns;
                    last.counters.merge(&stage.counters);
                }
                None => {
                    let what = if stage.measured { format!("{rate}/s") } else { stage.name };
                    let name = format!("run {number}, {what}");
                    self.whole.stages.push(Stage { name, legs: Legs::default(), ..stage });
                    if self.whole.stages[place].measured {
                        measured.push(place);
                    }
                }
            }
        }
        measured
    }

    /// The search is over. What it found out about the broker are the figures of the runs at the rate `answer` that passed.
    pub(crate) fn finish(self, answer: Option<u64>, search: Search, verdict: Verdict) -> Outcome {
        let Self { mut whole, runs, .. } = self;
        for run in runs {
            let counts = run.passed && Some(run.rate) == answer;
            for place in run.measured {
                whole.stages[place].measured = counts;
            }
            if !counts {
                continue;
            }
            let legs: Legs = serde_json::from_str(&run.legs).expect("they were written by `keep`");
            whole.legs.merge(&legs);
            whole.violations.merge(&run.rest.violations);
            whole.failures.merge(&run.rest.failures);
            whole.notes.extend(run.rest.notes);
            whole.figures.extend(run.rest.figures);
            whole.resources.merge(&run.rest.resources);
        }
        whole.notes.dedup();
        whole.figures.dedup();
        whole.verdict = verdict;
        whole.search = Some(search);
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND_NS;
    use crate::record::{Blind, Leg, Recorder, Violation};

    fn run(sent: u64, took_ns: u64) -> Outcome {
        let mut recorder = Recorder::new(Nanos(0));
        recorder.begin_stage(Nanos(0), "connecting", false);
        recorder.connected();
        recorder.begin_stage(Nanos(SECOND_NS / 2), "warming up", false);
        recorder.begin_stage(Nanos(SECOND_NS), "measuring", true);
        for _ in 0..sent {
            recorder.sent(false);
            recorder.delivered();
            recorder.time_corrected(Leg::Deliver, Nanos(SECOND_NS), Nanos(SECOND_NS + took_ns));
        }
        recorder.turn(Nanos(2 * SECOND_NS), &mut Blind);
        recorder.begin_stage(Nanos(2 * SECOND_NS), "draining", false);
        let mut outcome = recorder.into_outcome(Nanos(3 * SECOND_NS));
        outcome.violations.check(Violation::Lost);
        outcome
    }

    #[test]
    fn runs_follow_each_other_and_the_answer_is_the_result() {
        let mut journal = Journal::new();
        journal.keep(Nanos(0), 100, run(100, 1_000), true);
        let mut bad = run(400, 9_000_000);
        bad.violations.add(Violation::Lost, 7);
        journal.keep(Nanos(10 * SECOND_NS), 400, bad, false);
        journal.keep(Nanos(20 * SECOND_NS), 200, run(200, 2_000), true);
        journal.keep(Nanos(23 * SECOND_NS), 200, run(200, 4_000), true);
        assert_eq!(journal.run_count(), 4);
        let outcome = journal.finish(Some(200), Search::default(), Verdict::Certified);

        let names: Vec<&str> = outcome.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names[..4], ["run 1, connecting", "run 1, 100/s", "run 1, draining", "run 2, connecting"]);
        assert_eq!(names.len(), 12);
        assert_eq!(outcome.stages[11].end_ns, 26 * SECOND_NS);
        assert_eq!(outcome.rates(), (200.0, 200.0), "of the two runs at 200 a second");
        let times = &outcome.legs.of(Leg::Deliver).unwrap().corrected;
        assert_eq!((times.samples(), times.summary().unwrap().max_ns), (400, 4_001));
        assert_eq!(outcome.violations.total(), 0, "what an overloaded broker lost is no part of the answer");
        assert_eq!(outcome.counters.sent, 900);
        let sent: u64 = outcome.series.points().iter().map(|point| point.counters.sent).sum();
        assert_eq!(sent, 900);
        assert!(outcome.series.points().len() >= 24);
        assert!(outcome.series.points().iter().all(|point| point.open <= 1), "one run at a time");
    }

    #[test]
    fn without_an_answer_nothing_is_measured() {
        let mut journal = Journal::new();
        journal.keep(Nanos(0), 100, run(100, 1_000), false);
        let outcome = journal.finish(None, Search::default(), Verdict::Failed(vec!["x".to_owned()]));
        assert_eq!((outcome.rates(), outcome.legs.iter().count()), ((0.0, 0.0), 0));
    }
}
