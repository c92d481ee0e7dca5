//! A recorder together with those who look on: what a scenario holds while it runs.

use super::{Outcome, Recorder, ResourcePoint, Watch};
use crate::clock::Nanos;
use crate::observe::Observer;

/// A recorder and its watchers.
pub(crate) struct Live {
    /// What is found.
    pub(crate) recorder: Recorder,
    watch: Box<dyn Watch>,
    observer: Option<Observer>,
    start: Nanos,
    observed_at_ns: u64,
}

impl Live {
    /// A run that starts at `start`. What `observer` sees of processes and kernel is recorded too.
    pub(crate) fn new(start: Nanos, watch: Box<dyn Watch>, observer: Option<Observer>) -> Self {
        Self { recorder: Recorder::new(start), watch, observer, start, observed_at_ns: 0 }
    }

    /// To be called once per turn; see [`Recorder::turn`].
    pub(crate) fn turn(&mut self, now: Nanos) {
        if self.recorder.turn(now, &mut *self.watch)
            && let Some(point) = self.observer.as_mut().and_then(Observer::latest)
            && point.at_ns > self.observed_at_ns
        {
            self.observed_at_ns = point.at_ns;
            self.recorder.observe(ResourcePoint::of(&point, self.start));
        }
    }

    /// Ends the run: those who look on are sent home, and what was found is given away.
    pub(crate) fn finish(&mut self, now: Nanos) -> Outcome {
        self.watch.end();
        std::mem::replace(&mut self.recorder, Recorder::new(now)).into_outcome(now)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Blind, Snapshot};
    use super::*;
    use crate::clock::SECOND_NS;
    use std::cell::Cell;
    use std::rc::Rc;

    struct Counting(Rc<Cell<(u32, bool)>>);

    impl Watch for Counting {
        fn see(&mut self, _now: &Snapshot) {
            self.0.set((self.0.get().0 + 1, false));
        }
        fn end(&mut self) {
            self.0.set((self.0.get().0, true));
        }
    }

    #[test]
    fn watchers_see_each_second_and_the_end() {
        let seen = Rc::new(Cell::new((0, false)));
        let watch: Vec<Box<dyn Watch>> = vec![Box::new(Blind), Box::new(Counting(Rc::clone(&seen)))];
        let mut live = Live::new(Nanos(0), Box::new(watch), None);
        for tenth in 0..=35 {
            live.turn(Nanos(tenth * SECOND_NS / 10));
        }
        let outcome = live.finish(Nanos(4 * SECOND_NS));
        assert_eq!((seen.get(), outcome.series.points().len()), ((3, true), 5));
    }
}
