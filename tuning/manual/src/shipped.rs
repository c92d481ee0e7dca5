//! The comparison of a rendered file with the shipped one.

use std::fs;
use std::path::Path;

/// Compares `wanted` with the file at `path`; when the environment has `DUNLIN_BLESS`, writes it instead.
///
/// # Errors
/// When the file differs or cannot be read or written: the first line that differs, and the command that rewrites it.
#[expect(clippy::disallowed_methods, reason = "tests of the programs compare files of the repository")]
pub fn check(path: &Path, wanted: &str) -> Result<(), String> {
    if std::env::var_os("DUNLIN_BLESS").is_some() {
        return fs::write(path, wanted).map_err(|error| format!("{}: {error}", path.display()));
    }
    let found = fs::read_to_string(path).map_err(|error| format!("{}: {error}; {ADVICE}", path.display()))?;
    match first_difference(&found, wanted) {
        None => Ok(()),
        Some((line, found, wanted)) => {
            Err(format!("{}:{line} has {found:?} where the program has {wanted:?}; {ADVICE}", path.display()))
        }
    }
}

/// The number of the first line that differs, from 1, with both lines; a missing line is empty.
fn first_difference<'a>(found: &'a str, wanted: &'a str) -> Option<(usize, &'a str, &'a str)> {
    if found == wanted {
        return None;
    }
    let (mut ours, mut theirs) = (found.lines(), wanted.lines());
    let mut line = 1;
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return Some((line, "(the end)", "(the end, with another line end)")),
            (found, wanted) if found != wanted => {
                return Some((line, found.unwrap_or_default(), wanted.unwrap_or_default()));
            }
            _ => line += 1,
        }
    }
}

const ADVICE: &str = "DUNLIN_BLESS=1 cargo test -p dunlin -p dunlin-loadgen manual rewrites the pages";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some((2, "b", "c")));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some((2, "", "b")));
        assert!(first_difference("a\n", "a").is_some());
    }

    #[test]
    fn a_file_that_is_not_there_says_what_to_do() {
        let missing = check(Path::new("no/such/page.1"), "text");
        assert!(missing.is_err_and(|problem| problem.contains("no/such/page.1") && problem.contains(ADVICE)));
    }
}
