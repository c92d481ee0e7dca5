//! When messages are sent: an absolute schedule, independent of how the broker is doing.
//!
//! Message k is due at start + k / rate. A generator that falls behind sends at once, keeps the intended time
//! in the payload, and counts the message as late: waiting can't hide in the latency.

use crate::clock::{MILLISECOND_NS, Nanos, SECOND_NS};

/// A constant-rate schedule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: Nanos,
    per_second: u64,
    next: u64,
    late_count: u64,
}

impl Schedule {
    /// `per_second` messages each second from `start` on; at least one.
    pub(crate) fn new(start: Nanos, per_second: u64) -> Self {
        Self { start, per_second: per_second.max(1), next: 0, late_count: 0 }
    }

    /// When the next message is due.
    pub(crate) fn due_at(&self) -> Nanos {
        let whole = self.next / self.per_second;
        let part = (self.next % self.per_second) * SECOND_NS / self.per_second;
        self.start.after(whole * SECOND_NS + part)
    }

    /// Takes the next message if it is due by `now`; returns its intended time.
    pub(crate) fn take_due(&mut self, now: Nanos) -> Option<Nanos> {
        let due = self.due_at();
        if due > now {
            return None;
        }
        self.next += 1;
        self.late_count += u64::from(now.since(due) > LATE_NS);
        Some(due)
    }

    /// Messages handed out more than [`LATE_NS`] after their time.
    pub(crate) const fn late_count(&self) -> u64 {
        self.late_count
    }
}

/// A send this much after its time counts as late.
pub(crate) const LATE_NS: u64 = MILLISECOND_NS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_absolute_and_does_not_drift() {
        let mut schedule = Schedule::new(Nanos(1_000), 3);
        let due: Vec<u64> =
            std::iter::from_fn(|| schedule.take_due(Nanos(u64::MAX))).take(7).map(|n| n.0).collect();
        assert_eq!(
            due,
            [1_000, 333_334_333, 666_667_666, 1_000_001_000, 1_333_334_333, 1_666_667_666, 2_000_001_000]
        );
    }

    #[test]
    fn a_message_is_not_given_before_its_time_and_late_ones_are_counted() {
        let mut schedule = Schedule::new(Nanos(0), 1_000);
        assert_eq!(schedule.take_due(Nanos(0)), Some(Nanos(0)));
        assert_eq!(schedule.take_due(Nanos(999_999)), None);
        assert_eq!(schedule.take_due(Nanos(1_000_000)), Some(Nanos(1_000_000)));
        assert_eq!(schedule.late_count(), 0);
        assert_eq!(schedule.take_due(Nanos(9_000_000)), Some(Nanos(2_000_000)));
        assert_eq!(schedule.late_count(), 1);
    }
}
