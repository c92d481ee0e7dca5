//! Keep-alives for many idle connections without a timer each: a sweep that passes every connection once per
//! period and spreads its packets evenly over it.

use crate::clock::{Nanos, SECOND_NS};
use crate::engine::ConnId;

/// The sweep.
#[derive(Debug)]
pub(crate) struct Sweep {
    connections: u64,
    period_ns: u64,
    start: Nanos,
    done: u64,
}

impl Sweep {
    /// A sweep over `connections` that passes each of them every two thirds of `keep_alive_seconds`, leaving
    /// room for a late round. `None` when keep-alive is off.
    pub(crate) fn new(connections: u32, keep_alive_seconds: u16, start: Nanos) -> Option<Self> {
        let period_ns = u64::from(keep_alive_seconds) * SECOND_NS * 2 / 3;
        (period_ns > 0 && connections > 0).then(|| Self {
            connections: u64::from(connections),
            period_ns,
            start,
            done: 0,
        })
    }

    /// The next connection that is due by `now`.
    pub(crate) fn take_due(&mut self, now: Nanos) -> Option<ConnId> {
        if self.due_at() > now {
            return None;
        }
        let conn = u32::try_from(self.done % self.connections).expect("connections are counted in u32");
        self.done += 1;
        Some(ConnId(conn))
    }

    /// When the next connection is due.
    pub(crate) fn due_at(&self) -> Nanos {
        let rounds = self.done / self.connections;
        let within = u128::from(self.done % self.connections) * u128::from(self.period_ns);
        let within = within / u128::from(self.connections);
        self.start.after(rounds * self.period_ns + u64::try_from(within).expect("below the period"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_is_passed_once_per_period() {
        let mut sweep = Sweep::new(4, 60, Nanos(0)).unwrap();
        let period = Nanos(40 * SECOND_NS);
        let first: Vec<u32> =
            std::iter::from_fn(|| sweep.take_due(Nanos(period.0 - 1))).map(|c| c.0).collect();
        assert_eq!(first, [0, 1, 2, 3]);
        assert_eq!(sweep.due_at(), period);
        assert_eq!(sweep.take_due(period), Some(ConnId(0)));
        assert_eq!(sweep.take_due(period), None);
    }

    #[test]
    fn without_keep_alive_there_is_no_sweep() {
        assert!(Sweep::new(4, 0, Nanos(0)).is_none());
    }
}
