//! The spec ledger: which statements of the standards are kept, proved, or excepted.

use crate::Problem;
use crate::tags::{self, Side, Tag};
use crate::tree::{File, Tree};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const CHECK: &str = "spec";
const FOLDER: &str = "tests/spec";
const SETTING: &str = "tests/tidy/spec.toml";

/// The ledger files with the name that people read.
pub const STANDARDS: [(&str, &str); 2] = [("mqtt311", "MQTT 3.1.1"), ("mqtt5", "MQTT 5.0")];

/// One statement of a standard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// For example `MQTT5-3.1.2-24`.
    pub id: String,
    /// For example `3.1.2`.
    pub section: String,
    /// `server`, `client` or `both`.
    pub who: String,
    /// `MUST`, `SHOULD` or `MAY`.
    pub level: String,
    /// The rule in our words.
    pub paraphrase: String,
}

impl Row {
    /// Whether the server has to keep it.
    #[must_use]
    pub fn is_server_must(&self) -> bool {
        self.level == "MUST" && self.who != "client"
    }
}

/// The rows, the tags and the exceptions of one tree.
#[derive(Debug, Default)]
pub struct Ledger {
    standards: BTreeMap<&'static str, Vec<Row>>,
    tags: Vec<Tag>,
    coded: BTreeSet<String>,
    tested: BTreeSet<String>,
    exceptions: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

/// The counts for one standard. Only what a server MUST do is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// With a code tag and a test tag.
    pub kept: usize,
    /// With an exception file.
    pub excepted: usize,
    /// All.
    pub total: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    rule: String,
    reason: String,
    decided_by: String,
    adr: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    strict: bool,
}

/// Whether statements without tags fail.
#[must_use]
pub fn is_strict(tree: &Tree) -> bool {
    tree.toml::<Setting>(CHECK, SETTING).map_or(true, |setting| setting.strict)
}

/// The problems of the ledger: broken rows and exceptions, unknown tags, and (when `strict`) what is missing.
#[must_use]
pub fn check(ledger: &Ledger, strict: bool) -> Vec<Problem> {
    let mut found = ledger.problems.clone();
    let known: BTreeSet<&str> = ledger.rows().map(|row| row.id.as_str()).collect();
    for tag in &ledger.tags {
        if !known.contains(tag.id.as_str()) {
            found.push(Problem::new(CHECK, tag.place.clone(), format!("[{}] is not in the ledger", tag.id)));
        }
    }
    for id in ledger.exceptions.keys() {
        let place = format!("{FOLDER}/exceptions/{id}.toml");
        if !known.contains(id.as_str()) {
            found.push(Problem::new(CHECK, place, "is for a tag that is not in the ledger"));
        } else if ledger.is_kept(id) {
            found.push(Problem::new(
                CHECK,
                place,
                "is for a rule that is kept and proved; remove the exception",
            ));
        }
    }
    if strict {
        for row in ledger.rows().filter(|row| ledger.is_missing(row)) {
            found.push(Problem::new(CHECK, row.id.clone(), ledger.lacks(row)));
        }
    }
    found
}

impl Ledger {
    /// Reads the ledger and collects the tags of `tree`.
    #[must_use]
    pub fn of(tree: &Tree) -> Self {
        let mut ledger = Self { tags: tags::collect(tree), ..Self::default() };
        for (name, _) in STANDARDS {
            let path = format!("{FOLDER}/{name}.csv");
            match tree.text(&path) {
                Some(text) => {
                    let rows = ledger.read_rows(&path, text);
                    ledger.standards.insert(name, rows);
                }
                None => ledger.problems.push(Problem::new(CHECK, path, "the ledger is missing")),
            }
        }
        for file in tree.files().filter(|file| is_exception(file)) {
            ledger.read_exception(tree, file);
        }
        for tag in &ledger.tags {
            match tag.side {
                Side::Code => ledger.coded.insert(tag.id.clone()),
                Side::Test => ledger.tested.insert(tag.id.clone()),
                Side::Mention => false,
            };
        }
        ledger
    }

