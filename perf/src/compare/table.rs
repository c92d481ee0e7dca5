//! The comparison with bars as text and Markdown.

use std::fmt::Write as _;

use super::verdict::{Figures, Judged, Judgement};
use crate::bench::Kind;
use crate::bench::results::Results;
use crate::bench::scenario::Scenario;

/// The scenarios and their bars.
pub(crate) fn list(scenarios: &[&'static Scenario]) -> String {
    let mut text = String::new();
    for scenario in scenarios {
        line(&mut text, format_args!("{:<10} {}", scenario.name, scenario.what));
        line(&mut text, format_args!("{:<10} dunlin-loadgen {}", "", scenario.arguments.join(" ")));
        for bar in scenario.bars {
            line(&mut text, format_args!("{:<10} {bar:?}", ""));
        }
    }
    text
}

/// The table for a terminal.
pub(crate) fn text(results: &Results, rows: &[Judged]) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("{}", headline(results)));
    line(&mut text, format_args!(""));
    let [a, b, c, d, e, f] = COLUMNS;
    line(&mut text, format_args!("{a:<10} {b:<10} {c:>17} {d:>10} {e:>24} {f:>8}  bars"));
    for row in rows {
        for figures in &row.figures {
            let [cpu, rate, latency, bytes] = cells(figures);
            let bars = if figures.kind == Kind::Dunlin { bars(row) } else { String::new() };
            let name = &row.scenario;
            line(
                &mut text,
                format_args!(
                    "{name:<10} {:<10} {cpu:>17} {rate:>10} {latency:>24} {bytes:>8}  {bars}",
                    figures.kind.to_string()
                ),
            );
        }
    }
    text
}

/// The table as a Markdown page.
pub(crate) fn markdown(results: &Results, rows: &[Judged]) -> String {
    let mut text = String::new();
    let conditions = &results.conditions;
    line(&mut text, format_args!("# Side by side\n\n{}\n", headline(results)));
    line(
        &mut text,
        format_args!(
            "`{}`; {} s each, {} times; contender on core {}, generator on core {}.\n",
            results.command,
            conditions.seconds,
            conditions.repetitions,
            conditions.broker_core,
            conditions.generator_core
        ),
    );
    let [a, b, c, d, e, f] = COLUMNS;
    line(
        &mut text,
        format_args!("| {a} | {b} | {c} | {d} | {e} | {f} | bars |\n|---|---|--:|--:|--:|--:|---|"),
    );
    for row in rows {
        for figures in &row.figures {
            let [cpu, rate, latency, bytes] = cells(figures);
            let bars = if figures.kind == Kind::Dunlin { bars(row) } else { String::new() };
            line(
                &mut text,
                format_args!(
                    "| {} | {} | {cpu} | {rate} | {latency} | {bytes} | {bars} |",
                    row.scenario, figures.kind
                ),
            );
        }
    }
    line(&mut text, format_args!(""));
    for row in rows {
        line(&mut text, format_args!("* `{}`: {}", row.scenario, row.what));
    }
    text
}

fn headline(results: &Results) -> String {
    let mut text = results.environment.headline();
    for who in results.contenders.iter().filter(|who| who.kind.is_rival()) {
        write!(text, ", {}", who.version).expect("writing to a String can't fail");
    }
    text
}

/// Processor time, rate, latency, bytes.
fn cells(figures: &Figures) -> [String; 4] {
    let dash = || "-".to_owned();
    let mut cpu = figures.cpu_us.map_or_else(dash, |cpu| format!("{:.2} / {:.2}", cpu.least, cpu.median));
    if figures.unclean > 0 {
        write!(cpu, " ({} of {} unclean)", figures.unclean, figures.runs)
            .expect("writing to a String can't fail");
    }
    let rate = figures.per_second.map_or_else(dash, |rate| format!("{:.0}", rate.most));
    let latency = match (figures.p50_us, figures.p99_us, figures.p99_9_us) {
        (Some(p50), Some(p99), Some(p99_9)) => {
            format!("{:.0} / {:.0} / {:.0}", p50.least, p99.least, p99_9.least)
        }
        _ => dash(),
    };
    let bytes = figures.bytes_per_item.map_or_else(dash, |bytes| format!("{:.0}", bytes.least));
    [cpu, rate, latency, bytes]
}

fn bars(row: &Judged) -> String {
    row.judgements.iter().map(judgement).collect::<Vec<_>>().join("; ")
}

fn judgement(judgement: &Judgement) -> String {
    let verdict = match judgement.met {
        Some(true) => "pass",
        Some(false) => "FAIL",
        None => return format!("{}: not measured", judgement.bar),
    };
    let measured = judgement.measured.unwrap_or_default();
    format!("{}: {measured:.2} {verdict}", judgement.bar)
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("writing to a String can't fail");
}

const COLUMNS: [&str; 6] =
    ["scenario", "contender", "CPU-us best/med", "per second", "p50/p99/p99.9 us", "B each"];
