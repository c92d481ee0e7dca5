//! The search for the highest rate that keeps a bound, without doing anything: it says which rate to try next and is told
//! what came of it.
//!
//! It doubles the rate from the lowest until one misses, then narrows the gap between the highest that passed and the lowest
//! that missed: by where the latencies of both ends say that the bound is met (on logarithmic scales, kept off the ends), or in
//! the middle. Near the border one run proves little: there a rate counts as passed or missed only when one is ahead by
//! [`LEAD`], and both ends of the last gap are tried until that is so. A miss is final for all rates above it, so what is found
//! errs to the low side.

/// What is sought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Goal {
    /// The lowest rate, per second.
    pub(crate) from: u64,
    /// The highest rate, per second.
    pub(crate) to: u64,
    /// The latency that must be kept, in nanoseconds.
    pub(crate) bound_ns: u64,
    /// The gap that is narrow enough, as a share of the rate.
    pub(crate) precision: f64,
    /// Runs at most.
    pub(crate) runs_max: u32,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The bound was kept; with the latency in nanoseconds.
    Passed(u64),
    /// It was not, or the broker lost messages or fell behind; with the latency, if there is one that means anything.
    Missed(Option<u64>),
    /// The generator was the limit: nothing is known of the broker.
    Unclear,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// Run at this rate.
    Try(u64),
    /// It is known.
    Done(Answer),
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answer {
    /// The highest rate that kept the bound; `None` if not even the lowest did.
    pub(crate) rate: Option<u64>,
    /// The lowest rate that did not; `None` if even the highest kept it.
    pub(crate) above: Option<u64>,
    /// What stood in the way of more.
    pub(crate) limit: Limit,
    /// How sure it is that each end is on its side of the border: the smaller of both ends' certainties.
    pub(crate) certainty: f64,
}

/// What stood in the way of a higher rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The broker did not keep the bound.
    Broker,
    /// The generator could not make more.
    Generator,
    /// The range that was asked for.
    Range,
    /// The number of runs: the gap is wider than asked for.
    Runs,
}

/// All that was heard of one rate.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    rate: u64,
    passed: u32,
    missed: u32,
    unclear: u32,
    latencies: Vec<u64>,
}

/// How a rate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Open,
    Passed,
    Missed,
    /// The generator can't make this rate.
    Beyond,
}

/// The search.
#[derive(Clone, Debug)]
pub(crate) struct RateSearch {
    goal: Goal,
    /// In the order of rates.
    places: Vec<Place>,
    runs: u32,
}

impl RateSearch {
    /// A search that knows nothing yet. The lowest rate is at least one, the highest at least the lowest.
    pub(crate) fn new(goal: Goal) -> Self {
        let from = goal.from.max(1);
        let goal = Goal { from, to: goal.to.max(from), precision: goal.precision.max(PRECISION_MIN), ..goal };
        Self { goal, places: Vec::new(), runs: 0 }
    }

    /// What to do next.
    pub(crate) fn step(&self) -> Step {
        let Goal { from, to, runs_max, .. } = self.goal;
        let (low, high) = (self.low(), self.high());
        let wide = self.is_wide();
        if self.runs >= runs_max {
            return Step::Done(self.answer(if wide || self.open().is_some() {
                Some(Limit::Runs)
            } else {
                None
            }));
        }
        if let Some(open) = self.open() {
            return Step::Try(open);
        }
        match (low, high) {
            (None, None) => Step::Try(from),
            (None, Some(high)) if high <= from => self.settle(&[high]),
            (None, Some(_)) => Step::Try(from),
            (Some(low), None) if low >= to => self.settle(&[low]),
            (Some(low), None) => Step::Try(low.saturating_mul(2).min(to)),
            (Some(low), Some(high)) if wide => Step::Try(self.between(low, high)),
            (Some(low), Some(high)) => self.settle(&[low, high]),
        }
    }

