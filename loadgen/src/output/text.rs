//! An outcome as a table for the terminal, and the rows that all summaries share.

use std::fmt::Write as _;

use super::figures::{bytes, clock, count, digits, rate, time};
use super::trials;
use crate::record::{Outcome, Stage, Summary};
use crate::report::ratio;

/// A line of a summary: what and how much.
pub(super) type Row = (String, String);

/// The table of one outcome.
pub(crate) fn table(outcome: &Outcome) -> String {
    let mut text = String::new();
    line(&mut text, "scenario", &outcome.plan.name);
    for (name, value) in rows(outcome) {
        line(&mut text, &name, &value);
    }
    // Those of a search are in the table of its trials.
    let stages: &[Stage] = if outcome.search.is_some() { &[] } else { &outcome.stages };
    for stage in stages {
        let measured = if stage.measured { "" } else { " (not measured)" };
        let seconds = digits(ratio(stage.length_ns(), 1_000_000_000));
        let counts = &stage.counters;
        let value = format!("{seconds} s, {} sent, {} delivered{measured}", counts.sent, counts.delivered);
        line(&mut text, &format!("stage {}", stage.name), &value);
    }
    for example in outcome.failures.examples() {
        line(&mut text, "", example);
    }
    for note in &outcome.notes {
        line(&mut text, "note", note);
    }
    if let Some(search) = &outcome.search {
        line(&mut text, "sought", &search.question);
        line(&mut text, "found", &search.answer);
        for figure in &search.figures {
            line(&mut text, &figure.name, &format!("{} {}", digits(figure.value), figure.unit));
        }
        text.push_str(&trials::lines(outcome));
    }
    line(&mut text, "verdict", outcome.verdict.word());
    for reason in outcome.verdict.reasons() {
        line(&mut text, "", reason);
    }
    text
}

/// Writes a line of a name and a value.
fn line(text: &mut String, name: &str, value: &str) {
    writeln!(text, "{name:<30} {value}").expect("writing to a String can't fail");
}

/// The figures that a summary has, in the order of interest. The same names for all runs, so that they can stand side by
/// side.
pub(super) fn rows(outcome: &Outcome) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    let measured = outcome.measured();
    let (sent, delivered) = outcome.rates();
    row("connections at most", count(open_max(outcome)));
    row("run, measured", format!("{}, {}", clock(outcome.length_ns()), clock(outcome.measured_ns())));
    if measured.sent > 0 || measured.delivered > 0 {
        row("messages sent", format!("{} ({}/s)", count(measured.sent), rate(sent)));
        row("messages delivered", format!("{} ({}/s)", count(measured.delivered), rate(delivered)));
        let share = 100.0 * ratio(measured.late, measured.sent);
        row("sent late (> 1 ms)", format!("{} ({} %)", count(measured.late), digits(share)));
    }
    for (leg, times) in outcome.legs.iter() {
        if let Some(summary) = times.corrected.summary() {
            row(leg.title(), spread(&summary));
        }
        if times.raw != times.corrected
            && let Some(raw) = times.raw.summary()
        {
            row(&format!("{}, raw", leg.title()), spread(&raw));
        }
    }
    resource_rows(outcome, &mut row);
    for figure in &outcome.figures {
        row(&figure.name, format!("{} {}", digits(figure.value), figure.unit));
    }
    if outcome.violations.found().count() > 0 {
        let looked = outcome.violations.found().map(|(kind, count)| format!("{} {count}", kind.name()));
        row("verified", looked.collect::<Vec<_>>().join("  "));
    }
    for (kind, why) in outcome.violations.unchecked() {
        row(&format!("not verified: {}", kind.name()), why.to_owned());
    }
    row("failures", count(outcome.failures.total()));
    rows
}

fn resource_rows(outcome: &Outcome, row: &mut impl FnMut(&str, String)) {
    let resources = &outcome.resources;
    let mut cpu = |name: &str, cores: Option<f64>, microseconds: Option<f64>| {
        if let Some(cores) = cores {
            let each =
                microseconds.map(|each| format!(", {} µs per message", digits(each))).unwrap_or_default();
            row(name, format!("{} cores{each}", digits(cores)));
        }
    };
    cpu("broker CPU", resources.broker_cores, resources.broker_cpu_us);
    cpu("generator CPU", resources.generator_cores, resources.generator_cpu_us);
    if let Some(memory) = &resources.per_connection {
        row("broker memory per connection", bytes(memory.broker_bytes));
        row("kernel memory per connection", format!("{} (both ends)", bytes(memory.kernel_bytes)));
        row("generator memory per connection", bytes(memory.generator_bytes));
    }
    for figure in &resources.figures {
        row(&figure.name, format!("{} {}", digits(figure.value), figure.unit));
    }
}

/// The most connections that were up at the end of any second.
pub(super) fn open_max(outcome: &Outcome) -> u64 {
    outcome.series.points().iter().map(|point| point.open).max().unwrap_or(0)
}

/// The figures of a distribution in a line.
pub(super) fn spread(summary: &Summary) -> String {
    let [p50, p99, p99_9, max] = [summary.p50_ns, summary.p99_ns, summary.p99_9_ns, summary.max_ns].map(time);
    format!("p50 {p50}  p99 {p99}  p99.9 {p99_9}  max {max}")
}

#[cfg(test)]
mod tests {
    use super::super::html::tests::sample;
    use super::*;

    #[test]
    fn the_table_says_what_matters() {
        let mut outcome = sample("p2p");
        assert!(table(&outcome).contains("sought") && !table(&outcome).contains("stage steady"));
        outcome.search = None;
        let text = table(&outcome);
        for word in [
            "p2p",
            "FAILED",
            "PUBLISH to delivery",
            "raw",
            "lost 2",
            "stage steady",
            "not verified: reordered",
        ] {
            assert!(text.contains(word), "{word} is missing in\n{text}");
        }
    }
}
