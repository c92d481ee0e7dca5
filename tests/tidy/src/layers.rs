//! The arrows between packages: what `layers.toml` allows against what the manifests say.

use crate::Problem;
use crate::cargo::{Dependency, Metadata, Package};
use crate::tree::Tree;
use serde::Deserialize;
use std::collections::BTreeMap;

const CHECK: &str = "layers";
const LIST: &str = "tests/tidy/layers.toml";

/// The allowed arrows.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layers {
    /// By package: what it may depend on.
    package: BTreeMap<String, Allowed>,
    /// By package and feature: who may turn it on.
    #[serde(default)]
    feature: BTreeMap<String, BTreeMap<String, Users>>,
    /// By outside crate: who may use it.
    #[serde(default)]
    outside: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    may: Vec<String>,
    #[serde(default)]
    tests_may: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Users {
    only: Vec<String>,
}

/// Compares the manifests with `layers.toml`.
#[must_use]
pub fn check(tree: &Tree, metadata: &Metadata) -> Vec<Problem> {
    match tree.toml::<Layers>(CHECK, LIST) {
        Ok(layers) => compare(&layers, metadata),
        Err(problem) => vec![problem],
    }
}

fn compare(layers: &Layers, metadata: &Metadata) -> Vec<Problem> {
    let mut found = Vec::new();
    for package in &metadata.packages {
        let Some(allowed) = layers.package.get(&package.name) else {
            found.push(problem(package, format!("has no line in {LIST}; add one with what it may know")));
            continue;
        };
        for dependency in &package.dependencies {
            let inside = metadata.packages.iter().any(|other| other.name == dependency.name);
            if inside {
                found.extend(check_arrow(package, allowed, dependency));
                found.extend(check_features(layers, package, dependency));
            } else {
                found.extend(check_outside(layers, package, dependency));
            }
        }
    }
    for name in layers.package.keys() {
        if !metadata.packages.iter().any(|package| package.name == *name) {
            found.push(Problem::new(
                CHECK,
                LIST,
                format!("{name} is no package of the workspace; remove its line"),
            ));
        }
    }
    found
}

fn check_arrow(package: &Package, allowed: &Allowed, dependency: &Dependency) -> Option<Problem> {
    let for_tests = dependency.kind.as_deref() == Some("dev");
    let ok =
        allowed.may.contains(&dependency.name) || (for_tests && allowed.tests_may.contains(&dependency.name));
    (!ok).then(|| {
        problem(
            package,
            format!(
                "depends on {}, an arrow that {LIST} does not have; remove it or write the ADR",
                dependency.name
            ),
        )
    })
}

fn check_features(layers: &Layers, package: &Package, dependency: &Dependency) -> Vec<Problem> {
    let Some(limited) = layers.feature.get(&dependency.name) else {
        return Vec::new();
    };
    dependency
        .features
        .iter()
        .filter(|feature| limited.get(*feature).is_some_and(|users| !users.only.contains(&package.name)))
        .map(|feature| {
            problem(package, format!("turns on {}/{feature}, which {LIST} keeps to others", dependency.name))
        })
        .collect()
}

fn check_outside(layers: &Layers, package: &Package, dependency: &Dependency) -> Option<Problem> {
    let users = layers.outside.get(&dependency.name)?;
    (!users.contains(&package.name)).then(|| {
        problem(package, format!("uses {}, which {LIST} keeps to {}", dependency.name, users.join(", ")))
    })
}

fn problem(package: &Package, what: String) -> Problem {
    Problem::new(CHECK, package.name.clone(), what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(packages: &str) -> Metadata {
        serde_json::from_str(&format!("{{\"workspace_root\":\"/w\",\"packages\":{packages}}}")).unwrap()
    }

    fn package(name: &str, dependencies: &str) -> String {
        format!(
            "{{\"name\":\"{name}\",\"manifest_path\":\"/w/{name}/Cargo.toml\",\"targets\":[],\"dependencies\":[{dependencies}]}}"
        )
    }

    fn complaints(list: &str, packages: &[String]) -> Vec<String> {
        let tree = Tree::of(&[(LIST, list)]);
        check(&tree, &metadata(&format!("[{}]", packages.join(","))))
            .into_iter()
            .map(|problem| problem.what)
            .collect()
    }

    const ALLOWED: &str = "[package.low]\nmay = []\n[package.high]\nmay = [\"low\"]\n[feature.low.edge]\nonly = []\n[outside]\nring = [\"low\"]\n";

    #[test]
    fn an_allowed_arrow_passes() {
        let packages = [package("low", ""), package("high", r#"{"name":"low","kind":null}"#)];
        assert_eq!(complaints(ALLOWED, &packages), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_up_is_found() {
        let packages = [package("low", r#"{"name":"high","kind":"dev"}"#), package("high", "")];
        let found = complaints(ALLOWED, &packages);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("depends on high"));
    }

    #[test]
    fn features_and_outside_crates_stay_where_they_belong() {
        let packages = [
            package("low", ""),
            package("high", r#"{"name":"low","kind":null,"features":["edge"]},{"name":"ring","kind":null}"#),
        ];
        let found = complaints(ALLOWED, &packages);
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("low/edge"));
        assert!(found[1].contains("uses ring"));
    }

    #[test]
    fn packages_and_lines_match_one_to_one() {
        let found = complaints(ALLOWED, &[package("low", ""), package("new", "")]);
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("has no line"));
        assert!(found[1].contains("high is no package"));
    }
}
