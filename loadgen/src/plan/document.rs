//! The text of a scenario file as a tree whose values know their lines.

use toml::de::{DeTable, DeValue};

use super::error::Problem;

/// A parsed scenario file.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    text: &'a str,
    root: DeTable<'a>,
}

/// One step from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The value of a key.
    Key(String),
    /// An element of an array, from 0.
    At(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::At(index)
    }
}

/// `steps!["group", 2, "topic"]`: where a value stands.
macro_rules! steps {
    ($($step:expr),* $(,)?) => { [$($crate::plan::document::Step::from($step)),*] };
}
pub(crate) use steps;

/// A piece of the text that becomes another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Bytes of the old text.
    pub(crate) span: std::ops::Range<usize>,
    /// What stands there afterwards.
    pub(crate) text: String,
}

impl<'a> Document<'a> {
    /// Reads TOML.
    ///
    /// # Errors
    /// What is not TOML, and in which line.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Problem> {
        match DeTable::parse(text) {
            Ok(root) => Ok(Self { text, root: root.into_inner() }),
            Err(error) => Err(problem_of(text, &error)),
        }
    }

    /// What stands in `[parameters]`, in order of the names.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&str, &DeValue<'a>)> {
        let table = match self.root.get("parameters").map(toml::Spanned::get_ref) {
            Some(DeValue::Table(table)) => Some(table),
            _ => None,
        };
        table.into_iter().flatten().map(|(name, value)| (&**name.get_ref(), value.get_ref()))
    }

    /// The line, from 1, of the value at `path`, or of the nearest value around it that is there; 0 for the whole file.
    pub(crate) fn line(&self, path: &[Step]) -> usize {
        let mut line = 0;
        let mut here: Option<&DeValue<'_>> = None;
        for step in path {
            let next = match (here, step) {
                (None, Step::Key(key)) => self.root.get_key_value(key.as_str()),
                (Some(DeValue::Table(table)), Step::Key(key)) => table.get_key_value(key.as_str()),
                (Some(DeValue::Array(array)), Step::At(index)) => {
                    let Some(value) = array.get(*index) else { return line };
                    line = line_of(self.text, value.span().start);
                    here = Some(value.get_ref());
                    continue;
                }
                _ => None,
            };
            let Some((key, value)) = next else { return line };
            line = line_of(self.text, key.span().start);
            here = Some(value.get_ref());
        }
        line
    }

    /// Calls `change` for the source text of every string value outside the top-level key `but`, quotes included; puts
    /// together what it wants changed.
    pub(crate) fn edits(&self, but: &str, mut change: impl FnMut(&str) -> Option<String>) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut waiting: Vec<&toml::Spanned<DeValue<'_>>> =
            self.root.iter().filter(|(key, _)| *key.get_ref() != but).map(|(_, value)| value).collect();
        while let Some(value) = waiting.pop() {
            match value.get_ref() {
                DeValue::String(_) => {
                    let span = value.span();
                    let changed = self.text.get(span.clone()).and_then(&mut change);
                    edits.extend(changed.map(|text| Edit { span, text }));
                }
                DeValue::Array(array) => waiting.extend(array.iter()),
                DeValue::Table(table) => waiting.extend(table.values()),
                DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
            }
        }
        edits.sort_by_key(|edit| edit.span.start);
        edits
    }

    /// The text after `edits`, which are in order and do not overlap.
    pub(crate) fn with(&self, edits: &[Edit]) -> String {
        let mut out = String::with_capacity(self.text.len());
        let mut at = 0;
        for edit in edits {
            out.push_str(self.text.get(at..edit.span.start).unwrap_or_default());
            out.push_str(&edit.text);
            at = edit.span.end;
        }
        out.push_str(self.text.get(at..).unwrap_or_default());
        out
    }
}

/// What TOML's reader says, with its line.
pub(crate) fn problem_of(text: &str, error: &toml::de::Error) -> Problem {
    let line = error.span().map_or(0, |span| line_of(text, span.start));
    Problem { line, place: String::new(), what: error.message().trim_end().replace('\n', ", ") }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "a = 1\n\n[[group]]\nname = \"x\"\npublish = [\n  { topic = \"t\" },\n  { topic = \"{u}\" },\n]\n";

    #[test]
    fn values_know_their_lines() {
        let document = Document::parse(TEXT).unwrap();
        assert_eq!(document.line(&steps!["a"]), 1);
        assert_eq!(document.line(&steps!["group", 0]), 3);
        assert_eq!(document.line(&steps!["group", 0, "publish", 1, "topic"]), 7);
        assert_eq!(
            document.line(&steps!["group", 0, "publish", 1, "qos"]),
            7,
            "absent: the entry that lacks it"
        );
        assert_eq!(document.line(&steps!["group", 4]), 3);
        assert_eq!(document.line(&steps!["stage"]), 0);
    }

    #[test]
    fn strings_are_changed_in_their_places() {
        let document = Document::parse(TEXT).unwrap();
        let edits = document.edits("a", |source| (source == "\"{u}\"").then(|| "7".to_owned()));
        assert_eq!(document.with(&edits), TEXT.replace("\"{u}\"", "7"));
    }

    #[test]
    fn what_is_not_toml_is_found_in_its_line() {
        let problem = Document::parse("a = 1\nb = = 2\n").unwrap_err();
        assert_eq!(problem.line, 2, "{problem}");
    }
}