    /// Takes note of a run.
    pub(crate) fn hear(&mut self, rate: u64, heard: Heard) {
        self.runs += 1;
        let at = self.places.partition_point(|place| place.rate < rate);
        if self.places.get(at).is_none_or(|place| place.rate != rate) {
            let place = Place { rate, passed: 0, missed: 0, unclear: 0, latencies: Vec::new() };
            self.places.insert(at, place);
        }
        let Some(place) = self.places.get_mut(at) else { return };
        match heard {
            Heard::Passed(latency) => {
                place.passed += 1;
                place.latencies.push(latency);
            }
            Heard::Missed(latency) => {
                place.missed += 1;
                place.latencies.extend(latency);
            }
            Heard::Unclear => place.unclear += 1,
        }
    }

    /// Runs that passed and runs that missed at a rate.
    pub(crate) fn votes(&self, rate: u64) -> (u32, u32) {
        self.places
            .iter()
            .find(|place| place.rate == rate)
            .map_or((0, 0), |place| (place.passed, place.missed))
    }

    /// Tries the ends of the last gap until each has its lead.
    fn settle(&self, ends: &[u64]) -> Step {
        let shaky =
            self.places.iter().filter(|place| ends.contains(&place.rate)).find(|place| place.is_shaky());
        shaky.map_or_else(|| Step::Done(self.answer(None)), |place| Step::Try(place.rate))
    }

    /// A rate of which it is not known how it stands, lowest first. Above a miss it does not matter.
    fn open(&self) -> Option<u64> {
        let high = self.high().unwrap_or(u64::MAX);
        let open = |place: &&Place| place.rate < high && place.standing() == Standing::Open;
        self.places.iter().find(open).map(|place| place.rate)
    }

    /// The lowest rate that missed or that the generator can't make.
    fn high(&self) -> Option<u64> {
        let stops = |place: &&Place| matches!(place.standing(), Standing::Missed | Standing::Beyond);
        self.places.iter().find(stops).map(|place| place.rate)
    }

    /// The highest rate below it that passed.
    fn low(&self) -> Option<u64> {
        let high = self.high().unwrap_or(u64::MAX);
        let passed = |place: &&Place| place.rate < high && place.standing() == Standing::Passed;
        self.places.iter().rev().find(passed).map(|place| place.rate)
    }

    /// Whether the gap is wider than asked for and can be narrowed.
    fn is_wide(&self) -> bool {
        match (self.low(), self.high()) {
            (Some(low), Some(high)) => high - low > 1 && float(high - low) > self.goal.precision * float(low),
            (None, Some(high)) => high > self.goal.from,
            (Some(low), None) => low < self.goal.to,
            (None, None) => true,
        }
    }

    /// Where in the gap to look next.
    fn between(&self, low: u64, high: u64) -> u64 {
        let latency = |rate| self.places.iter().find(|place| place.rate == rate).and_then(Place::latency);
        let share = match (latency(low), latency(high)) {
            (Some(below), Some(above)) if below < self.goal.bound_ns && above > self.goal.bound_ns => {
                let log = |nanoseconds: u64| float(nanoseconds.max(1)).ln();
                (log(self.goal.bound_ns) - log(below)) / (log(above) - log(below))
            }
            _ => 0.5,
        };
        let share = share.clamp(EDGE, 1.0 - EDGE);
        let rate = float(low) * (float(high) / float(low)).powf(share);
        whole(rate).clamp(low + 1, high - 1)
    }

    fn answer(&self, cut: Option<Limit>) -> Answer {
        let (low, high) = (self.low(), self.high());
        let standing = |rate| self.places.iter().find(|place| place.rate == rate).map(Place::standing);
        let limit = cut.unwrap_or_else(|| match high.and_then(standing) {
            Some(Standing::Beyond) => Limit::Generator,
            Some(_) => Limit::Broker,
            None => Limit::Range,
        });
        let ends = self.places.iter().filter(|place| Some(place.rate) == low || Some(place.rate) == high);
        let certainty = ends.map(Place::certainty).fold(1.0, f64::min);
        Answer {
            rate: low,
            above: high,
            limit,
            certainty: if self.places.is_empty() { 0.0 } else { certainty },
        }
    }
}

