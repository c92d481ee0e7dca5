//! A run second by second, in bounded memory: when it gets long, neighbours are joined.
//!
//! Points stand on a grid of powers of two seconds from the start of the run. One that is joined from two is exactly
//! what it would have been had it been twice as wide from the beginning; its histograms too, so percentiles
//! stay true. That makes merging of several recorders exact and independent of the order.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::serialization::{Deserializer as HdrDeserializer, Serializer as _, V2Serializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::times::{Legs, Times};
use super::{Counters, Leg, Summary};

/// A piece of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Point {
    /// Start since the start of the run; a multiple of the width.
    pub(crate) at_seconds: u64,
    /// A power of two.
    pub(crate) width_seconds: u64,
    /// Connections that were up at its end.
    pub(crate) open: u64,
    /// What was counted in it.
    #[serde(flatten)]
    pub(crate) counters: Counters,
    /// Corrected times of the legs that occurred.
    #[serde(with = "packed_legs")]
    legs: BTreeMap<Leg, Packed>,
}

impl Point {
    /// A point of one second.
    pub(crate) fn new(at_seconds: u64, open: u64, counters: Counters, legs: &Legs) -> Self {
        let legs = legs.iter().map(|(leg, times)| (leg, Packed::of(&times.corrected))).collect();
        Self { at_seconds, width_seconds: 1, open, counters, legs }
    }

    /// The corrected times of a leg in this piece. Costs about 50 µs.
    pub(crate) fn times(&self, leg: Leg) -> Option<Times> {
        self.legs.get(&leg).map(Packed::unpacked)
    }

    /// The legs that occurred in this piece.
    pub(crate) fn legs(&self) -> impl Iterator<Item = Leg> {
        self.legs.keys().copied()
    }

    /// The first second after it.
    pub(crate) const fn end_seconds(&self) -> u64 {
        self.at_seconds.saturating_add(self.width_seconds)
    }

    /// Adds counts and times. `open` is left to the caller: it is a level, not a count.
    fn absorb(&mut self, other: &Self) {
        self.counters.merge(&other.counters);
        for (leg, packed) in &other.legs {
            match self.legs.get_mut(leg) {
                Some(own) => own.merge(packed),
                None => drop(self.legs.insert(*leg, packed.clone())),
            }
        }
    }
}

/// Points in the order of time, without gaps, each as wide as its place allows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Series {
    points: Vec<Point>,
}

impl Series {
    /// The points.
    pub(crate) fn points(&self) -> &[Point] {
        &self.points
    }

    /// Adds a point of one second; seconds that were skipped since the last one become empty points. One that is already
    /// there is added to. Costs two joins at most, some 300 µs, and only in runs of more than [`POINTS_MAX`] seconds.
    pub(crate) fn push(&mut self, point: Point) {
        if let Some(last) = self.points.last_mut()
            && last.at_seconds <= point.at_seconds
            && point.at_seconds < last.end_seconds()
        {
            last.open = point.open;
            last.absorb(&point);
            return;
        }
        let (next, open) = self.points.last().map_or((0, 0), |last| (last.end_seconds(), last.open));
        for at_seconds in next..point.at_seconds {
            self.points.push(Point { at_seconds, width_seconds: 1, open, ..Point::default() });
            self.shrink();
        }
        self.points.push(point);
        self.shrink();
    }

