//! What a running thread writes to: histograms, counts, and the series, all without looking at a clock.
//!
//! Times go into the histograms of the current second. When a second is over they are added to those of the stage and
//! packed into the series; when a stage is over its histograms are added to the total. So noting a time touches two
//! histograms, and everything else happens once a second.

use std::fmt::Display;

use super::watch::LegNow;
use super::{
    Counters, FailureCounts, Leg, Legs, Outcome, Point, ResourcePoint, Resources, Series, Snapshot, Stage,
    Violation, Violations, Watch,
};
use crate::clock::{Nanos, SECOND_NS};

/// Collects what a run finds. What several of them found is merged as outcomes.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    start: Nanos,
    /// The second that is being filled, since the start.
    second: u64,
    /// When it is over.
    second_ends_at: Nanos,
    /// When it began, or was last looked at.
    seen_at: Nanos,
    counters: Counters,
    /// The counters when this second began.
    second_counters: Counters,
    /// The counters when this stage began.
    stage_counters: Counters,
    open: u64,
    /// Times of this second.
    fresh: Legs,
    /// Times of this stage, without this second.
    stage_legs: Legs,
    /// Times of the stages that are over.
    total: Legs,
    stage: Option<Stage>,
    stages: Vec<Stage>,
    progress: (u64, u64),
    /// While a stage is not measured: when the last measured one began and ended.
    stragglers: Option<(Nanos, Nanos)>,
    violations: Violations,
    failures: FailureCounts,
    series: Series,
    resources: Resources,
}

impl Recorder {
    /// A recorder of a run that starts at `start`.
    pub(crate) fn new(start: Nanos) -> Self {
        Self {
            start,
            second: 0,
            second_ends_at: start.after(SECOND_NS),
            seen_at: start,
            counters: Counters::default(),
            second_counters: Counters::default(),
            stage_counters: Counters::default(),
            open: 0,
            fresh: Legs::default(),
            stage_legs: Legs::default(),
            total: Legs::default(),
            stage: None,
            stages: Vec::new(),
            progress: (0, 0),
            stragglers: None,
            violations: Violations::default(),
            failures: FailureCounts::default(),
            series: Series::default(),
            resources: Resources::default(),
        }
    }

    // ---- Times

    /// Notes that a leg is done: it should have begun at `intended`, began at `began`, and ended at `ended`. For what has
    /// no schedule `intended` is `began`. Costs about 10 ns.
    pub(crate) fn time(&mut self, leg: Leg, intended: Nanos, began: Nanos, ended: Nanos) {
        let times = self.fresh.of_mut(leg);
        times.corrected.record(ended.since(intended));
        times.raw.record(ended.since(began));
        if self.is_straggler(leg, intended) {
            let total = self.total.of_mut(leg);
            total.corrected.record(ended.since(intended));
            total.raw.record(ended.since(began));
        }
    }

    /// The same where only the intended time is known: there is no raw time then.
    pub(crate) fn time_corrected(&mut self, leg: Leg, intended: Nanos, ended: Nanos) {
        self.fresh.of_mut(leg).corrected.record(ended.since(intended));
        if self.is_straggler(leg, intended) {
            self.total.of_mut(leg).corrected.record(ended.since(intended));
        }
    }

    /// Whether a message was to be sent in the last measured stage and has come after it. It belongs to the total: the
    /// slowest messages are the last ones to come.
    fn is_straggler(&self, leg: Leg, intended: Nanos) -> bool {
        self.stragglers.is_some_and(|(from, to)| leg.is_of_a_message() && intended >= from && intended < to)
    }

    // ---- Counts

    /// The counts, to be added to directly. Use the methods below for what also changes something else.
    pub(crate) const fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Counts a message that was sent; `late` if that was more than a millisecond after its time.
    pub(crate) fn sent(&mut self, late: bool) {
        self.counters.sent += 1;
        self.counters.late += u64::from(late);
    }

    /// Counts a message that has arrived where it belongs.
    pub(crate) const fn delivered(&mut self) {
        self.counters.delivered += 1;
    }