impl Place {
    fn standing(&self) -> Standing {
        if self.passed > self.missed {
            Standing::Passed
        } else if self.missed > self.passed || self.passed + self.missed >= VOTES_MAX {
            Standing::Missed
        } else if self.unclear >= UNCLEAR_MAX {
            Standing::Beyond
        } else {
            Standing::Open
        }
    }

    /// Whether it needs more runs to be an end of the last gap.
    const fn is_shaky(&self) -> bool {
        let votes = self.passed + self.missed;
        votes > 0
            && self.passed.abs_diff(self.missed) < LEAD
            && votes < VOTES_MAX
            && self.unclear < UNCLEAR_MAX
    }

    /// The middle one of its latencies.
    fn latency(&self) -> Option<u64> {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// The probability that another run would be more likely to end as most have, if nothing was known before: of a uniform
    /// prior, the posterior mass on the majority's side of one half. A lone run gives 0.75, two of two 0.875, four of five 0.89.
    fn certainty(&self) -> f64 {
        let votes = self.passed + self.missed;
        if votes == 0 {
            return 1.0;
        }
        let majority = self.passed.max(self.missed);
        let trials = votes + 1;
        let mut ways = 1.0;
        let mut sum = 0.0;
        for hits in 0..=majority {
            sum += ways;
            ways *= f64::from(trials - hits) / f64::from(hits + 1);
        }
        sum / f64::from(trials).exp2()
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates and latencies; 53 bits are plenty")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive rate far below 2^53")]
pub(crate) fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// How far one verdict must be ahead of the other at the ends of the last gap.
const LEAD: u32 = 2;
/// Runs of one rate at most; then a draw counts as missed.
const VOTES_MAX: u32 = 7;
/// A rate at which the generator was the limit this often is beyond it.
const UNCLEAR_MAX: u32 = 3;
/// A new rate keeps off the ends of the gap by this share of it.
const EDGE: f64 = 0.2;
/// No gap is narrowed further than this.
const PRECISION_MIN: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    const GOAL: Goal = Goal { from: 1_000, to: 500_000, bound_ns: 2_000_000, precision: 0.05, runs_max: 60 };

    /// A noise factor around one, never far from it.
    fn noise(dice: &mut Dice, share: f64) -> f64 {
        1.0 + share * (2.0 * f64::from(dice.roll()) / f64::from(u32::MAX) - 1.0)
    }

    /// The p99 of an M/M/1 queue that serves `capacity` a second: ln 100 mean sojourns.
    fn queue(rate: u64, capacity: f64) -> Option<u64> {
        let room = capacity - float(rate);
        (room > 0.0).then(|| whole(100_f64.ln() / room * 1e9))
    }

    fn judge(latency: Option<u64>) -> Heard {
        match latency {
            Some(latency) if latency <= GOAL.bound_ns => Heard::Passed(latency),
            latency => Heard::Missed(latency),
        }
    }

    fn search(goal: Goal, mut system: impl FnMut(u64) -> Heard) -> (Answer, u32) {
        let mut search = RateSearch::new(goal);
        loop {
            match search.step() {
                Step::Try(rate) => {
                    assert!((goal.from..=goal.to).contains(&rate), "{rate} is outside of what was asked for");
                    search.hear(rate, system(rate));
                }
                Step::Done(answer) => return (answer, search.runs),
            }
        }
    }

    #[test]
    fn the_border_of_a_queue_is_found_in_few_runs() {
        // p99 = 2 ms where 100,000 − rate = ln 100 / 2 ms = 2,303.
        let (answer, runs) = search(GOAL, |rate| judge(queue(rate, 100_000.0)));
        let rate = float(answer.rate.unwrap());
        assert!((92_000.0..=97_697.0).contains(&rate), "{answer:?}");
        assert_eq!(answer.limit, Limit::Broker);
        assert!(runs <= 18, "{runs} runs");
        assert!(answer.certainty >= 0.87);
    }

