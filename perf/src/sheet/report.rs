//! What the record sheet says, as headings, paragraphs, tables and bars; `markdown.rs` and `html.rs` write it.

use crate::bench::Kind;
use crate::bench::results::{Field, Participant, Results, Row, Spread};
use crate::bench::scenario::{Measure, Scenario};
use crate::rivals;

/// A report.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) title: String,
    pub(crate) blocks: Vec<Block>,
}

/// A piece of a report. Texts may have `code` in them.
#[derive(Debug)]
pub(crate) enum Block {
    /// A heading, with the name of a row where it is one's.
    Heading(String),
    Text(String),
    List(Vec<String>),
    Table(Table),
    /// A figure of several contenders, to be drawn.
    Bars(Bars),
}

/// A table; the first column is on the left, the rest on the right unless they are `words`.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Columns from this one on hold words.
    pub(crate) words_from: usize,
}

/// A bar for each contender.
#[derive(Debug)]
pub(crate) struct Bars {
    pub(crate) unit: &'static str,
    pub(crate) bars: Vec<(Kind, Spread)>,
}

impl Report {
    /// The report of some results.
    pub(crate) fn of(results: &Results) -> Self {
        let mut blocks = vec![Block::Text(INTRODUCTION.to_owned())];
        blocks.extend(caveat(results));
        blocks.extend(environment(results));
        blocks.extend(contenders(results));
        blocks.extend(at_a_glance(results));
        for row in results.rows.iter().filter(|row| one_shard_of(&row.name).is_none()) {
            blocks.extend(row_blocks(results, row));
        }
        blocks.extend(two_shards(results));
        blocks.extend(joining());
        blocks.extend(method(results));
        Self { title: "Benchmarks".to_owned(), blocks }
    }
}

