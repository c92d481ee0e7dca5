//! What can be wrong, and how often it was.

use std::collections::BTreeMap;

use serde::Serialize;

/// A way in which a broker breaks its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Flaw {
    /// A message that was acknowledged and never came.
    Lost,
    /// A message of QoS 2 that came twice.
    Duplicated,
    /// A message that came after a later one of the same publisher, topic and QoS.
    OutOfOrder,
    /// A message that the receiver had not, or no longer, subscribed to, or of a session that had ended.
    Foreign,
    /// A payload, topic or QoS that nobody sent.
    Corrupted,
    /// A retained message that was older than an acknowledged one, or removed.
    StaleRetained,
    /// A retained message that was acknowledged and not given to a new subscriber.
    MissingRetained,
    /// A session that was acknowledged and gone after the restart.
    SessionLost,
    /// A session that should not be there.
    SessionUnexpected,
    /// A subscription that was acknowledged, and that the broker does not know when it is to end.
    SubscriptionLost,
    /// A Will that was due and never came.
    WillLost,
    /// A Will that came although its client had said goodbye, or was back in time.
    WillUnexpected,
    /// A message of QoS 2 that a shared group got twice.
    SharedTwice,
    /// A packet that the standard does not allow.
    Protocol,
    /// A PUBACK that came before that of an earlier message of the same client.
    AckOrder,
    /// A connection that was taken over and stayed open.
    NotTakenOver,
    /// A client that was not served although the broker ran.
    Unserved,
    /// The broker ended by itself.
    BrokerEnded,
}

impl Flaw {
    /// All kinds, in the order of tables.
    pub(crate) const ALL: [Self; 18] = [
        Self::Lost,
        Self::Duplicated,
        Self::OutOfOrder,
        Self::Foreign,
        Self::Corrupted,
        Self::StaleRetained,
        Self::MissingRetained,
        Self::SessionLost,
        Self::SessionUnexpected,
        Self::SubscriptionLost,
        Self::WillLost,
        Self::WillUnexpected,
        Self::SharedTwice,
        Self::Protocol,
        Self::AckOrder,
        Self::NotTakenOver,
        Self::Unserved,
        Self::BrokerEnded,
    ];

    /// What a count of it counts.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated (QoS 2)",
            Self::OutOfOrder => "out of order",
            Self::Foreign => "not subscribed to",
            Self::Corrupted => "damaged",
            Self::StaleRetained => "stale retained",
            Self::MissingRetained => "missing retained",
            Self::SessionLost => "sessions lost",
            Self::SessionUnexpected => "sessions unexpected",
            Self::SubscriptionLost => "subscriptions lost",
            Self::WillLost => "wills lost",
            Self::WillUnexpected => "wills unexpected",
            Self::SharedTwice => "shared twice (QoS 2)",
            Self::Protocol => "protocol errors",
            Self::AckOrder => "PUBACKs out of order",
            Self::NotTakenOver => "not taken over",
            Self::Unserved => "clients not served",
            Self::BrokerEnded => "broker ended by itself",
        }
    }
}

/// All that was found wrong.
#[derive(Debug, Default)]
pub(crate) struct Flaws {
    counts: BTreeMap<Flaw, u64>,
    examples: Vec<String>,
    /// Examples of each kind, so that many of one do not hide the others.
    shown: BTreeMap<Flaw, usize>,
}

impl Flaws {
    /// Counts one, with an example in words if there is still room for one.
    pub(crate) fn add(&mut self, flaw: Flaw, example: impl FnOnce() -> String) {
        *self.counts.entry(flaw).or_default() += 1;
        let shown = self.shown.entry(flaw).or_default();
        if *shown < EXAMPLES_PER_FLAW {
            *shown += 1;
            self.examples.push(format!("{}: {}", flaw.meaning(), example()));
        }
    }

    /// How many of this kind.
    pub(crate) fn count(&self, flaw: Flaw) -> u64 {
        self.counts.get(&flaw).copied().unwrap_or(0)
    }

    /// How many of all kinds.
    pub(crate) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The first of each kind, in words.
    pub(crate) fn examples(&self) -> &[String] {
        &self.examples
    }
}

const EXAMPLES_PER_FLAW: usize = 8;
