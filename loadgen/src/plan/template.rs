//! Text with variables: `dev-{index}`, `{data.serial}`, `{"t": {rand:18.0:24.0}}`.
//!
//! Compiled once, when the file is read; rendering only appends to the caller's buffer. A `{` that is not followed by a
//! lower-case letter is an ordinary character, so JSON needs no escapes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::data::Row;
use crate::dice::Dice;

/// Text with variables, compiled.
///
/// | variable | what it becomes |
/// |---|---|
/// | `{index}` | the client's number in its group, from 0 |
/// | `{n}` | which of the `repeat` subscriptions, from 0 |
/// | `{seq}` | the client's message number of this publish entry, from 0 |
/// | `{group}` | the group's name |
/// | `{client_id}` | the client id as it was rendered |
/// | `{run}` | a number that differs from run to run |
/// | `{time}` | milliseconds since 1970 |
/// | `{rand:1:6}`, `{rand:0.00:1.00}` | a number by chance, both ends possible, with as many decimals as written |
/// | `{any.group}` | the number of a client of that group, by chance |
/// | `{data.column}` | this client's value in the group's data file |
/// | `{jwt}` | a token minted for this client |
/// | `{stamp}` | the stamp that verification needs, as text (48 characters) |
///
/// `{index}`, `{n}` and `{seq}` may be followed by `+`, `*`, `/` and `%` with whole numbers, taken from left to right:
/// `{index/10%4}`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    source: Box<str>,
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Box<str>),
    Count(Count, Vec<(Operator, u64)>),
    Variable(Variable),
    Random { least: i64, most: i64, decimals: u32 },
    Data(Box<str>),
    Client { group: Box<str>, count: u32 },
}

/// The numbers that can be calculated with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    Index,
    N,
    Seq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Plus,
    Times,
    Over,
    Modulo,
}

/// What a template can refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variable {
    /// `{index}`
    Index,
    /// `{n}`
    N,
    /// `{seq}`
    Seq,
    /// `{group}`
    Group,
    /// `{client_id}`
    ClientId,
    /// `{run}`
    Run,
    /// `{time}`
    Time,
    /// `{rand:…}` or `{any.…}`
    Rand,
    /// `{data.…}`
    Data,
    /// `{jwt}`
    Jwt,
    /// `{stamp}`
    Stamp,
}

impl fmt::Display for Variable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Index => "{index}",
            Self::N => "{n}",
            Self::Seq => "{seq}",
            Self::Group => "{group}",
            Self::ClientId => "{client_id}",
            Self::Run => "{run}",
            Self::Time => "{time}",
            Self::Rand => "{rand:least:most}",
            Self::Data => "{data.column}",
            Self::Jwt => "{jwt}",
            Self::Stamp => "{stamp}",
        })
    }
}

/// What the variables stand for while rendering. What a field of the plan does not allow may be left at its default.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    /// `{index}`
    pub(crate) index: u32,
    /// `{n}`
    pub(crate) n: u32,
    /// `{seq}`
    pub(crate) seq: u64,
    /// `{group}`
    pub(crate) group: &'a str,
    /// `{client_id}`
    pub(crate) client_id: &'a str,
    /// `{run}`
    pub(crate) run: u32,
    /// `{time}`: milliseconds since 1970.
    pub(crate) time_ms: u64,
    /// `{data.…}`
    pub(crate) row: Option<Row<'a>>,
    /// `{jwt}`
    pub(crate) jwt: &'a str,
    /// `{rand:…}`
    pub(crate) dice: &'a mut Dice,
}

/// Characters that `{stamp}` takes: a mark of 4 and 32 bytes as base64url without padding, and one for the end.
pub(crate) const STAMP_TEXT_BYTES: usize = 48;

/// What a text stamp begins with. No base64url text has a dot, so it is not met by chance inside one.
pub(crate) const STAMP_MARK: &[u8; 4] = b"dl1.";