/// The scenarios of the sheet.
pub(crate) fn list(scenarios: &[&'static Scenario]) -> String {
    let mut text = String::new();
    for scenario in scenarios {
        let row = Row::from(*scenario);
        text.push_str(&format!(
            "{:<11} {}\n{:<11} dunlin-loadgen {}\n",
            row.name, row.what, "", row.arguments
        ));
    }
    for (name, with) in JOINING {
        text.push_str(&format!("{name:<11} joins with {with}\n"));
    }
    text
}

/// What weakens these results as a whole.
fn caveat(results: &Results) -> Option<Block> {
    let mut words = Vec::new();
    let load: f64 = results.environment.load_before.parse().unwrap_or(0.0);
    if load > QUIET_LOAD_MAX {
        words.push(format!("the machine was busy with other things (load {load} before the run)"));
    }
    if results.conditions.repetitions < 3 {
        words.push("with fewer than three repetitions nothing shows how far the figures scatter".to_owned());
    }
    let text = words.join(", and ");
    (!text.is_empty()).then(|| Block::Text(format!("**Rough figures**: {text}.")))
}

fn environment(results: &Results) -> Vec<Block> {
    let here = &results.environment;
    let pair = |name: &str, value: String| vec![name.to_owned(), value];
    let guest = if here.virtual_machine { ", a virtual machine" } else { "" };
    let mitigations =
        if here.mitigations.is_empty() { "none needed".to_owned() } else { here.mitigations.join("; ") };
    let rows = vec![
        pair("date", here.date.clone()),
        pair("processor", format!("{} ({} cores{guest})", here.cpu, here.cores)),
        pair("memory", format!("{} GiB", here.memory_gib)),
        pair("kernel", format!("Linux {}", here.kernel)),
        pair("mitigations", mitigations),
        pair("frequency governor", here.governor.clone()),
        pair("open files per process", here.open_files.clone()),
        pair("commit", format!("`{}`, {}", here.commit, here.rustc)),
        pair("load before the run", here.load_before.clone()),
        pair("command", format!("`{}`", results.command)),
    ];
    let head = vec![String::new(), String::new()];
    vec![Block::Heading("Environment".to_owned()), Block::Table(Table { head, rows, words_from: 1 })]
}

fn contenders(results: &Results) -> Vec<Block> {
    let row = |who: &Participant| {
        let file = rivals::configuration(who.kind).map_or_else(|| "–".to_owned(), |file| format!("`{file}`"));
        let remark = match &who.absent {
            Some(reason) => format!("**not installed**: {}", clean(reason)),
            None => rivals::remark(who.kind).to_owned(),
        };
        vec![who.kind.to_string(), who.version.clone(), file, remark]
    };
    let head = ["contender", "version", "configuration", ""].map(str::to_owned).to_vec();
    let rows = results.contenders.iter().map(row).collect();
    vec![Block::Heading("Contenders".to_owned()), Block::Table(Table { head, rows, words_from: 1 })]
}

/// The figure that a row is about, with its unit.
fn main_figure(row: &Row) -> (&'static str, Field) {
    match row.measure {
        Measure::Cpu => ("CPU-µs", |outcome| outcome.cpu_us),
        Measure::Latency => ("p99 µs", |outcome| outcome.p99_us),
        Measure::Memory => ("bytes each", |outcome| outcome.bytes_per_item),
    }
}

fn at_a_glance(results: &Results) -> Vec<Block> {
    let others: Vec<Kind> =
        results.contenders.iter().map(|who| who.kind).filter(|kind| *kind != Kind::Dunlin).collect();
    let mut head = vec!["row".to_owned(), "figure".to_owned(), "Dunlin".to_owned()];
    head.extend(others.iter().map(|kind| format!("÷ {kind}")));
    let mut rows = Vec::new();
    for row in results.rows.iter().filter(|row| one_shard_of(&row.name).is_none()) {
        let (unit, field) = main_figure(row);
        let dunlin = results.spread(&row.name, Kind::Dunlin, field);
        let mut cells =
            vec![format!("`{}`", row.name), unit.to_owned(), cell(dunlin.map(|spread| spread.median))];
        for kind in &others {
            let theirs = results.spread(&row.name, *kind, field);
            let ratio = dunlin.zip(theirs).map(|(mine, theirs)| mine.median / theirs.median);
            cells.push(match ratio {
                Some(ratio) => format!("{ratio:.2}"),
                None if results.flaw(&row.name, *kind).is_some() => "failed".to_owned(),
                None => "–".to_owned(),
            });
        }
        rows.push(cells);
    }
    let text = "Dunlin's median, and what it is of each other's: below 1 Dunlin needs less. `failed`: the contender lost \
                or refused something, and its own section says what. A dash: it does not take part.";
    vec![
        Block::Heading("At a glance".to_owned()),
        Block::Text(text.to_owned()),
        Block::Table(Table { head, rows, words_from: usize::MAX }),
    ]
}

fn row_blocks(results: &Results, row: &Row) -> Vec<Block> {
    let heading = format!("`{}`: {}", row.name, row.what);
    let mut blocks = vec![Block::Heading(heading)];
    let (unit, field) = main_figure(row);
    let columns = columns(row.measure);
    let mut head = vec!["contender".to_owned()];
    head.extend(columns.iter().map(|(name, _)| (*name).to_owned()));
    head.extend(["spread", "÷ floor", "Dunlin ÷ it"].map(str::to_owned));
    let floor = results.spread(&row.name, Kind::Floor, field);
    let dunlin = results.spread(&row.name, Kind::Dunlin, field);
    let (mut rows, mut bars, mut flaws) = (Vec::new(), Vec::new(), Vec::new());
    for who in &results.contenders {
        if let Some(flaw) = results.flaw(&row.name, who.kind) {
            flaws.push(format!("**{} failed** in {}", who.kind, clean(&flaw)));
        }
        flaws.extend(notes(results, &row.name, who.kind));
        let Some(main) = results.spread(&row.name, who.kind, field) else { continue };
        bars.push((who.kind, main));
        let mut cells = vec![who.kind.to_string()];
        let median = |field: Field| results.spread(&row.name, who.kind, field).map(|spread| spread.median);
        cells.extend(columns.iter().map(|(_, field)| cell(median(*field))));
        let is_single = results.values(&row.name, who.kind, field).len() < 2;
        cells.push(if is_single { "–".to_owned() } else { format!("{:.0} %", main.share() * 100.0) });
        let against = |theirs: Option<Spread>, is_itself: bool| match theirs {
            Some(theirs) if !is_itself => theirs.median,
            _ => f64::NAN,
        };
        cells.push(ratio(main.median / against(floor, who.kind == Kind::Floor)));
        cells.push(ratio(against(dunlin, who.kind == Kind::Dunlin) / main.median));
        rows.push(cells);
    }
    if !rows.is_empty() {
        blocks.push(Block::Table(Table { head, rows, words_from: usize::MAX }));
        blocks.push(Block::Bars(Bars { unit, bars }));
    }
    if !flaws.is_empty() {
        blocks.push(Block::List(flaws));
    }
    blocks
}

/// The columns of a row's table, medians all of them.
fn columns(measure: Measure) -> &'static [(&'static str, Field)] {
    match measure {
        Measure::Cpu => &[
            ("CPU-µs", |outcome| outcome.cpu_us),
            ("per second", |outcome| outcome.per_second),
            ("cores busy", |outcome| outcome.cores),
            ("generator CPU-µs", |outcome| outcome.generator_cpu_us),
        ],
        Measure::Latency => &[
            ("p50 µs", |outcome| outcome.p50_us),
            ("p99 µs", |outcome| outcome.p99_us),
            ("p99.9 µs", |outcome| outcome.p99_9_us),
            ("per second", |outcome| outcome.per_second),
            ("CPU-µs", |outcome| outcome.cpu_us),
        ],
        Measure::Memory => &[("bytes each", |outcome| outcome.bytes_per_item)],
    }
}

