//! What the oracle can find wrong, and what it has found.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A way in which a broker can break its promise. The names in files are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Violation {
    /// A message that should have come and never did.
    Lost,
    /// A message that came again without a reason that the standard allows.
    Duplicated,
    /// A message that came after a later one of the same stream.
    Reordered,
    /// A message that came to somebody it was not for.
    Misdelivered,
    /// A payload that is damaged or not of this run.
    Corrupted,
    /// A retained message that was already replaced or cleared.
    StaleRetained,
    /// A retained message that a new subscriber should have been given and was not.
    MissingRetained,
    /// A message of a shared subscription that more than one member got.
    SharedTwice,
    /// A message of a shared subscription that no member got.
    SharedNever,
    /// A will that should have been published and was not.
    WillMissing,
    /// A will that was published although its client left in order, or twice.
    WillUnexpected,
    /// A session that should have been kept and was gone, or the other way round.
    SessionWrong,
    /// A packet that no client may send and after which the broker kept the connection.
    MalformedTolerated,
}

impl Violation {
    /// All kinds.
    pub(crate) const ALL: [Self; 13] = [
        Self::Lost,
        Self::Duplicated,
        Self::Reordered,
        Self::Misdelivered,
        Self::Corrupted,
        Self::StaleRetained,
        Self::MissingRetained,
        Self::SharedTwice,
        Self::SharedNever,
        Self::WillMissing,
        Self::WillUnexpected,
        Self::SessionWrong,
        Self::MalformedTolerated,
    ];

    /// The name in files: the same as in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::Misdelivered => "misdelivered",
            Self::Corrupted => "corrupted",
            Self::StaleRetained => "stale_retained",
            Self::MissingRetained => "missing_retained",
            Self::SharedTwice => "shared_twice",
            Self::SharedNever => "shared_never",
            Self::WillMissing => "will_missing",
            Self::WillUnexpected => "will_unexpected",
            Self::SessionWrong => "session_wrong",
            Self::MalformedTolerated => "malformed_tolerated",
        }
    }

    /// What it means, for people: what a count of it counts.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Lost => "messages that never came",
            Self::Duplicated => "messages that came again without a reason",
            Self::Reordered => "messages that came after a later one",
            Self::Misdelivered => "messages that came to somebody else",
            Self::Corrupted => "payloads that were damaged or not of this run",
            Self::StaleRetained => "retained messages that were out of date",
            Self::MissingRetained => "retained messages that were not given",
            Self::SharedTwice => "shared messages that two members got",
            Self::SharedNever => "shared messages that no member got",
            Self::WillMissing => "wills that were not published",
            Self::WillUnexpected => "wills that should not have been published",
            Self::SessionWrong => "sessions that were gone or kept against the rules",
            Self::MalformedTolerated => "malformed packets after which the broker kept the connection",
        }
    }

    /// The kind of this name in files.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What was looked for, and how much of it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Violations {
    /// Counts by kind, for each kind that was looked for; 0 is the good news.
    #[serde(deserialize_with = "known_kinds")]
    found: BTreeMap<Violation, u64>,
    /// Kinds that were not looked for, and why.
    #[serde(deserialize_with = "known_kinds")]
    unchecked: BTreeMap<Violation, String>,
}

impl Violations {
    /// Says that this kind is looked for: from now on it is listed, with 0 at least.
    pub(crate) fn check(&mut self, kind: Violation) {
        self.found.entry(kind).or_default();
        self.unchecked.remove(&kind);
    }

    /// Says that this kind is not looked for, and why.
    pub(crate) fn leave_out(&mut self, kind: Violation, why: impl Into<String>) {
        if self.found.get(&kind).is_none_or(|count| *count == 0) {
            self.found.remove(&kind);
            self.unchecked.insert(kind, why.into());
        }
    }

    /// Counts `count` more of a kind.
    pub(crate) fn add(&mut self, kind: Violation, count: u64) {
        *self.found.entry(kind).or_default() += count;
        self.unchecked.remove(&kind);
    }

    /// Replaces the count of a kind: for what can only be known at the end, such as losses.
    pub(crate) fn set(&mut self, kind: Violation, count: u64) {
        self.found.insert(kind, count);
        self.unchecked.remove(&kind);
    }

    /// The count of a kind; 0 as well when it was not looked for.
    #[cfg(test)]
    pub(crate) fn count(&self, kind: Violation) -> u64 {
        self.found.get(&kind).copied().unwrap_or(0)
    }

    /// All that was found, of any kind.
    pub(crate) fn total(&self) -> u64 {
        self.found.values().sum()
    }

    /// The kinds that were looked for, with their counts.
    pub(crate) fn found(&self) -> impl Iterator<Item = (Violation, u64)> {
        self.found.iter().map(|(kind, count)| (*kind, *count))
    }

    /// The kinds that were not looked for, with the reason.
    pub(crate) fn unchecked(&self) -> impl Iterator<Item = (Violation, &str)> {
        self.unchecked.iter().map(|(kind, why)| (*kind, why.as_str()))
    }

    /// Adds what another part of the run has found. A kind counts as looked for only when no part left it out.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (kind, count) in other.found() {
            *self.found.entry(kind).or_default() += count;
        }
        for (kind, why) in other.unchecked() {
            self.unchecked.entry(kind).or_insert_with(|| why.to_owned());
        }
        self.found.retain(|kind, count| *count > 0 || !self.unchecked.contains_key(kind));
        self.unchecked.retain(|kind, _| !self.found.contains_key(kind));
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, count)) in self.found().enumerate() {
            let gap = if index == 0 { "" } else { "  " };
            write!(formatter, "{gap}{} {count}", kind.name())?;
        }
        Ok(())
    }
}

/// Reads a map by kind and skips kinds that are not known here.
fn known_kinds<'de, D, V>(deserializer: D) -> Result<BTreeMap<Violation, V>, D::Error>
where
    D: serde::Deserializer<'de>,
    V: Deserialize<'de>,
{
    let all = BTreeMap::<String, V>::deserialize(deserializer)?;
    Ok(all.into_iter().filter_map(|(name, value)| Some((Violation::named(&name)?, value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_json() {
        for kind in Violation::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(Violation::named(kind.name()), Some(kind));
        }
    }

    #[test]
    fn what_one_part_left_out_is_not_called_checked() {
        let mut one = Violations::default();
        one.check(Violation::Lost);
        let mut two = Violations::default();
        two.leave_out(Violation::Lost, "QoS 0 with drops");
        one.merge(&two);
        assert_eq!(one.found().count(), 0);
        assert_eq!(one.unchecked().collect::<Vec<_>>(), [(Violation::Lost, "QoS 0 with drops")]);
        // But what was found is never hidden.
        one.add(Violation::Lost, 3);
        one.leave_out(Violation::Lost, "late excuse");
        assert_eq!((one.count(Violation::Lost), one.unchecked().count()), (3, 0));
    }

    #[test]
    fn kinds_of_a_later_version_are_skipped() {
        let text = r#"{"found": {"lost": 2, "stolen": 9}, "unchecked": {"mangled": "x"}, "more": 1}"#;
        let read: Violations = serde_json::from_str(text).unwrap();
        assert_eq!((read.total(), read.count(Violation::Lost)), (2, 2));
    }
}