impl Template {
    /// As it was written.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Puts constant text `at` bytes behind its beginning. What comes before must be constant too; if it is not, nothing
    /// changes and the answer is false.
    pub(crate) fn insert(&mut self, at: usize, text: &str) -> bool {
        if at > 0 {
            let Some(Part::Text(first)) = self.parts.first_mut() else { return false };
            if first.get(..at).is_none() || first.get(..at) != self.source.get(..at) {
                return false;
            }
            *first = [&first[..at], text, &first[at..]].concat().into();
        } else {
            self.parts.insert(0, Part::Text(text.into()));
        }
        self.source = [&self.source[..at], text, &self.source[at..]].concat().into();
        true
    }

    /// Whether there is nothing in it, not even a variable.
    pub(crate) fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// Whether it always renders to the same text, for every client.
    pub(crate) fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The variables in it, in order, with repetitions.
    pub(crate) fn variables(&self) -> impl Iterator<Item = Variable> + '_ {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Count(Count::Index, _) => Some(Variable::Index),
            Part::Count(Count::N, _) => Some(Variable::N),
            Part::Count(Count::Seq, _) => Some(Variable::Seq),
            Part::Variable(variable) => Some(*variable),
            Part::Random { .. } | Part::Client { .. } => Some(Variable::Rand),
            Part::Data(_) => Some(Variable::Data),
        })
    }

    /// Whether `variable` is in it.
    pub(crate) fn uses(&self, variable: Variable) -> bool {
        self.variables().any(|used| used == variable)
    }

    /// Whether it calculates with a number instead of writing it as it is.
    pub(crate) fn calculates(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Count(_, steps) if !steps.is_empty()))
    }

    /// The columns of the data file that it reads.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts
            .iter()
            .filter_map(|part| if let Part::Data(column) = part { Some(&**column) } else { None })
    }

    /// Looks up how many clients each group has that `{any.…}` names. Until then they have one.
    ///
    /// # Errors
    /// The name of a group that is not there.
    pub(crate) fn bind(&mut self, clients: impl Fn(&str) -> Option<u32>) -> Result<(), String> {
        for part in &mut self.parts {
            if let Part::Client { group, count } = part {
                *count = clients(group).ok_or_else(|| group.to_string())?;
            }
        }
        Ok(())
    }

    /// Appends the text to `out`. Returns where `{stamp}` begins in `out`, if it is used: [`STAMP_TEXT_BYTES`] dots stand
    /// there, to be written over. Allocates nothing but room in `out`.
    pub(crate) fn render(&self, scope: &mut Scope<'_>, out: &mut Vec<u8>) -> Option<usize> {
        let mut stamp_at = None;
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Count(count, steps) => push_number(calculate(count.of(scope), steps), 0, out),
                Part::Variable(Variable::Stamp) => {
                    stamp_at = stamp_at.or(Some(out.len()));
                    out.resize(out.len() + STAMP_TEXT_BYTES, b'.');
                }
                Part::Variable(variable) => variable.push(scope, out),
                Part::Random { least, most, decimals } => {
                    push_random(scope.dice, *least, *most, *decimals, out)
                }
                Part::Client { count, .. } => {
                    push_number(u64::from(scope.dice.below((*count).max(1))), 0, out);
                }
                Part::Data(column) => {
                    let value = scope.row.and_then(|row| row.get(column)).unwrap_or_default();
                    out.extend_from_slice(value.as_bytes());
                }
            }
        }
        stamp_at
    }

    /// The text as a string of its own, for what is rendered once per client.
    pub(crate) fn text(&self, scope: &mut Scope<'_>) -> String {
        let mut out = Vec::with_capacity(self.source.len() + 16);
        self.render(scope, &mut out);
        String::from_utf8(out).expect("every part of a template is UTF-8")
    }
}