    /// Counts a connection that was accepted.
    pub(crate) const fn connected(&mut self) {
        self.counters.connects += 1;
        self.open += 1;
    }

    /// Counts a connection that was accepted and has ended, whoever ended it.
    pub(crate) const fn disconnected(&mut self) {
        self.counters.disconnects += 1;
        self.open = self.open.saturating_sub(1);
    }

    /// Counts a failure. `reason` names the kind in few words without numbers; `example` may say more.
    pub(crate) fn fail(&mut self, reason: &str, example: impl Display) {
        self.counters.failures += 1;
        self.failures.note(reason, example);
    }

    /// What the oracle finds.
    pub(crate) const fn violations(&mut self) -> &mut Violations {
        &mut self.violations
    }

    /// Counts one violation.
    pub(crate) fn violation(&mut self, kind: Violation) {
        self.violations.add(kind, 1);
    }

    /// Keeps a look at processes and kernel.
    pub(crate) fn observe(&mut self, point: ResourcePoint) {
        self.resources.observe(point);
    }

    /// Connections that are up.
    pub(crate) const fn open(&self) -> u64 {
        self.open
    }

    /// Counts so far.
    pub(crate) const fn counted(&self) -> &Counters {
        &self.counters
    }

    /// How much of the current stage's goal is reached and how much there is, for those who look on.
    pub(crate) const fn set_progress(&mut self, done: u64, wanted: u64) {
        self.progress = (done, wanted);
    }

    // ---- Time passes

    /// Begins a stage; the one before ends. Messages count for the total only in stages that are `measured`.
    pub(crate) fn begin_stage(&mut self, now: Nanos, name: &str, measured: bool) {
        self.end_stage(now);
        self.stage_counters = self.counters;
        self.progress = (0, 0);
        if measured {
            self.stragglers = None;
        }
        let start_ns = now.since(self.start);
        self.stage =
            Some(Stage { name: name.to_owned(), start_ns, end_ns: start_ns, measured, ..Stage::default() });
    }

    /// To be called often, once per turn at best: costs a comparison, and once per second some 100 µs. Tells `watch` what
    /// the last second was like; true when a second was over.
    pub(crate) fn turn(&mut self, now: Nanos, watch: &mut dyn Watch) -> bool {
        let is_over = now >= self.second_ends_at;
        if is_over {
            let snapshot = self.snapshot(now);
            self.close_second(now);
            watch.see(&snapshot);
        }
        is_over
    }

    /// The run at this moment; `turn` makes one each second.
    pub(crate) fn snapshot(&self, now: Nanos) -> Snapshot {
        let legs = self.fresh.iter().filter_map(|(leg, times)| {
            let summary = times.corrected.summary()?;
            Some(LegNow { leg, summary })
        });
        Snapshot {
            at_ns: now.since(self.start),
            interval_ns: now.since(self.seen_at),
            stage: self.stage.as_ref().map(|stage| stage.name.clone()).unwrap_or_default(),
            progress: self.progress,
            open: self.open,
            total: self.counters,
            delta: self.counters.since(&self.second_counters),
            violations: self.violations.found().map(|(kind, count)| (kind.name(), count)).collect(),
            failures: self.failures.clone(),
            legs: legs.collect(),
        }
    }

    /// Puts away what has come since the second began, and begins the second that `now` is in.
    fn close_second(&mut self, now: Nanos) {
        let delta = self.counters.since(&self.second_counters);
        self.series.push(Point::new(self.second, self.open, delta, &self.fresh));
        self.stage_legs.merge(&self.fresh);
        self.fresh.clear();
        self.second_counters = self.counters;
        self.second = now.since(self.start) / SECOND_NS;
        self.second_ends_at = self.start.after((self.second + 1) * SECOND_NS);
        self.seen_at = now;
    }