    /// Adds the points of another recorder of the same run, whose start was the same.
    pub(crate) fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        let width = self.width_seconds().max(other.width_seconds());
        self.widen(width);
        other.widen(width);
        for (index, point) in other.points.into_iter().enumerate() {
            match self.points.get_mut(index) {
                Some(own) => {
                    own.open += point.open;
                    own.absorb(&point);
                }
                None => self.points.push(point),
            }
        }
        while self.points.len() > POINTS_MAX {
            self.widen(self.width_seconds() * 2);
        }
    }

    /// Moves all points later, by the whole number of points that comes nearest.
    pub(crate) fn delay(&mut self, by: Duration) {
        self.even_out();
        let width = self.width_seconds();
        let points = (by.as_secs_f64() / crate::report::ratio(width, 1)).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, bounded below"
        )]
        let points = points.min(DELAY_POINTS_MAX) as u64;
        let gap = (0..points).map(|index| Point {
            at_seconds: index * width,
            width_seconds: width,
            ..Point::default()
        });
        let mut delayed: Vec<Point> = gap.collect();
        delayed.extend(
            self.points
                .drain(..)
                .map(|point| Point { at_seconds: point.at_seconds + points * width, ..point }),
        );
        self.points = delayed;
    }

    /// Says that at the end nothing is open any more: another run follows.
    pub(crate) fn end_with_none_open(&mut self) {
        if let Some(last) = self.points.last_mut() {
            last.open = 0;
        }
    }

    /// The width of the widest point.
    pub(crate) fn width_seconds(&self) -> u64 {
        self.points.iter().map(|point| point.width_seconds).max().unwrap_or(1)
    }

    /// Makes all points equally wide, as files have them.
    pub(crate) fn even_out(&mut self) {
        self.widen(self.width_seconds());
    }

    /// Joins points until all are `width` wide.
    fn widen(&mut self, width: u64) {
        let mut wide: Vec<Point> = Vec::new();
        for point in self.points.drain(..) {
            let at_seconds = point.at_seconds / width * width;
            match wide.last_mut().filter(|last| last.at_seconds == at_seconds) {
                Some(last) => {
                    last.open = point.open;
                    last.absorb(&point);
                }
                None => wide.push(Point { at_seconds, width_seconds: width, ..point }),
            }
        }
        self.points = wide;
    }

    /// Joins the first pair of the narrowest points when there are too many. So old points become wide first, and no
    /// second costs more than another.
    fn shrink(&mut self) {
        if self.points.len() <= POINTS_MAX {
            return;
        }
        let joinable = |index: &usize| {
            let (one, two) = (&self.points[*index], &self.points[*index + 1]);
            one.width_seconds == two.width_seconds && one.at_seconds % (one.width_seconds * 2) == 0
        };
        let pairs = (0..self.points.len() - 1).filter(joinable);
        if let Some(index) = pairs.min_by_key(|index| self.points[*index].width_seconds) {
            let second = self.points.remove(index + 1);
            let first = &mut self.points[index];
            first.width_seconds *= 2;
            first.open = second.open;
            first.absorb(&second);
        }
    }
}

/// A histogram in a few hundred bytes: its V2 form.
#[derive(Clone, Debug)]
struct Packed(Vec<u8>);

/// The same samples: the bytes also say how much room there was for others.
impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.unpacked() == other.unpacked()
    }
}

impl Packed {
    fn of(times: &Times) -> Self {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(times.histogram(), &mut bytes)
            .expect("a histogram of fixed size is written to memory");
        bytes.shrink_to_fit();
        Self(bytes)
    }

    fn unpacked(&self) -> Times {
        let histogram = HdrDeserializer::new()
            .deserialize(&mut self.0.as_slice())
            .expect("these bytes were made by `Packed::of`");
        Times::from_histogram(&histogram)
    }

    fn merge(&mut self, other: &Self) {
        let mut times = self.unpacked();
        times.merge(&other.unpacked());
        *self = Self::of(&times);
    }
}

/// In files a leg of a point has its main figures and the histogram.
mod packed_legs {
    use super::{BTreeMap, Deserializer, Leg, Packed, Serialize, Serializer, Summary, Times};

    #[derive(Serialize)]
    struct Written {
        #[serde(flatten)]
        summary: Option<Summary>,
        histogram: String,
    }