impl Count {
    fn of(self, scope: &Scope<'_>) -> u64 {
        match self {
            Self::Index => u64::from(scope.index),
            Self::N => u64::from(scope.n),
            Self::Seq => scope.seq,
        }
    }
}

impl Variable {
    fn push(self, scope: &Scope<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Group => out.extend_from_slice(scope.group.as_bytes()),
            Self::ClientId => out.extend_from_slice(scope.client_id.as_bytes()),
            Self::Run => push_number(u64::from(scope.run), 0, out),
            Self::Time => push_number(scope.time_ms, 0, out),
            Self::Jwt => out.extend_from_slice(scope.jwt.as_bytes()),
            // These are parts of their own.
            Self::Index | Self::N | Self::Seq | Self::Rand | Self::Data | Self::Stamp => {}
        }
    }
}

fn calculate(start: u64, steps: &[(Operator, u64)]) -> u64 {
    steps.iter().fold(start, |value, (operator, operand)| match operator {
        Operator::Plus => value.wrapping_add(*operand),
        Operator::Times => value.wrapping_mul(*operand),
        Operator::Over => value.checked_div(*operand).unwrap_or(0),
        Operator::Modulo => value.checked_rem(*operand).unwrap_or(0),
    })
}

/// Appends a number, with at least `digits` digits.
fn push_number(mut value: u64, digits: u32, out: &mut Vec<u8>) {
    let start = out.len();
    let mut written = 0;
    while value > 0 || written < digits.max(1) {
        let digit = u8::try_from(value % 10).expect("a remainder below ten");
        out.push(b'0' + digit);
        value /= 10;
        written += 1;
    }
    out[start..].reverse();
}

fn push_random(dice: &mut Dice, least: i64, most: i64, decimals: u32, out: &mut Vec<u8>) {
    let width = most.abs_diff(least);
    let bits = u64::from(dice.roll()) << 32 | u64::from(dice.roll());
    let above = width.checked_add(1).map_or(bits, |count| scaled_below(bits, count));
    let value = least.wrapping_add_unsigned(above);
    if value < 0 {
        out.push(b'-');
    }
    let unit = 10_u64.pow(decimals);
    push_number(value.unsigned_abs() / unit, 0, out);
    if decimals > 0 {
        out.push(b'.');
        push_number(value.unsigned_abs() % unit, decimals, out);
    }
}

/// `bits`, taken as a part of 2^64, of `count`.
fn scaled_below(bits: u64, count: u64) -> u64 {
    let product = u128::from(bits) * u128::from(count);
    u64::try_from(product >> 64).expect("a product of two 64-bit numbers has 128 bits")
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, tail) = rest.split_at(at);
            literal.push_str(before);
            let inner = &tail[1..];
            if !inner.starts_with(|c: char| c.is_ascii_lowercase()) {
                literal.push('{');
                rest = inner;
                continue;
            }
            let Some(end) = inner.find('}') else {
                return Err(format!("{tail:?} begins a variable that no '}}' ends"));
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into()));
            }
            parts.push(variable(&inner[..end])?);
            rest = &inner[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(Self { source: text.into(), parts })
    }
}

