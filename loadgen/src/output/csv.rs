//! Tables for spreadsheets: the run second by second, and the percentiles of each leg.

use std::fmt::Write as _;

use crate::record::{Counters, Leg, Outcome, Times};
use crate::report::micro;

/// One row per piece of time (a second, unless the run was long) and outcome. Times are corrected, in microseconds.
pub(crate) fn series(outcomes: &[Outcome]) -> String {
    let mut text = String::from("run,at_seconds,width_seconds,open");
    for (name, _) in Counters::default().rows() {
        text.push(',');
        text.push_str(name);
    }
    let legs = occurring(outcomes);
    for leg in &legs {
        let name = leg.name();
        push(&mut text, format_args!(",{name}_p50_us,{name}_p99_us,{name}_max_us"));
    }
    text.push('\n');
    for (number, outcome) in outcomes.iter().enumerate() {
        for point in outcome.series.points() {
            let run = run_name(outcomes, number);
            push(
                &mut text,
                format_args!("{run},{},{},{}", point.at_seconds, point.width_seconds, point.open),
            );
            for (_, count) in point.counters.rows() {
                push(&mut text, format_args!(",{count}"));
            }
            for leg in &legs {
                match point.times(*leg).as_ref().and_then(Times::summary) {
                    Some(times) => {
                        let (p50, p99, max) = (micro(times.p50_ns), micro(times.p99_ns), micro(times.max_ns));
                        push(&mut text, format_args!(",{p50:.3},{p99:.3},{max:.3}"));
                    }
                    None => text.push_str(",,,"),
                }
            }
            text.push('\n');
        }
    }
    text
}

/// One row per leg, kind of time and percentile: enough to draw the curve, with the count at or below each.
pub(crate) fn percentiles(outcomes: &[Outcome]) -> String {
    let mut text = String::from("run,leg,timing,percentile,value_us,count_at_or_below\n");
    for (number, outcome) in outcomes.iter().enumerate() {
        let run = run_name(outcomes, number);
        for (leg, times) in outcome.legs.iter() {
            for (timing, times) in [("corrected", &times.corrected), ("raw", &times.raw)] {
                for step in times.histogram().iter_quantiles(STEPS_PER_HALVING) {
                    let percentile = step.quantile_iterated_to() * 100.0;
                    let value = micro(step.value_iterated_to());
                    let below = times.histogram().count_between(0, step.value_iterated_to());
                    let leg = leg.name();
                    push(&mut text, format_args!("{run},{leg},{timing},{percentile},{value:.3},{below}\n"));
                }
            }
        }
    }
    text
}

/// The legs that occur in any of the outcomes, in their order.
pub(super) fn occurring(outcomes: &[Outcome]) -> Vec<Leg> {
    let occurs = |leg: &Leg| {
        outcomes.iter().any(|outcome| {
            outcome.legs.of(*leg).is_some_and(|times| times.corrected.samples() > 0)
                || outcome.series.points().iter().any(|point| point.legs().any(|other| other == *leg))
        })
    };
    Leg::ALL.into_iter().filter(occurs).collect()
}

/// The plan's name, with a number when several runs have the same one.
pub(super) fn run_name(outcomes: &[Outcome], number: usize) -> String {
    let name = &outcomes[number].plan.name;
    let name = if name.is_empty() { "run" } else { name };
    let alone =
        outcomes.iter().filter(|outcome| outcome.plan.name == outcomes[number].plan.name).count() == 1;
    let text = if alone { name.to_owned() } else { format!("{name} #{}", number + 1) };
    field(&text)
}

/// A field as RFC 4180 has it: in quotes when it has a comma, a quote or a line end.
pub(super) fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Writes to a text.
pub(super) fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("writing to a String can't fail");
}

/// Rows per halving of what is left up to 100 %.
const STEPS_PER_HALVING: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_the_columns_of_the_header() {
        let outcome = super::super::html::tests::sample("a, \"b\"");
        for text in [series(std::slice::from_ref(&outcome)), percentiles(std::slice::from_ref(&outcome))] {
            let mut lines = text.lines().map(|line| line.replace("\"a, \"\"b\"\"\"", "name"));
            let columns = lines.next().unwrap().split(',').count();
            let mut rows = 0;
            for line in lines {
                assert_eq!(line.split(',').count(), columns, "{line}");
                rows += 1;
            }
            assert!(rows > 5, "{text}");
        }
    }

    #[test]
    fn names_are_told_apart_and_quoted() {
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
        let two = [Outcome::default(), Outcome::default()];
        assert_eq!(run_name(&two, 1), "run #2");
    }
}
