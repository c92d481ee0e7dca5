//! What a long run shows: does the broker's memory grow, does the latency drift?

use super::rate::float;
use super::slope::{Slope, slope};
use crate::clock::SECOND_NS;
use crate::observe::Observed;
use crate::record::{Leg, Outcome, Point, Summary, Times, Value};

/// A part of the measured time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Slice {
    /// Its end, since the start of the run.
    pub(crate) end_ns: u64,
    /// How long it is.
    pub(crate) width_ns: u64,
    /// Times of delivery in it.
    pub(crate) deliver: Summary,
}

/// The measured time of a run in at most `count` parts of equal length, as far as anything arrived in them. They are made of
/// whole points of the series (a second each, more in runs of hours); those that belong to two stages are left out.
pub(crate) fn slices(outcome: &Outcome, count: u32) -> Vec<Slice> {
    let Some(stage) = outcome.stages.iter().find(|stage| stage.measured) else { return Vec::new() };
    let points: Vec<_> = outcome
        .series
        .points()
        .iter()
        .filter(|point| {
            point.at_seconds * SECOND_NS >= stage.start_ns && point.end_seconds() * SECOND_NS <= stage.end_ns
        })
        .collect();
    let per_slice = points.len().div_ceil(count.max(1) as usize).max(1);
    let slice = |points: &[&Point]| {
        let (first, last) = (points.first()?, points.last()?);
        let mut times = Times::default();
        for arrived in points.iter().filter_map(|point| point.times(Leg::Deliver)) {
            times.merge(&arrived);
        }
        Some(Slice {
            end_ns: last.end_seconds() * SECOND_NS,
            width_ns: (last.end_seconds() - first.at_seconds) * SECOND_NS,
            deliver: times.summary()?,
        })
    };
    points.chunks(per_slice).filter_map(slice).collect()
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Findings {
    /// Bytes per hour of the broker's anonymous memory, if it was observed.
    pub(crate) memory: Option<Trend>,
    /// Nanoseconds per hour of the p99 of delivery.
    pub(crate) p99: Option<Trend>,
    /// In whole sentences.
    pub(crate) sentences: Vec<String>,
}

/// A slope and what it is a slope of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trend {
    /// Per hour.
    pub(crate) slope: Slope,
    /// The middle of the series.
    pub(crate) level: f64,
    /// Whether it rises, and by more than counts.
    pub(crate) matters: bool,
}

impl Findings {
    /// Looks at the memory in the points of `observed` and at the latencies of `slices`.
    pub(crate) fn of(observed: Option<&Observed>, slices: &[Slice]) -> Self {
        let memory: Vec<(f64, f64)> = observed.map_or_else(Vec::new, |observed| {
            let points = observed.points.iter();
            let points = points.filter_map(|point| Some((point.at_ns, point.broker?.anonymous_bytes)));
            points.map(|(at_ns, bytes)| (float(at_ns) / HOUR_NS, float(bytes))).collect()
        });
        let p99: Vec<(f64, f64)> =
            slices.iter().map(|slice| (float(slice.end_ns) / HOUR_NS, float(slice.deliver.p99_ns))).collect();
        let memory = trend(&memory, MEMORY_SHARE);
        let p99 = trend(&p99, LATENCY_SHARE);
        let mut sentences = vec![match &memory {
            Some(trend) => sentence("the broker's memory", "B", "leak", trend),
            None if observed.is_none_or(|observed| observed.broker.is_none()) => {
                "the broker's memory was not observed: give its process id with --broker-pid".to_owned()
            }
            None => "there are too few samples of the broker's memory for a slope".to_owned(),
        }];
        sentences.push(p99.as_ref().map_or_else(
            || "there are too few slices for a slope of the latency".to_owned(),
            |trend| sentence("the p99 of delivery", "ns", "drift", trend),
        ));
        Self { memory, p99, sentences }
    }

    /// Whether memory leaks or latency drifts.
    pub(crate) fn is_bad(&self) -> bool {
        self.memory.is_some_and(|trend| trend.matters) || self.p99.is_some_and(|trend| trend.matters)
    }

    /// The figures for a result.
    pub(crate) fn figures(&self) -> Vec<Value> {
        let mut figures = Vec::new();
        let all = [("memory slope", "bytes", self.memory), ("p99 slope", "ns", self.p99)];
        for (name, unit, trend) in all {
            let Some(Trend { slope, level, .. }) = trend else { continue };
            let per_hour = format!("{unit}/hour");
            let values = [
                (name.to_owned(), slope.per_unit, per_hour.as_str()),
                (format!("{name}, 95 % low"), slope.low, &per_hour),
                (format!("{name}, 95 % high"), slope.high, &per_hour),
                (format!("{name}, middle of the series"), level, unit),
            ];
            figures.extend(values.map(|(name, value, unit)| Value { name, value, unit: unit.to_owned() }));
        }
        figures
    }
}

/// The slope without the first tenth of the time. It matters if it rises for certain and comes to more than `share` of the
/// level over the time that was looked at.
fn trend(series: &[(f64, f64)], share: f64) -> Option<Trend> {
    let (first, last) = (series.first()?.0, series.last()?.0);
    let begin = first + (last - first) * SKIPPED_SHARE;
    let rest: Vec<(f64, f64)> = series.iter().copied().filter(|point| point.0 >= begin).collect();
    let slope = slope(&rest)?;
    let mut values: Vec<f64> = rest.iter().map(|point| point.1).collect();
    values.sort_unstable_by(f64::total_cmp);
    let level = *values.get(values.len() / 2)?;
    let growth = slope.per_unit * (last - begin);
    Some(Trend { slope, level, matters: slope.rises() && growth > level * share })
}

