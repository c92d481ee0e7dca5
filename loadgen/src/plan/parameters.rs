//! Parameters: numbers and texts that a scenario names once and `--set` changes.
//!
//! `"{pairs}"` as a whole value becomes the number itself; inside a longer text it becomes its digits. Between the
//! braces numbers and parameters can be calculated with: `{pairs * 2}`, `{clients - 1}`. What refers to no parameter is
//! left alone: it belongs to the templates.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::document::Document;

/// Parameters by name, with the values that hold for this run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Parameters(BTreeMap<String, Value>);

/// What a parameter is.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Number(f64),
    Text(String),
}

/// Names that templates use for something else.
const RESERVED: [&str; 12] =
    ["index", "n", "seq", "group", "client_id", "run", "time", "rand", "any", "data", "jwt", "stamp"];

impl Parameters {
    /// Takes one parameter with its value from the file.
    ///
    /// # Errors
    /// What is wrong with the name or the value.
    pub(crate) fn define(&mut self, name: &str, value: &DeValue<'_>) -> Result<(), String> {
        check_name(name)?;
        let value = match value {
            DeValue::String(text) => Value::text(text)?,
            DeValue::Integer(integer) => number(&integer.to_string())?,
            DeValue::Float(float) => number(&float.to_string())?,
            DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                return Err(format!("parameter {name:?} must be a number or a text"));
            }
        };
        self.0.insert(name.to_owned(), value);
        Ok(())
    }

    /// Gives a parameter another value, which must be of the same kind.
    ///
    /// # Errors
    /// If there is no such parameter, or a number is wanted.
    pub(crate) fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let Some(value) = self.0.get_mut(name) else {
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            return Err(match known.as_slice() {
                [] => format!("--set {name}={text}: this scenario has no parameters"),
                known => format!("--set {name}={text}: its parameters are {}", known.join(", ")),
            });
        };
        let told = |wrong: String| format!("--set {name}={text}: {wrong}");
        *value = match value {
            Value::Number(_) => number(text).map_err(told)?,
            Value::Text(_) => Value::text(text).map_err(told)?,
        };
        Ok(())
    }

    /// The text of `document` with all parameters filled in. No line moves.
    ///
    /// # Errors
    /// The expression that can't be calculated.
    pub(crate) fn fill_in(&self, document: &Document<'_>) -> Result<String, String> {
        let mut wrong = None;
        let edits = document.edits("parameters", |source| match self.replace(source) {
            Ok(changed) => changed,
            Err(error) => {
                wrong = Some(error);
                None
            }
        });
        wrong.map_or_else(|| Ok(document.with(&edits)), Err)
    }

    /// The source of a string value with parameters filled in; `None` if it refers to none.
    fn replace(&self, source: &str) -> Result<Option<String>, String> {
        let mut out = source.to_owned();
        let mut from = 0;
        let mut changed = false;
        while let Some((open, close)) = innermost(&out, from) {
            let Some(value) = self.evaluate(&out[open + 1..close])? else {
                from = close + 1;
                continue;
            };
            let is_whole = is_quotes(&out[..open]) && is_quotes(&out[close + 1..]) && !changed;
            if let (true, Value::Number(_)) = (is_whole, &value) {
                return Ok(Some(value.shown()));
            }
            out.replace_range(open..=close, &value.shown());
            changed = true;
            // What was filled in may complete the braces around it.
            from = 0;
        }
        Ok(changed.then_some(out))
    }

    /// The value of what stands between braces; `None` if it is no expression of parameters.
    fn evaluate(&self, text: &str) -> Result<Option<Value>, String> {
        let Some(tokens) = tokens(text) else { return Ok(None) };
        let is_known = |token: &Token<'_>| match token {
            Token::Name(name) => self.0.contains_key(*name),
            Token::Number(_) | Token::Sign(_) => true,
        };
        let has_name = tokens.iter().any(|token| matches!(token, Token::Name(_)));
        if !has_name || !tokens.iter().all(is_known) {
            return Ok(None);
        }
        if let [Token::Name(name)] = tokens.as_slice() {
            return Ok(self.0.get(*name).cloned());
        }
        let number = self.calculate(&tokens).ok_or_else(|| {
            format!("{{{text}}} can't be calculated; write numbers and number parameters with + - * / between them")
        })?;
        Ok(Some(Value::Number(number)))
    }

    /// A sum of products.
    fn calculate(&self, tokens: &[Token<'_>]) -> Option<f64> {
        let (first, rest) = tokens.split_first()?;
        let (mut sum, mut product) = (0.0, self.operand(*first)?);
        for pair in rest.chunks(2) {
            let [Token::Sign(sign), operand] = pair else { return None };
            let value = self.operand(*operand)?;
            match sign {
                '*' => product *= value,
                '/' => product /= value,
                '+' => (sum, product) = (sum + product, value),
                _ => (sum, product) = (sum + product, -value),
            }
        }
        let total = sum + product;
        total.is_finite().then_some(total)
    }

    fn operand(&self, token: Token<'_>) -> Option<f64> {
        match token {
            Token::Number(number) => Some(number),
            Token::Name(name) => match self.0.get(name)? {
                Value::Number(number) => Some(*number),
                Value::Text(_) => None,
            },
            Token::Sign(_) => None,
        }
    }

    /// The parameters as values, for reports.
    pub(crate) fn values(&self) -> BTreeMap<String, toml::Value> {
        let value = |value: &Value| match value {
            Value::Number(number) if number.fract() == 0.0 => {
                number.to_string().parse().map_or(toml::Value::Float(*number), toml::Value::Integer)
            }
            Value::Number(number) => toml::Value::Float(*number),
            Value::Text(text) => toml::Value::String(text.clone()),
        };
        self.0.iter().map(|(name, held)| (name.clone(), value(held))).collect()
    }
}

