//! When the events of an open loop are due: an absolute schedule whose rate may change or ramp.
//!
//! The schedule counts *positions*: at a rate of r per second the position grows by r each second, whatever the broker
//! does. Each event has a position, so a change of rate moves what is still to come and nothing that has been. A
//! generator that falls behind sends at once, keeps the intended time, and counts the event as late.

use crate::clock::{Nanos, SECOND_NS};
use crate::dice::Dice;
use crate::pace::LATE_NS;
use crate::plan::{Arrivals, Factor};

/// A schedule of events. 100 bytes; one per publish entry or group, not per client.
#[derive(Clone, Debug)]
pub(crate) struct Timetable {
    /// Events a second at a factor of one.
    per_second: f64,
    arrivals: Arrivals,
    dice: Dice,
    /// Where the present line begins.
    from: Nanos,
    /// How long the rate takes to go from the first value to the second; then it stays.
    ramp_seconds: f64,
    rate_from: f64,
    rate_to: f64,
    /// Position of the next event, counted from the beginning of the line.
    next: f64,
    /// Events left of the present burst.
    burst_left: u32,
    due_at: Nanos,
    late_count: u64,
}

impl Timetable {
    /// A schedule of `per_second` events a second that does not run yet.
    pub(crate) fn new(per_second: f64, arrivals: Arrivals, dice: Dice) -> Self {
        let mut table = Self {
            per_second,
            arrivals,
            dice,
            from: Nanos(0),
            ramp_seconds: 0.0,
            rate_from: 0.0,
            rate_to: 0.0,
            next: 0.0,
            burst_left: 0,
            due_at: NEVER,
            late_count: 0,
        };
        match arrivals {
            Arrivals::Constant => {}
            Arrivals::Poisson => table.next = exponential(&mut table.dice),
            Arrivals::Burst(size) => table.burst_left = size.max(1),
        }
        table
    }

    /// From `now` on the rate is multiplied by `factor`, on a straight line over `ramp_seconds` and then as at its end.
    pub(crate) fn set_factor(&mut self, factor: Factor, ramp_seconds: f64, now: Nanos) {
        self.next = (self.next - self.position(now)).max(0.0);
        self.from = now;
        self.ramp_seconds = ramp_seconds.max(0.0);
        self.rate_from = self.per_second * factor.from;
        self.rate_to = self.per_second * factor.to;
        self.due_at = self.time_of(self.next);
    }

    /// When the next event is due; [`NEVER`] while the rate is zero.
    pub(crate) const fn due_at(&self) -> Nanos {
        self.due_at
    }

    /// Takes the next event if it is due by `now`; returns its intended time.
    pub(crate) fn take_due(&mut self, now: Nanos) -> Option<Nanos> {
        let due = self.due_at;
        if due > now {
            return None;
        }
        self.late_count += u64::from(now.since(due) > LATE_NS);
        match self.arrivals {
            Arrivals::Constant => self.next += 1.0,
            Arrivals::Poisson => self.next += exponential(&mut self.dice),
            Arrivals::Burst(size) => {
                self.burst_left -= 1;
                if self.burst_left > 0 {
                    return Some(due);
                }
                self.burst_left = size.max(1);
                self.next += f64::from(size.max(1));
            }
        }
        self.due_at = self.time_of(self.next);
        Some(due)
    }

    /// Events handed out more than a millisecond after their time.
    pub(crate) const fn late_count(&self) -> u64 {
        self.late_count
    }

    /// How far the position has grown by `now` since the present line began.
    fn position(&self, now: Nanos) -> f64 {
        let seconds = seconds(now.since(self.from));
        let ramped = seconds.min(self.ramp_seconds);
        let ramp = if self.ramp_seconds > 0.0 {
            let slope = (self.rate_to - self.rate_from) / self.ramp_seconds;
            (slope * ramped / 2.0 + self.rate_from) * ramped
        } else {
            0.0
        };
        (seconds - ramped).mul_add(self.rate_to, ramp)
    }

    /// When a position is reached.
    fn time_of(&self, position: f64) -> Nanos {
        let whole_ramp = f64::midpoint(self.rate_from, self.rate_to) * self.ramp_seconds;
        if self.ramp_seconds > 0.0 && (position < whole_ramp || self.rate_to == 0.0) {
            let slope = (self.rate_to - self.rate_from) / self.ramp_seconds;
            // The root of rate_from·t + slope·t²/2 = position, in the form that does not cancel.
            let square = self.rate_from.mul_add(self.rate_from, 2.0 * slope * position);
            let divisor = self.rate_from + square.max(0.0).sqrt();
            if square < 0.0 || (divisor <= 0.0 && position > 0.0) || position > whole_ramp {
                return NEVER;
            }
            return self.at(if position > 0.0 { 2.0 * position / divisor } else { 0.0 });
        }
        if self.rate_to <= 0.0 {
            return NEVER;
        }
        self.at(self.ramp_seconds + (position - whole_ramp) / self.rate_to)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the conversion saturates")]
    fn at(&self, seconds: f64) -> Nanos {
        self.from.after((seconds * SECOND_NS as f64) as u64)
    }
}

/// Later than any run lasts.
pub(crate) const NEVER: Nanos = Nanos(u64::MAX);

/// Nanoseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "a run of a month loses less than a microsecond")]
pub(crate) const fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / SECOND_NS as f64
}

