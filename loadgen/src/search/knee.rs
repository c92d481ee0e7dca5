//! The knee of a curve of rate against latency: the rate after which latency grows faster than rate.
//!
//! Method: Kneedle (V. Satopää et al., *Finding a "Kneedle" in a Haystack*, 2011) for a convex rising curve. Both axes are
//! scaled to 0…1 over the steps that the system carried, and the knee is where the curve lies deepest below the diagonal. A curve
//! that hardly leaves the diagonal has none. Beside it stands the rate of greatest *power* (L. Kleinrock, 1979), rate
//! divided by latency: where a little more rate begins to cost more than it gives.

use super::rate::float;

/// One step of the curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// Messages per second that were asked for.
    pub(crate) rate: u64,
    /// The latency that is looked at, in nanoseconds.
    pub(crate) latency_ns: u64,
    /// Whether the system carried this rate and the generator made it: what does not is no part of the curve.
    pub(crate) carried: bool,
}

/// What a curve shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Knee {
    /// The rate at the knee.
    pub(crate) rate: u64,
    /// How far below the diagonal the curve is there, from 0 to 1: how sharp the knee is.
    pub(crate) depth: f64,
}

/// The knee of the steps that were carried, in the order of rates; `None` when there are fewer than [`POINTS_MIN`], when latency
/// does not rise, or when the curve is close to straight.
pub(crate) fn knee(points: &[Point]) -> Option<Knee> {
    let curve: Vec<(f64, f64)> = points
        .iter()
        .filter(|point| point.carried)
        .map(|point| (float(point.rate), float(point.latency_ns)))
        .collect();
    if curve.len() < POINTS_MIN {
        return None;
    }
    let (first, last) = (curve.first()?, curve.last()?);
    let low = curve.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = curve.iter().map(|point| point.1).fold(0.0, f64::max);
    if last.0 <= first.0 || high < low * RISE_MIN {
        return None;
    }
    let depth =
        |point: &(f64, f64)| (point.0 - first.0) / (last.0 - first.0) - (point.1 - low) / (high - low);
    let deepest = curve.iter().max_by(|one, other| depth(one).total_cmp(&depth(other)))?;
    let depth = depth(deepest);
    (depth >= DEPTH_MIN).then(|| Knee { rate: super::rate::whole(deepest.0), depth })
}

/// The carried rate of greatest power, rate divided by latency.
pub(crate) fn power(points: &[Point]) -> Option<u64> {
    let power = |point: &&Point| float(point.rate) / float(point.latency_ns.max(1));
    let carried = points.iter().filter(|point| point.carried);
    carried.max_by(|one, other| power(one).total_cmp(&power(other))).map(|point| point.rate)
}

/// The rates to try: `steps` of them from `from` to `to`, each the same factor above the one before.
pub(crate) fn steps(from: u64, to: u64, steps: u32) -> Vec<u64> {
    let from = from.max(1);
    let to = to.max(from);
    let gaps = f64::from(steps.max(2) - 1);
    let rate =
        |step: u32| super::rate::whole(float(from) * (float(to) / float(from)).powf(f64::from(step) / gaps));
    let mut rates: Vec<u64> = (0..steps.max(2)).map(rate).collect();
    rates.dedup();
    rates
}

/// Fewer points make no curve.
const POINTS_MIN: usize = 5;
/// Latency must at least double over the curve.
const RISE_MIN: f64 = 2.0;
/// A curve that is nowhere further below the diagonal has no knee.
const DEPTH_MIN: f64 = 0.2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn curve(latency: impl Fn(f64) -> f64) -> Vec<Point> {
        (1..=19)
            .map(|step| {
                let load = f64::from(step) / 20.0;
                let latency_ns = super::super::rate::whole(latency(load) * 1e6);
                Point { rate: super::super::rate::whole(load * 100_000.0), latency_ns, carried: true }
            })
            .collect()
    }

    #[test]
    fn a_queue_has_its_knee_between_seven_and_nine_tenths() {
        let knee = knee(&curve(|load| 1.0 / (1.0 - load))).unwrap();
        assert!((70_000..=90_000).contains(&knee.rate), "{knee:?}");
        // The power of M/M/1 is greatest at half its capacity.
        assert_eq!(power(&curve(|load| 1.0 / (1.0 - load))), Some(50_000));
    }

    #[test]
    fn noise_of_a_tenth_does_not_move_the_knee_far() {
        for seed in 0..200 {
            let mut dice = Dice::new(seed);
            let mut points = curve(|load| 1.0 / (1.0 - load));
            for point in &mut points {
                let factor = 0.9 + 0.2 * f64::from(dice.below(1_000)) / 1_000.0;
                point.latency_ns = super::super::rate::whole(float(point.latency_ns) * factor);
            }
            let knee = knee(&points).unwrap();
            assert!((60_000..=90_000).contains(&knee.rate), "seed {seed}: {knee:?}");
        }
    }

    #[test]
    fn a_system_that_collapses_has_its_knee_before_the_collapse() {
        let mut points = curve(|load| if load <= 0.7 { 1.0 + load } else { 60.0 });
        let found = knee(&points).unwrap();
        assert!((65_000..=70_000).contains(&found.rate), "{found:?}");
        // What was not carried is no part of the curve, and the rest of it has no knee.
        for point in &mut points {
            point.carried = point.rate <= 70_000;
        }
        assert_eq!(knee(&points), None);
    }

    #[test]
    fn straight_flat_and_short_curves_have_none() {
        assert_eq!(knee(&curve(|load| 1.0 + 10.0 * load)), None);
        assert_eq!(knee(&curve(|_| 1.0)), None);
        assert_eq!(knee(&curve(|load| 1.0 / (1.0 - load))[..4]), None);
        assert_eq!((knee(&[]), power(&[])), (None, None));
    }

    #[test]
    fn steps_are_of_one_factor_and_end_where_asked() {
        assert_eq!(steps(1_000, 8_000, 4), [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(steps(0, 0, 9), [1]);
        assert_eq!(steps(5, 2, 0), [5]);
    }
}
