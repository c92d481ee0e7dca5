//! The core and the simulator are built without the IO runtime: cargo must not even name it.

use crate::{Problem, cargo};
use std::path::Path;

const CHECK: &str = "purity";

/// Packages that must be pure, and the cargo arguments with which they are.
const PURE: [(&str, &[&str]); 3] =
    [("dunlin-wire", &[]), ("dunlin-shard", &["--no-default-features"]), ("dunlin-sim", &[])];

/// Crates that touch the outside world.
const IMPURE: [&str; 7] = ["glommio", "io-uring", "tokio", "sled", "mio", "socket2", "nix"];

/// Asks cargo what the pure packages are built from.
///
/// # Errors
/// When cargo can't be run or fails.
pub fn check(root: &Path) -> Result<Vec<Problem>, String> {
    let mut found = Vec::new();
    for (package, arguments) in PURE {
        found.extend(impure_lines(package, &cargo::tree(root, package, arguments)?));
    }
    Ok(found)
}

fn impure_lines(package: &str, listing: &str) -> Vec<Problem> {
    listing
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| IMPURE.contains(name))
        .map(|name| {
            Problem::new(
                CHECK,
                package,
                format!(
                    "is built from {name}; the core must not know it (is a feature turned on by default?)"
                ),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_crate_is_found_by_its_whole_name() {
        assert_eq!(impure_lines("x", "dunlin-sim v0.1.0\nglommio v0.9.0\n").len(), 1);
        assert!(impure_lines("x", "mio-like v1\nhashbrown v0.16.0\n").is_empty());
    }
}
