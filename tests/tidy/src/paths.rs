//! Paths that the documents name exist.
//!
//! Looked at: code spans and relative links in every Markdown file. A span is a path when it is made of path
//! characters only and either starts with a folder of the top level or ends with the name of a source or text file.

use crate::Problem;
use crate::rust_source::line_of;
use crate::tree::{File, Tree};

const CHECK: &str = "paths";

/// Extensions that make a span without a known folder a file name.
const FILE_EXTENSIONS: [&str; 5] = ["rs", "md", "toml", "csv", "lock"];

/// Looks at all Markdown files.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Problem> {
    tree.files().filter(|file| file.has_extension("md")).flat_map(|file| check_document(tree, file)).collect()
}

fn check_document(tree: &Tree, file: &File) -> Vec<Problem> {
    let mut found = Vec::new();
    let prose = without_fences(&file.text);
    for (at, span) in between(&prose, "`", "`") {
        if is_path(tree, span) && !exists(tree, file, span) {
            found.push(missing(file, &prose, at, span));
        }
    }
    for (at, target) in between(&prose, "](", ")") {
        let path = target.split('#').next().unwrap_or_default();
        let is_outside = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
        if !is_outside && !exists(tree, file, path) {
            found.push(missing(file, &prose, at, path));
        }
    }
    found
}

fn missing(file: &File, prose: &str, at: usize, path: &str) -> Problem {
    Problem::new(
        CHECK,
        format!("{}:{}", file.path, line_of(prose, at)),
        format!("names {path}, which does not exist"),
    )
}

/// The text with fenced code blocks blanked, line ends kept.
fn without_fences(text: &str) -> String {
    let mut fenced = false;
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let is_fence = line.trim_start().starts_with("```");
        if is_fence || fenced {
            out.extend(line.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        } else {
            out.push_str(line);
        }
        fenced ^= is_fence;
    }
    out
}

/// The pieces between `open` and `close` that lie on one line, with their offsets.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let mut at = 0;
        while let Some(begin) = line.get(at..).and_then(|rest| rest.find(open)) {
            let inner = at + begin + open.len();
            let Some(length) = line.get(inner..).and_then(|rest| rest.find(close)) else {
                break;
            };
            if let Some(piece) = line.get(inner..inner + length) {
                found.push((start + inner, piece));
            }
            at = inner + length + close.len();
        }
        start += line.len();
    }
    found
}

fn is_path(tree: &Tree, span: &str) -> bool {
    let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/'));
    if !plain || span.starts_with(['/', '-']) || span.starts_with("target/") {
        return false;
    }
    let below_top = span.split_once('/').is_some_and(|(first, _)| tree.has(first) && !first.contains(".rs"));
    let file_like = span
        .rsplit_once('.')
        .is_some_and(|(stem, extension)| !stem.is_empty() && FILE_EXTENSIONS.contains(&extension));
    below_top || file_like
}

/// Whether `path` exists seen from the top, from the document, from its crate's sources, or as the end of some path.
fn exists(tree: &Tree, file: &File, path: &str) -> bool {
    let path = path.trim_start_matches("./");
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let seen_from = |base: &str| tree.has(&resolve(base, path));
    seen_from("") || seen_from(folder) || seen_from(&format!("{folder}/src")) || tree.has_ending(path)
}

/// Joins `path` to `base` and removes `..`.
fn resolve(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str) -> Vec<String> {
        let tree = Tree::of(&[("README.md", text), ("wire/src/types.rs", ""), ("docs/adr/0001-a.md", "")]);
        check(&tree).into_iter().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn paths_that_exist_pass() {
        let text = "See `wire/`, `wire/src/types.rs`, `types.rs` and [one](docs/adr/0001-a.md#top).\n";
        assert_eq!(complaints(text), Vec::<String>::new());
    }

    #[test]
    fn paths_that_do_not_exist_are_found_with_their_line() {
        let found = complaints("Fine.\nSee `wire/src/gone.rs`, `gone.md`.\n[x](docs/gone)\n");
        assert_eq!(
            found,
            [
                "paths: README.md:2: names wire/src/gone.rs, which does not exist",
                "paths: README.md:2: names gone.md, which does not exist",
                "paths: README.md:3: names docs/gone, which does not exist",
            ]
        );
    }

    #[test]
    fn topics_flags_and_code_blocks_are_no_paths() {
        let text = "`device/1/temp` `--shards` `a/+/b` `/etc/x` `cargo test`\n```\n`wire/gone.rs`\n```\n[s](#part)\n";
        assert_eq!(complaints(text), Vec::<String>::new());
    }
}
