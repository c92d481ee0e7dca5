//! Words that must not be committed, and names that say nothing.

use crate::Problem;
use crate::rust_source::{RustSource, line_of};
use crate::tree::{File, Tree};

const CHECK: &str = "banned";

/// Text that ties the project to one machine or one mirror. Written in two halves so that this file passes its own check.
const TEXTS: [(&str, &str, &str); 10] = [
    ("/wor", "k/", "a path of one machine"),
    ("/roo", "t/", "a path of one machine"),
    ("/home", "/", "a path of one machine"),
    ("registry.npm", "js.org", "a registry's host"),
    ("static.crat", "es.io", "a registry's host"),
    ("index.crat", "es.io", "a registry's host"),
    ("pypi", ".org", "a registry's host"),
    ("pythonhost", "ed.org", "a registry's host"),
    ("deb.deb", "ian.org", "a registry's host"),
    ("security.deb", "ian.org", "a registry's host"),
];

/// Words that fit everything and so name nothing, as a part of a type's or a file's name.
const NAMES: [&str; 8] = ["worker", "manager", "handler", "util", "utils", "common", "helper", "helpers"];

/// Looks at the text of all files and at the names of types and sources.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Problem> {
    let mut found = Vec::new();
    for file in tree.files() {
        found.extend(banned_text(file));
        if file.has_extension("rs") {
            found.extend(empty_file_name(file));
            found.extend(empty_type_names(file));
        }
    }
    found
}

fn banned_text(file: &File) -> Vec<Problem> {
    let mut found = Vec::new();
    for (head, tail, why) in TEXTS {
        let word = format!("{head}{tail}");
        for (at, _) in file.text.match_indices(&word) {
            found.push(Problem::new(
                CHECK,
                format!("{}:{}", file.path, line_of(&file.text, at)),
                format!("holds \"{word}\", {why}"),
            ));
        }
    }
    found
}

fn empty_file_name(file: &File) -> Option<Problem> {
    let stem = file.name().trim_end_matches(".rs");
    let word = stem.split('_').find(|word| NAMES.contains(word))?;
    Some(Problem::new(CHECK, file.path.clone(), format!("\"{word}\" fits every file; name the noun")))
}

fn empty_type_names(file: &File) -> Vec<Problem> {
    let source = RustSource::new(&file.text);
    let mut found = Vec::new();
    let mut introduces = false;
    for (at, word) in source.words() {
        if introduces
            && let Some(part) = camel_words(word).into_iter().find(|part| NAMES.contains(&part.as_str()))
        {
            found.push(Problem::new(
                CHECK,
                format!("{}:{}", file.path, source.line_of(at)),
                format!("{word}: \"{part}\" fits every type; name the noun"),
            ));
        }
        introduces = matches!(word, "struct" | "enum" | "trait" | "type" | "union" | "mod");
    }
    found
}

/// `SocketHandler` and `socket_handler` as lower-case words.
fn camel_words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            words.push(String::new());
        }
        if let (true, Some(last)) = (c != '_', words.last_mut()) {
            last.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn machine_paths_and_hosts_are_found() {
        let text = format!("fine\nsee {}{} here", "/wor", "k/main");
        let found = complaints("docs/a.md", &text);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("banned: docs/a.md:2:"));
    }

    #[test]
    fn empty_names_are_found_in_types_and_files() {
        assert_eq!(complaints("a/src/socket_handler.rs", "").len(), 1);
        assert_eq!(complaints("a/src/x.rs", "struct ConnManager; enum Utils {} mod common {}").len(), 3);
    }

    #[test]
    fn names_that_only_look_alike_pass() {
        let text = "struct Utility; fn handler() {} // struct Manager\nstruct Networker;";
        assert_eq!(complaints("a/src/commonality.rs", text), Vec::<String>::new());
    }
}