/// Compiles what stands between the braces.
fn variable(inner: &str) -> Result<Part, String> {
    if let Some(column) = inner.strip_prefix("data.") {
        return if column.is_empty() {
            Err("{data.} names no column".to_owned())
        } else {
            Ok(Part::Data(column.into()))
        };
    }
    if let Some(group) = inner.strip_prefix("any.") {
        return if group.is_empty() {
            Err("{any.} names no group".to_owned())
        } else {
            Ok(Part::Client { group: group.into(), count: 1 })
        };
    }
    if let Some(range) = inner.strip_prefix("rand:") {
        return random(range);
    }
    let word_end = inner.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(inner.len());
    let (word, steps) = inner.split_at(word_end);
    let count = match word {
        "index" => Some(Count::Index),
        "n" => Some(Count::N),
        "seq" => Some(Count::Seq),
        _ => None,
    };
    if let Some(count) = count {
        return Ok(Part::Count(count, calculation(steps, inner)?));
    }
    let variable = match inner {
        "group" => Variable::Group,
        "client_id" => Variable::ClientId,
        "run" => Variable::Run,
        "time" => Variable::Time,
        "jwt" => Variable::Jwt,
        "stamp" => Variable::Stamp,
        _ => {
            return Err(format!(
                "{{{inner}}} is neither a variable nor a parameter; the variables are {{index}}, {{n}}, {{seq}}, {{group}}, \
                 {{client_id}}, {{run}}, {{time}}, {{rand:least:most}}, {{any.group}}, {{data.column}}, {{jwt}} and {{stamp}}"
            ));
        }
    };
    Ok(Part::Variable(variable))
}

/// `/10%4` as steps.
fn calculation(text: &str, inner: &str) -> Result<Vec<(Operator, u64)>, String> {
    let mut steps = Vec::new();
    let mut rest = text.trim_start();
    while let Some(sign) = rest.chars().next() {
        let operator = match sign {
            '+' => Operator::Plus,
            '*' => Operator::Times,
            '/' => Operator::Over,
            '%' => Operator::Modulo,
            _ => return Err(format!("{{{inner}}}: {sign:?} is not one of + * / %")),
        };
        let tail = rest[1..].trim_start();
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let operand: u64 =
            tail[..end].parse().map_err(|_| format!("{{{inner}}}: a whole number must follow {sign:?}"))?;
        if operand == 0 && matches!(operator, Operator::Over | Operator::Modulo) {
            return Err(format!("{{{inner}}} divides by zero"));
        }
        steps.push((operator, operand));
        rest = tail[end..].trim_start();
    }
    Ok(steps)
}

/// `18.0:24.5` as a range of whole tenths.
fn random(range: &str) -> Result<Part, String> {
    let wrong = || format!("{{rand:{range}}} needs two numbers, the smaller first: {{rand:1:6}}");
    let (least, most) = range.split_once(':').ok_or_else(wrong)?;
    let places = |text: &str| text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let decimals = places(least).max(places(most));
    if decimals > DECIMALS_MAX {
        return Err(format!("{{rand:{range}}} has more than {DECIMALS_MAX} decimals"));
    }
    let scaled = |text: &str| {
        let text = text.trim();
        let digits = text.replace('.', "");
        let zeros = "0".repeat(decimals - places(text));
        let is_number = text.matches('.').count() <= 1 && !text.ends_with('.');
        if is_number { format!("{digits}{zeros}").parse::<i64>().map_err(|_| wrong()) } else { Err(wrong()) }
    };
    let (least, most) = (scaled(least)?, scaled(most)?);
    if least > most {
        return Err(wrong());
    }
    Ok(Part::Random { least, most, decimals: u32::try_from(decimals).expect("at most nine") })
}

