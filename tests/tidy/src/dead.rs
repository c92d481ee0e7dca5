//! Every Rust source is part of some target, and no file is empty.

use crate::Problem;
use crate::cargo::Metadata;
use crate::rust_source::RustSource;
use crate::tags::module_folder;
use crate::tree::Tree;
use std::collections::BTreeSet;

const CHECK: &str = "dead";

/// Walks the modules from the root of every target and reports the sources that no target reaches.
#[must_use]
pub fn check(tree: &Tree, metadata: &Metadata) -> Vec<Problem> {
    let roots: Vec<String> = metadata
        .packages
        .iter()
        .flat_map(|package| &package.targets)
        .map(|target| metadata.relative(&target.src_path).to_owned())
        .collect();
    let packages: Vec<String> = metadata
        .packages
        .iter()
        .map(|package| metadata.relative(&package.manifest_path).replace("Cargo.toml", ""))
        .collect();
    let mut found = unreachable(tree, &roots, &packages);
    for file in tree.files() {
        if file.text.trim().is_empty() {
            found.push(Problem::new(CHECK, file.path.clone(), "is empty; remove it"));
        }
    }
    found
}

fn unreachable(tree: &Tree, roots: &[String], packages: &[String]) -> Vec<Problem> {
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<(String, bool)> = roots.iter().map(|root| (root.clone(), true)).collect();
    while let Some((path, is_root)) = open.pop() {
        let Some(text) = tree.text(&path) else {
            continue;
        };
        if reached.insert(path.clone()) {
            open.extend(children(tree, &path, text, is_root).into_iter().map(|child| (child, false)));
        }
    }
    tree.rust()
        .filter(|file| packages.iter().any(|package| file.path.starts_with(package.as_str())))
        .filter(|file| !reached.contains(&file.path))
        .map(|file| {
            Problem::new(
                CHECK,
                file.path.clone(),
                "belongs to no target; declare the module or remove the file",
            )
        })
        .collect()
}

/// The files that the source at `path` declares or includes.
fn children(tree: &Tree, path: &str, text: &str, is_root: bool) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let modules = if is_root { folder.clone() } else { module_folder(path) };
    let source = RustSource::new(text);
    let mut found: Vec<String> = source.included().iter().map(|name| format!("{folder}{name}")).collect();
    for declared in source.declared_modules() {
        match declared.path {
            Some(named) => found.push(format!("{folder}{named}")),
            None => {
                found.push(format!("{modules}{}.rs", declared.name));
                found.push(format!("{modules}{}/mod.rs", declared.name));
            }
        }
    }
    found.retain(|candidate| tree.has(candidate));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_followed_and_the_rest_is_dead() {
        let tree = Tree::of(&[
            ("a/src/lib.rs", "mod one; mod two;\n#[path = \"odd/three.rs\"] mod three;"),
            ("a/src/one.rs", "mod deep;"),
            ("a/src/one/deep.rs", "x"),
            ("a/src/two/mod.rs", "mod side;"),
            ("a/src/two/side.rs", "x"),
            ("a/src/odd/three.rs", "x"),
            ("a/src/forgotten.rs", "x"),
            ("b/src/elsewhere.rs", "x"),
        ]);
        let found = unreachable(&tree, &["a/src/lib.rs".to_owned()], &["a/".to_owned()]);
        let places: Vec<&str> = found.iter().map(|problem| problem.place.as_str()).collect();
        assert_eq!(places, ["a/src/forgotten.rs"]);
    }
}
