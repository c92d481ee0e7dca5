//! Unsafe code stands only in the files of `unsafe_list.toml`, each with its decision record.

use crate::Problem;
use crate::rust_source::RustSource;
use crate::tree::Tree;
use serde::Deserialize;

const CHECK: &str = "unsafe";
const LIST: &str = "tests/tidy/unsafe_list.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    file: Vec<Line>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    path: String,
    why: String,
    adr: String,
}

/// Looks for the word `unsafe` in the code of every Rust source.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Problem> {
    let list = match tree.toml::<List>(CHECK, LIST) {
        Ok(list) => list,
        Err(problem) => return vec![problem],
    };
    let mut found = Vec::new();
    for file in tree.rust() {
        let first = first_unsafe_line(&file.text);
        let listed = list.file.iter().any(|line| line.path == file.path);
        match (first, listed) {
            (Some(line), false) => found.push(Problem::new(
                CHECK,
                format!("{}:{line}", file.path),
                format!("holds unsafe code and is not in {LIST}; find a safe way or write the ADR"),
            )),
            (None, true) => found.push(Problem::new(
                CHECK,
                LIST,
                format!("{} holds no unsafe code; remove its line", file.path),
            )),
            _ => {}
        }
    }
    for line in &list.file {
        if !tree.has(&line.path) {
            found.push(Problem::new(CHECK, LIST, format!("{} does not exist; remove its line", line.path)));
        }
        if !tree.has(&line.adr) {
            found.push(Problem::new(
                CHECK,
                LIST,
                format!("{} names {}, which does not exist", line.path, line.adr),
            ));
        }
        if line.why.trim().is_empty() {
            found.push(Problem::new(CHECK, LIST, format!("{} needs a reason in `why`", line.path)));
        }
    }
    found
}

fn first_unsafe_line(text: &str) -> Option<usize> {
    let source = RustSource::new(text);
    let (at, _) = source.words().find(|(_, word)| *word == "unsafe")?;
    Some(source.line_of(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "[[file]]\npath = \"a/src/x.rs\"\nwhy = \"a call\"\nadr = \"docs/adr/0012-x.md\"\n";

    fn complaints(source: &str, list: &str) -> Vec<String> {
        let tree = Tree::of(&[("a/src/x.rs", source), (LIST, list), ("docs/adr/0012-x.md", "")]);
        check(&tree).into_iter().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn listed_unsafe_passes_and_comments_do_not_count() {
        assert_eq!(complaints("fn f() { unsafe { g() } }", LISTED), Vec::<String>::new());
        assert_eq!(complaints("// unsafe\n#![forbid(unsafe_code)]\n", "file = []"), Vec::<String>::new());
    }

    #[test]
    fn unsafe_elsewhere_is_found() {
        let found = complaints("\nunsafe fn f() {}", "file = []");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("unsafe: a/src/x.rs:2: holds unsafe code"));
    }

    #[test]
    fn a_line_for_safe_code_is_dead() {
        assert!(complaints("fn f() {}", LISTED)[0].contains("remove its line"));
    }

    #[test]
    fn a_line_needs_its_record() {
        let list = LISTED.replace("0012", "0099");
        assert!(complaints("unsafe {}", &list)[0].contains("0099"));
    }
}
