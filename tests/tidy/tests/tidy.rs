//! The workspace passes its own checks.

use dunlin_tidy::{check_all, workspace_root};

#[test]
fn the_workspace_is_tidy() {
    let problems = check_all(&workspace_root()).unwrap();
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(texts.is_empty(), "{} to put right:\n{}", texts.len(), texts.join("\n"));
}