/// What the generator has noted about a contender's runs, each once.
fn notes(results: &Results, scenario: &str, kind: Kind) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for outcome in results.outcomes(scenario, kind) {
        let notes = outcome.report.pointer("/notes").and_then(serde_json::Value::as_array);
        for note in notes.into_iter().flatten().filter_map(serde_json::Value::as_str) {
            let text = format!("{kind}: {}", clean(note));
            // Notes with figures differ from run to run; one is enough.
            let is_known = all.iter().any(|known| letters(known) == letters(&text));
            if !is_known {
                all.push(text);
            }
        }
    }
    all
}

fn letters(text: &str) -> String {
    text.chars().filter(|letter| letter.is_alphabetic()).collect()
}

/// The row with one shard that a row with two is held against.
fn one_shard_of(name: &str) -> Option<&'static str> {
    TWO_SHARDS.iter().find(|(two, ..)| *two == name).map(|(_, one, ..)| *one)
}

fn two_shards(results: &Results) -> Vec<Block> {
    let field: Field = |outcome| outcome.cpu_us;
    let mut rows = Vec::new();
    for (two, one, share, what) in TWO_SHARDS {
        let median = |name: &str| results.spread(name, Kind::Dunlin, field).map(|spread| spread.median);
        let Some(with_two) = median(two) else { continue };
        let with_one = median(one);
        let difference = with_one.map(|with_one| with_two - with_one);
        let signed =
            |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:+.2}"));
        rows.push(vec![
            format!("`{two}`"),
            cell(with_one),
            cell(Some(with_two)),
            signed(difference),
            signed(difference.map(|difference| difference / share)),
            what.to_owned(),
        ]);
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let head =
        ["row", "one shard, CPU-µs", "two shards, CPU-µs", "difference", "CPU-µs for each", "of these"];
    let head = head.map(str::to_owned).to_vec();
    vec![
        Block::Heading("Two shards on two cores".to_owned()),
        Block::Text(TWO_SHARDS_TEXT.to_owned()),
        Block::Table(Table { head, rows, words_from: 5 }),
    ]
}

fn joining() -> Vec<Block> {
    let items = JOINING.iter().map(|(name, with)| format!("{name}: joins with {with}")).collect();
    vec![Block::Heading("Rows that are not here yet".to_owned()), Block::List(items)]
}

fn method(results: &Results) -> Vec<Block> {
    let conditions = &results.conditions;
    let text = format!(
        "Each contender is started fresh for each run, on core {}, with the generator on core {}; all contenders of a row run \
         one after the other, then the next row, and all of it {}. A run is {} s after {} s of warm-up, unless the \
         scenario ends by itself. Tables have medians of the clean repetitions; spread is from the least to the most, as a \
         share of the median. A run in which the generator's oracle found a message lost, repeated, reordered, misdelivered, \
         damaged or stale, or in which a connection failed, is no result. CPU-µs are the exact run time of the contender's \
         threads per delivered message, connection or subscription; latency is counted from the intended time of sending. \
         The rate is what the pair of contender and generator reached; `cores busy` says how much of the contender's core that \
         took. HALF is half of the contender's own median rate in `p2p0`. What makes these numbers honest is in \
         `perf/README.md`. The generator was run as:",
        conditions.broker_core,
        conditions.generator_core,
        times(conditions.repetitions),
        conditions.seconds,
        conditions.warm_up_seconds,
    );
    let items = results.rows.iter().map(|row| format!("`{}`: `dunlin-loadgen {}`", row.name, row.arguments));
    vec![Block::Heading("How it was measured".to_owned()), Block::Text(text), Block::List(items.collect())]
}

fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// A figure with as many digits as it has meaning.
fn cell(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() < 100.0 => format!("{value:.2}"),
        Some(value) => grouped(value),
    }
}

/// A whole number with commas between thousands.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        let left = digits.len() - index;
        if index > 0 && left.is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn ratio(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}") } else { "–".to_owned() }
}

