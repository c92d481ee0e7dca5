//! A plan: what a scenario file says, with the defaults filled in. The doc comments are the schema.

use std::collections::BTreeMap;

use dunlin_wire::{QoS, Version};
use serde::{Deserialize, Serialize};

use super::data::DataFile;
use super::field;
use super::jwt::Jwt;
use super::quantity::{Period, Rate, Share, Spread};
use super::source::Source;
use super::stage::Stage;
use super::template::Template;
use super::traffic::{Publish, Sparkplug, Subscription, Will};
use super::verify::Verify;

/// A whole scenario: groups of clients, and the stages they go through one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// The version of this schema: 1.
    pub(crate) version: u32,
    /// What the scenario is called in reports.
    pub(crate) name: String,
    /// One line: what it shows.
    pub(crate) about: String,
    /// Numbers and texts that `--set name=value` can change; `"{name}"` anywhere in the file stands for the value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) parameters: BTreeMap<String, toml::Value>,
    /// What every group has unless it says otherwise: any key of a group but `name` and `count`. Already in the groups
    /// of a loaded plan.
    #[serde(default, skip_serializing)]
    pub(crate) defaults: Option<toml::Table>,
    /// Data files by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) data: BTreeMap<String, DataFile>,
    /// The groups of clients.
    #[serde(rename = "group")]
    pub(crate) groups: Vec<Group>,
    /// What happens, in order.
    #[serde(rename = "stage")]
    pub(crate) stages: Vec<Stage>,
    /// What makes the run fail.
    #[serde(default)]
    pub(crate) verify: Verify,
    /// What it was loaded from, so that other hosts can load the same.
    #[serde(skip)]
    pub(crate) source: Source,
}

impl Plan {
    /// The number of the group with this name.
    pub(crate) fn group_number(&self, name: &str) -> Option<usize> {
        self.groups.iter().position(|group| group.name == name)
    }

    /// All clients.
    pub(crate) fn client_count(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.count)).sum()
    }

    /// Reads a plan from a table in which the defaults have been put into the groups.
    ///
    /// # Errors
    /// If the table is no plan.
    pub(crate) fn deserialize_table(table: toml::Table) -> Result<Self, toml::de::Error> {
        table.try_into()
    }
}

/// Clients that do the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    /// Its name, by which stages refer to it; letters, digits, `-` and `_`.
    pub(crate) name: String,
    /// How many clients.
    pub(crate) count: u32,
    /// MQTT version: `"3.1"`, `"3.1.1"` or `"5.0"`.
    #[serde(default = "five", with = "field::version")]
    pub(crate) protocol: Version,
    /// Client id of each; must differ from client to client.
    #[serde(default = "client_id")]
    pub(crate) client_id: Template,
    /// User name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) username: Option<Template>,
    /// Password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) password: Option<Template>,
    /// How `{jwt}` is minted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) jwt: Option<Jwt>,
    /// The data file whose rows the clients take, by its name in `[data]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<String>,
    /// Keep Alive in whole seconds; `"0s"` turns it off.
    #[serde(default = "minute")]
    pub(crate) keep_alive: Period,
    /// How much earlier than its time a PINGREQ may go out, by chance: a share of the Keep Alive.
    #[serde(default = "tenth")]
    pub(crate) keep_alive_jitter: Share,
    /// Clean Start of the first connection (Clean Session in MQTT 3.1 and 3.1.1, where it holds for all of them).
    #[serde(default = "yes")]
    pub(crate) clean_start: bool,
    /// Session Expiry Interval in whole seconds (MQTT 5).
    #[serde(default)]
    pub(crate) session_expiry: Period,
    /// Receive Maximum (MQTT 5).
    #[serde(default = "receive_maximum")]
    pub(crate) receive_maximum: u16,
    /// The will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) will: Option<Will>,
    /// What each client subscribes to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) subscribe: Vec<Subscription>,
    /// What each client publishes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) publish: Vec<Publish>,
    /// Makes the clients Sparkplug-B edge nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sparkplug: Option<Sparkplug>,
    /// How the first connections come.
    #[serde(default)]
    pub(crate) connect: Connect,
    /// What a client does whose connection ended without its doing. Absent: it stays away, and the end is a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reconnect: Option<Reconnect>,
    /// Coming and going, while a stage says `churn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lifecycle: Option<Lifecycle>,
    /// Whether the clients are well-behaved.
    #[serde(default)]
    pub(crate) behaviour: Behaviour,
}

impl Group {
    /// All templates of the group.
    pub(crate) fn templates_mut(&mut self) -> Vec<&mut Template> {
        let mut all = vec![&mut self.client_id];
        all.extend(&mut self.username);
        all.extend(&mut self.password);
        all.extend(self.jwt.as_mut().map(|jwt| &mut jwt.claims));
        all.extend(self.subscribe.iter_mut().map(|subscription| &mut subscription.filter));
        for publish in &mut self.publish {
            all.push(&mut publish.topic);
            all.extend(&mut publish.payload.text);
        }
        if let Some(will) = &mut self.will {
            all.push(&mut will.topic);
            all.extend(&mut will.payload.text);
        }
        if let Some(sparkplug) = &mut self.sparkplug {
            all.extend([&mut sparkplug.group_id, &mut sparkplug.edge_node]);
        }
        all
    }