    /// All rows of both standards.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.standards.values().flatten()
    }

    /// The counts of one standard, by the name of its file.
    #[must_use]
    pub fn count(&self, standard: &str) -> Count {
        let mut count = Count::default();
        for row in self.standards.get(standard).into_iter().flatten() {
            if row.is_server_must() {
                count.total += 1;
                count.kept += usize::from(self.is_kept(&row.id));
                count.excepted += usize::from(self.exceptions.contains_key(&row.id));
            }
        }
        count
    }

    /// One line for each standard.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut out = String::new();
        for (name, title) in STANDARDS {
            let count = self.count(name);
            let missing = count.total.saturating_sub(count.kept + count.excepted);
            line(&mut out, format_args!("{title}: {} (missing {missing})", count.text()));
        }
        out
    }

    /// What lacks a tag, by section.
    #[must_use]
    pub fn missing(&self) -> String {
        let mut out = String::new();
        for (name, title) in STANDARDS {
            let mut section = "";
            for row in self.standards.get(name).into_iter().flatten() {
                if !self.is_missing(row) {
                    continue;
                }
                if row.section != section {
                    section = &row.section;
                    line(&mut out, format_args!("{title}, section {section}"));
                }
                line(&mut out, format_args!("  [{}] {}: {}", row.id, self.lacks(row), row.paraphrase));
            }
        }
        out
    }

    fn is_kept(&self, id: &str) -> bool {
        self.coded.contains(id) && self.tested.contains(id)
    }

    fn is_missing(&self, row: &Row) -> bool {
        row.is_server_must() && !self.is_kept(&row.id) && !self.exceptions.contains_key(&row.id)
    }

    fn lacks(&self, row: &Row) -> &'static str {
        match (self.coded.contains(&row.id), self.tested.contains(&row.id)) {
            (false, false) => "needs a code tag and a test tag, or an exception",
            (false, true) => "needs a code tag",
            (true, false) => "needs a test tag",
            (true, true) => "is kept",
        }
    }

    fn read_rows(&mut self, path: &str, text: &str) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for (index, record) in text.lines().enumerate().skip(1) {
            let place = format!("{path}:{}", index + 1);
            match row_of(record) {
                Ok(row) if rows.iter().any(|other| other.id == row.id) => {
                    self.problems.push(Problem::new(CHECK, place, format!("{} is there twice", row.id)));
                }
                Ok(row) => rows.push(row),
                Err(what) => self.problems.push(Problem::new(CHECK, place, what)),
            }
        }
        rows
    }

    fn read_exception(&mut self, tree: &Tree, file: &File) {
        let id = file.name().trim_end_matches(".toml").to_owned();
        match toml::from_str::<Exception>(&file.text) {
            Ok(exception) => {
                self.problems.extend(exception_problems(tree, file, &exception));
                self.exceptions.insert(id, exception.reason);
            }
            Err(error) => self.problems.push(Problem::new(CHECK, file.path.clone(), error.to_string())),
        }
    }
}

impl Count {
    /// The way in which the README shows it.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{} kept, {} excepted, of {}", self.kept, self.excepted, self.total)
    }
}

fn is_exception(file: &File) -> bool {
    file.path.starts_with("tests/spec/exceptions/") && file.has_extension("toml")
}

fn exception_problems(tree: &Tree, file: &File, exception: &Exception) -> Vec<Problem> {
    let mut found = Vec::new();
    let fields =
        [("rule", &exception.rule), ("reason", &exception.reason), ("decided_by", &exception.decided_by)];
    for (name, value) in fields {
        if value.trim().is_empty() {
            found.push(Problem::new(CHECK, file.path.clone(), format!("`{name}` is empty")));
        }
    }
    if let Some(adr) = exception.adr.as_ref().filter(|adr| !tree.has(adr)) {
        found.push(Problem::new(CHECK, file.path.clone(), format!("names {adr}, which does not exist")));
    }
    found
}

/// Reads one record: five fields, of which only the last may be in quotes.
fn row_of(record: &str) -> Result<Row, String> {
    let fields: Vec<&str> = record.splitn(5, ',').collect();
    let [id, section, who, level, paraphrase] = fields.as_slice() else {
        return Err("needs five fields: id, section, who, level, paraphrase".to_owned());
    };
    if !matches!(*who, "server" | "client" | "both") {
        return Err(format!("who is {who}; it must be server, client or both"));
    }
    if !matches!(*level, "MUST" | "SHOULD" | "MAY") {
        return Err(format!("level is {level}; it must be MUST, SHOULD or MAY"));
    }
    if !id.contains(&format!("-{section}")) {
        return Err(format!("{id} is not of section {section}"));
    }
    Ok(Row {
        id: (*id).to_owned(),
        section: (*section).to_owned(),
        who: (*who).to_owned(),
        level: (*level).to_owned(),
        paraphrase: paraphrase.trim_matches('"').replace("\"\"", "\""),
    })
}