/// The gap between two events of a Poisson process with a mean of one.
fn exponential(dice: &mut Dice) -> f64 {
    let chance = (f64::from(dice.roll()) + 1.0) / (f64::from(u32::MAX) + 1.0);
    -chance.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Nanos = Nanos(3_600 * SECOND_NS);

    fn table(per_second: f64, arrivals: Arrivals, factor: Factor, ramp_seconds: f64) -> Timetable {
        let mut table = Timetable::new(per_second, arrivals, Dice::new(7));
        table.set_factor(factor, ramp_seconds, Nanos(0));
        table
    }

    fn due(table: &mut Timetable, until: Nanos) -> Vec<u64> {
        std::iter::from_fn(|| table.take_due(until)).map(|at| at.0).collect()
    }

    #[test]
    fn a_constant_rate_is_even_and_absolute() {
        let mut table = table(4.0, Arrivals::Constant, Factor::constant(1.0), 0.0);
        assert_eq!(table.take_due(Nanos(0)), Some(Nanos(0)));
        assert_eq!(table.take_due(Nanos(249_999_999)), None);
        // Late, but with the time that was intended.
        assert_eq!(table.take_due(Nanos(SECOND_NS)), Some(Nanos(250_000_000)));
        assert_eq!(table.late_count(), 1);
        assert_eq!(due(&mut table, Nanos(SECOND_NS)), [500_000_000, 750_000_000, SECOND_NS]);
    }

    #[test]
    fn a_burst_comes_at_once_and_keeps_the_mean() {
        let mut table = table(10.0, Arrivals::Burst(5), Factor::constant(1.0), 0.0);
        let half = SECOND_NS / 2;
        assert_eq!(due(&mut table, Nanos(half)), [0, 0, 0, 0, 0, half, half, half, half, half]);
        assert_eq!(table.due_at(), Nanos(SECOND_NS));
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_the_spread_of_chance() {
        let mut table = table(100.0, Arrivals::Poisson, Factor::constant(1.0), 0.0);
        let times = due(&mut table, Nanos(100 * SECOND_NS));
        assert!((9_700..10_300).contains(&times.len()), "{}", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|pair| seconds(pair[1] - pair[0])).collect();
        let mean = gaps.iter().sum::<f64>() / 10_000.0;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / 10_000.0;
        assert!((0.9..1.1).contains(&(variance.sqrt() / mean)), "an exponential deviates by its mean");
    }

    #[test]
    fn a_ramp_from_nothing_sends_half_and_then_the_whole() {
        let mut table = table(100.0, Arrivals::Constant, Factor { from: 0.0, to: 1.0 }, 10.0);
        let first: Vec<_> = due(&mut table, Nanos(10 * SECOND_NS));
        assert!((500..=501).contains(&first.len()), "{}", first.len());
        assert!(first.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(due(&mut table, Nanos(11 * SECOND_NS)).len(), 100);
    }

    #[test]
    fn a_ramp_to_nothing_ends() {
        let mut table = table(100.0, Arrivals::Constant, Factor { from: 1.0, to: 0.0 }, 10.0);
        assert!((500..=501).contains(&due(&mut table, HOUR).len()));
        assert_eq!(table.due_at(), NEVER);
    }

    #[test]
    fn a_change_of_rate_keeps_what_is_owed() {
        let mut table = table(1.0, Arrivals::Constant, Factor::constant(1.0), 0.0);
        assert_eq!(due(&mut table, Nanos(0)).len(), 1);
        // Half way to the next event the rate doubles: the other half takes a quarter of a second.
        table.set_factor(Factor::constant(2.0), 0.0, Nanos(SECOND_NS / 2));
        assert_eq!(table.due_at(), Nanos(SECOND_NS * 3 / 4));
        table.set_factor(Factor::constant(0.0), 0.0, Nanos(SECOND_NS * 5 / 8));
        assert_eq!(table.due_at(), NEVER);
        table.set_factor(Factor::constant(1.0), 0.0, Nanos(5 * SECOND_NS));
        assert_eq!(table.due_at(), Nanos(5 * SECOND_NS + SECOND_NS / 4));
    }
}
