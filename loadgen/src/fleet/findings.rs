//! What is told of violations and failures in words: the first few of each kind.

use std::collections::BTreeMap;

use crate::plan::{Behaviour, Check, Plan, Verify};
use crate::record::{Recorder, Violation};

/// Examples by kind, and what the plan does not ask for.
#[derive(Debug)]
pub(crate) struct Findings {
    examples: BTreeMap<Violation, Vec<String>>,
    /// Kinds that do not fail the run, and how often they were met.
    excused: BTreeMap<Violation, u64>,
    checks_connections: bool,
    excused_failures: u64,
}

impl Findings {
    /// Nothing found yet; tells the recorder what is looked for.
    pub(crate) fn new(plan: &Plan, recorder: &mut Recorder) -> Self {
        let verify = &plan.verify;
        let is_attacked =
            plan.groups.iter().any(|group| matches!(group.behaviour, Behaviour::Malformed { .. }));
        let mut excused = BTreeMap::new();
        for (check, kinds) in checks(verify) {
            // Where nothing malformed is sent nobody looks for this one.
            for kind in kinds.iter().filter(|kind| is_attacked || **kind != Violation::MalformedTolerated) {
                match check {
                    Check::On => recorder.violations().check(*kind),
                    Check::Off { why } => {
                        recorder.violations().leave_out(*kind, why.as_str());
                        excused.insert(*kind, 0);
                    }
                }
            }
        }
        Self {
            examples: BTreeMap::new(),
            excused,
            checks_connections: verify.connections.is_on(),
            excused_failures: 0,
        }
    }

    /// Counts violations; `what` says it in words if there is room for another example.
    pub(crate) fn violation(
        &mut self,
        kind: Violation,
        count: u64,
        recorder: &mut Recorder,
        what: impl FnOnce() -> String,
    ) {
        if let Some(excused) = self.excused.get_mut(&kind) {
            *excused += count;
            return;
        }
        recorder.violations().add(kind, count);
        let examples = self.examples.entry(kind).or_default();
        if examples.len() < EXAMPLES_MAX {
            examples.push(what());
        }
    }

    /// Counts a failure of a connection.
    pub(crate) fn connection(&mut self, reason: &str, what: impl std::fmt::Display, recorder: &mut Recorder) {
        if self.checks_connections {
            recorder.fail(reason, what);
        } else {
            self.excused_failures += 1;
        }
    }

    /// All examples in words, and what was met and did not count.
    pub(crate) fn notes(&self) -> Vec<String> {
        let examples = self.examples.iter().flat_map(|(kind, examples)| {
            examples.iter().map(move |example| format!("{}: {example}", kind.name()))
        });
        let met = self.excused.iter().filter(|(_, count)| **count > 0);
        let excused =
            met.map(|(kind, count)| format!("{count} {}, which the plan does not count", kind.meaning()));
        let failures = (self.excused_failures > 0).then(|| {
            format!("{} failures of connections, which the plan does not count", self.excused_failures)
        });
        examples.chain(excused).chain(failures).collect()
    }
}

/// Which kinds of violation each check of a plan is about.
fn checks(verify: &Verify) -> [(&Check, &'static [Violation]); 10] {
    [
        (&verify.loss, &[Violation::Lost]),
        (&verify.duplicates, &[Violation::Duplicated]),
        (&verify.order, &[Violation::Reordered]),
        (&verify.wrong_recipient, &[Violation::Misdelivered]),
        (&verify.corruption, &[Violation::Corrupted]),
        (&verify.stale_retained, &[Violation::StaleRetained, Violation::MissingRetained]),
        (&verify.shared_exactly_one, &[Violation::SharedTwice, Violation::SharedNever]),
        (&verify.wills, &[Violation::WillMissing, Violation::WillUnexpected]),
        (&verify.connections, &[Violation::SessionWrong]),
        (&verify.malformed, &[Violation::MalformedTolerated]),
    ]
}

/// Examples of each kind.
const EXAMPLES_MAX: usize = 3;
