//! Who looks on while a run is under way: the terminal, Prometheus, a coordinator.
//!
//! The seam is one call per second. A watcher must not wait for anything: what is slow gets the snapshot through a
//! channel of its own thread.

use super::{Counters, FailureCounts, Leg, Summary};

/// Looks at a run once per second.
pub(crate) trait Watch {
    /// A second has passed (or more, if the run was busy elsewhere).
    fn see(&mut self, now: &Snapshot);

    /// The run is over: leave the screen in order.
    fn end(&mut self) {}
}

/// Looks at nothing.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Blind;

#[cfg(test)]
impl Watch for Blind {
    fn see(&mut self, _now: &Snapshot) {}
}

impl<W: Watch + ?Sized> Watch for Box<W> {
    fn see(&mut self, now: &Snapshot) {
        (**self).see(now);
    }

    fn end(&mut self) {
        (**self).end();
    }
}

impl<W: Watch> Watch for Vec<W> {
    fn see(&mut self, now: &Snapshot) {
        self.iter_mut().for_each(|watch| watch.see(now));
    }

    fn end(&mut self) {
        self.iter_mut().for_each(Watch::end);
    }
}

/// A run at one moment. Small enough to be sent through a channel each second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// Since the start of the run.
    pub(crate) at_ns: u64,
    /// How long `delta` took.
    pub(crate) interval_ns: u64,
    /// The stage that is under way.
    pub(crate) stage: String,
    /// How much of a stage's goal is reached and how much there is: connections, usually. `(0, 0)`: no such goal.
    pub(crate) progress: (u64, u64),
    /// Connections that are up.
    pub(crate) open: u64,
    /// Counts since the start.
    pub(crate) total: Counters,
    /// Counts of the last interval.
    pub(crate) delta: Counters,
    /// Violations found so far. Losses are known for sure only at the end.
    pub(crate) violations: Vec<(&'static str, u64)>,
    /// Failures by reason.
    pub(crate) failures: FailureCounts,
    /// Times of the last interval, for the legs that occurred in it.
    pub(crate) legs: Vec<LegNow>,
}

/// A leg in the last interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LegNow {
    pub(crate) leg: Leg,
    /// Corrected times.
    pub(crate) summary: Summary,
}

impl Snapshot {
    /// The times of a leg in the last interval.
    pub(crate) fn leg(&self, leg: Leg) -> Option<Summary> {
        self.legs.iter().find(|now| now.leg == leg).map(|now| now.summary)
    }
}
