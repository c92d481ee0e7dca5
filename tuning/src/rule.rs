//! What a profile wants of a setting: a rule, and what it comes to on one host.

use serde::Deserialize;

use crate::cpus::CpuSet;
use crate::facts::Facts;
use crate::setting::Form;

/// What a profile wants.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "RawRule")]
pub enum Rule {
    /// This number or more.
    AtLeast(Amount),
    /// This number or less.
    AtMost(Amount),
    /// This text. `{shards}` in it stands for the CPUs of shards, `{isolated}` for the same where some are set aside,
    /// `{housekeeping}` for those that are set aside, `{queue}` for the CPU of the queue and `{share}` for its share of CPUs.
    Equals(String),
}

/// A number, fixed or by the host.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum Amount {
    /// Everywhere the same.
    Fixed(u64),
    /// `of` × `times` ÷ `divide`, within `least` and `most`. An unknown fact counts as 0.
    Derived {
        /// The fact.
        of: Fact,
        /// What it is multiplied with.
        #[serde(default = "one")]
        times: u64,
        /// What it is divided by.
        #[serde(default = "one")]
        divide: u64,
        /// The smallest result.
        #[serde(default)]
        least: u64,
        /// The largest result.
        #[serde(default = "unbounded")]
        most: u64,
    },
}

/// What a number may depend on.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// Connections that the host is to hold.
    Connections,
    /// CPUs that shards may run on.
    Cores,
    /// Memory of the host in KiB.
    MemoryKib,
}

/// What a rule comes to on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This or more.
    AtLeast(u64),
    /// This or less.
    AtMost(u64),
    /// This.
    Exactly(String),
}

/// Which queue of how many a place belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// From 0.
    pub index: usize,
    /// How many the card has.
    pub count: usize,
}

/// How a value compares with what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// As wanted.
    Ok,
    /// A number, and too small.
    Low,
    /// Anything else.
    Differs,
}

impl Rule {
    /// What it comes to on a host.
    ///
    /// # Errors
    /// Why it cannot be had there, as a clause.
    pub fn on(&self, facts: &Facts, queue: Option<Queue>, form: Form) -> Result<Wanted, String> {
        Ok(match self {
            Self::AtLeast(amount) => Wanted::AtLeast(amount.on(facts)),
            Self::AtMost(amount) => Wanted::AtMost(amount.on(facts)),
            Self::Equals(text) => Wanted::Exactly(fill(text, facts, queue, form)?),
        })
    }

    /// The rule in words, without a host.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::AtLeast(amount) => format!("at least {}", amount.words()),
            Self::AtMost(amount) => format!("at most {}", amount.words()),
            Self::Equals(text) if text.is_empty() => "present".to_owned(),
            Self::Equals(text) => text.clone(),
        }
    }
}

impl Amount {
    /// The number on a host.
    #[must_use]
    pub fn on(&self, facts: &Facts) -> u64 {
        match self {
            Self::Fixed(number) => *number,
            Self::Derived { of, times, divide, least, most } => {
                let fact = match of {
                    Fact::Connections => facts.connections,
                    Fact::Cores => facts.shards().map_or(0, |shards| shards.count() as u64),
                    Fact::MemoryKib => facts.memory_kib.unwrap_or(0),
                };
                (fact.saturating_mul(*times) / (*divide).max(1)).clamp(*least, (*most).max(*least))
            }
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Fixed(number) => number.to_string(),
            Self::Derived { of, times, divide, least, most } => {
                let mut text = match of {
                    Fact::Connections => "connections",
                    Fact::Cores => "cores",
                    Fact::MemoryKib => "memory in KiB",
                }
                .to_owned();
                if *times != 1 {
                    text.push_str(&format!(" × {times}"));
                }
                if *divide != 1 {
                    text.push_str(&format!(" ÷ {divide}"));
                }
                if *least != 0 {
                    text.push_str(&format!(", not below {least}"));
                }
                if *most != u64::MAX {
                    text.push_str(&format!(", not above {most}"));
                }
                text
            }
        }
    }
}