    #[test]
    fn noise_moves_the_answer_little() {
        for seed in 0..200 {
            let mut dice = Dice::new(seed);
            let (answer, runs) = search(GOAL, |rate| {
                let capacity = 100_000.0 * noise(&mut dice, 0.03);
                judge(queue(rate, capacity).map(|latency| whole(float(latency) * noise(&mut dice, 0.2))))
            });
            let rate = float(answer.rate.unwrap());
            assert!((84_000.0..=100_500.0).contains(&rate), "seed {seed}: {answer:?}");
            assert!(runs <= 40, "seed {seed}: {runs} runs");
        }
    }

    #[test]
    fn one_bad_run_in_ten_far_from_the_border_costs_little() {
        let mut close = 0;
        for seed in 0..200 {
            let mut dice = Dice::new(seed);
            let (answer, _) = search(GOAL, |rate| {
                if dice.below(10) == 0 { Heard::Missed(None) } else { judge(queue(rate, 100_000.0)) }
            });
            close += u32::from(answer.rate.is_some_and(|rate| rate > 80_000));
        }
        assert!(close >= 150, "{close} of 200 came close");
    }

    #[test]
    fn a_system_that_collapses_is_found_at_its_edge() {
        let (answer, _) =
            search(GOAL, |rate| if rate <= 30_000 { Heard::Passed(100_000) } else { Heard::Missed(None) });
        assert!((28_500..=30_000).contains(&answer.rate.unwrap()), "{answer:?}");
    }

    #[test]
    fn a_system_that_is_always_over_has_no_answer_and_takes_two_runs() {
        let (answer, runs) = search(GOAL, |_| Heard::Missed(Some(9_000_000)));
        assert_eq!((answer.rate, answer.above, runs), (None, Some(1_000), 2));
        assert_eq!(answer.limit, Limit::Broker);
    }

    #[test]
    fn a_system_that_is_never_over_is_limited_by_the_range() {
        let (answer, runs) = search(GOAL, |_| Heard::Passed(1));
        assert_eq!((answer.rate, answer.above, answer.limit), (Some(500_000), None, Limit::Range));
        assert!(runs <= 12);
    }

    #[test]
    fn a_generator_at_its_limit_is_named() {
        let (answer, _) = search(GOAL, |rate| if rate <= 50_000 { Heard::Passed(1) } else { Heard::Unclear });
        assert_eq!(answer.limit, Limit::Generator);
        assert!((47_000..=50_000).contains(&answer.rate.unwrap()), "{answer:?}");
    }

    #[test]
    fn the_number_of_runs_is_bounded() {
        let mut dice = Dice::new(3);
        let goal = Goal { runs_max: 12, ..GOAL };
        let (answer, runs) =
            search(goal, |_| if dice.below(2) == 0 { Heard::Passed(1) } else { Heard::Missed(None) });
        assert!(runs <= 12, "{answer:?}");
        let (answer, _) = search(Goal { runs_max: 3, ..GOAL }, |_| Heard::Passed(1));
        assert_eq!((answer.limit, answer.rate), (Limit::Runs, Some(4_000)));
    }

    #[test]
    fn every_range_ends() {
        for (from, to) in [(0, 0), (1, 1), (1, 2), (5, 4), (1, u64::MAX / 2)] {
            for border in [0, 1, 2, 1_000] {
                let goal = Goal { from, to, runs_max: 500, ..GOAL };
                let mut search = RateSearch::new(goal);
                let mut runs = 0;
                while let Step::Try(rate) = search.step() {
                    let heard = if rate <= border { Heard::Passed(1) } else { Heard::Missed(None) };
                    search.hear(rate, heard);
                    runs += 1;
                    assert!(runs < 300, "{from}..{to} at {border}");
                }
            }
        }
    }

    #[test]
    fn certainty_is_the_posterior_of_a_uniform_prior() {
        let place = |passed, missed| Place { rate: 1, passed, missed, unclear: 0, latencies: Vec::new() };
        assert!((place(1, 0).certainty() - 0.75).abs() < 1e-9);
        assert!((place(2, 0).certainty() - 0.875).abs() < 1e-9);
        assert!((place(4, 1).certainty() - 57.0 / 64.0).abs() < 1e-9);
        assert!((place(1, 1).certainty() - 0.5).abs() < 1e-9);
    }
}