    /// The Keep Alive as it stands in CONNECT.
    pub(crate) fn keep_alive_seconds(&self) -> u16 {
        u16::try_from(self.keep_alive.ns() / crate::clock::SECOND_NS).unwrap_or(u16::MAX)
    }

    /// The Session Expiry Interval as it stands in CONNECT.
    pub(crate) fn session_expiry_seconds(&self) -> u32 {
        u32::try_from(self.session_expiry.ns() / crate::clock::SECOND_NS).unwrap_or(u32::MAX)
    }
}

/// How the connections of a group come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connect {
    /// Connections a second over the group. Absent: as fast as the broker takes them, a bounded number at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<Rate>,
    /// How they are spread in time.
    #[serde(default)]
    pub(crate) arrivals: Arrivals,
}

/// How events of a given rate are spread in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Arrivals {
    /// Evenly.
    #[default]
    Constant,
    /// As independent events: exponential gaps.
    Poisson,
    /// So many at once, then a pause, so that the rate is kept: `{ burst = 100 }`.
    Burst(u32),
}

/// What a client does when its connection has ended without its doing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reconnect {
    /// How long it waits before the first try.
    pub(crate) delay: Spread,
    /// By what the delay is multiplied after each try that failed; at least 1.
    #[serde(default = "one")]
    pub(crate) backoff: f64,
    /// The longest delay.
    #[serde(default = "minute")]
    pub(crate) delay_max: Period,
}

/// Coming and going: online for a while, offline for a while, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lifecycle {
    /// How long a client stays.
    pub(crate) online: Spread,
    /// How long it stays away.
    #[serde(default = "no_time")]
    pub(crate) offline: Spread,
    /// How it leaves.
    #[serde(default)]
    pub(crate) leave: Leave,
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Leave {
    /// With DISCONNECT: no will.
    #[default]
    Disconnect,
    /// The connection is closed without a word: the will is published.
    Drop,
    /// The connection stays open and falls silent: nothing is read, nothing is sent, not even for the Keep Alive.
    HalfOpen,
    /// A second connection with the same client id comes while the first is up (`offline` does not matter).
    Takeover,
}

/// What the clients of a group are like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Behaviour {
    /// As the standard wants them.
    #[default]
    Normal,
    /// Reads slowly: the broker's output backs up.
    SlowReader {
        /// Bytes read a second, over a connection.
        bytes_per_second: u32,
    },
    /// Falls silent some time after it has subscribed: reads nothing, sends nothing, and leaves the socket open.
    HalfOpen {
        /// How long after.
        after: Spread,
    },
    /// Sends what no client may send, one thing per connection, and expects the broker to end that connection.
    Malformed {
        /// What is sent; the clients take turns.
        kinds: Vec<Malformation>,
        /// Connections a second over the group.
        rate: Rate,
    },
}

/// Bytes that break the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Malformation {
    /// Bytes by chance where CONNECT should stand.
    Garbage,
    /// PUBLISH before CONNECT.
    PublishFirst,
    /// CONNECT twice on one connection.
    SecondConnect,
    /// A packet type with flags that it must not have.
    ReservedFlags,
    /// A Remaining Length of five bytes.
    RemainingLength,
    /// PUBLISH with both QoS bits set.
    QosThree,
    /// PUBLISH to a topic with a wildcard.
    WildcardTopic,
    /// PUBLISH whose topic is not UTF-8.
    BadUtf8,
    /// SUBSCRIBE without a filter.
    EmptySubscribe,
    /// A PUBLISH that announces more than comes, and then silence: ended by the Keep Alive.
    Truncated,
}

impl Malformation {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 10] = [
        Self::Garbage,
        Self::PublishFirst,
        Self::SecondConnect,
        Self::ReservedFlags,
        Self::RemainingLength,
        Self::QosThree,
        Self::WildcardTopic,
        Self::BadUtf8,
        Self::EmptySubscribe,
        Self::Truncated,
    ];

    /// Its name in a file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::PublishFirst => "publish_first",
            Self::SecondConnect => "second_connect",
            Self::ReservedFlags => "reserved_flags",
            Self::RemainingLength => "remaining_length",
            Self::QosThree => "qos_three",
            Self::WildcardTopic => "wildcard_topic",
            Self::BadUtf8 => "bad_utf8",
            Self::EmptySubscribe => "empty_subscribe",
            Self::Truncated => "truncated",
        }
    }
}

/// The QoS that is asked for when a file says nothing.
pub(crate) const fn at_most_once() -> QoS {
    QoS::AtMostOnce
}

const fn five() -> Version {
    Version::V5
}

fn client_id() -> Template {
    "{group}-{index}".parse().expect("a template known to be right")
}

const fn minute() -> Period {
    Period::from_seconds(60)
}

fn tenth() -> Share {
    Share::new(0.1).expect("between 0 and 1")
}

const fn yes() -> bool {
    true
}

const fn one() -> f64 {
    1.0
}

const fn no_time() -> Spread {
    Spread::ZERO
}

/// What MQTT 5 takes for granted when CONNECT has no Receive Maximum.
const fn receive_maximum() -> u16 {
    u16::MAX
}
