//! Every package takes the lints of the workspace and says how unsafe code is treated in it.

use crate::Problem;
use crate::cargo::Metadata;
use crate::rust_source::RustSource;
use crate::tree::Tree;

const CHECK: &str = "manifests";

/// Packages whose root files must carry `#![forbid(unsafe_code)]`.
const FORBIDS_UNSAFE: [&str; 4] = ["dunlin-wire", "dunlin-tidy", "dunlin-sim", "dunlin-e2e"];

/// Looks at every package's manifest and root files.
#[must_use]
pub fn check(tree: &Tree, metadata: &Metadata) -> Vec<Problem> {
    let mut found = Vec::new();
    for package in &metadata.packages {
        let manifest = metadata.relative(&package.manifest_path);
        if !tree.text(manifest).is_some_and(takes_workspace_lints) {
            found.push(Problem::new(CHECK, manifest, "must say `[lints] workspace = true`"));
        }
        if !FORBIDS_UNSAFE.contains(&package.name.as_str()) {
            continue;
        }
        for target in &package.targets {
            let root = metadata.relative(&target.src_path);
            if root.contains("/src/") && !tree.text(root).is_some_and(forbids_unsafe) {
                found.push(Problem::new(CHECK, root, "must say #![forbid(unsafe_code)]"));
            }
        }
    }
    found
}

fn takes_workspace_lints(manifest: &str) -> bool {
    manifest
        .parse::<toml::Table>()
        .ok()
        .and_then(|table| table.get("lints")?.get("workspace")?.as_bool())
        .unwrap_or(false)
}

fn forbids_unsafe(source: &str) -> bool {
    RustSource::new(source).code().contains("#![forbid(unsafe_code)]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lints_must_come_from_the_workspace() {
        assert!(takes_workspace_lints("[lints]\nworkspace = true\n"));
        assert!(!takes_workspace_lints("[lints]\nworkspace = false\n"));
        assert!(!takes_workspace_lints("[package]\nname = \"x\"\n"));
    }

    #[test]
    fn a_comment_does_not_forbid() {
        assert!(forbids_unsafe("//! Doc.\n#![forbid(unsafe_code)]\n"));
        assert!(!forbids_unsafe("// #![forbid(unsafe_code)]\n"));
    }
}
