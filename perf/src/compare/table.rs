//! The results as text, Markdown and JSON.

use std::fmt::Write as _;

use serde_json::json;

use super::Options;
use super::contender::Kind;
use super::machine::Machine;
use super::measure::Run;
use super::scenario::Scenario;
use super::verdict::{Figures, Judgement, Row};

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
pub(crate) fn text(machine: &Machine, rows: &[Row]) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("{}", headline(machine)));
    line(&mut text, format_args!(""));
    let [a, b, c, d, e, f] = COLUMNS;
    line(&mut text, format_args!("{a:<10} {b:<10} {c:>17} {d:>10} {e:>24} {f:>8}  bars"));
    for row in rows {
        for figures in &row.figures {
            let [cpu, rate, latency, bytes] = cells(figures);
            let bars = if figures.kind == Kind::Dunlin { bars(row) } else { String::new() };
            let name = row.scenario;
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
pub(crate) fn markdown(machine: &Machine, options: &Options, rows: &[Row]) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("# Side by side\n\n{}\n", headline(machine)));
    line(
        &mut text,
        format_args!(
            "`dunlin-perf compare --seconds {} -n {}`; contender on core {}, generator on core {}.\n",
            options.seconds, options.n, options.broker_core, options.generator_core
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

/// Everything as JSON.
pub(crate) fn json(machine: &Machine, options: &Options, rows: &[Row], runs: &[Run]) -> String {
    let value = json!({
        "machine": machine,
        "seconds": options.seconds,
        "repetitions": options.n,
        "rows": rows,
        "runs": runs,
    });
    let mut text = serde_json::to_string_pretty(&value).expect("strings, numbers and lists");
    text.push('\n');
    text
}

fn headline(machine: &Machine) -> String {
    format!(
        "{} ({} cores), {} GiB, Linux {}, commit {}, {}, load before {}",
        machine.cpu,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.commit,
        machine.mosquitto,
        machine.load_before
    )
}

/// Processor time, rate, latency, bytes.
fn cells(figures: &Figures) -> [String; 4] {
    let pair = figures.cpu_us_best.zip(figures.cpu_us_median);
    let mut cpu = pair.map_or_else(|| "-".to_owned(), |(best, median)| format!("{best:.2} / {median:.2}"));
    if figures.unclean > 0 {
        write!(cpu, " ({} of {} unclean)", figures.unclean, figures.runs)
            .expect("writing to a String can't fail");
    }
    let rate = figures.per_second_best.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
    let latency = match (figures.p50_us, figures.p99_us, figures.p99_9_us) {
        (Some(p50), Some(p99), Some(p99_9)) => format!("{p50:.0} / {p99:.0} / {p99_9:.0}"),
        _ => "-".to_owned(),
    };
    let bytes = figures.bytes_per_item.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0}"));
    [cpu, rate, latency, bytes]
}

fn bars(row: &Row) -> String {
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
