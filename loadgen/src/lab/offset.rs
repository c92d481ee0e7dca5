//! How far an agent's clock is from the coordinator's, and how sure that is.
//!
//! A question leaves at `asked`, is seen there at `seen`, and the answer is here at `answered`. Wherever in between
//! it was seen, the offset can't be wrong by more than half of the round trip; the quickest of several rounds
//! says it best.

use serde::Serialize;

/// One round trip, in nanoseconds since 1970: `seen` by the agent's clock, the others by the coordinator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) asked: i64,
    pub(super) seen: i64,
    pub(super) answered: i64,
}

/// An agent's clock minus the coordinator's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Offset {
    pub(crate) offset_ns: i64,
    /// The offset lies within this of the stated value.
    pub(crate) uncertainty_ns: u64,
}

impl Round {
    fn offset(self) -> Offset {
        let trip = self.answered.saturating_sub(self.asked);
        let middle = self.asked.saturating_add(trip / 2);
        Offset {
            offset_ns: self.seen.saturating_sub(middle),
            uncertainty_ns: trip.unsigned_abs().div_ceil(2),
        }
    }
}

/// What was measured of one agent's clock.
#[derive(Clone, Debug, Default)]
pub(super) struct ClockWatch {
    first: Option<Offset>,
    /// The best of the current group of rounds, and how many there were.
    best: Option<Offset>,
    rounds: u32,
    /// How far the best of later groups strayed from the first.
    strayed_ns: u64,
}

impl ClockWatch {
    /// Adds a round trip.
    pub(super) fn add(&mut self, round: Round) {
        let offset = round.offset();
        if self.best.is_none_or(|best| offset.uncertainty_ns < best.uncertainty_ns) {
            self.best = Some(offset);
        }
        self.rounds += 1;
        if self.rounds == ROUNDS_PER_GROUP {
            self.close_group();
        }
    }

    /// The offset at the beginning: the best of the first rounds.
    pub(super) fn offset(&self) -> Offset {
        self.first.or(self.best).unwrap_or_default()
    }

    /// How far the offset moved since, beyond what uncertainty explains.
    pub(super) const fn drift_ns(&self) -> u64 {
        self.strayed_ns
    }

    fn close_group(&mut self) {
        self.rounds = 0;
        let Some(best) = self.best.take() else { return };
        match self.first {
            None => self.first = Some(best),
            Some(first) => {
                let moved = best.offset_ns.abs_diff(first.offset_ns);
                let explained = best.uncertainty_ns + first.uncertainty_ns;
                self.strayed_ns = self.strayed_ns.max(moved.saturating_sub(explained));
            }
        }
    }
}

/// Round trips of which the quickest counts.
pub(super) const ROUNDS_PER_GROUP: u32 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    /// A round to a clock that is `ahead`, with `there` and `back` on the way.
    fn round(asked: i64, ahead: i64, there: i64, back: i64) -> Round {
        Round { asked, seen: asked + there + ahead, answered: asked + there + back }
    }

    #[test]
    fn the_offset_is_within_its_uncertainty_however_uneven_the_ways() {
        for (there, back) in [(10, 10), (1, 1_000), (1_000, 1), (0, 0)] {
            for ahead in [-5_000_000, 0, 7] {
                let offset = round(1_000, ahead, there, back).offset();
                assert!(offset.offset_ns.abs_diff(ahead) <= offset.uncertainty_ns, "{there} {back} {ahead}");
            }
        }
    }

    #[test]
    fn the_quickest_round_counts() {
        let mut watch = ClockWatch::default();
        for (there, back) in [(500, 90_000), (3_000, 3_100), (90_000, 500)] {
            watch.add(round(0, 1_000_000, there, back));
        }
        assert_eq!(watch.offset(), Offset { offset_ns: 999_950, uncertainty_ns: 3_050 });
    }

    #[test]
    fn a_clock_that_runs_away_is_noticed_and_a_noisy_one_is_not() {
        let mut watch = ClockWatch::default();
        for turn in 0..ROUNDS_PER_GROUP * 5 {
            let noise = i64::from(turn % 4) * 400;
            watch.add(round(0, 1_000_000, 1_000 + noise, 1_000));
        }
        assert_eq!(watch.drift_ns(), 0);
        for _ in 0..ROUNDS_PER_GROUP {
            watch.add(round(0, 1_500_000, 1_000, 1_000));
        }
        assert_eq!(watch.drift_ns(), 500_000 - 2_000);
    }
}
