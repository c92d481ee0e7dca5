//! Outcomes as Markdown, for a pull request or a page of results: several of them side by side.

use std::fmt::Write as _;

use super::figures::{count, date, digits, time};
use super::text::rows;
use super::trials;
use crate::record::{Outcome, Times};
use crate::report::ratio;

/// The document.
pub(crate) fn document(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let names: Vec<String> = (0..outcomes.len()).map(|number| name(outcomes, number)).collect();
    push(&mut text, format_args!("# {}\n\n", cell(&names.join(" · "))));
    side_by_side(&mut text, outcomes, &names);
    for (outcome, name) in outcomes.iter().zip(&names) {
        push(&mut text, format_args!("\n## {}\n\n", cell(name)));
        if !outcome.plan.about.is_empty() {
            push(&mut text, format_args!("{}\n\n", cell(&outcome.plan.about)));
        }
        push(&mut text, format_args!("**{}**\n\n", outcome.verdict.word()));
        for reason in outcome.verdict.reasons() {
            push(&mut text, format_args!("* {}\n", cell(reason)));
        }
        search(&mut text, outcome);
        legs(&mut text, outcome);
        stages(&mut text, outcome);
        environment(&mut text, outcome);
    }
    text
}

fn side_by_side(text: &mut String, outcomes: &[Outcome], names: &[String]) {
    let columns: Vec<_> = outcomes.iter().map(rows).collect();
    let mut titles: Vec<&str> = Vec::new();
    for (title, _) in columns.iter().flatten() {
        if !titles.contains(&title.as_str()) {
            titles.push(title);
        }
    }
    let cells: Vec<String> = names.iter().map(|name| cell(name)).collect();
    push(text, format_args!("| | {} |\n|---{}|\n", cells.join(" | "), "|---".repeat(names.len())));
    let verdicts: Vec<&str> = outcomes.iter().map(|outcome| outcome.verdict.word()).collect();
    push(text, format_args!("| verdict | {} |\n", verdicts.join(" | ")));
    for title in titles {
        push(text, format_args!("| {} |", cell(title)));
        for column in &columns {
            let value = column.iter().find(|(name, _)| name == title).map_or("", |(_, value)| value);
            push(text, format_args!(" {} |", cell(value)));
        }
        text.push('\n');
    }
}

fn search(text: &mut String, outcome: &Outcome) {
    let Some(search) = &outcome.search else { return };
    push(text, format_args!("\n{}: **{}**\n\n", cell(&search.question), cell(&search.answer)));
    for figure in &search.figures {
        push(text, format_args!("* {}: {} {}\n", cell(&figure.name), digits(figure.value), figure.unit));
    }
    push(
        text,
        format_args!("\n| {} |\n|{}\n", trials::HEADS.join(" | "), "---|".repeat(trials::HEADS.len())),
    );
    for trial in &search.trials {
        let cells: Vec<String> = trials::row(trial).iter().map(|value| cell(value)).collect();
        push(text, format_args!("| {} |\n", cells.join(" | ")));
    }
}

fn legs(text: &mut String, outcome: &Outcome) {
    text.push_str("\n| leg | timing | samples | p50 | p90 | p99 | p99.9 | p99.99 | p99.999 | max |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
    for (leg, times) in outcome.legs.iter() {
        for (timing, times) in [("corrected", &times.corrected), ("raw", &times.raw)] {
            let Some(s) = Times::summary(times) else { continue };
            let figures = [s.p50_ns, s.p90_ns, s.p99_ns, s.p99_9_ns, s.p99_99_ns, s.p99_999_ns, s.max_ns];
            let figures: Vec<String> = figures.into_iter().map(time).collect();
            let samples = count(s.samples);
            push(
                text,
                format_args!("| {} | {timing} | {samples} | {} |\n", leg.title(), figures.join(" | ")),
            );
        }
    }
}

fn stages(text: &mut String, outcome: &Outcome) {
    text.push_str("\n| stage | seconds | measured | sent | late | delivered | connects | disconnects |\n");
    text.push_str("|---|---|---|---|---|---|---|---|\n");
    for stage in &outcome.stages {
        let (seconds, counts) = (digits(ratio(stage.length_ns(), 1_000_000_000)), &stage.counters);
        let counts =
            [counts.sent, counts.late, counts.delivered, counts.connects, counts.disconnects].map(count);
        let measured = if stage.measured { "yes" } else { "no" };
        let name = cell(&stage.name);
        push(text, format_args!("| {name} | {seconds} | {measured} | {} |\n", counts.join(" | ")));
    }
}

fn environment(text: &mut String, outcome: &Outcome) {
    let environment = &outcome.environment;
    let command = environment.command.replace('\n', " ");
    push(text, format_args!("\n    {command}\n\n"));
    let started = date(environment.started_unix_ms);
    push(
        text,
        format_args!(
            "{}, seed {}, {started}; {} ({} cores), kernel {}; broker: {}\n",
            cell(&environment.tool),
            environment.seed,
            cell(&environment.cpu),
            environment.cores,
            cell(&environment.kernel),
            cell(&environment.broker)
        ),
    );
    for note in &outcome.notes {
        push(text, format_args!("\n> {}\n", cell(note)));
    }
}

/// The plan's name, with a number when there are several outcomes.
pub(super) fn name(outcomes: &[Outcome], number: usize) -> String {
    let name = &outcomes[number].plan.name;
    let name = if name.is_empty() { "run" } else { name };
    if outcomes.len() == 1 { name.to_owned() } else { format!("{}: {name}", number + 1) }
}

/// Text that can't break out of a table or become markup.
fn cell(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' => safe.push(' '),
            '|' | '<' | '>' | '`' | '*' | '_' | '[' | ']' | '\\' | '#' | '!' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    safe
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("writing to a String can't fail");
}

#[cfg(test)]
mod tests {
    use super::super::html::tests::sample;
    use super::*;

    #[test]
    fn tables_are_rectangular_whatever_the_names() {
        let text = document(&[sample("a|b\n<c>"), sample("d")]);
        let mut columns = None;
        let mut tables = 0;
        for line in text.lines() {
            if !line.starts_with('|') {
                columns = None;
                continue;
            }
            let found = line.replace("\\|", "").matches('|').count();
            tables += u32::from(columns.is_none());
            assert_eq!(*columns.get_or_insert(found), found, "{line}");
        }
        assert_eq!(tables, 7, "{text}");
        assert!(!text.contains("<c>") && text.contains("FAILED"));
    }
}
