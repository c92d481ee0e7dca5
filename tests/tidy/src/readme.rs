//! The counts that the README shows are those of the ledger.
//!
//! A count stands between two comments that a reader of the page does not see:
//! `<!-- tidy:spec:mqtt5 -->… <!-- tidy:end -->`. `cargo tidy readme` writes what belongs there.

use crate::Problem;
use crate::spec::{Ledger, STANDARDS};
use crate::tree::Tree;

const CHECK: &str = "readme";
const FILE: &str = "README.md";
const END: &str = "<!-- tidy:end -->";

/// Compares the README of the top level with the ledger.
#[must_use]
pub fn check(tree: &Tree, ledger: &Ledger) -> Vec<Problem> {
    let Some(text) = tree.text(FILE) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, _) in STANDARDS {
        let wanted = ledger.count(name).text();
        match shown(text, name) {
            Some(shown) if shown == wanted => {}
            Some(shown) => found.push(Problem::new(
                CHECK,
                FILE,
                format!(
                    "shows \"{shown}\" for {name}, the ledger says \"{wanted}\"; run `cargo tidy readme`"
                ),
            )),
            None => found.push(Problem::new(
                CHECK,
                FILE,
                format!("must show the count between {} and {END}", begin(name)),
            )),
        }
    }
    found
}

/// The README with the ledger's counts in it.
#[must_use]
pub fn rewritten(text: &str, ledger: &Ledger) -> String {
    let mut out = text.to_owned();
    for (name, _) in STANDARDS {
        let begin = begin(name);
        if let Some(old) = shown(&out, name) {
            let from = format!("{begin}{old}{END}");
            out = out.replace(&from, &format!("{begin}{}{END}", ledger.count(name).text()));
        }
    }
    out
}

fn begin(name: &str) -> String {
    format!("<!-- tidy:spec:{name} -->")
}

fn shown(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&begin(name))?;
    let (inner, _) = rest.split_once(END)?;
    Some(inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "id,section,who,level,paraphrase\nMQTT5-3.1.0-1,3.1.0,both,MUST,first\n";
    const EMPTY: &str = "id,section,who,level,paraphrase\n";

    fn tree(readme: &str) -> Tree {
        Tree::of(&[("tests/spec/mqtt5.csv", ROWS), ("tests/spec/mqtt311.csv", EMPTY), (FILE, readme)])
    }

    #[test]
    fn a_wrong_count_is_found_and_rewritten() {
        let old = "a <!-- tidy:spec:mqtt5 -->9 of 9<!-- tidy:end --> b <!-- tidy:spec:mqtt311 -->x<!-- tidy:end -->\n";
        let ledger = Ledger::of(&tree(old));
        assert_eq!(check(&tree(old), &ledger).len(), 2);
        let new = rewritten(old, &ledger);
        assert!(new.contains("0 kept, 0 excepted, of 1"));
        assert!(check(&tree(&new), &ledger).is_empty());
    }

    #[test]
    fn a_readme_without_the_counts_is_found() {
        let ledger = Ledger::of(&tree("nothing"));
        assert!(check(&tree("nothing"), &ledger)[0].what.contains("must show"));
    }
}
