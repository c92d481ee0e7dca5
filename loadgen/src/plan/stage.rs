//! Stages: what happens, one after the other.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::quantity::{Period, Share, Spread};

/// One stretch of a run. It lasts for `duration`, or until something has happened, but no longer than `timeout`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stage {
    /// Its name, for reports.
    pub(crate) name: String,
    /// How long it lasts. Exactly one of `duration` and `until` must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) duration: Option<Period>,
    /// What ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Until>,
    /// When `until` has waited long enough. The run then ends as failed, but after `drained` it goes on, and what has
    /// not come counts as lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<Period>,
    /// Groups that begin to connect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) start: Vec<String>,
    /// Groups that leave, with DISCONNECT.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) stop: Vec<String>,
    /// Groups whose lifecycles run during the stage. At its end those who are away come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) churn: Vec<String>,
    /// Connections that fall at the beginning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) drop: Vec<Fall>,
    /// By what the rates of all publish entries and Sparkplug groups are multiplied. 0, which is the default, sends
    /// nothing. A closed loop runs whenever its factor is above 0.
    #[serde(default)]
    pub(crate) rate: Factor,
    /// The same for single groups (`pumps`) or publish entries (`pumps.alarms`), in place of `rate`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) rates: BTreeMap<String, Factor>,
    /// Whether what happens counts: latencies and rates of the report come from measured stages only. (Verification
    /// looks at all.)
    #[serde(default)]
    pub(crate) measure: bool,
}

impl Stage {
    /// By what the rate of a group's publish entry (or of its Sparkplug data) is multiplied.
    pub(crate) fn factor(&self, group: &str, entry: Option<&str>) -> Factor {
        let own = entry.and_then(|entry| self.rates.get(&format!("{group}.{entry}")));
        *own.or_else(|| self.rates.get(group)).unwrap_or(&self.rate)
    }
}

/// What ends a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Until {
    /// All clients of the groups that have been started, and not stopped, are connected.
    Connected,
    /// They are connected and every subscription is acknowledged.
    Subscribed,
    /// All publish entries with `messages` have sent them, and have been acknowledged.
    Published,
    /// Nothing is under way any more: every delivery that is expected has come.
    Drained,
    /// Half of the connections or more have ended without our doing: the operator has restarted the broker.
    Disconnected,
}

impl fmt::Display for Until {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Connected => "connected",
            Self::Subscribed => "subscribed",
            Self::Published => "published",
            Self::Drained => "drained",
            Self::Disconnected => "disconnected",
        })
    }
}

/// By what rates are multiplied during a stage: a number (`0.5`), or `{ from = 0.1, to = 2.0 }` for a straight line over
/// the duration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Factor {
    /// At the beginning.
    pub(crate) from: f64,
    /// At the end.
    pub(crate) to: f64,
}

impl Factor {
    /// The same all the time.
    pub(crate) const fn constant(factor: f64) -> Self {
        Self { from: factor, to: factor }
    }

    /// Whether nothing is sent.
    pub(crate) const fn is_zero(self) -> bool {
        self.from == 0.0 && self.to == 0.0
    }

    /// On average over the stage.
    pub(crate) const fn mean(self) -> f64 {
        f64::midpoint(self.from, self.to)
    }
}

/// Connections that fall at the beginning of a stage, and come back if the group has a `reconnect`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fall {
    /// Of which group.
    pub(crate) group: String,
    /// How many of those that are connected.
    #[serde(default = "all")]
    pub(crate) share: Share,
    /// Over what time they fall.
    #[serde(default = "at_once")]
    pub(crate) within: Spread,
}

const fn all() -> Share {
    Share::ALL
}

const fn at_once() -> Spread {
    Spread::ZERO
}