fn line(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String can't fail.
    let _written = writeln!(out, "{arguments}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "id,section,who,level,paraphrase\n\
        MQTT5-3.1.0-1,3.1.0,both,MUST,first\n\
        MQTT5-3.1.0-2,3.1.0,server,MUST,\"second, quoted\"\n\
        MQTT5-3.1.2-20,3.1.2,client,MUST,third\n";
    const EXCEPTION: &str = "rule = \"r\"\nreason = \"s\"\ndecided_by = \"maintainers\"\n";

    fn ledger(files: &[(&str, &str)]) -> Ledger {
        let mut all = vec![
            ("tests/spec/mqtt5.csv", ROWS),
            ("tests/spec/mqtt311.csv", "id,section,who,level,paraphrase\n"),
        ];
        all.extend(files);
        Ledger::of(&Tree::of(&all))
    }

    fn texts(ledger: &Ledger, strict: bool) -> Vec<String> {
        check(ledger, strict).into_iter().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn code_and_test_make_a_rule_kept() {
        let ledger = ledger(&[
            ("shard/src/a.rs", "// [MQTT5-3.1.0-1]\n// [MQTT5-3.1.0-2]"),
            ("shard/tests/a.rs", "// [MQTT5-3.1.0-1]"),
        ]);
        assert_eq!(ledger.count("mqtt5"), Count { kept: 1, excepted: 0, total: 2 });
        assert_eq!(texts(&ledger, false), Vec::<String>::new());
        assert_eq!(texts(&ledger, true), ["spec: MQTT5-3.1.0-2: needs a test tag"]);
        assert!(ledger.missing().contains("section 3.1.0"));
        assert!(ledger.missing().contains("second, quoted"));
        assert!(!ledger.missing().contains("3.1.2-20"));
    }

    #[test]
    fn an_exception_stands_for_the_tags() {
        let ledger = ledger(&[
            ("tests/spec/exceptions/MQTT5-3.1.0-1.toml", EXCEPTION),
            ("tests/spec/exceptions/MQTT5-3.1.0-2.toml", EXCEPTION),
        ]);
        assert_eq!(texts(&ledger, true), Vec::<String>::new());
        assert_eq!(ledger.count("mqtt5").text(), "0 kept, 2 excepted, of 2");
    }

    #[test]
    fn bad_exceptions_are_found() {
        let found = texts(
            &ledger(&[
                ("shard/src/a.rs", "// [MQTT5-3.1.0-1]"),
                ("shard/tests/a.rs", "// [MQTT5-3.1.0-1]"),
                ("tests/spec/exceptions/MQTT5-3.1.0-1.toml", EXCEPTION),
                ("tests/spec/exceptions/MQTT5-9-9.toml", EXCEPTION),
                ("tests/spec/exceptions/MQTT5-3.1.0-2.toml", "rule = \"r\"\n"),
            ]),
            false,
        );
        assert!(found.iter().any(|text| text.contains("remove the exception")));
        assert!(found.iter().any(|text| text.contains("MQTT5-9-9.toml: is for a tag")));
        assert!(found.iter().any(|text| text.contains("missing field")));
    }

    #[test]
    fn an_unknown_tag_fails_always() {
        let found = texts(&ledger(&[("wire/src/a.rs", "\n// [MQTT5-9.9.9-1]")]), false);
        assert_eq!(found, ["spec: wire/src/a.rs:2: [MQTT5-9.9.9-1] is not in the ledger"]);
    }

    #[test]
    fn broken_rows_are_found() {
        assert!(row_of("MQTT5-3.1.0-1,3.1.0,nobody,MUST,x").is_err());
        assert!(row_of("MQTT5-3.1.0-1,3.2.0,server,MUST,x").is_err());
        assert!(row_of("MQTT5-3.1.0-1,3.1.0,server,WILL,x").is_err());
        assert!(row_of("MQTT5-3.1.0-1,3.1.0").is_err());
    }
}
