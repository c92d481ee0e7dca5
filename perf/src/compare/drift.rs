//! An old result against a new one: which figures have changed, and which have only scattered.
//!
//! The test: the medians of the clean runs are compared. If they differ by no more than the tolerance, the figure
//! is the *same*. If they differ by more and an exact two-sided Mann-Whitney test of the single runs gives p ≤ 0.1,
//! it has *changed*; three runs on each side that do not overlap give just that. Else it is *noise*: more
//! repetitions would tell.

use std::fmt;
use std::fmt::Write as _;

use crate::bench::Kind;
use crate::bench::results::{Field, Results, Row, Spread};
use crate::bench::scenario::Measure;

/// A figure of a contender in a scenario, then and now.
#[derive(Debug)]
pub(crate) struct Change {
    scenario: String,
    pub(crate) kind: Kind,
    figure: &'static str,
    old: Option<Spread>,
    new: Option<Spread>,
    p: f64,
    verdict: Verdict,
}

/// What the test says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Better,
    Worse,
    Noise,
    /// There was a clean run then, and there is none now.
    Gone,
    /// There is one now, and there was none then.
    Fresh,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Same => "same",
            Self::Better => "changed: better",
            Self::Worse => "changed: WORSE",
            Self::Noise => "noise",
            Self::Gone => "GONE: no clean run now",
            Self::Fresh => "new",
        })
    }
}

impl Change {
    /// Whether it is a change for the worse that is not chance.
    pub(crate) fn is_regression(&self) -> bool {
        matches!(self.verdict, Verdict::Worse | Verdict::Gone)
    }

    fn cells(&self) -> [String; 7] {
        let spread = |spread: Option<Spread>| {
            spread.map_or_else(
                || "-".to_owned(),
                |spread| format!("{:.2} ±{:.0} %", spread.median, spread.share() * 50.0),
            )
        };
        let both = self.old.zip(self.new);
        let ratio =
            both.map_or_else(|| "-".to_owned(), |(old, new)| format!("{:.3}", new.median / old.median));
        [
            self.scenario.clone(),
            self.kind.to_string(),
            self.figure.to_owned(),
            spread(self.old),
            spread(self.new),
            ratio,
            if both.is_some() { format!("{:.2}", self.p) } else { "-".to_owned() },
        ]
    }
}

/// Compares every row that both have, and that one has lost or won.
pub(crate) fn changes(old: &Results, new: &Results, tolerance: f64) -> Vec<Change> {
    let mut all = Vec::new();
    for row in &old.rows {
        // A row that was not asked for now is not lost.
        if new.rows.iter().any(|other| other.name == row.name) {
            for kind in Kind::ALL {
                all.extend(figures_of(row).iter().filter_map(|(name, field)| {
                    let values = |results: &Results| results.values(&row.name, kind, *field);
                    change(row, kind, name, &[values(old), values(new)], tolerance)
                        .filter(|change| change.verdict != Verdict::Gone || took_part(new, &row.name, kind))
                }));
            }
        }
    }
    all
}

fn took_part(results: &Results, scenario: &str, kind: Kind) -> bool {
    results.outcomes(scenario, kind).next().is_some()
}

fn figures_of(row: &Row) -> &'static [(&'static str, Field)] {
    match row.measure {
        Measure::Cpu => &[("CPU-us", |outcome| outcome.cpu_us)],
        Measure::Latency => &[("p50 us", |outcome| outcome.p50_us), ("p99 us", |outcome| outcome.p99_us)],
        Measure::Memory => &[("B each", |outcome| outcome.bytes_per_item)],
    }
}

fn change(
    row: &Row,
    kind: Kind,
    figure: &'static str,
    [before, now]: &[Vec<f64>; 2],
    tolerance: f64,
) -> Option<Change> {
    let (old, new) = (Spread::of(before.clone()), Spread::of(now.clone()));
    let p = chance(before, now);
    let verdict = match (old, new) {
        (None, None) => return None,
        (Some(_), None) => Verdict::Gone,
        (None, Some(_)) => Verdict::Fresh,
        (Some(old), Some(new)) => {
            let ratio = new.median / old.median;
            if (ratio - 1.0).abs() <= tolerance {
                Verdict::Same
            } else if p > CHANCE_MAX {
                Verdict::Noise
            } else if ratio > 1.0 {
                Verdict::Worse
            } else {
                Verdict::Better
            }
        }
    };
    Some(Change { scenario: row.name.clone(), kind, figure, old, new, p, verdict })
}