    pub(super) fn serialize<S: Serializer>(
        legs: &BTreeMap<Leg, Packed>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(legs.iter().map(|(leg, packed)| {
            let times = packed.unpacked();
            (leg, Written { summary: times.summary(), histogram: times.encoded() })
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Leg, Packed>, D::Error> {
        let legs: Vec<(Leg, Times)> = super::super::leg::known(deserializer)?;
        Ok(legs.into_iter().map(|(leg, times)| (leg, Packed::of(&times))).collect())
    }
}

/// What starts more points later than this is not a part of the same run.
const DELAY_POINTS_MAX: f64 = 10_000.0;

/// Points kept: the first quarter of an hour second by second, then coarser.
pub(crate) const POINTS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at_seconds: u64, open: u64, sent: u64, nanoseconds: u64) -> Point {
        let mut legs = Legs::default();
        legs.of_mut(Leg::Deliver).corrected.record(nanoseconds);
        Point::new(at_seconds, open, Counters { sent, ..Counters::default() }, &legs)
    }

    fn sum(series: &Series) -> (u64, u64) {
        let points = series.points();
        let samples =
            points.iter().filter_map(|point| point.times(Leg::Deliver)).map(|times| times.samples());
        (points.iter().map(|point| point.counters.sent).sum(), samples.sum())
    }

    #[test]
    fn a_long_run_is_bounded_and_loses_nothing() {
        let mut series = Series::default();
        let seconds = POINTS_MAX as u64 * 3 + 77;
        for at in 0..seconds {
            series.push(second(at, at, 2, at + 1));
        }
        assert!(series.points().len() <= POINTS_MAX);
        assert_eq!(sum(&series), (seconds * 2, seconds));
        assert_eq!(series.points().last().unwrap().open, seconds - 1);
        let gapless = series.points().windows(2).all(|pair| pair[0].end_seconds() == pair[1].at_seconds);
        assert!(gapless, "every second is in exactly one point");
        series.even_out();
        assert!(series.points().iter().all(|point| point.width_seconds == 4));
        assert_eq!(sum(&series), (seconds * 2, seconds));
    }

    #[test]
    fn skipped_seconds_are_there_and_empty() {
        let mut series = Series::default();
        series.push(second(0, 3, 1, 1));
        series.push(second(3, 4, 1, 1));
        series.push(second(3, 5, 1, 1));
        let opens: Vec<(u64, u64)> =
            series.points().iter().map(|point| (point.open, point.counters.sent)).collect();
        assert_eq!(opens, [(3, 1), (3, 0), (3, 0), (5, 2)]);
    }

    #[test]
    fn merging_is_the_same_in_any_order_and_as_recording_into_one() {
        let part = |seed: u64, seconds: u64| {
            let mut series = Series::default();
            for at in 0..seconds {
                series.push(second(at, seed, seed, at * seed + 1));
            }
            series.even_out();
            series
        };
        let [a, b, c] = [part(1, 10), part(2, 1_500), part(3, 700)];
        let merged = |parts: [&Series; 3]| {
            let mut all = Series::default();
            parts.iter().for_each(|part| all.merge(part));
            all
        };
        let one = merged([&a, &b, &c]);
        assert_eq!(one, merged([&c, &a, &b]));
        let mut right = b;
        right.merge(&c);
        assert_eq!(one, merged([&a, &right, &Series::default()]));
        assert_eq!(sum(&one), (10 + 3_000 + 2_100, 10 + 1_500 + 700));
        assert_eq!(one.points()[0].counters.sent, 2 * 6, "two seconds of 1, 2 and 3 a second");
    }

    #[test]
    fn points_survive_json() {
        let mut series = Series::default();
        series.push(second(0, 3, 1, 7_000));
        series.push(second(1, 3, 1, 9_000));
        let json = serde_json::to_value(&series).unwrap();
        assert!(json[1]["legs"]["deliver"]["p50_ns"].as_u64().unwrap().abs_diff(9_000) <= 9);
        assert_eq!(json[0]["sent"], 1);
        assert_eq!(serde_json::from_value::<Series>(json).unwrap(), series);
    }
}
