//! What is counted in a run besides times.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// Counts of a run, a stage, or an interval. All of them only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counters {
    /// PUBLISH packets of the generator, without repetitions.
    pub(crate) sent: u64,
    /// Of those, sent more than a millisecond after their intended time (open loop only).
    pub(crate) late: u64,
    /// Of those, the broker has taken over (PUBACK or PUBCOMP).
    pub(crate) acknowledged: u64,
    /// Messages that have arrived where they belong, each receiver counted.
    pub(crate) delivered: u64,
    /// Messages that came again as the standard allows (QoS 1 after a reconnect).
    pub(crate) redelivered: u64,
    /// Connections that were accepted with CONNACK.
    pub(crate) connects: u64,
    /// Connections that have ended, whoever ended them.
    pub(crate) disconnects: u64,
    /// Filters that were granted.
    pub(crate) subscribed: u64,
    /// Keep-alives that were sent.
    pub(crate) pinged: u64,
    /// Failures of all reasons.
    pub(crate) failures: u64,
}

impl Counters {
    /// Adds all counts of `other`.
    pub(crate) const fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.late += other.late;
        self.acknowledged += other.acknowledged;
        self.delivered += other.delivered;
        self.redelivered += other.redelivered;
        self.connects += other.connects;
        self.disconnects += other.disconnects;
        self.subscribed += other.subscribed;
        self.pinged += other.pinged;
        self.failures += other.failures;
    }

    /// What was counted since `earlier`.
    pub(crate) const fn since(&self, earlier: &Self) -> Self {
        Self {
            sent: self.sent.saturating_sub(earlier.sent),
            late: self.late.saturating_sub(earlier.late),
            acknowledged: self.acknowledged.saturating_sub(earlier.acknowledged),
            delivered: self.delivered.saturating_sub(earlier.delivered),
            redelivered: self.redelivered.saturating_sub(earlier.redelivered),
            connects: self.connects.saturating_sub(earlier.connects),
            disconnects: self.disconnects.saturating_sub(earlier.disconnects),
            subscribed: self.subscribed.saturating_sub(earlier.subscribed),
            pinged: self.pinged.saturating_sub(earlier.pinged),
            failures: self.failures.saturating_sub(earlier.failures),
        }
    }

    /// Names and values, in the order of the fields, for tables.
    pub(crate) const fn rows(&self) -> [(&'static str, u64); 10] {
        [
            ("sent", self.sent),
            ("late", self.late),
            ("acknowledged", self.acknowledged),
            ("delivered", self.delivered),
            ("redelivered", self.redelivered),
            ("connects", self.connects),
            ("disconnects", self.disconnects),
            ("subscribed", self.subscribed),
            ("pinged", self.pinged),
            ("failures", self.failures),
        ]
    }
}

/// Failures by reason, with the first few in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FailureCounts {
    /// How often each reason occurred. At most [`REASONS_MAX`] reasons; the rest are counted as "other".
    by_reason: BTreeMap<String, u64>,
    /// The first few, with the values that only they had.
    examples: Vec<String>,
}

impl FailureCounts {
    /// Counts one failure. `reason` names the kind ("connection refused: NotAuthorized"), `example` may say which
    /// connection it was.
    pub(crate) fn note(&mut self, reason: &str, example: impl Display) {
        if let Some(count) = self.by_reason.get_mut(reason) {
            *count += 1;
        } else {
            let reason = if self.by_reason.len() < REASONS_MAX { reason } else { OTHER };
            *self.by_reason.entry(reason.to_owned()).or_default() += 1;
        }
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example.to_string());
        }
    }

    /// Failures that were counted elsewhere, all of one reason.
    pub(crate) fn of(reason: &str, count: u64, examples: &[String]) -> Self {
        let by_reason = (count > 0).then(|| (reason.to_owned(), count)).into_iter().collect();
        Self { by_reason, examples: examples.iter().take(EXAMPLES_MAX).cloned().collect() }
    }

    /// Failures of all reasons.
    pub(crate) fn total(&self) -> u64 {
        self.by_reason.values().sum()
    }

    /// How often each reason occurred.
    pub(crate) fn by_reason(&self) -> impl Iterator<Item = (&str, u64)> {
        self.by_reason.iter().map(|(reason, count)| (reason.as_str(), *count))
    }

    /// The first few in words.
    pub(crate) fn examples(&self) -> &[String] {
        &self.examples
    }

    /// Adds those of another part of the run.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (reason, count) in &other.by_reason {
            *self.by_reason.entry(reason.clone()).or_default() += count;
        }
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.iter().take(room).cloned());
    }
}

/// Reasons that are told apart.
const REASONS_MAX: usize = 64;
/// Failures that are kept in words.
const EXAMPLES_MAX: usize = 10;
/// The reason of those beyond [`REASONS_MAX`].
const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_and_examples_are_bounded() {
        let mut failures = FailureCounts::default();
        for number in 0..200 {
            failures.note(&format!("reason {number}"), number);
            failures.note("reason 1", number);
        }
        assert_eq!(failures.total(), 400);
        assert_eq!(failures.by_reason().count(), REASONS_MAX + 1);
        assert_eq!(failures.examples().len(), EXAMPLES_MAX);
    }

    #[test]
    fn since_undoes_merge() {
        let one = Counters { sent: 5, failures: 1, pinged: 2, ..Counters::default() };
        let mut both = Counters { delivered: 7, ..one };
        both.merge(&one);
        assert_eq!(both.since(&one), Counters { delivered: 7, ..one });
    }
}
