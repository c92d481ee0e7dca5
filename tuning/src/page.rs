//! What people and programs are shown: tables, lists of changes, lessons, and the same as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::apply::{Change, Outcome, Report};
use crate::catalogue::{Catalogue, Profile};
use crate::owned::wrapped;
use crate::setting::Setting;
use crate::survey::{Item, Status};

/// How many items have which judgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// As wanted.
    pub ok: usize,
    /// Not as wanted.
    pub unmet: usize,
    /// Not applicable.
    pub not_here: usize,
}

impl Counts {
    /// Counts the settings, not their places.
    #[must_use]
    pub fn of(items: &[Item<'_>]) -> Self {
        let mut counts = Self::default();
        for group in items.chunk_by(|one, other| one.setting.key == other.setting.key) {
            if group.iter().any(|item| item.status.is_unmet()) {
                counts.unmet += 1;
            } else if group.iter().any(|item| item.status == Status::Ok) {
                counts.ok += 1;
            } else {
                counts.not_here += 1;
            }
        }
        counts
    }
}

/// The comparison as a table. Places of a setting that are alike share a line.
#[must_use]
pub fn table(profile: &Profile, items: &[Item<'_>]) -> String {
    let mut rows =
        vec![["".to_owned(), "setting".to_owned(), "now".to_owned(), "wanted".to_owned(), String::new()]];
    let alike = |one: &Item<'_>, other: &Item<'_>| {
        one.setting.key == other.setting.key
            && (one.status, &one.current, &one.wanted, &one.note)
                == (other.status, &other.current, &other.wanted, &other.note)
    };
    for group in items.chunk_by(alike) {
        let item = &group[0];
        let places = match (&item.spot, group.len()) {
            (None, _) => String::new(),
            (Some(spot), 1) => format!(" {spot}"),
            (Some(_), count) => format!(" ({count} places)"),
        };
        let wanted = item.wanted.as_ref().map_or_else(|| "-".to_owned(), crate::rule::Wanted::words);
        rows.push([
            item.status.word().to_owned(),
            format!("{}{places}", item.setting.key),
            item.current.clone().unwrap_or_else(|| "-".to_owned()),
            wanted,
            item.note.clone(),
        ]);
    }
    let mut text = format!("profile {}: {}\n\n", profile.name, profile.about);
    text.push_str(&aligned(&rows));
    let counts = Counts::of(items);
    writeln!(text, "\n{} as wanted, {} not, {} do not apply here.", counts.ok, counts.unmet, counts.not_here)
        .expect("writing to a String does not fail");
    if counts.unmet > 0 {
        writeln!(
            text,
            "`sudo dunlin tune apply --profile {}` changes them (--dry-run shows how); `dunlin tune explain KEY` says why.",
            profile.name
        )
        .expect("writing to a String does not fail");
    }
    text
}

/// The comparison for programs.
#[must_use]
pub fn table_json(profile: &Profile, connections: u64, items: &[Item<'_>]) -> String {
    let rows: Vec<Value> = items
        .iter()
        .map(|item| {
            json!({
                "key": item.setting.key,
                "place": item.spot,
                "status": item.status.word(),
                "current": item.current,
                "wanted": item.wanted.as_ref().map(crate::rule::Wanted::words),
                "note": item.note,
            })
        })
        .collect();
    let ok = !items.iter().any(|item| item.status.is_unmet());
    let page = json!({ "profile": profile.name, "connections": connections, "ok": ok, "settings": rows });
    format!("{page:#}\n")
}

/// What was changed, a line each.
#[must_use]
pub fn changes(report: &Report) -> String {
    let mut text = String::new();
    for change in &report.changes {
        text.push_str(&line(change));
    }
    if report.changes.is_empty() {
        text.push_str("nothing to change\n");
    }
    for advice in &report.advice {
        writeln!(text, "then: {advice}").expect("writing to a String does not fail");
    }
    text
}

fn line(change: &Change) -> String {
    let Change { id, from, to, outcome } = change;
    let blank = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let step = format!("{id}: {} → {}", blank(from), blank(to));
    match outcome {
        Outcome::Would => format!("would change {step}\n"),
        Outcome::Done => format!("{step}\n"),
        Outcome::Failed(why) => format!("FAILED {step}: {why}\n"),
        Outcome::Gone(why) => format!("left {id}: {why}\n"),
    }
}

/// What was changed, for programs.
#[must_use]
pub fn changes_json(profile: Option<&str>, dry_run: bool, report: &Report) -> String {
    let rows: Vec<Value> = report
        .changes
        .iter()
        .map(|Change { id, from, to, outcome }| {
            let (word, problem) = match outcome {
                Outcome::Would => ("would", None),
                Outcome::Done => ("done", None),
                Outcome::Failed(why) => ("failed", Some(why)),
                Outcome::Gone(why) => ("gone", Some(why)),
            };
            json!({ "id": id, "from": from, "to": to, "outcome": word, "problem": problem })
        })
        .collect();
    let page = json!({
        "profile": profile, "dry_run": dry_run, "ok": !report.has_failed(), "changes": rows, "advice": report.advice,
    });
    format!("{page:#}\n")
}

/// Everything about one setting.
#[must_use]
pub fn lesson(catalogue: &Catalogue, setting: &Setting, here: &[Item<'_>]) -> String {
    let mut text = format!("{}\n", setting.key);
    let mut part = |name: &str, body: &str| {
        for (at, line) in wrapped(body, LESSON_COLUMNS).into_iter().enumerate() {
            let head = if at == 0 { name } else { "" };
            writeln!(text, "  {head:<10}{line}").expect("writing to a String does not fail");
        }
    };
    part("why", &setting.why);
    part("without", &setting.without);
    part("costs", &setting.costs);
    part("undo", &setting.undo());
    part("source", &setting.source);
    let rules = catalogue.profiles.iter().filter_map(|profile| {
        profile.rule(&setting.key).map(|rule| format!("{}: {}", profile.name, rule.words()))
    });
    part("wanted", &rules.collect::<Vec<_>>().join(" · "));
    for item in here {
        let spot = item.spot.as_ref().map_or_else(String::new, |spot| format!("{spot}: "));
        let now = item.current.as_deref().unwrap_or("-");
        let note = if item.note.is_empty() { String::new() } else { format!(" ({})", item.note) };
        part("here", &format!("{spot}{now}, {}{note}", item.status.word()));
    }
    text
}

/// Everything about some settings, for programs.
#[must_use]
pub fn lessons_json(catalogue: &Catalogue, settings: &[&Setting]) -> String {
    let rows: Vec<Value> = settings
        .iter()
        .map(|setting| {
            let rules: serde_json::Map<String, Value> = catalogue
                .profiles
                .iter()
                .filter_map(|profile| {
                    Some((profile.name.to_owned(), profile.rule(&setting.key)?.words().into()))
                })
                .collect();
            json!({
                "key": setting.key, "why": setting.why, "without": setting.without, "costs": setting.costs,
                "undo": setting.undo(), "source": setting.source, "namespaced": setting.namespaced,
                "needs_restart": setting.needs_restart(), "wanted": rules,
            })
        })
        .collect();
    format!("{:#}\n", Value::from(rows))
}

/// Columns beside each other, the last one as long as it is.
fn aligned(rows: &[[String; 5]]) -> String {
    let mut widths = [0usize; 5];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count()).min(CELL_COLUMNS_MAX);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

const LESSON_COLUMNS: usize = 100;

/// A cell that is wider than this does not widen its column.
const CELL_COLUMNS_MAX: usize = 52;