fn sentence(what: &str, unit: &str, word: &str, trend: &Trend) -> String {
    let Trend { slope, level, matters } = trend;
    let verdict = if *matters {
        format!("a {word}")
    } else if slope.rises() {
        format!("it rises, too little to call a {word}")
    } else if slope.falls() {
        "it falls".to_owned()
    } else {
        "no slope can be told from none".to_owned()
    };
    format!(
        "{what}: {:+.0} {unit}/hour (95 % between {:+.0} and {:+.0}), at a level of {level:.0} {unit}: {verdict}",
        slope.per_unit, slope.low, slope.high
    )
}

const HOUR_NS: f64 = 3_600e9;
/// The part of the time in which things may still settle.
const SKIPPED_SHARE: f64 = 0.1;
/// Memory that grows by less than this share over the run is no leak.
const MEMORY_SHARE: f64 = 0.01;
/// Latency that grows by less than this share over the run does not drift.
const LATENCY_SHARE: f64 = 0.2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Nanos;
    use crate::dice::Dice;
    use crate::observe::{Point, ProcessPoint};
    use crate::record::{Blind, Recorder};

    fn observed(bytes: impl Fn(u64) -> u64) -> Observed {
        let point = |second: u64| Point {
            at_ns: second * 1_000_000_000,
            broker: Some(ProcessPoint { anonymous_bytes: bytes(second), ..ProcessPoint::default() }),
            ..Point::default()
        };
        Observed { points: (0..600).map(point).collect(), ..Observed::default() }
    }

    #[test]
    fn a_leak_is_found_and_its_size_is_right() {
        let found = Findings::of(Some(&observed(|second| 10_000_000 + second * 1_000)), &[]);
        let memory = found.memory.unwrap();
        assert!(memory.matters && found.is_bad());
        assert!((memory.slope.per_unit - 3_600_000.0).abs() < 1.0, "{memory:?}");
        assert!(found.sentences[0].ends_with("a leak"), "{:?}", found.sentences);
    }

    #[test]
    fn what_settles_in_the_first_tenth_is_no_leak() {
        let found = Findings::of(Some(&observed(|second| 10_000_000 + second.min(50) * 100_000)), &[]);
        assert!(!found.is_bad(), "{found:?}");
    }

    #[test]
    fn noise_is_no_leak() {
        let mut dice = Dice::new(1);
        let mut noisy = observed(|_| 10_000_000);
        for point in &mut noisy.points {
            point.broker.as_mut().unwrap().anonymous_bytes += u64::from(dice.below(100_000));
        }
        let found = Findings::of(Some(&noisy), &[]);
        assert!(!found.is_bad(), "{found:?}");
    }

    #[test]
    fn a_latency_that_doubles_drifts() {
        let mut times = Times::default();
        times.record(1);
        let base = times.summary().unwrap();
        let slice = |n: u64| Slice {
            end_ns: n * 60_000_000_000,
            width_ns: 60_000_000_000,
            deliver: Summary { p99_ns: 1_000_000 + n * 20_000, ..base },
        };
        let slices: Vec<Slice> = (1..=60).map(slice).collect();
        let found = Findings::of(None, &slices);
        assert!(found.p99.unwrap().matters && found.is_bad());
        assert!(found.sentences[0].contains("--broker-pid"));
        let units: Vec<String> = found.figures().into_iter().map(|figure| figure.unit).collect();
        assert_eq!(units, ["ns/hour", "ns/hour", "ns/hour", "ns"]);
    }

    #[test]
    fn a_run_is_cut_into_slices_of_whole_seconds() {
        let mut recorder = Recorder::new(Nanos(0));
        recorder.begin_stage(Nanos(0), "warming up", false);
        let mut measuring = false;
        for tenth in 0..125_u64 {
            let now = Nanos(tenth * SECOND_NS / 10);
            recorder.turn(now, &mut Blind);
            if tenth >= 15 && !measuring {
                measuring = true;
                recorder.begin_stage(now, "measuring", true);
            }
            // A millisecond in the first seven seconds, then three.
            let took = if tenth < 70 { 1_000_000 } else { 3_000_000 };
            recorder.time_corrected(Leg::Deliver, Nanos(now.0.saturating_sub(took)), now);
        }
        let outcome = recorder.into_outcome(Nanos(12 * SECOND_NS + SECOND_NS / 2));
        let found = slices(&outcome, 5);
        // Ten whole seconds from 2 to 12.
        let ends: Vec<u64> = found.iter().map(|slice| slice.end_ns / SECOND_NS).collect();
        assert_eq!(ends, [4, 6, 8, 10, 12]);
        assert!(found.iter().all(|slice| slice.width_ns == 2 * SECOND_NS && slice.deliver.samples == 20));
        assert!(found[1].deliver.p99_ns < 1_100_000 && found[4].deliver.p50_ns > 2_900_000);
        assert_eq!(slices(&outcome, 1_000).len(), 10);
        assert!(slices(&Outcome::default(), 5).is_empty());
    }
}