    /// Ends the stage that is under way, if any. What came before the first stage belongs to none.
    fn end_stage(&mut self, now: Nanos) {
        self.close_second(now);
        let measured = self.stage.as_ref().is_some_and(|stage| stage.measured);
        for (leg, times) in self.stage_legs.iter() {
            if measured || !leg.is_of_a_message() {
                let total = self.total.of_mut(leg);
                total.corrected.merge(&times.corrected);
                total.raw.merge(&times.raw);
            }
        }
        let legs = std::mem::take(&mut self.stage_legs);
        if let Some(mut stage) = self.stage.take() {
            stage.end_ns = now.since(self.start);
            stage.counters = self.counters.since(&self.stage_counters);
            stage.legs = legs;
            if stage.measured {
                self.stragglers = Some((self.start.after(stage.start_ns), now));
            }
            self.stages.push(stage);
        }
    }

    // ---- The end

    /// Ends the run. Plan, environment and notes are for the caller to fill in; then [`Outcome::judge`].
    pub(crate) fn into_outcome(mut self, now: Nanos) -> Outcome {
        self.end_stage(now);
        // Up to the second in which it ends, so that the parts of a run are equally long.
        self.close_second(now);
        self.series.even_out();
        Outcome {
            stages: self.stages,
            legs: self.total,
            counters: self.counters,
            violations: self.violations,
            failures: self.failures,
            resources: self.resources,
            series: self.series,
            ..Outcome::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Blind;
    use super::*;
    use crate::clock::MILLISECOND_NS;

    const START: Nanos = Nanos(5_000_000_000);

    /// A message of the part of the run that `seed` names.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    struct Message {
        now: Nanos,
        seed: u64,
        step: u64,
    }

    fn messages(seed: u64, seconds: u64) -> impl Iterator<Item = Message> {
        (1..seconds * 4).map(move |step| {
            let now = START.after(SECOND_NS / 2 + step * SECOND_NS / 4);
            Message { now, seed, step }
        })
    }

    /// A recorder that was told of these parts' connections, and then of these messages.
    fn told(seeds: &[u64], messages: impl Iterator<Item = Message>) -> Recorder {
        let mut recorder = Recorder::new(START);
        recorder.begin_stage(START, "connect", false);
        for seed in seeds {
            for _ in 0..*seed {
                recorder.connected();
                recorder.time(Leg::ConnAck, START, START.after(10), START.after(seed * 1_000));
            }
        }
        recorder.begin_stage(START.after(SECOND_NS / 2), "run", true);
        for Message { now, seed, step } in messages {
            recorder.turn(now, &mut Blind);
            recorder.sent(step % 7 == 0);
            recorder.delivered();
            let began = Nanos(now.0 - step * seed * MILLISECOND_NS / 50);
            recorder.time(Leg::Deliver, Nanos(began.0 - 1_000), began, now);
        }
        recorder
    }

    fn recorded(seed: u64, seconds: u64) -> Recorder {
        told(&[seed], messages(seed, seconds))
    }

    #[test]
    fn merging_is_associative_and_equals_recording_into_one() {
        let end = START.after(40 * SECOND_NS);
        let outcome = |seed| recorded(seed, 8 + seed).into_outcome(end);
        let (a, b, c) = (outcome(1), outcome(2), outcome(3));
        let mut left = a.clone();
        left.merge(&b);
        left.merge(&c);
        let mut right = b.clone();
        right.merge(&c);
        let mut whole = a;
        whole.merge(&right);
        assert_eq!(left, whole);

        let mut all: Vec<Message> = (1..=3).flat_map(|seed| messages(seed, 8 + seed)).collect();
        all.sort_unstable();
        let one = told(&[1, 2, 3], all.into_iter()).into_outcome(end);
        assert_eq!(one, left, "the same samples give the same outcome");
        assert_eq!(one.legs.of(Leg::Deliver).unwrap().raw.samples(), 4 * (9 + 10 + 11) - 3);
    }

    #[test]
    fn messages_of_unmeasured_stages_stay_out_of_the_total_and_connections_do_not() {
        let mut recorder = recorded(2, 3);
        let rest = START.after(20 * SECOND_NS);
        recorder.begin_stage(rest, "cool down", false);
        recorder.sent(true);
        recorder.time(Leg::Deliver, rest, rest, rest.after(7));
        let outcome = recorder.into_outcome(rest.after(SECOND_NS));
        let samples = |leg| outcome.legs.of(leg).map(|times| times.corrected.samples());
        assert_eq!(
            (samples(Leg::ConnAck), samples(Leg::Deliver), samples(Leg::PubAck)),
            (Some(2), Some(11), None)
        );
        assert_eq!((outcome.measured().sent, outcome.counters.sent), (11, 12));
        assert_eq!(
            outcome.stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(),
            ["connect", "run", "cool down"]
        );
        let in_stage = outcome.stages[2].legs.of(Leg::Deliver).unwrap().raw.summary().unwrap();
        assert_eq!((in_stage.samples, in_stage.max_ns), (1, 7));
        let in_series: u64 = outcome.series.points().iter().map(|point| point.counters.sent).sum();
        assert_eq!(in_series, 12, "the series has everything");
    }

    #[test]
    fn a_message_of_a_measured_stage_counts_although_it_comes_later() {
        let mut recorder = recorded(1, 3);
        let end = START.after(10 * SECOND_NS);
        recorder.begin_stage(end, "drain", false);
        recorder.time(Leg::Deliver, Nanos(end.0 - 5), Nanos(end.0 - 4), end.after(SECOND_NS));
        recorder.time_corrected(Leg::Deliver, Nanos(end.0 - 5), end.after(SECOND_NS));
        recorder.time(Leg::Deliver, end, end, end.after(2 * SECOND_NS));
        let outcome = recorder.into_outcome(end.after(3 * SECOND_NS));
        let times = outcome.legs.of(Leg::Deliver).unwrap();
        assert_eq!((times.corrected.samples(), times.raw.samples()), (11 + 2, 11 + 1));
        let longest = times.corrected.summary().unwrap().max_ns;
        assert!(
            longest.abs_diff(SECOND_NS) < SECOND_NS / 500,
            "the last second is in, what came after is not"
        );
    }

    #[test]
    fn corrected_counts_from_the_intended_time() {
        let mut recorder = Recorder::new(START);
        recorder.begin_stage(START, "run", true);
        recorder.time(Leg::PubAck, START, START.after(900), START.after(1_000));
        let outcome = recorder.into_outcome(START.after(2_000));
        let times = outcome.legs.of(Leg::PubAck).unwrap();
        assert_eq!(times.corrected.summary().unwrap().max_ns, 1_000);
        assert_eq!(times.raw.summary().unwrap().max_ns, 100);
    }

    #[test]
    fn a_snapshot_tells_the_last_second() {
        struct Last(Option<Snapshot>);
        impl Watch for Last {
            fn see(&mut self, now: &Snapshot) {
                self.0 = Some(now.clone());
            }
        }
        let mut last = Last(None);
        let mut recorder = Recorder::new(START);
        recorder.begin_stage(START, "run", true);
        recorder.set_progress(3, 4);
        recorder.sent(false);
        recorder.turn(START.after(SECOND_NS - 1), &mut last);
        assert!(last.0.is_none());
        recorder.turn(START.after(SECOND_NS + 5), &mut last);
        recorder.sent(false);
        recorder.violation(Violation::Duplicated);
        recorder.time(Leg::Deliver, START, START, START.after(50));
        recorder.turn(START.after(2 * SECOND_NS + 1), &mut last);
        let seen = last.0.unwrap();
        assert_eq!((seen.total.sent, seen.delta.sent, seen.progress), (2, 1, (3, 4)));
        assert_eq!(
            (seen.violations.iter().map(|(_, count)| count).sum::<u64>(), seen.stage.as_str()),
            (1, "run")
        );
        assert_eq!(seen.leg(Leg::Deliver).unwrap().p99_ns, 50);
        assert_eq!(seen.interval_ns, SECOND_NS - 4);
    }
}
