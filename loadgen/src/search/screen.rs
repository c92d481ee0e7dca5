//! The runs of a search as one, for those who look on: one clock, counts that go on growing, and the run's number in the stage.

use std::cell::RefCell;
use std::rc::Rc;

use crate::record::{Counters, FailureCounts, Outcome, Snapshot, Watch};

/// Those who look on, from the first run to the last.
#[derive(Clone)]
pub(crate) struct Screen(Rc<RefCell<Shown>>);

struct Shown {
    watch: Box<dyn Watch>,
    /// What the runs that are over have counted.
    counters: Counters,
    failures: FailureCounts,
    violations: Vec<(&'static str, u64)>,
}

impl Screen {
    /// Nothing has been run yet.
    pub(crate) fn new(watch: Box<dyn Watch>) -> Self {
        Self(Rc::new(RefCell::new(Shown {
            watch,
            counters: Counters::default(),
            failures: FailureCounts::default(),
            violations: Vec::new(),
        })))
    }

    /// Looks at the run that begins now, `at_ns` after the first one, under this title.
    pub(crate) fn of_run(&self, at_ns: u64, title: String) -> Box<dyn Watch> {
        Box::new(RunScreen { shown: Rc::clone(&self.0), at_ns, title })
    }

    /// A run is over.
    pub(crate) fn keep(&self, outcome: &Outcome) {
        let mut shown = self.0.borrow_mut();
        shown.counters.merge(&outcome.counters);
        shown.failures.merge(&outcome.failures);
        let found = outcome.violations.found().map(|(kind, count)| (kind.name(), count));
        add(&mut shown.violations, found);
    }
}

/// One run on the screen.
struct RunScreen {
    shown: Rc<RefCell<Shown>>,
    at_ns: u64,
    title: String,
}

impl Watch for RunScreen {
    fn see(&mut self, now: &Snapshot) {
        let shown = &mut *self.shown.borrow_mut();
        let mut whole = now.clone();
        whole.at_ns = whole.at_ns.saturating_add(self.at_ns);
        whole.stage = format!("{}, {}", self.title, now.stage);
        whole.total.merge(&shown.counters);
        whole.failures.merge(&shown.failures);
        add(&mut whole.violations, shown.violations.iter().copied());
        shown.watch.see(&whole);
    }

    fn end(&mut self) {
        self.shown.borrow_mut().watch.end();
    }
}

/// Adds counts by name.
fn add(counts: &mut Vec<(&'static str, u64)>, more: impl Iterator<Item = (&'static str, u64)>) {
    for (name, count) in more {
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += count,
            None => counts.push((name, count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Violation;

    #[derive(Clone, Default)]
    struct Seen(Rc<RefCell<Vec<Snapshot>>>);

    impl Watch for Seen {
        fn see(&mut self, now: &Snapshot) {
            self.0.borrow_mut().push(now.clone());
        }
    }

    #[test]
    fn counts_and_the_clock_go_on_from_run_to_run() {
        let seen = Seen::default();
        let screen = Screen::new(Box::new(seen.clone()));
        let counters = Counters { sent: 10, ..Counters::default() };
        let now = Snapshot {
            at_ns: 5,
            stage: "measuring".to_owned(),
            total: counters,
            violations: vec![("lost", 1)],
            ..Snapshot::default()
        };
        screen.of_run(0, "run 1".to_owned()).see(&now);
        let mut outcome = Outcome { counters, ..Outcome::default() };
        outcome.violations.add(Violation::Lost, 2);
        outcome.failures.note("closed", "connection 3");
        screen.keep(&outcome);
        screen.of_run(1_000, "run 2".to_owned()).see(&now);
        let seen = seen.0.borrow();
        assert_eq!((seen[0].at_ns, seen[0].total.sent, seen[0].failures.total()), (5, 10, 0));
        assert_eq!((seen[1].at_ns, seen[1].total.sent, seen[1].failures.total()), (1_005, 20, 1));
        assert_eq!(seen[1].violations, [("lost", 3)]);
        assert_eq!(seen[1].stage, "run 2, measuring");
    }
}
