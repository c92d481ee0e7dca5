//! What each benchmark cost when it was last accepted, and whether it still does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// The accepted counts. A commit of its own changes them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// The compiler and the kind of machine that they were counted with.
    pub(crate) compiler: String,
    /// By benchmark.
    pub(crate) benchmarks: BTreeMap<String, Accepted>,
}

/// What one benchmark may cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Accepted {
    /// Instructions per operation.
    pub(crate) instructions: f64,
    /// Share by which the count may differ, either way.
    pub(crate) tolerance: f64,
}

/// How a count compares with what was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    Same,
    /// More than the tolerance allows.
    Dearer,
    /// Less than the tolerance allows: good, and the baseline must follow or the gain may be lost unseen.
    Cheaper,
    /// Not in the baseline.
    New,
    /// In the baseline, and no longer counted.
    Gone,
}

/// One line of the comparison.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// `None`: the benchmark is gone.
    pub(crate) now: Option<f64>,
    pub(crate) accepted: Option<Accepted>,
    pub(crate) finding: Finding,
}

impl Baseline {
    /// Compares counts, in their order; what is gone comes last.
    pub(crate) fn compare(&self, counts: &[(String, f64)]) -> Vec<Line> {
        let counted = counts.iter().map(|(name, now)| {
            let accepted = self.benchmarks.get(name).copied();
            Line { name: name.clone(), now: Some(*now), accepted, finding: finding(*now, accepted) }
        });
        let gone =
            self.benchmarks.iter().filter(|(name, _)| !counts.iter().any(|(counted, _)| counted == *name));
        let gone = gone.map(|(name, accepted)| Line {
            name: name.clone(),
            now: None,
            accepted: Some(*accepted),
            finding: Finding::Gone,
        });
        counted.chain(gone).collect()
    }

    /// Takes counts over. A benchmark keeps its tolerance; a new one gets [`TOLERANCE`]. `all`: what was not counted goes.
    pub(crate) fn record(&mut self, compiler: String, counts: &[(String, f64)], all: bool) {
        self.compiler = compiler;
        if all {
            self.benchmarks.retain(|name, _| counts.iter().any(|(counted, _)| counted == name));
        }
        for (name, now) in counts {
            let tolerance = self.benchmarks.get(name).map_or(TOLERANCE, |accepted| accepted.tolerance);
            let accepted = Accepted { instructions: (now * 10.0).round() / 10.0, tolerance };
            self.benchmarks.insert(name.clone(), accepted);
        }
    }
}

fn finding(now: f64, accepted: Option<Accepted>) -> Finding {
    let Some(accepted) = accepted else { return Finding::New };
    let allowed = accepted.instructions * accepted.tolerance;
    if now > accepted.instructions + allowed {
        Finding::Dearer
    } else if now < accepted.instructions - allowed {
        Finding::Cheaper
    } else {
        Finding::Same
    }
}

/// The table for a terminal.
pub(crate) fn table(lines: &[Line]) -> String {
    let mut text =
        format!("{:<42} {:>12} {:>12} {:>9}\n", "instructions per operation", "accepted", "now", "change");
    for line in lines {
        let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        let accepted = line.accepted.map(|accepted| accepted.instructions);
        let change = line.now.zip(accepted).filter(|(_, accepted)| *accepted > 0.0);
        let change = change
            .map_or_else(String::new, |(now, accepted)| format!("{:+.2} %", (now / accepted - 1.0) * 100.0));
        let word = match line.finding {
            Finding::Same => "",
            Finding::Dearer => "  DEARER",
            Finding::Cheaper => "  cheaper",
            Finding::New => "  new",
            Finding::Gone => "  gone",
        };
        writeln!(
            text,
            "{:<42} {:>12} {:>12} {change:>9}{word}",
            line.name,
            figure(accepted),
            figure(line.now)
        )
        .expect("writing to a String can't fail");
    }
    text
}

/// A count may differ by this share unless the baseline says otherwise.
const TOLERANCE: f64 = 0.02;

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline() -> Baseline {
        let mut baseline = Baseline::default();
        baseline.record("rustc 1".to_owned(), &[("a".to_owned(), 100.0), ("b".to_owned(), 50.0)], true);
        baseline
    }

    fn findings(counts: &[(&str, f64)]) -> Vec<Finding> {
        let counts: Vec<(String, f64)> =
            counts.iter().map(|(name, now)| ((*name).to_owned(), *now)).collect();
        baseline().compare(&counts).iter().map(|line| line.finding).collect()
    }

    #[test]
    fn more_than_two_percent_either_way_is_found() {
        use Finding::{Cheaper, Dearer, Same};
        assert_eq!(findings(&[("a", 102.0), ("b", 49.0)]), [Same, Same]);
        assert_eq!(findings(&[("a", 102.1), ("b", 48.9)]), [Dearer, Cheaper]);
    }

    #[test]
    fn new_and_gone_benchmarks_are_found() {
        assert_eq!(findings(&[("a", 100.0), ("c", 1.0)]), [Finding::Same, Finding::New, Finding::Gone]);
    }

    #[test]
    fn recording_keeps_tolerances_and_forgets_what_is_gone_only_when_all_were_counted() {
        let mut baseline = baseline();
        baseline.benchmarks.get_mut("a").unwrap().tolerance = 0.1;
        baseline.record("rustc 2".to_owned(), &[("a".to_owned(), 7.04)], false);
        assert_eq!(baseline.benchmarks["a"], Accepted { instructions: 7.0, tolerance: 0.1 });
        assert_eq!(baseline.benchmarks.len(), 2);
        baseline.record("rustc 2".to_owned(), &[("a".to_owned(), 7.0)], true);
        assert_eq!(baseline.benchmarks.len(), 1);
    }

    #[test]
    fn the_table_shows_what_has_changed() {
        let text = table(&baseline().compare(&[("a".to_owned(), 110.0), ("b".to_owned(), 50.0)]));
        assert!(text.contains("DEARER") && text.contains("+10.00 %"), "{text}");
    }
}
