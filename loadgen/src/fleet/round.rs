//! Keep-alives of a group without a timer per client: a round that passes each client once per period, in an order that
//! changes from round to round as the jitter allows.

use super::cast::MemberId;
use super::timetable::NEVER;
use crate::clock::{Nanos, SECOND_NS};

/// The rounds of a group.
#[derive(Debug)]
pub(crate) struct Round {
    first: u32,
    count: u32,
    /// Clients that may change places with each other.
    block: u32,
    period_ns: u64,
    start: Nanos,
    done: u64,
}

impl Round {
    /// Rounds over `count` clients from `first` on; `None` when keep-alive is off. The time between two PINGREQ of a
    /// client lies between (0.95 − 2 × jitter) and 0.95 times the Keep Alive.
    pub(crate) fn new(
        first: u32,
        count: u32,
        keep_alive_seconds: u16,
        jitter: f64,
        start: Nanos,
    ) -> Option<Self> {
        if keep_alive_seconds == 0 || count == 0 {
            return None;
        }
        let keep_alive = f64::from(keep_alive_seconds) * SECOND_NS as f64;
        let jitter = jitter.clamp(0.0, JITTER_MAX);
        let period = (LATEST - jitter) * keep_alive;
        // A block lasts as long as the jitter, so two visits differ from the period by no more than that.
        let block = (f64::from(count) * jitter / (LATEST - jitter)).floor();
        let block = whole(block).clamp(1, u64::from(count));
        let block = u32::try_from(block).expect("at most count");
        Some(Self { first, count, block, period_ns: whole(period), start, done: 0 })
    }

    /// The next client that is due by `now`.
    pub(crate) fn take_due(&mut self, now: Nanos) -> Option<MemberId> {
        if self.due_at() > now {
            return None;
        }
        let (round, place) = self.place();
        self.done += 1;
        Some(MemberId(self.first + self.shuffled(round, place)))
    }

    /// When the next client is due.
    pub(crate) fn due_at(&self) -> Nanos {
        let (round, place) = self.place();
        let within = u128::from(place) * u128::from(self.period_ns) / u128::from(self.count);
        let within = u64::try_from(within).unwrap_or(NEVER.0);
        self.start.after(round.saturating_mul(self.period_ns)).after(within)
    }

    fn place(&self) -> (u64, u32) {
        let count = u64::from(self.count);
        let place = u32::try_from(self.done % count).expect("below count, which is 32 bits");
        (self.done / count, place)
    }

    /// Turns each whole block by an amount that depends on the round.
    fn shuffled(&self, round: u64, place: u32) -> u32 {
        let (block, within) = (place / self.block, place % self.block);
        if (block + 1) * self.block > self.count {
            return place;
        }
        let turn = u32::try_from(round.wrapping_mul(0x9E37_79B9) % u64::from(self.block)).unwrap_or(0);
        block * self.block + (within + turn) % self.block
    }
}

/// The latest that a PINGREQ goes out, as a part of the Keep Alive.
const LATEST: f64 = 0.95;
/// Jitter beyond this would make the rounds too short to be one.
const JITTER_MAX: f64 = 0.45;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "callers pass what is not negative"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_is_visited_in_time_and_at_times_that_differ() {
        let mut round = Round::new(100, 1_000, 10, 0.2, Nanos(0)).unwrap();
        let mut last = vec![None; 1_000];
        let mut gaps = std::collections::BTreeSet::new();
        while round.due_at() < Nanos(200 * SECOND_NS) {
            let at = round.due_at();
            let member = round.take_due(at).unwrap().0 as usize - 100;
            if let Some(before) = last[member].replace(at) {
                gaps.insert(at.since(before) / 1_000_000);
            }
        }
        let (least, most) = (*gaps.first().unwrap(), *gaps.last().unwrap());
        assert!(least >= 5_500 && most <= 9_500, "{least} {most}");
        assert!(most - least > 1_500, "jitter is seen: {least} {most}");
        assert!(last.iter().all(Option::is_some));
    }

    #[test]
    fn no_keep_alive_no_round_and_one_client_is_enough_for_one() {
        assert!(Round::new(0, 5, 0, 0.1, Nanos(0)).is_none());
        let mut round = Round::new(7, 1, 10, 0.1, Nanos(0)).unwrap();
        assert_eq!(round.take_due(Nanos(0)), Some(MemberId(7)));
        assert_eq!(round.take_due(Nanos(8 * SECOND_NS)), None);
        assert_eq!(round.take_due(Nanos(17 * SECOND_NS / 2)), Some(MemberId(7)));
    }
}