/// Decimals that `{rand:…}` may have.
const DECIMALS_MAX: usize = 9;

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(source)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
        sink.serialize_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        let mut dice = Dice::new(1);
        let mut scope = Scope {
            index: 42,
            n: 3,
            seq: 7,
            group: "pumps",
            client_id: "p-42",
            run: 9,
            time_ms: 1_700_000_000_000,
            row: None,
            jwt: "a.b.c",
            dice: &mut dice,
        };
        text.parse::<Template>().unwrap().text(&mut scope)
    }

    #[test]
    fn constant_text_is_put_in_where_all_before_it_is_constant() {
        let text = |source: &str, at| {
            let mut template: Template = source.parse().unwrap();
            template.insert(at, "x/").then(|| template.source().to_owned())
        };
        assert_eq!(text("{index}/a", 0).as_deref(), Some("x/{index}/a"));
        assert_eq!(text("$share/g/a/{index}", 9).as_deref(), Some("$share/g/x/a/{index}"));
        assert_eq!(text("$share/{index}/a", 15), None);
        let mut template: Template = "$share/g/a".parse().unwrap();
        assert!(template.insert(9, "x/"));
        assert_eq!(template, "$share/g/x/a".parse().unwrap());
    }

    #[test]
    fn every_variable_is_rendered() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("dev-{index}/{n}/{seq}", "dev-42/3/7"),
            ("{index/10%3}{index+1*2}{index % 10}", "1862"),
            ("{group} {client_id} {run} {time} {jwt}", "pumps p-42 9 1700000000000 a.b.c"),
            (r#"{"a": {"b": {seq}}}"#, r#"{"a": {"b": 7}}"#),
            ("{rand:5:5}|{rand:-2:-2}|{rand:0.50:0.5}|{rand:-0.05:-0.05}", "5|-2|0.50|-0.05"),
        ] {
            assert_eq!(rendered(text), expected, "{text}");
        }
    }

    #[test]
    fn chance_stays_in_its_range_and_meets_both_ends() {
        let seen: std::collections::BTreeSet<String> = {
            let template: Template = "{rand:-1:1.5}".parse().unwrap();
            let mut dice = Dice::new(3);
            let mut draw = || {
                template.text(&mut Scope {
                    index: 0,
                    n: 0,
                    seq: 0,
                    group: "",
                    client_id: "",
                    run: 0,
                    time_ms: 0,
                    row: None,
                    jwt: "",
                    dice: &mut dice,
                })
            };
            (0..1_000).map(|_| draw()).collect()
        };
        assert_eq!(seen.len(), 26);
        assert!(
            seen.contains("-1.0") && seen.contains("1.5") && seen.contains("-0.3") && seen.contains("0.0")
        );
    }

    #[test]
    fn any_client_of_a_group_is_met() {
        let mut template: Template = "{any.pumps}".parse().unwrap();
        assert_eq!(template.bind(|_| None), Err("pumps".to_owned()));
        assert_eq!(template.bind(|name| (name == "pumps").then_some(3)), Ok(()));
        let mut dice = Dice::new(3);
        let mut draw = || {
            template.text(&mut Scope {
                index: 0,
                n: 0,
                seq: 0,
                group: "",
                client_id: "",
                run: 0,
                time_ms: 0,
                row: None,
                jwt: "",
                dice: &mut dice,
            })
        };
        let seen: std::collections::BTreeSet<String> = (0..100).map(|_| draw()).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["0", "1", "2"]);
    }

    #[test]
    fn the_place_of_the_stamp_is_told() {
        let template: Template = r#"{"s":"{stamp}"}"#.parse().unwrap();
        let mut dice = Dice::new(1);
        let mut scope = Scope {
            index: 0,
            n: 0,
            seq: 0,
            group: "",
            client_id: "",
            run: 0,
            time_ms: 0,
            row: None,
            jwt: "",
            dice: &mut dice,
        };
        let mut out = b"before".to_vec();
        assert_eq!(template.render(&mut scope, &mut out), Some(12));
        assert_eq!(out.len(), 6 + 6 + STAMP_TEXT_BYTES + 2);
    }

    #[test]
    fn what_is_not_a_template_is_explained() {
        for (text, part) in [
            ("{idx}", "neither a variable nor a parameter"),
            ("{index", "no '}' ends"),
            ("{index/0}", "divides by zero"),
            ("{index-1}", "not one of"),
            ("{seq+x}", "a whole number must follow"),
            ("{rand:6:1}", "the smaller first"),
            ("{rand:1}", "needs two numbers"),
            ("{rand:1.:2}", "needs two numbers"),
            ("{rand:0:0.0000000001}", "more than 9 decimals"),
            ("{data.}", "names no column"),
            ("{any.}", "names no group"),
        ] {
            let error = text.parse::<Template>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
