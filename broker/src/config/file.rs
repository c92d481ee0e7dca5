//! The file layer: TOML, with the line of each value.

use std::io::ErrorKind;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::value::Raw;
use super::{Given, Origin, schema, unknown_key, unknown_section};

/// Reads the values of a file. What is wrong is appended to `problems`.
#[expect(
    clippy::disallowed_methods,
    reason = "the configuration file, read at start and reload by the control plane"
)]
pub(crate) fn read(path: &Path, problems: &mut Vec<String>) -> Vec<Given> {
    let too_large =
        || format!("{}: is larger than {FILE_BYTES_MAX} bytes; is it the right file?", path.display());
    let size = std::fs::metadata(path).map(|metadata| metadata.len());
    let text = match size {
        Ok(bytes) if bytes > FILE_BYTES_MAX => Err(too_large()),
        _ => std::fs::read_to_string(path).map_err(|error| {
            format!("{}: cannot be read: {error}. {}", path.display(), advice(error.kind()))
        }),
    };
    match text {
        Ok(text) => parse(path, &text, problems),
        Err(problem) => {
            problems.push(problem);
            Vec::new()
        }
    }
}

/// What to do about a file that cannot be read.
fn advice(kind: ErrorKind) -> &'static str {
    if kind == ErrorKind::PermissionDenied {
        "Let the user that the broker runs as read it."
    } else if kind == ErrorKind::InvalidData {
        "A configuration is a text in UTF-8; is it the right file?"
    } else {
        "Check the path given with --config or DUNLIN_CONFIG."
    }
}

/// Takes the values out of the text of a file.
pub(crate) fn parse(path: &Path, text: &str, problems: &mut Vec<String>) -> Vec<Given> {
    let origin = |at: usize| Origin::File { path: path.to_owned(), line: line_of(text, at) };
    match DeTable::parse(text) {
        Ok(document) => {
            let mut walk = Walk { origin: &origin, given: Vec::new(), problems };
            walk.table("", document.get_ref());
            walk.given
        }
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            problems.push(format!("{}: is not TOML: {}.", origin(at), error.message()));
            Vec::new()
        }
    }
}

/// A walk over the tables of a document.
struct Walk<'a> {
    origin: &'a dyn Fn(usize) -> Origin,
    given: Vec<Given>,
    problems: &'a mut Vec<String>,
}

impl Walk<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let name = if prefix.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{prefix}.{}", key.get_ref())
            };
            let origin = (self.origin)(key.span().start);
            if let Some(setting) = schema::find(&name) {
                self.given.push(Given { name: setting.name, raw: Raw::from_toml(value.get_ref()), origin });
            } else if !schema::is_section(&name) {
                let is_table = matches!(value.get_ref(), DeValue::Table(_));
                let problem = if is_table { unknown_section } else { unknown_key };
                self.problems.push(problem(&origin, &name));
            } else if let DeValue::Table(inner) = value.get_ref() {
                self.table(&name, inner);
            } else {
                self.problems
                    .push(format!("{origin}: {name} is a section; write [{name}] and its keys below."));
            }
        }
    }
}

/// The line that byte `at` stands in, from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// A configuration has a few kilobytes; more is another file.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> (Vec<Given>, Vec<String>) {
        let mut problems = Vec::new();
        let given = parse(Path::new("d.toml"), text, &mut problems);
        (given, problems)
    }

    #[test]
    fn values_know_their_lines() {
        let text = "# a file\n[mqtt]\nmax_inflight = 5\n\nmqueue_priorities = { 'a/b' = 9 }\n[log]\nlevel = 'warn'\n";
        let (given, problems) = parsed(text);
        assert_eq!(problems, Vec::<String>::new());
        let places: Vec<(&str, String)> =
            given.iter().map(|given| (given.name, given.origin.to_string())).collect();
        assert!(places.contains(&("mqtt.max_inflight", "d.toml:3".to_owned())));
        assert!(places.contains(&("mqtt.mqueue_priorities", "d.toml:5".to_owned())));
        assert!(places.contains(&("log.level", "d.toml:7".to_owned())));
        assert_eq!(places.len(), 3);
    }

    #[test]
    fn a_table_may_be_written_as_a_section_of_its_own() {
        let (given, problems) = parsed("[mqtt.mqueue_priorities]\n'a/b' = 9\n");
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(given.len(), 1);
        assert_eq!(given[0].name, "mqtt.mqueue_priorities");
    }

    #[test]
    fn unknown_keys_are_errors_with_a_guess() {
        let (given, problems) = parsed("[mqtt]\nmax_paket_size = 1\n[nonsense]\nx = 1\n");
        assert_eq!(given, Vec::new());
        assert_eq!(
            problems[0],
            "d.toml:2: there is no key mqtt.max_paket_size; did you mean mqtt.max_packet_size?"
        );
        assert_eq!(
            problems[1],
            "d.toml:3: there is no section [nonsense]; `dunlin --print-config` without a file shows all of them."
        );
    }

    #[test]
    fn a_broken_file_says_where() {
        let (_, problems) = parsed("[mqtt]\nmax_inflight = \n");
        assert!(problems[0].starts_with("d.toml:2: is not TOML: "), "{}", problems[0]);
        let (_, problems) = parsed("mqtt = 3\n");
        assert_eq!(problems, ["d.toml:1: mqtt is a section; write [mqtt] and its keys below."]);
        let (_, problems) = parsed("[mqtt]\nmax_inflight = 1\nmax_inflight = 2\n");
        assert!(problems[0].starts_with("d.toml:3: is not TOML: "), "{}", problems[0]);
    }

    proptest! {
        /// No text makes the reader panic; what is not taken is a problem with a place.
        #[test]
        fn any_text_is_values_or_problems(text in prop_oneof![
            any::<String>(),
            "(\\[(mqtt|log|server|x)\\]\n|(level|max_inflight|listen|y) = ([0-9]{1,4}|'[a-z]{0,4}'|\\[1, 'a'\\])\n){0,6}",
        ]) {
            let (_, problems) = parsed(&text);
            prop_assert!(problems.iter().all(|problem| problem.starts_with("d.toml:")), "{:?}", problems);
        }
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let mut problems = Vec::new();
        assert_eq!(read(Path::new("/nowhere/d.toml"), &mut problems), Vec::new());
        assert!(problems[0].starts_with("/nowhere/d.toml: cannot be read: "));
    }
}