/// The chance that two sets of runs of the same thing differ in rank as much as these: Mann-Whitney, two-sided, exact.
fn chance(before: &[f64], now: &[f64]) -> f64 {
    let (n, m) = (before.len().min(RUNS_MAX), now.len().min(RUNS_MAX));
    if n == 0 || m == 0 {
        return 1.0;
    }
    let (before, now) = (&before[..n], &now[..m]);
    // Pairs in which the new run is the larger one; a tie counts half, so all is counted twice.
    let pairs = before.iter().flat_map(|old| now.iter().map(move |new| old.total_cmp(new)));
    let twice: usize = pairs
        .map(|order| match order {
            std::cmp::Ordering::Less => 2,
            std::cmp::Ordering::Equal => 1,
            std::cmp::Ordering::Greater => 0,
        })
        .sum();
    let smaller = twice.min(2 * n * m - twice) / 2;
    let ways = ways(n, m);
    let all: f64 = ways.iter().sum();
    let extreme: f64 = ways.iter().take(smaller + 1).sum();
    (2.0 * extreme / all).min(1.0)
}

/// In how many orders of n and m runs the count of pairs is 0, 1, 2 …
fn ways(n: usize, m: usize) -> Vec<f64> {
    // The largest run of all is an old one, or a new one, which then is larger than all n old ones.
    let mut table = vec![vec![Vec::<f64>::new(); m + 1]; n + 1];
    for old in 0..=n {
        for new in 0..=m {
            let mut counts = vec![0.0; old * new + 1];
            if old == 0 || new == 0 {
                counts[0] = 1.0;
            } else {
                for (pairs, count) in table[old - 1][new].iter().enumerate() {
                    counts[pairs] += count;
                }
                for (pairs, count) in table[old][new - 1].iter().enumerate() {
                    counts[pairs + old] += count;
                }
            }
            table[old][new] = counts;
        }
    }
    table.pop().and_then(|mut last| last.pop()).unwrap_or_default()
}

/// The table for a terminal.
pub(crate) fn text(old: &Results, new: &Results, changes: &[Change]) -> String {
    let mut text = heading(old, new);
    let [a, b, c, d, e, f, g] = COLUMNS;
    line(&mut text, format_args!("{a:<10} {b:<10} {c:<7} {d:>16} {e:>16} {f:>7} {g:>5}  verdict"));
    for change in changes {
        let [a, b, c, d, e, f, g] = change.cells();
        let verdict = change.verdict;
        line(&mut text, format_args!("{a:<10} {b:<10} {c:<7} {d:>16} {e:>16} {f:>7} {g:>5}  {verdict}"));
    }
    text
}

/// The table as a Markdown page.
pub(crate) fn markdown(old: &Results, new: &Results, changes: &[Change]) -> String {
    let mut text = format!("# Old and new\n\n{}", heading(old, new));
    let columns = COLUMNS.join(" | ");
    line(&mut text, format_args!("| {columns} | verdict |\n|---|---|---|--:|--:|--:|--:|---|"));
    for change in changes {
        line(&mut text, format_args!("| {} | {} |", change.cells().join(" | "), change.verdict));
    }
    text
}