impl Wanted {
    /// Compares a value that was read.
    #[must_use]
    pub fn compare(&self, current: &str, form: Form) -> Comparison {
        let verdict = |ok: bool, otherwise| if ok { Comparison::Ok } else { otherwise };
        match self {
            Self::AtLeast(least) => {
                number(current).map_or(Comparison::Differs, |found| verdict(found >= *least, Comparison::Low))
            }
            Self::AtMost(most) => number(current)
                .map_or(Comparison::Differs, |found| verdict(found <= *most, Comparison::Differs)),
            Self::Exactly(text) => verdict(same(text, current, form), Comparison::Differs),
        }
    }

    /// The value to set.
    #[must_use]
    pub fn value(&self) -> String {
        match self {
            Self::AtLeast(number) | Self::AtMost(number) => in_digits(*number),
            Self::Exactly(text) => text.clone(),
        }
    }

    /// The value to keep in a file: the host's own where that is as good or better.
    #[must_use]
    pub fn to_keep(&self, current: Option<&str>, form: Form) -> String {
        match current {
            Some(current) if self.compare(current, form) == Comparison::Ok => in_force(current, form),
            _ => self.value(),
        }
    }

    /// The same with an upper bound that the hardware sets.
    #[must_use]
    pub fn capped(self, most: Option<u64>) -> Self {
        match (self, most) {
            (Self::AtLeast(least), Some(most)) => Self::AtLeast(least.min(most)),
            (wanted, _) => wanted,
        }
    }

    /// For a table: `≥ 32768`.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::AtLeast(number) => format!("≥ {}", in_digits(*number)),
            Self::AtMost(number) => format!("≤ {}", in_digits(*number)),
            Self::Exactly(text) if text.is_empty() => "present".to_owned(),
            Self::Exactly(text) => text.clone(),
        }
    }
}

/// The value in force: the choice in brackets, blanks as one space each.
#[must_use]
pub fn in_force(text: &str, form: Form) -> String {
    if form == Form::Choice
        && let Some(chosen) = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'))
    {
        return chosen.0.to_owned();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether two values mean the same.
#[must_use]
pub fn same(one: &str, other: &str, form: Form) -> bool {
    let sets = match form {
        Form::CpuMask => Some((CpuSet::of_mask(one), CpuSet::of_mask(other))),
        Form::CpuList => Some((CpuSet::of_list(one), CpuSet::of_list(other))),
        Form::Plain | Form::Choice => None,
    };
    match sets {
        Some((Some(one), Some(other))) => one == other,
        _ => in_force(one, form) == in_force(other, form),
    }
}

fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "infinity" | "unlimited" => Some(u64::MAX),
        text => text.parse().ok(),
    }
}

fn in_digits(number: u64) -> String {
    if number == u64::MAX { "infinity".to_owned() } else { number.to_string() }
}

/// Puts CPUs in the place of names in braces.
fn fill(text: &str, facts: &Facts, queue: Option<Queue>, form: Form) -> Result<String, String> {
    let Some((before, rest)) = text.split_once('{') else {
        return Ok(text.to_owned());
    };
    let (name, after) = rest.split_once('}').ok_or_else(|| format!("the rule {text:?} lacks a brace"))?;
    let shards = facts.shards().ok_or_else(|| UNKNOWN_CPUS.to_owned());
    let cpus = match name {
        "shards" => shards?,
        "isolated" => facts.reserved()?.1,
        "housekeeping" => facts.reserved()?.0,
        "queue" => {
            let at = queue.map_or(0, |queue| queue.index);
            shards?.round(at).into_iter().collect()
        }
        "share" => {
            let queue = queue.unwrap_or(Queue { index: 0, count: 1 });
            let shards = shards?;
            // More queues than cores: each queue still has one.
            let share = shards.share(queue.index, queue.count);
            if share.is_empty() { shards.round(queue.index).into_iter().collect() } else { share }
        }
        other => return Err(format!("the rule {text:?} names {other:?}, which is unknown")),
    };
    let cpus = if form == Form::CpuMask { cpus.to_mask() } else { cpus.to_string() };
    fill(&format!("{before}{cpus}{after}"), facts, queue, form)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    at_least: Option<Amount>,
    at_most: Option<Amount>,
    equals: Option<String>,
}

impl TryFrom<RawRule> for Rule {
    type Error = &'static str;

    fn try_from(raw: RawRule) -> Result<Self, Self::Error> {
        match (raw.at_least, raw.at_most, raw.equals) {
            (Some(amount), None, None) => Ok(Self::AtLeast(amount)),
            (None, Some(amount), None) => Ok(Self::AtMost(amount)),
            (None, None, Some(text)) => Ok(Self::Equals(text)),
            _ => Err("a rule is exactly one of at_least, at_most and equals"),
        }
    }
}