/// Text of others in a table: on one line, without what would end a cell.
fn clean(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut line = words.join(" ").replace('|', "/").replace('`', "'");
    if let Some((end, _)) = line.char_indices().nth(WORDS_MAX) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// A machine that is busier than this before the run is not quiet.
const QUIET_LOAD_MAX: f64 = 0.5;
/// Characters of others' words in a report; the JSON has all of them.
const WORDS_MAX: usize = 240;

const INTRODUCTION: &str = "Dunlin, the floor tool (the same sockets, sizes and pattern without MQTT) and the brokers that this host can \
    install, in turn, with the same generator, one core for the broker and one for the generator. Ratios hold between machines \
    better than times do; compare times of one machine only.";

const TWO_SHARDS_TEXT: &str = "What another core costs. With two shards half of the messages, copies and connections of a random client \
    belong to the other shard: a message crosses a lane once for each shard that wants it, and a connection is handed to its \
    home after CONNECT. The generator shares the two cores, so rates mean nothing here and processor time is the figure; as \
    shards wait for their core while the generator runs, they also work in larger batches, which makes single messages \
    cheaper.";

/// Rows with two shards: the row with one, the share of units that cross, and what crosses.
const TWO_SHARDS: [(&str, &str, f64, &str); 3] = [
    ("p2p0x2", "p2p0", 0.5, "message to a subscriber of the other shard"),
    ("fanout0x2", "fanout0", 0.001, "message to 500 of 1,000 subscribers on the other shard, once"),
    ("connect2", "connect", 0.5, "handoff of a connection to its home"),
];

/// Rows that need what has not landed.
const JOINING: [(&str, &str); 4] = [
    ("idle and connect over TLS", "TLS listeners"),
    ("idle over WebSocket", "WebSocket listeners"),
    (
        "QoS 1 stored on disk, one and three replicas",
        "sessions and messages that survive a restart, and the cluster",
    ),
    ("2,000,000 connections", "the proof of its own, which takes longer than a row"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::results;
    use crate::sheet::{html, markdown};

    fn pages(results: &Results) -> [String; 2] {
        let report = Report::of(results);
        [markdown::text(&report), html::text(&report)]
    }

    #[test]
    fn medians_and_ratios_are_in_both_reports() {
        let runs = [(Kind::Dunlin, 6.0), (Kind::Dunlin, 8.0), (Kind::Mosquitto, 14.0), (Kind::Floor, 3.5)];
        for page in pages(&results(&runs)) {
            // Medians 7, 14 and 3.5: half of mosquitto, twice the floor.
            for text in ["7.00", "14.00", "3.50", "0.50", "2.00", "29 %", "point to point QoS 0"] {
                assert!(page.contains(text), "{text} in {page}");
            }
        }
    }

    #[test]
    fn who_fails_or_is_absent_is_shown_with_the_reason() {
        let mut results = results(&[(Kind::Dunlin, 6.0), (Kind::Aedes, 9.0)]);
        results.runs[1].outcome.clean = false;
        results.runs[1].outcome.report = serde_json::json!({ "violations": { "lost": 7 } });
        results.contenders[3].absent = Some("cargo failed: error: no `network` | here".to_owned());
        for page in pages(&results) {
            assert!(page.contains("aedes failed") && page.contains("1 of 1: lost 7"), "{page}");
            assert!(page.contains("not installed") && page.contains("no 'network' / here"), "{page}");
        }
    }

    #[test]
    fn a_busy_machine_and_single_runs_are_admitted() {
        let mut results = results(&[(Kind::Dunlin, 6.0)]);
        assert!(pages(&results).iter().all(|page| !page.contains("Rough figures")));
        results.environment.load_before = "3.42".to_owned();
        results.conditions.repetitions = 1;
        for page in pages(&results) {
            assert!(page.contains("load 3.42") && page.contains("fewer than three"), "{page}");
        }
    }

    #[test]
    fn the_price_of_another_core_is_what_crosses() {
        let mut results = results(&[(Kind::Dunlin, 6.0), (Kind::Dunlin, 7.5)]);
        let two = Scenario::named("p2p0x2").map(Row::from).unwrap();
        results.rows.push(two);
        results.runs[1].scenario = "p2p0x2".to_owned();
        for page in pages(&results) {
            assert!(page.contains("+1.50") && page.contains("+3.00"), "{page}");
        }
    }

    #[test]
    fn each_row_with_two_shards_has_one_with_one() {
        for (two, one, ..) in TWO_SHARDS {
            assert!(Scenario::named(two).is_some() && Scenario::named(one).is_some());
            assert_eq!(one_shard_of(two), Some(one));
        }
    }

    #[test]
    fn figures_are_grouped() {
        for (value, text) in [(1.234, "1.23"), (123.4, "123"), (1_234.0, "1,234"), (1_234_567.0, "1,234,567")]
        {
            assert_eq!(cell(Some(value)), text);
        }
        assert_eq!((cell(None), grouped(-123_456.0)), ("–".to_owned(), "-123,456".to_owned()));
    }
}