fn heading(old: &Results, new: &Results) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("old: {} {}", old.environment.date, old.environment.headline()));
    line(&mut text, format_args!("new: {} {}", new.environment.date, new.environment.headline()));
    let machine = |results: &Results| {
        let here = results.environment.clone();
        (here.cpu, here.cores, here.memory_gib, here.kernel, here.mitigations)
    };
    if machine(old) != machine(new) {
        line(
            &mut text,
            format_args!("These are two machines or two kernels: ratios between them say little."),
        );
    }
    if (old.conditions.seconds - new.conditions.seconds).abs() > f64::EPSILON {
        line(
            &mut text,
            format_args!("They measured for {} and {} s.", old.conditions.seconds, new.conditions.seconds),
        );
    }
    if old.conditions.repetitions.min(new.conditions.repetitions) < 3 {
        line(
            &mut text,
            format_args!(
                "With fewer than three runs on a side nothing can be told from noise; use -n 3 or more."
            ),
        );
    }
    line(
        &mut text,
        format_args!(
            "Look at the floor and at mosquitto first: what they show too is the machine's doing.\n"
        ),
    );
    text
}

fn line(text: &mut String, content: fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("writing to a String can't fail");
}

const COLUMNS: [&str; 7] = ["scenario", "contender", "figure", "old", "new", "ratio", "p"];
/// What is called chance.
const CHANCE_MAX: f64 = 0.1;
/// More runs than this are not looked at; the table of orders grows with their fourth power.
const RUNS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::results;

    fn verdicts(old: &[f64], new: &[f64]) -> Vec<Verdict> {
        let results =
            |values: &[f64]| results(&values.iter().map(|value| (Kind::Dunlin, *value)).collect::<Vec<_>>());
        changes(&results(old), &results(new), 0.05).iter().map(|change| change.verdict).collect()
    }

    #[test]
    fn the_chances_are_those_of_the_published_tables() {
        // Three against three that do not overlap: 2 of the 20 orders. Four against four: 2 of 70.
        assert!((chance(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]) - 0.1).abs() < 1e-12);
        assert!((chance(&[5.0, 6.0, 7.0, 8.0], &[1.0, 2.0, 3.0, 4.0]) - 2.0 / 70.0).abs() < 1e-12);
        // Five against five with U = 2: 2 × (1 + 1 + 2) of 252 orders.
        let p = chance(&[1.0, 2.0, 3.0, 4.0, 7.0], &[5.0, 6.0, 8.0, 9.0, 10.0]);
        assert!((p - 8.0 / 252.0).abs() < 1e-12, "{p}");
        assert!((chance(&[1.0], &[9.0]) - 1.0).abs() < 1e-12);
        assert!((chance(&[], &[9.0]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn small_differences_are_the_same_and_large_ones_need_runs_apart() {
        assert_eq!(verdicts(&[10.0, 10.1, 10.2], &[10.4, 10.5, 10.6]), [Verdict::Same]);
        assert_eq!(verdicts(&[10.0, 10.1, 10.2], &[12.0, 12.1, 12.2]), [Verdict::Worse]);
        assert_eq!(verdicts(&[10.0, 10.1, 10.2], &[8.0, 8.1, 8.2]), [Verdict::Better]);
        assert_eq!(verdicts(&[10.0, 10.1, 13.0], &[12.0, 12.1, 12.2]), [Verdict::Noise]);
        assert_eq!(verdicts(&[10.0], &[20.0]), [Verdict::Noise]);
    }

    #[test]
    fn a_row_without_a_clean_run_now_is_a_regression() {
        let old = results(&[(Kind::Dunlin, 10.0)]);
        let mut new = results(&[(Kind::Dunlin, 10.0)]);
        new.runs[0].outcome.clean = false;
        let found = changes(&old, &new, 0.05);
        assert!(found[0].is_regression(), "{found:?}");
        assert!(text(&old, &new, &found).contains("GONE"));
        // Who was not asked for now has lost nothing.
        assert!(changes(&results(&[(Kind::Floor, 1.0)]), &results(&[]), 0.05).is_empty());
    }

    #[test]
    fn the_tables_say_what_was_found() {
        let old = results(&[(Kind::Dunlin, 10.0), (Kind::Dunlin, 10.1), (Kind::Dunlin, 10.2)]);
        let new = results(&[(Kind::Dunlin, 12.0), (Kind::Dunlin, 12.1), (Kind::Dunlin, 12.2)]);
        let found = changes(&old, &new, 0.05);
        for page in [text(&old, &new, &found), markdown(&old, &new, &found)] {
            assert!(page.contains("1.198") && page.contains("WORSE"), "{page}");
        }
    }
}
