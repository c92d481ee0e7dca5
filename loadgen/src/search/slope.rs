//! Whether a series of figures over time rises: the slope after Theil and Sen, with a confidence interval.
//!
//! The slope is the median of the slopes between all pairs of points, which a few wild points do not move. Its interval is Sen's
//! (1968): the ranks among the pairs' slopes that the variance of Kendall's S allows at the wanted confidence. Points that follow
//! each other closely are alike, which makes such an interval too narrow; so the series is first cut into at most
//! [`BLOCKS_MAX`] blocks, and each block's median counts as one point.

/// The slope of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Slope {
    /// Per unit of time.
    pub(crate) per_unit: f64,
    /// Lower end of the 95 % interval.
    pub(crate) low: f64,
    /// Upper end of the 95 % interval.
    pub(crate) high: f64,
    /// Points that it was made of, after cutting into blocks.
    pub(crate) points: usize,
}

impl Slope {
    /// Whether it rises: zero is below the interval.
    pub(crate) fn rises(&self) -> bool {
        self.low > 0.0
    }

    /// Whether it falls: zero is above the interval.
    pub(crate) fn falls(&self) -> bool {
        self.high < 0.0
    }
}

/// The slope of `(time, value)` points in the order of time; `None` of fewer than [`POINTS_MIN`] or without any extent in time.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<Slope> {
    let blocks = blocks(points);
    if blocks.len() < POINTS_MIN {
        return None;
    }
    let mut slopes = Vec::with_capacity(blocks.len() * (blocks.len() - 1) / 2);
    for (index, later) in blocks.iter().enumerate() {
        let earlier = blocks.get(..index).unwrap_or(&[]);
        let pairs = earlier.iter().filter(|earlier| later.0 > earlier.0);
        slopes.extend(pairs.map(|earlier| (later.1 - earlier.1) / (later.0 - earlier.0)));
    }
    if slopes.is_empty() {
        return None;
    }
    slopes.sort_unstable_by(f64::total_cmp);
    let half = interval_ranks(blocks.len());
    let middle = count(slopes.len()) / 2.0;
    let at = |rank: f64| slopes.get(rank_index(rank, slopes.len())).copied();
    Some(Slope {
        per_unit: median(&slopes)?,
        low: at(middle - half)?,
        high: at(middle + half)?,
        points: blocks.len(),
    })
}

/// Half the number of ranks that the interval spans: z √(n (n−1) (2n+5) / 18) / 2.
fn interval_ranks(points: usize) -> f64 {
    let n = count(points);
    Z_95 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt() / 2.0
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the list's length before"
)]
fn rank_index(rank: f64, length: usize) -> usize {
    rank.round().clamp(0.0, count(length) - 1.0) as usize
}

/// Medians of time and value over blocks of neighbours.
fn blocks(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(BLOCKS_MAX).max(1);
    let of = |block: &[(f64, f64)], place: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = block.iter().map(place).collect();
        values.sort_unstable_by(f64::total_cmp);
        median(&values)
    };
    points
        .chunks(size)
        .filter_map(|block| of(block, |point| point.0).zip(of(block, |point| point.1)))
        .collect()
}

/// The middle of sorted values.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        Some(upper)
    } else {
        Some((upper + sorted.get(middle.checked_sub(1)?)?) / 2.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of points")]
fn count(points: usize) -> f64 {
    points as f64
}

/// Fewer points say nothing.
const POINTS_MIN: usize = 8;
/// Blocks that a long series is cut into.
const BLOCKS_MAX: usize = 240;
/// 95 % of a normal distribution lie within this many standard deviations.
const Z_95: f64 = 1.96;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn series(length: u32, value: impl FnMut(u32) -> f64) -> Vec<(f64, f64)> {
        (0..length).map(f64::from).zip((0..length).map(value)).collect()
    }

    /// Roughly normal with a deviation of one: the sum of twelve uniform ones.
    fn normal(dice: &mut Dice) -> f64 {
        (0..12).map(|_| f64::from(dice.roll()) / f64::from(u32::MAX)).sum::<f64>() - 6.0
    }

    #[test]
    fn an_exact_line_is_found_with_no_width() {
        let found = slope(&series(100, |n| 5.0 + 3.0 * f64::from(n))).unwrap();
        assert!((found.per_unit - 3.0).abs() < 1e-9 && (found.high - found.low).abs() < 1e-9, "{found:?}");
        assert!(found.rises() && !found.falls());
    }

    #[test]
    fn a_leak_below_the_noise_of_single_points_is_found() {
        let mut within = 0;
        for seed in 0..50 {
            let mut dice = Dice::new(seed);
            let found = slope(&series(3_600, |n| f64::from(n) * 0.01 + 10.0 * normal(&mut dice))).unwrap();
            assert!(found.rises() && (found.per_unit - 0.01).abs() < 0.002, "seed {seed}: {found:?}");
            within += u32::from(found.low <= 0.01 && found.high >= 0.01);
        }
        // The true slope lies in 95 of 100 intervals.
        assert!(within >= 43, "{within} of 50");
    }

    #[test]
    fn noise_alone_rises_about_as_often_as_the_confidence_allows() {
        let wrong = (0..400).filter(|seed| {
            let mut dice = Dice::new(*seed);
            let found = slope(&series(120, |_| normal(&mut dice))).unwrap();
            found.rises() || found.falls()
        });
        let wrong = wrong.count();
        assert!((4..=40).contains(&wrong), "{wrong} of 400, of which 20 are expected");
    }

    #[test]
    fn a_few_wild_points_do_not_move_it() {
        let found = slope(&series(200, |n| if n % 20 == 7 { 1e9 } else { f64::from(n) })).unwrap();
        assert!((found.per_unit - 1.0).abs() < 0.05, "{found:?}");
    }

    #[test]
    fn too_little_says_nothing() {
        assert_eq!(slope(&[]), None);
        assert_eq!(slope(&series(7, f64::from)), None);
        assert_eq!(slope(&vec![(1.0, 2.0); 50]), None);
    }
}
