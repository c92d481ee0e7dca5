//! Rust source without its comments and strings, and the regions of it that are tests.
//!
//! Not a parser: a scan of bytes that knows comments, strings, character literals and matching brackets, which is
//! enough to find words, attributes, modules and test regions.

use std::ops::Range;

/// A scanned source file.
#[derive(Debug)]
pub struct RustSource<'a> {
    text: &'a str,
    code: String,
}

/// A `mod name;` that names another file.
#[derive(Debug, PartialEq, Eq)]
pub struct Declared {
    /// The name of the module.
    pub name: String,
    /// The file that a `#[path = "…"]` in front of it names.
    pub path: Option<String>,
    /// Where the word `mod` stands.
    pub at: usize,
}

impl<'a> RustSource<'a> {
    /// Scans `text`. Costs one pass and a copy of it.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, code: mask(text) }
    }

    /// The text with every byte of comments and strings replaced by a blank (line ends stay), so that offsets agree.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The words (identifiers and keywords) of the code with their offsets.
    pub fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        words(&self.code)
    }

    /// The line, counted from 1, in which byte `offset` lies.
    #[must_use]
    pub fn line_of(&self, offset: usize) -> usize {
        line_of(self.text, offset)
    }

    /// The byte ranges of items under `#[test]` or `#[cfg(test)]` (also within `all(…)`).
    #[must_use]
    pub fn test_regions(&self) -> Vec<Range<usize>> {
        let mut regions: Vec<Range<usize>> = Vec::new();
        for attribute in self.attributes() {
            if regions.iter().any(|region| region.contains(&attribute.start)) {
                continue;
            }
            let inner = self.code.get(attribute.clone()).unwrap_or_default();
            if is_test_attribute(inner) {
                regions.push(attribute.start..item_end(&self.code, attribute.end));
            }
        }
        regions
    }

    /// The modules that live in other files.
    #[must_use]
    pub fn declared_modules(&self) -> Vec<Declared> {
        let mut found = Vec::new();
        let mut words = self.words().peekable();
        while let Some((at, word)) = words.next() {
            if word != "mod" {
                continue;
            }
            let Some(&(name_at, name)) = words.peek() else {
                continue;
            };
            let after = self.code.get(name_at + name.len()..).unwrap_or_default();
            if after.trim_start().starts_with(';') {
                found.push(Declared { name: name.to_owned(), path: self.path_attribute_before(at), at });
            }
        }
        found
    }

    /// The files named by `include!("…")`.
    #[must_use]
    pub fn included(&self) -> Vec<String> {
        self.words()
            .filter(|(_, word)| *word == "include")
            .filter_map(|(at, _)| first_quoted(self.text.get(at..)?.lines().next()?))
            .collect()
    }

    /// The attributes `#[…]` and `#![…]`, whole.
    fn attributes(&self) -> Vec<Range<usize>> {
        let bytes = self.code.as_bytes();
        let mut found = Vec::new();
        for (start, _) in self.code.match_indices('#') {
            let open = match (bytes.get(start + 1), bytes.get(start + 2)) {
                (Some(b'['), _) => start + 1,
                (Some(b'!'), Some(b'[')) => start + 2,
                _ => continue,
            };
            found.push(start..matching_end(&self.code, open));
        }
        found
    }

    fn path_attribute_before(&self, at: usize) -> Option<String> {
        let last = self.attributes().into_iter().rfind(|attribute| attribute.end <= at)?;
        let between = self.code.get(last.end..at)?;
        let only_visibility =
            words(between).all(|(_, word)| matches!(word, "pub" | "crate" | "super" | "in"));
        let text = self.text.get(last)?;
        (only_visibility && text.starts_with("#[path")).then(|| first_quoted(text))?
    }
}

/// The line, counted from 1, in which byte `offset` of `text` lies.
#[must_use]
pub fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// The words of masked code with their offsets.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = code.get(at..)?;
        let start = at + rest.find(is_word)?;
        let word = code.get(start..)?;
        let end = start + word.find(|c| !is_word(c)).unwrap_or(word.len());
        at = end;
        Some((start, code.get(start..end)?))
    })
}

fn first_quoted(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('"')?;
    let (inner, _) = rest.split_once('"')?;
    Some(inner.to_owned())
}

/// Whether an attribute puts its item under test builds only.
fn is_test_attribute(attribute: &str) -> bool {
    let names: Vec<&str> = words(attribute).map(|(_, word)| word).collect();
    match names.as_slice() {
        ["test"] => true,
        ["cfg", rest @ ..] => {
            rest.contains(&"test") && !rest.contains(&"not") && !attribute.starts_with("#!")
        }
        _ => false,
    }
}

/// The end of the item that starts after `from`: its `;` or the brace that closes it.
fn item_end(code: &str, from: usize) -> usize {
    let bytes = code.as_bytes();
    let mut at = from;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'(' | b'[' => at = matching_end(code, at),
            b'{' => return matching_end(code, at),
            b';' => return at + 1,
            _ => at += 1,
        }
    }
    code.len()
}