const fn one() -> u64 {
    1
}

const fn unbounded() -> u64 {
    u64::MAX
}

const UNKNOWN_CPUS: &str = "the CPUs of the host that this image will run on are not known";

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(cores: &str, housekeeping: bool) -> Facts {
        let online = CpuSet::of_list(cores);
        Facts { online, memory_kib: Some(1 << 20), connections: 1_000, ..Facts::unknown(0, housekeeping) }
    }

    fn rule(text: &str) -> Result<Rule, toml::de::Error> {
        #[derive(Deserialize)]
        struct One {
            rule: Rule,
        }
        toml::from_str::<One>(&format!("rule = {text}")).map(|one| one.rule)
    }

    #[test]
    fn amounts_follow_the_host_within_their_bounds() {
        let of = |text: &str| rule(text).expect("a rule").on(&facts("0-7", false), None, Form::Plain);
        assert_eq!(of("{ at_least = 5 }"), Ok(Wanted::AtLeast(5)));
        assert_eq!(
            of("{ at_least = { of = \"connections\", times = 2, least = 100 } }"),
            Ok(Wanted::AtLeast(2_000))
        );
        assert_eq!(
            of("{ at_least = { of = \"memory-kib\", divide = 4, most = 7 } }"),
            Ok(Wanted::AtLeast(7))
        );
        assert_eq!(of("{ at_most = { of = \"cores\" } }"), Ok(Wanted::AtMost(8)));
    }

    #[test]
    fn a_rule_is_exactly_one_thing() {
        for wrong in ["{}", "{ at_least = 1, equals = \"1\" }", "{ least = 1 }", "{ at_least = -1 }"] {
            assert!(rule(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cpus_are_filled_in_as_the_file_wants_them() {
        let queue = Some(Queue { index: 1, count: 2 });
        let filled = |text: &str, form| fill(text, &facts("0-7", true), queue, form);
        assert_eq!(filled("{shards}", Form::CpuMask), Ok("fe".to_owned()));
        assert_eq!(filled("domain,{isolated}", Form::Plain), Ok("domain,1-7".to_owned()));
        assert_eq!(filled("{housekeeping}", Form::CpuList), Ok("0".to_owned()));
        assert_eq!(filled("{queue}", Form::CpuList), Ok("2".to_owned()));
        assert_eq!(filled("{share}", Form::CpuList), Ok("2,4,6".to_owned()));
        assert!(filled("{moon}", Form::Plain).is_err());
        let small = fill("{isolated}", &facts("0-1", true), None, Form::Plain);
        assert!(small.expect_err("too few").contains("2 CPUs"));
    }

    #[test]
    fn values_are_compared_by_meaning() {
        use Comparison::{Differs, Low, Ok};
        let compare = |wanted: Wanted, current: &str, form| wanted.compare(current, form);
        assert_eq!(compare(Wanted::AtLeast(10), "9", Form::Plain), Low);
        assert_eq!(compare(Wanted::AtLeast(10), "infinity", Form::Plain), Ok);
        assert_eq!(compare(Wanted::AtLeast(10), "many", Form::Plain), Differs);
        assert_eq!(compare(Wanted::AtMost(10), "60", Form::Plain), Differs);
        let exactly = |text: &str| Wanted::Exactly(text.to_owned());
        assert_eq!(compare(exactly("madvise"), "always [madvise] never", Form::Choice), Ok);
        assert_eq!(compare(exactly("3"), "00000000,00000003", Form::CpuMask), Ok);
        assert_eq!(compare(exactly("0-1"), "0,1", Form::CpuList), Ok);
        assert_eq!(compare(exactly("4096 1 2"), "4096\t1\t2", Form::Plain), Ok);
    }

    #[test]
    fn a_file_keeps_what_is_already_better() {
        let wanted = Wanted::AtLeast(10);
        assert_eq!(wanted.to_keep(Some("20"), Form::Plain), "20");
        assert_eq!(wanted.to_keep(Some("5"), Form::Plain), "10");
        assert_eq!(wanted.to_keep(None, Form::Plain), "10");
        assert_eq!(Wanted::AtLeast(4_096).capped(Some(256)), Wanted::AtLeast(256));
    }
}
