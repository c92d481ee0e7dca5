//! The parts of the page around the plots: what it comes to, and the tables.

use std::fmt::Write as _;

use super::figures::{bytes, count, date, digits, rate, time};
use super::html::Escaped;
use super::markdown::name;
use super::text::{open_max, rows};
use super::trials;
use crate::record::{Leg, Outcome, Verdict};
use crate::report::ratio;

/// The head of the page: names, verdicts with their reasons, when and where.
pub(super) fn head(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for (number, outcome) in outcomes.iter().enumerate() {
        let dot =
            if outcomes.len() > 1 { format!("<i class=\"dot c{}\"></i>", number % 6) } else { String::new() };
        let (name, about) = (name(outcomes, number), &outcome.plan.about);
        push(&mut text, format_args!("<div class=\"run\"><h1>{dot}{}</h1>", Escaped(&name)));
        if !about.is_empty() {
            push(&mut text, format_args!("<p class=\"about\">{}</p>", Escaped(about)));
        }
        let (class, word) = (class(&outcome.verdict), outcome.verdict.word());
        push(&mut text, format_args!("<p class=\"verdict {class}\">{word}</p>"));
        list(&mut text, "reasons", outcome.verdict.reasons());
        let environment = &outcome.environment;
        let started = date(environment.started_unix_ms);
        push(
            &mut text,
            format_args!("<p class=\"when\">{started} · {}</p></div>", Escaped(&environment.host)),
        );
    }
    text
}

/// The figures that one wants to see first.
pub(super) fn tiles(outcome: &Outcome) -> String {
    let mut text = String::from("<section class=\"tiles\">");
    let mut tile = |value: &str, name: &str, class: &str| {
        let (value, name) = (Escaped(value), Escaped(name));
        push(&mut text, format_args!("<div class=\"tile {class}\"><b>{value}</b><span>{name}</span></div>"));
    };
    tile(&count(open_max(outcome)), "connections at most", "");
    let (_, delivered) = outcome.rates();
    if delivered > 0.0 {
        tile(&format!("{}/s", rate(delivered)), "delivered", "");
    }
    let main = [Leg::Deliver, Leg::ConnAck, Leg::TcpConnect].into_iter().find_map(|leg| {
        let summary = outcome.legs.of(leg)?.corrected.summary()?;
        Some((leg, summary))
    });
    if let Some((leg, times)) = main {
        let figures =
            [("p50", times.p50_ns), ("p99", times.p99_ns), ("p99.9", times.p99_9_ns), ("max", times.max_ns)];
        for (title, value) in figures {
            tile(&time(value), &format!("{title}, {}", leg.title()), "");
        }
    }
    let found = outcome.violations.total();
    tile(&count(found), "violations", if found > 0 { "bad" } else { "" });
    if let Some(each) = outcome.resources.broker_cpu_us {
        tile(&format!("{} µs", digits(each)), "broker CPU per message", "");
    }
    if let Some(memory) = &outcome.resources.per_connection {
        tile(&bytes(memory.broker_bytes), "broker memory per connection", "");
        tile(&bytes(memory.kernel_bytes), "kernel memory per connection", "");
    }
    text.push_str("</section>\n");
    text
}

/// The summaries of several outcomes side by side.
pub(super) fn comparison(outcomes: &[Outcome]) -> String {
    let columns: Vec<_> = outcomes.iter().map(rows).collect();
    let mut titles: Vec<&str> = Vec::new();
    for (title, _) in columns.iter().flatten() {
        if !titles.contains(&title.as_str()) {
            titles.push(title);
        }
    }
    let heads: Vec<String> = (0..outcomes.len()).map(|number| name(outcomes, number)).collect();
    let heads = std::iter::once(String::new()).chain(heads);
    let body = titles.into_iter().map(|title| {
        let values = columns.iter().map(|column| {
            let value = column.iter().find(|(name, _)| name == title).map_or("–", |(_, value)| value);
            value.to_owned()
        });
        std::iter::once(title.to_owned()).chain(values).collect()
    });
    section("Side by side", &table(heads, body))
}

/// The tables of one outcome.
pub(super) fn details(outcome: &Outcome) -> String {
    let mut text = legs(outcome);
    text.push_str(&verification(outcome));
    text.push_str(&stages(outcome));
    text.push_str(&search(outcome));
    if !outcome.notes.is_empty() {
        let mut notes = String::new();
        list(&mut notes, "notes", &outcome.notes);
        text.push_str(&section("Notes", &notes));
    }
    text.push_str(&environment(outcome));
    text
}

fn legs(outcome: &Outcome) -> String {
    let heads = ["", "timing", "samples", "p50", "p90", "p99", "p99.9", "p99.99", "p99.999", "max"];
    let mut body = Vec::new();
    for (leg, times) in outcome.legs.iter() {
        for (timing, times) in [("corrected", &times.corrected), ("raw", &times.raw)] {
            let Some(s) = times.summary() else { continue };
            let mut row = vec![leg.title().to_owned(), timing.to_owned(), count(s.samples)];
            let figures = [s.p50_ns, s.p90_ns, s.p99_ns, s.p99_9_ns, s.p99_99_ns, s.p99_999_ns, s.max_ns];
            row.extend(figures.into_iter().map(time));
            body.push(row);
        }
    }
    if body.is_empty() { String::new() } else { section("Times", &table(own(&heads), body.into_iter())) }
}

