//! Values as the layers give them: typed from a file, texts from the environment and from flags.

use std::fmt;

use toml::de::{DeTable, DeValue};

/// A value before it is known what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    /// A text; the only form that the environment and flags have, so that each codec takes it.
    Text(String),
    /// A whole or decimal number, as decimal text.
    Number(String),
    /// `true` or `false`.
    Bool(bool),
    /// A list.
    List(Vec<Self>),
    /// A table, in order of its keys.
    Map(Vec<(String, Self)>),
}

impl Raw {
    /// Takes a value out of a parsed TOML document.
    pub(crate) fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(integer) => i128::from_str_radix(integer.as_str(), integer.radix()).map_or_else(
                |_too_large| Self::Text(integer.to_string()),
                |number| Self::Number(number.to_string()),
            ),
            DeValue::Float(float) => Self::Number(float.as_str().to_owned()),
            DeValue::Boolean(value) => Self::Bool(*value),
            DeValue::Datetime(date) => Self::Text(date.to_string()),
            DeValue::Array(items) => {
                Self::List(items.iter().map(|item| Self::from_toml(item.get_ref())).collect())
            }
            DeValue::Table(table) => Self::Map(
                table
                    .iter()
                    .map(|(key, value)| (key.get_ref().to_string(), Self::from_toml(value.get_ref())))
                    .collect(),
            ),
        }
    }

    /// Reads the text of a list or table as TOML would (`[…]`, `{…}`), for layers that have only texts.
    ///
    /// # Errors
    /// The parser's words.
    pub(crate) fn from_toml_text(text: &str) -> Result<Self, String> {
        let document = format!("value = {text}");
        let table = DeTable::parse(&document).map_err(|error| error.message().to_owned())?;
        table
            .get_ref()
            .get("value")
            .map(|value| Self::from_toml(value.get_ref()))
            .ok_or_else(|| "it is empty".to_owned())
    }

    /// The text of a text or number.
    pub(crate) fn as_scalar(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text.trim()),
            Self::Bool(true) => Some("true"),
            Self::Bool(false) => Some("false"),
            Self::List(_) | Self::Map(_) => None,
        }
    }
}

/// As a TOML value, shortened so that a message stays readable.
impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_toml();
        if text.chars().count() <= SHOWN_CHARS_MAX {
            return f.write_str(&text);
        }
        let head: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        write!(f, "{head}…")
    }
}

impl Raw {
    /// As a TOML value, whole.
    fn to_toml(&self) -> String {
        match self {
            Self::Text(text) => quote(text),
            Self::Number(text) => text.clone(),
            Self::Bool(value) => value.to_string(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::to_toml).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|(key, value)| format!("{} = {}", quote(key), value.to_toml()))
                    .collect();
                format!("{{ {} }}", entries.join(", "))
            }
        }
    }
}

/// A TOML basic string.
pub(crate) fn quote(text: &str) -> String {
    use std::fmt::Write as _;
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => {
                write!(quoted, "\\u{:04X}", u32::from(c)).expect("writing to a String does not fail");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Enough to recognise a value in a message, characters.
const SHOWN_CHARS_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_reads_back() {
        for text in ["", "plain", "a\"b\\c", "two\nlines\t\r", "\u{1}\u{7f}", "héé/日本"] {
            assert_eq!(Raw::from_toml_text(&quote(text)), Ok(Raw::Text(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn lists_and_tables_of_texts_become_values() {
        let list = Raw::List(vec![Raw::Text("a".into()), Raw::Number("3".into()), Raw::Bool(true)]);
        assert_eq!(Raw::from_toml_text(r#"["a", 3, true]"#), Ok(list));
        assert_eq!(
            Raw::from_toml_text("{ 'a/b' = 0x10 }"),
            Ok(Raw::Map(vec![("a/b".into(), Raw::Number("16".into()))]))
        );
        assert!(Raw::from_toml_text("[1, ").is_err());
    }

    #[test]
    fn a_long_value_is_shown_short() {
        let shown = Raw::Text("x".repeat(5_000)).to_string();
        assert_eq!(shown.chars().count(), SHOWN_CHARS_MAX + 1);
    }
}
