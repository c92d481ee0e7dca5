//! Spec tags in code, tests and data: `[MQTT5-3.1.2-24]`, `[MQTT311-3.1.2-24]`.

use crate::rust_source::{RustSource, line_of};
use crate::tree::{File, Tree};

/// Where a tag stands counts for what it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// On the line that keeps the rule.
    Code,
    /// On the test that proves it.
    Test,
    /// In prose or tools: must exist in the ledger, shows nothing.
    Mention,
}

/// One tag that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// As in the ledger, for example `MQTT5-3.1.2-24`.
    pub id: String,
    /// What it shows.
    pub side: Side,
    /// File and line.
    pub place: String,
}

const STANDARDS: [&str; 2] = ["MQTT311-", "MQTT5-"];

/// Folders whose Rust sources are the product; tags elsewhere keep no rule.
const PRODUCT: [&str; 4] = ["wire/", "shard/", "persist/", "broker/"];

/// Folders that speak about tags without keeping or proving anything.
const TOOLS: [&str; 2] = ["tests/spec/", "tests/tidy/"];

/// Extensions of files that hold test data with tags in their comments.
const TEST_DATA: [&str; 8] = ["txt", "toml", "hex", "json", "csv", "py", "js", "sh"];

/// All tags of the tree.
#[must_use]
pub fn collect(tree: &Tree) -> Vec<Tag> {
    let test_modules = out_of_line_test_modules(tree);
    tree.files().flat_map(|file| tags_of(file, &test_modules)).collect()
}

/// The ledger's way to write an id: the two oddities of the standards' print are the same statement.
#[must_use]
pub fn canonical(id: &str) -> &str {
    match id {
        "MQTT311-3.1.2-7" => "MQTT311-3.1.2.7",
        "MQTT5-4.2-1" => "MQTT5-4.2.0-1",
        other => other,
    }
}

fn tags_of(file: &File, test_modules: &[String]) -> Vec<Tag> {
    if TOOLS.iter().any(|folder| file.path.starts_with(folder)) {
        return Vec::new();
    }
    let found = ids(&file.text);
    if found.is_empty() {
        return Vec::new();
    }
    let is_rust = file.has_extension("rs");
    let regions = if is_rust { RustSource::new(&file.text).test_regions() } else { Vec::new() };
    let all_test = is_test_file(file) || (is_rust && is_in_modules(&file.path, test_modules));
    let product = is_rust && PRODUCT.iter().any(|folder| file.path.starts_with(folder));
    found
        .into_iter()
        .map(|(at, id)| {
            let side = if all_test || regions.iter().any(|region| region.contains(&at)) {
                Side::Test
            } else if product {
                Side::Code
            } else {
                Side::Mention
            };
            Tag {
                id: canonical(id).to_owned(),
                side,
                place: format!("{}:{}", file.path, line_of(&file.text, at)),
            }
        })
        .collect()
}

/// Whether the whole file is a test: a source or data file below a folder named `tests`.
fn is_test_file(file: &File) -> bool {
    let kind = file.has_extension("rs") || TEST_DATA.iter().any(|extension| file.has_extension(extension));
    kind && file.is_below_folder("tests")
}

/// Paths without extension of modules that are declared under `#[cfg(test)]`.
fn out_of_line_test_modules(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.rust().filter(|file| file.text.contains("cfg(test)")) {
        let source = RustSource::new(&file.text);
        let regions = source.test_regions();
        for declared in source.declared_modules() {
            if regions.iter().any(|region| region.contains(&declared.at)) {
                found.push(format!("{}{}", module_folder(&file.path), declared.name));
            }
        }
    }
    found
}

fn is_in_modules(path: &str, modules: &[String]) -> bool {
    modules.iter().any(|module| {
        path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    })
}

/// The folder, with a slash at its end, in which the modules that `path` declares live.
#[must_use]
pub fn module_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.strip_suffix(".rs").unwrap_or(name);
    if matches!(stem, "mod" | "lib" | "main") { format!("{folder}/") } else { format!("{folder}/{stem}/") }
}

/// The ids in square brackets, with their offsets. Prose such as `[MQTT5-…]` is not an id.
fn ids(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (open, _) in text.match_indices('[') {
        let Some(inner) = text.get(open + 1..) else {
            continue;
        };
        if !STANDARDS.iter().any(|standard| inner.starts_with(standard)) {
            continue;
        }
        let end = inner
            .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-'))
            .unwrap_or(inner.len());
        let closed = inner.get(end..).is_some_and(|rest| rest.starts_with(']'));
        if let (true, Some(id)) = (closed, inner.get(..end)) {
            found.push((open, id));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(path: &str, text: &str) -> Vec<(String, Side)> {
        collect(&Tree::of(&[(path, text)])).into_iter().map(|tag| (tag.id, tag.side)).collect()
    }

    #[test]
    fn code_and_tests_of_one_file_are_told_apart() {
        let text = "/// [MQTT5-3.1.2-22]\nfn a() {}\n#[cfg(test)]\nmod tests {\n// [MQTT311-3.1.2-24]\n}\n";
        assert_eq!(
            sides("shard/src/keep_alive.rs", text),
            [("MQTT5-3.1.2-22".to_owned(), Side::Code), ("MQTT311-3.1.2-24".to_owned(), Side::Test),]
        );
    }

    #[test]
    fn folders_decide() {
        let text = "// [MQTT5-3.1.2-22]";
        let side = |path: &str| sides(path, text).first().map(|(_, side)| *side);
        assert_eq!(side("wire/tests/vectors/connect.txt"), Some(Side::Test));
        assert_eq!(side("tests/sim/src/model.rs"), Some(Side::Test));
        assert_eq!(side("loadgen/src/client.rs"), Some(Side::Mention));
        assert_eq!(side("docs/adr/0011-ledger.md"), Some(Side::Mention));
        assert_eq!(side("tests/README.md"), Some(Side::Mention));
        assert_eq!(side("tests/spec/mqtt5.csv"), None);
    }

    #[test]
    fn a_test_module_in_its_own_file_is_a_test() {
        let tree = Tree::of(&[
            ("shard/src/core.rs", "#[cfg(test)]\nmod table;\nmod plain;"),
            ("shard/src/core/table.rs", "// [MQTT5-3.1.0-1]"),
            ("shard/src/core/plain.rs", "// [MQTT5-3.1.0-2]"),
        ]);
        let found: Vec<Side> = collect(&tree).into_iter().map(|tag| tag.side).collect();
        assert_eq!(found, [Side::Code, Side::Test]);
    }

    #[test]
    fn odd_prints_are_one_statement_and_prose_is_no_tag() {
        let text = "// [MQTT311-3.1.2-7] [MQTT311-3.1.2.7] [MQTT5-4.2-1] [MQTT5-…] MQTT5-1-1 [MQTT5-x y]";
        let found: Vec<String> = sides("wire/src/a.rs", text).into_iter().map(|(id, _)| id).collect();
        assert_eq!(found, ["MQTT311-3.1.2.7", "MQTT311-3.1.2.7", "MQTT5-4.2.0-1"]);
    }
}