fn verification(outcome: &Outcome) -> String {
    let mut text = String::from(
        "<div class=\"wide\"><table><thead><tr><th>kind</th><th>found</th><th class=\"left\">what it is</th></tr></thead><tbody>",
    );
    let mut any = false;
    for (kind, found) in outcome.violations.found() {
        any = true;
        let class = if found > 0 { "bad" } else { "good" };
        let (name, meaning, found) = (kind.name(), kind.meaning(), count(found));
        push(
            &mut text,
            format_args!(
                "<tr><td>{name}</td><td class=\"{class}\">{found}</td><td class=\"left\">{meaning}</td></tr>"
            ),
        );
    }
    for (kind, why) in outcome.violations.unchecked() {
        any = true;
        let (name, why) = (kind.name(), Escaped(why));
        push(
            &mut text,
            format_args!(
                "<tr><td>{name}</td><td class=\"off\">not looked for</td><td class=\"left\">{why}</td></tr>"
            ),
        );
    }
    for (reason, times) in outcome.failures.by_reason() {
        any = true;
        let (reason, times) = (Escaped(reason), count(times));
        push(
            &mut text,
            format_args!(
                "<tr><td>failure</td><td class=\"bad\">{times}</td><td class=\"left\">{reason}</td></tr>"
            ),
        );
    }
    text.push_str("</tbody></table></div>");
    list(&mut text, "notes", outcome.failures.examples());
    if any { section("Verification", &text) } else { String::new() }
}

fn stages(outcome: &Outcome) -> String {
    let heads = [
        "",
        "measured",
        "seconds",
        "sent",
        "late",
        "acknowledged",
        "delivered",
        "connects",
        "disconnects",
        "p99 of delivery",
    ];
    let body = outcome.stages.iter().map(|stage| {
        let counts = &stage.counters;
        let mut row = vec![stage.name.clone(), if stage.measured { "yes" } else { "no" }.to_owned()];
        row.push(digits(ratio(stage.length_ns(), 1_000_000_000)));
        let counts = [
            counts.sent,
            counts.late,
            counts.acknowledged,
            counts.delivered,
            counts.connects,
            counts.disconnects,
        ];
        row.extend(counts.map(count));
        let p99 = stage.legs.of(Leg::Deliver).and_then(|times| times.corrected.summary());
        row.push(p99.map_or_else(|| "–".to_owned(), |summary| time(summary.p99_ns)));
        row
    });
    section("Stages", &table(own(&heads), body))
}

fn search(outcome: &Outcome) -> String {
    let Some(search) = &outcome.search else { return String::new() };
    let mut text = String::new();
    let (question, answer) = (Escaped(&search.question), Escaped(&search.answer));
    push(&mut text, format_args!("<p>{question}</p><p><b>{answer}</b></p>"));
    let figures = search
        .figures
        .iter()
        .map(|figure| vec![figure.name.clone(), format!("{} {}", digits(figure.value), figure.unit)]);
    text.push_str(&table(own(&["", ""]), figures));
    text.push_str(&table(own(&trials::HEADS), search.trials.iter().map(trials::row)));
    section("Search", &text)
}

fn environment(outcome: &Outcome) -> String {
    let environment = &outcome.environment;
    let mut text = String::from("<dl>");
    let mut item = |name: &str, value: &str| {
        if !value.is_empty() {
            push(&mut text, format_args!("<dt>{}</dt><dd>{}</dd>", Escaped(name), Escaped(value)));
        }
    };
    for (name, value) in &outcome.plan.parameters {
        item(name, value);
    }
    item("broker process", &environment.broker);
    item("generator", &environment.tool);
    item("processor", &format!("{} ({} cores)", environment.cpu, environment.cores));
    item("memory of the host", &bytes(ratio(environment.memory_bytes, 1)));
    item("kernel", &environment.kernel);
    item("seed", &environment.seed.to_string());
    for (name, value) in &environment.more {
        item(name, value);
    }
    push(&mut text, format_args!("</dl><h3>To repeat it</h3><pre>{}</pre>", Escaped(&environment.command)));
    if let Some(plan) = &outcome.plan.text {
        push(
            &mut text,
            format_args!(
                "<details><summary>The scenario file</summary><pre>{}</pre></details>",
                Escaped(plan)
            ),
        );
    }
    section("Where and how", &text)
}

fn section(title: &str, body: &str) -> String {
    format!("<section><h2>{title}</h2>{body}</section>\n")
}

fn own(words: &[&str]) -> impl Iterator<Item = String> {
    words.iter().map(|word| (*word).to_owned())
}

fn table(heads: impl Iterator<Item = String>, body: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = String::from("<div class=\"wide\"><table><thead><tr>");
    for head in heads {
        push(&mut text, format_args!("<th>{}</th>", Escaped(&head)));
    }
    text.push_str("</tr></thead><tbody>");
    for row in body {
        text.push_str("<tr>");
        for cell in row {
            push(&mut text, format_args!("<td>{}</td>", Escaped(&cell)));
        }
        text.push_str("</tr>");
    }
    text.push_str("</tbody></table></div>");
    text
}

fn list(text: &mut String, class: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    push(text, format_args!("<ul class=\"{class}\">"));
    for item in items {
        push(text, format_args!("<li>{}</li>", Escaped(item)));
    }
    text.push_str("</ul>");
}

const fn class(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Certified => "good",
        Verdict::Uncertified(_) => "doubt",
        Verdict::Failed(_) => "bad",
    }
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("writing to a String can't fail");
}
