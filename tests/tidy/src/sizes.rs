//! Long files have a reason.
//!
//! Counted are the lines of a Rust source outside its test modules; files below a `tests` folder count whole.

use crate::Problem;
use crate::rust_source::RustSource;
use crate::tree::Tree;
use serde::Deserialize;
use std::collections::BTreeMap;

const CHECK: &str = "sizes";
const LIST: &str = "tests/tidy/sizes.toml";

/// From this many lines on a file needs a line in the list.
pub const ALARM_LINES: usize = 800;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    file: BTreeMap<String, String>,
}

/// Looks at all Rust sources.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Problem> {
    let list = match tree.toml::<List>(CHECK, LIST) {
        Ok(list) => list,
        Err(problem) => return vec![problem],
    };
    let mut found = Vec::new();
    for file in tree.rust() {
        let lines = counted_lines(&file.text);
        let reason = list.file.get(&file.path);
        if lines >= ALARM_LINES && reason.is_none_or(|reason| reason.trim().is_empty()) {
            found.push(Problem::new(
                CHECK,
                file.path.clone(),
                format!("has {lines} lines; which two nouns is it? Split it or give the reason in {LIST}"),
            ));
        } else if lines < ALARM_LINES && reason.is_some() {
            found.push(Problem::new(
                CHECK,
                LIST,
                format!("{} has {lines} lines now; remove its line", file.path),
            ));
        }
    }
    for path in list.file.keys().filter(|path| !tree.has(path)) {
        found.push(Problem::new(CHECK, LIST, format!("{path} does not exist; remove its line")));
    }
    found
}

fn counted_lines(text: &str) -> usize {
    let source = RustSource::new(text);
    let in_tests: usize = source
        .test_regions()
        .into_iter()
        .filter_map(|region| text.get(region))
        .map(|piece| piece.lines().count())
        .sum();
    text.lines().count().saturating_sub(in_tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(source: &str, list: &str) -> Vec<Problem> {
        check(&Tree::of(&[("a/src/x.rs", source), (LIST, list)]))
    }

    #[test]
    fn a_long_file_needs_a_reason() {
        let long = "fn a() {}\n".repeat(ALARM_LINES);
        assert_eq!(complaints(&long, "[file]").len(), 1);
        assert!(complaints(&long, "[file]\n\"a/src/x.rs\" = \"a table\"").is_empty());
        assert_eq!(complaints(&long, "[file]\n\"a/src/x.rs\" = \" \"").len(), 1);
    }

    #[test]
    fn tests_do_not_count_and_dead_lines_are_found() {
        let source =
            format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "fn b() {}\n".repeat(ALARM_LINES));
        assert!(complaints(&source, "[file]").is_empty());
        assert_eq!(complaints(&source, "[file]\n\"a/src/x.rs\" = \"r\"").len(), 1);
        assert_eq!(complaints("", "[file]\n\"gone.rs\" = \"r\"").len(), 1);
    }
}