impl Value {
    fn text(text: &str) -> Result<Self, String> {
        if text.contains(|c: char| c.is_control() || matches!(c, '"' | '\'' | '\\' | '{' | '}')) {
            return Err(format!(
                "{text:?} has quotes, braces, a backslash or control characters, which a parameter can't have"
            ));
        }
        Ok(Self::Text(text.to_owned()))
    }

    /// As it is filled in.
    fn shown(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !is_name {
        return Err(format!(
            "parameter {name:?}: a name has lower-case letters, digits and '_', and begins with a letter"
        ));
    }
    if RESERVED.contains(&name) {
        return Err(format!("parameter {name:?}: templates use this name; choose another"));
    }
    Ok(())
}

fn number(text: &str) -> Result<Value, String> {
    match text.replace('_', "").parse::<f64>() {
        Ok(number) if number.abs() <= NUMBER_MAX => Ok(Value::Number(number)),
        _ => Err(format!("{text:?} is not a number between -10^15 and 10^15")),
    }
}

/// Whole numbers up to here are exact.
const NUMBER_MAX: f64 = 1e15;

/// The first pair of braces at or after `from` with no brace between them.
fn innermost(text: &str, from: usize) -> Option<(usize, usize)> {
    let close = text.get(from..)?.find('}')? + from;
    match text[from..close].rfind('{') {
        Some(open) => Some((from + open, close)),
        None => innermost_after(text, close + 1),
    }
}

/// As [`innermost`], past a closing brace that has no partner.
fn innermost_after(text: &str, mut from: usize) -> Option<(usize, usize)> {
    loop {
        let close = text.get(from..)?.find('}')? + from;
        if let Some(open) = text[from..close].rfind('{') {
            return Some((from + open, close));
        }
        from = close + 1;
    }
}

/// Whether a piece of source consists of the quotes of a one-line string.
fn is_quotes(source: &str) -> bool {
    matches!(source, "\"" | "'")
}

/// A piece of an expression.
#[derive(Clone, Copy, Debug)]
enum Token<'a> {
    Number(f64),
    Name(&'a str),
    Sign(char),
}

/// Cuts an expression up; `None` if it has anything that no expression has.
fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        if first.is_ascii_digit() {
            tokens.push(Token::Number(rest[..end].replace('_', "").parse().ok()?));
            rest = &rest[end..];
        } else if first.is_ascii_lowercase() {
            tokens.push(Token::Name(&rest[..end]));
            rest = &rest[end..];
        } else if matches!(first, '+' | '-' | '*' | '/') {
            tokens.push(Token::Sign(first));
            rest = &rest[1..];
        } else {
            return None;
        }
        rest = rest.trim_start();
    }
    Some(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, String> {
        let parameters = Parameters(BTreeMap::from([
            ("pairs".to_owned(), Value::Number(50.0)),
            ("ratio".to_owned(), Value::Number(0.5)),
            ("site".to_owned(), Value::Text("north".to_owned())),
        ]));
        let text = format!("x = {text}\n");
        let document = Document::parse(&text).unwrap();
        Ok(parameters.fill_in(&document)?["x = ".len()..].trim_end().to_owned())
    }

    #[test]
    fn values_are_filled_in() {
        for (text, expected) in [
            (r#""{pairs}""#, "50"),
            (r"'{pairs * 2 - 1}'", "99"),
            (r#""{ pairs/ratio + 2*3 }""#, "106"),
            (r#""{site}""#, r#""north""#),
            (r#""{site}/{pairs}/{index}""#, r#""north/50/{index}""#),
            (r#""{rand:0:{pairs - 1}}""#, r#""{rand:0:49}""#),
            (r#"'{"a": {pairs}}'"#, r#"'{"a": 50}'"#),
            (r#""} {pairs}{""#, r#""} 50{""#),
            (r#"["{pairs}", { a = "{ratio}" }]"#, "[50, { a = 0.5 }]"),
            (r#""{data.pairs} {5} {}""#, r#""{data.pairs} {5} {}""#),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_calculated_is_explained() {
        for text in
            [r#""{pairs +}""#, r#""{pairs / 0}""#, r#""{site * 2}""#, r#""{pairs pairs}""#, r#""{+ pairs}""#]
        {
            assert!(filled(text).unwrap_err().contains("can't be calculated"), "{text}");
        }
    }

    #[test]
    fn parameters_are_checked_when_they_are_set() {
        let mut parameters = Parameters::default();
        assert!(parameters.set("x", "1").unwrap_err().contains("no parameters"));
        parameters.define("x", &DeValue::Float(toml_float())).unwrap();
        assert!(parameters.set("y", "1").unwrap_err().contains("its parameters are x"));
        assert!(parameters.set("x", "one").unwrap_err().contains("not a number"));
        parameters.set("x", "1_000").unwrap();
        assert_eq!(parameters.values()["x"], toml::Value::Integer(1_000));
        assert!(parameters.define("index", &DeValue::Boolean(true)).unwrap_err().contains("templates use"));
        assert!(parameters.define("Big", &DeValue::Boolean(true)).unwrap_err().contains("lower-case"));
        assert!(parameters.define("b", &DeValue::Boolean(true)).unwrap_err().contains("number or a text"));
        assert!(Value::text("a\"b").is_err());
    }

    fn toml_float() -> toml::de::DeFloat<'static> {
        let text = "a = 1.5";
        let table = toml::de::DeTable::parse(text).unwrap().into_inner();
        table.get("a").unwrap().get_ref().as_float().unwrap().clone()
    }
}
