//! `cargo tidy`: the checks of the tree from the command line.
//!
//! `cargo tidy` or `cargo tidy check` runs all checks; `cargo tidy spec [--missing]` prints the counts of the ledger
//! and what is missing; `cargo tidy readme` writes the counts into the README.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints its findings")]
#![expect(clippy::disallowed_methods, reason = "the readme command writes a file")]

use dunlin_tidy::spec::Ledger;
use dunlin_tidy::tree::Tree;
use dunlin_tidy::{check_all, readme, workspace_root};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = workspace_root();
    let outcome = match arguments.as_slice() {
        [] | ["check"] => check(&root),
        ["spec"] => spec(&root, false),
        ["spec", "--missing"] => spec(&root, true),
        ["readme"] => write_readme(&root),
        _ => Err("usage: cargo tidy [check | spec [--missing] | readme]".to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("tidy: {text}");
            ExitCode::from(2)
        }
    }
}

fn check(root: &Path) -> Result<bool, String> {
    let problems = check_all(root)?;
    for problem in &problems {
        println!("{problem}");
    }
    if problems.is_empty() {
        println!("tidy: nothing to complain about");
    } else {
        println!("tidy: {} to put right", problems.len());
    }
    Ok(problems.is_empty())
}

fn spec(root: &Path, missing: bool) -> Result<bool, String> {
    let ledger = Ledger::of(&Tree::load(root)?);
    if missing {
        print!("{}", ledger.missing());
    }
    print!("{}", ledger.summary());
    Ok(true)
}

fn write_readme(root: &Path) -> Result<bool, String> {
    let tree = Tree::load(root)?;
    let old = tree.text("README.md").ok_or_else(|| "there is no README.md".to_owned())?;
    let new = readme::rewritten(old, &Ledger::of(&tree));
    if new != old {
        std::fs::write(root.join("README.md"), new).map_err(|error| format!("README.md: {error}"))?;
    }
    Ok(true)
}
