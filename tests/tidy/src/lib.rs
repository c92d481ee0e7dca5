//! Checks of the tree: what the compiler does not see, kept as tests.
//!
//! Each module is one check: it takes the loaded [`tree::Tree`] (or the text that cargo printed) and returns the
//! [`Problem`]s it found, so a check can be tried on a tree made of three strings. Reading files and running cargo
//! happens in [`tree`] and [`cargo`] only.
//!
//! Reading order: [`tree`], [`rust_source`], then any check: [`layers`], [`purity`], [`manifests`], [`paths`],
//! [`unsafe_list`], [`spec`] (with [`tags`] and [`readme`]), [`sizes`], [`banned`], [`dead`].

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "the checks read the files of the tree")]

pub mod banned;
pub mod cargo;
pub mod dead;
pub mod layers;
pub mod manifests;
pub mod paths;
pub mod purity;
pub mod readme;
pub mod rust_source;
pub mod sizes;
pub mod spec;
pub mod tags;
pub mod tree;
pub mod unsafe_list;

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is not as it should be, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The check that found it, for example `layers`.
    pub check: &'static str,
    /// The file (with a line, where there is one), package or tag concerned.
    pub place: String,
    /// What is wrong and what to change.
    pub what: String,
}

impl Problem {
    /// Makes a problem.
    pub fn new(check: &'static str, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { check, place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}: {}", self.check, self.place, self.what)
    }
}

/// The folder of the workspace, which lies two levels above this package.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).map_or_else(|| package.to_path_buf(), Path::to_path_buf)
}

/// Runs every check on the workspace in `root` and returns what they found, sorted.
///
/// Costs one read of every committed file and three runs of cargo that print what they know (no build).
///
/// # Errors
/// When the files can't be listed or read, or cargo can't be run: the text says which and why.
pub fn check_all(root: &Path) -> Result<Vec<Problem>, String> {
    let tree = tree::Tree::load(root)?;
    let metadata = cargo::metadata(root)?;
    let mut found = Vec::new();
    found.extend(layers::check(&tree, &metadata));
    found.extend(manifests::check(&tree, &metadata));
    found.extend(purity::check(root)?);
    found.extend(paths::check(&tree));
    found.extend(unsafe_list::check(&tree));
    let ledger = spec::Ledger::of(&tree);
    found.extend(spec::check(&ledger, spec::is_strict(&tree)));
    found.extend(readme::check(&tree, &ledger));
    found.extend(sizes::check(&tree));
    found.extend(banned::check(&tree));
    found.extend(dead::check(&tree, &metadata));
    found.sort();
    found.dedup();
    Ok(found)
}