/// The offset after the bracket that closes the one at `open`; the end of the code when none does.
fn matching_end(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Replaces comments and the insides of strings by blanks.
fn mask(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hidden = hidden_length(rest, out.chars().next_back());
        let (taken, visible) = match hidden {
            0 => (first.len_utf8(), true),
            length => (length, false),
        };
        let (piece, after) = rest.split_at(taken);
        if visible {
            out.push_str(piece);
        } else {
            out.extend(piece.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        }
        rest = after;
    }
    out
}

/// How many bytes from the start of `rest` are a comment, a string or a character literal.
fn hidden_length(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    if rest.starts_with('"') {
        return quoted_length(rest, '"');
    }
    if rest.starts_with('\'') {
        return character_length(rest);
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word && rest.starts_with(['r', 'b', 'c']) {
        return prefixed_length(rest);
    }
    0
}

fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of a literal that starts with `quote` and may hold backslash escapes.
fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, c) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return index + c.len_utf8();
        }
    }
    rest.len()
}

/// The length of a character literal, or 0 for a lifetime.
fn character_length(rest: &str) -> usize {
    let mut following = rest.chars().skip(1);
    match (following.next(), following.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted_length(rest, '\''),
        _ => 0,
    }
}

/// The length of `r"…"`, `r#"…"#`, `b"…"`, `br"…"`, `b'…'` or `c"…"`, or 0 for anything else.
fn prefixed_length(rest: &str) -> usize {
    let letters = rest.find(|c| !matches!(c, 'r' | 'b' | 'c')).unwrap_or(rest.len());
    let Some(tail) = rest.get(letters..).filter(|_| letters <= 2) else {
        return 0;
    };
    let is_raw = rest.get(..letters).is_some_and(|prefix| prefix.contains('r'));
    if is_raw {
        let hashes = tail.find(|c| c != '#').unwrap_or(tail.len());
        if !tail.get(hashes..).is_some_and(|inner| inner.starts_with('"')) {
            return 0;
        }
        let close = format!("\"{}", "#".repeat(hashes));
        let start = letters + hashes + 1;
        return rest
            .get(start..)
            .and_then(|inner| inner.find(&close))
            .map_or(rest.len(), |end| start + end + close.len());
    }
    if tail.starts_with('"') {
        letters + quoted_length(tail, '"')
    } else if tail.starts_with('\'') && character_length(tail) > 0 {
        letters + character_length(tail)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blank_and_offsets_stay() {
        let text =
            "let a = \"unsafe \\\" x\"; // unsafe\n/* unsafe /* deep */ still */ let b = r#\"un\"safe\"#;";
        let source = RustSource::new(text);
        assert_eq!(source.code().len(), text.len());
        assert!(!source.code().contains("unsafe"));
        let found: Vec<&str> = source.words().map(|(_, word)| word).collect();
        assert_eq!(found, ["let", "a", "let", "b"]);
    }

    #[test]
    fn lifetimes_are_not_character_literals() {
        let source = RustSource::new("fn f<'a>(x: &'a str) -> char { '\\'' } fn g() { b'\"'; unsafe {} }");
        assert!(source.words().any(|(_, word)| word == "unsafe"));
    }

    #[test]
    fn test_regions_cover_modules_and_functions() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() {} }\nfn c() {}\n#[test]\nfn d() { x; }\n";
        let source = RustSource::new(text);
        let regions = source.test_regions();
        let inside = |word: &str| {
            let at = text.find(word).unwrap();
            regions.iter().any(|region| region.contains(&at))
        };
        assert!(!inside("fn a"));
        assert!(inside("fn b"));
        assert!(!inside("fn c"));
        assert!(inside("fn d"));
    }

    #[test]
    fn not_test_is_not_a_test() {
        assert!(RustSource::new("#[cfg(not(test))] fn a() {}").test_regions().is_empty());
        assert_eq!(RustSource::new("#[cfg(all(test, unix))] fn a() {}").test_regions().len(), 1);
    }

    #[test]
    fn modules_in_other_files_are_found() {
        let text = "pub mod one;\n#[path = \"odd.rs\"]\npub(crate) mod two;\nmod three { mod four; }\n// mod five;\n";
        let source = RustSource::new(text);
        let found: Vec<(String, Option<String>)> =
            source.declared_modules().into_iter().map(|declared| (declared.name, declared.path)).collect();
        assert_eq!(
            found,
            [
                ("one".to_owned(), None),
                ("two".to_owned(), Some("odd.rs".to_owned())),
                ("four".to_owned(), None),
            ]
        );
    }

    #[test]
    fn lines_are_counted_from_one() {
        let source = RustSource::new("a\nb\nc");
        assert_eq!(source.line_of(0), 1);
        assert_eq!(source.line_of(4), 3);
    }
}
