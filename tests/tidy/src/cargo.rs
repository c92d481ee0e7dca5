//! What cargo knows about the workspace, as values.

use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// The part of `cargo metadata --no-deps` that the checks use.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// The packages of the workspace.
    pub packages: Vec<Package>,
    /// The folder of the workspace.
    pub workspace_root: String,
}

/// One package of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// The name, such as `dunlin-wire`.
    pub name: String,
    /// Absolute path of its `Cargo.toml`.
    pub manifest_path: String,
    /// What it declares that it depends on.
    pub dependencies: Vec<Dependency>,
    /// Its library, programs, tests, examples and benches.
    pub targets: Vec<Target>,
}

/// One declared dependency.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The package depended on.
    pub name: String,
    /// `dev`, `build`, or nothing for a normal one.
    pub kind: Option<String>,
    /// The features asked for.
    #[serde(default)]
    pub features: Vec<String>,
}

/// One target of a package.
#[derive(Debug, Deserialize)]
pub struct Target {
    /// Absolute path of its root file.
    pub src_path: String,
}

impl Metadata {
    /// `path` below the workspace, with `/` between its parts; `path` itself when it lies elsewhere.
    #[must_use]
    pub fn relative<'a>(&self, path: &'a str) -> &'a str {
        path.strip_prefix(self.workspace_root.as_str()).map_or(path, |rest| rest.trim_start_matches('/'))
    }
}

/// Asks cargo about the packages of the workspace in `root`.
///
/// # Errors
/// When cargo can't be run, fails, or prints something unexpected.
pub fn metadata(root: &Path) -> Result<Metadata, String> {
    let text = run(root, &["metadata", "--no-deps", "--format-version", "1"])?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata is not readable: {error}"))
}

/// The names of all packages that `package` is built from with only the given features, one a line.
///
/// # Errors
/// When cargo can't be run or fails.
pub fn tree(root: &Path, package: &str, arguments: &[&str]) -> Result<String, String> {
    let mut all =
        vec!["tree", "--package", package, "--edges", "normal,build", "--prefix", "none", "--format", "{p}"];
    all.extend(arguments);
    run(root, &all)
}

fn run(root: &Path, arguments: &[&str]) -> Result<String, String> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(root)
        .output()
        .map_err(|error| format!("{cargo} can't be run: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "cargo {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }
}
