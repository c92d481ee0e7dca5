//! What the clients of a group subscribe to and publish.

use dunlin_wire::{QoS, RetainHandling};
use serde::{Deserialize, Serialize};

use super::field;
use super::quantity::{Period, Rate};
use super::schema::{Arrivals, at_most_once};
use super::source::Source;
use super::template::{Scope, Template};
use crate::stamp::STAMP_BYTES;

/// One subscription of each client of a group, or several of one form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subscription {
    /// The filter; `$share/group/filter` too.
    pub(crate) filter: Template,
    /// The highest QoS that is wanted.
    #[serde(default = "at_most_once", with = "field::qos")]
    pub(crate) qos: QoS,
    /// How many of this form, `{n}` counting them from 0.
    #[serde(default = "once")]
    pub(crate) repeat: u32,
    /// No Local (MQTT 5).
    #[serde(default)]
    pub(crate) no_local: bool,
    /// Retain As Published (MQTT 5).
    #[serde(default)]
    pub(crate) retain_as_published: bool,
    /// Retain Handling (MQTT 5): 0 retained messages are sent, 1 only if the subscription is new, 2 not.
    #[serde(default = "send_retained", with = "field::retain_handling")]
    pub(crate) retain_handling: RetainHandling,
}

/// One kind of message that each client of a group publishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Publish {
    /// Its name within the group, for stages and reports; needed only when a group publishes several kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The topic.
    pub(crate) topic: Template,
    /// The QoS.
    #[serde(default = "at_most_once", with = "field::qos")]
    pub(crate) qos: QoS,
    /// RETAIN.
    #[serde(default)]
    pub(crate) retain: bool,
    /// Message Expiry Interval in whole seconds (MQTT 5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message_expiry: Option<Period>,
    /// What is sent.
    #[serde(default)]
    pub(crate) payload: Payload,
    /// Messages a second over the group (open loop). One of `rate`, `per_client` and `window` must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<Rate>,
    /// Messages a second of each client (open loop).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) per_client: Option<Rate>,
    /// Messages that each client keeps under way (closed loop): the next goes out when one is delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<u16>,
    /// How the messages of an open loop are spread in time.
    #[serde(default)]
    pub(crate) arrivals: Arrivals,
    /// How many messages each client sends in the whole run; absent: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) messages: Option<u32>,
    /// Who must receive it.
    #[serde(default)]
    pub(crate) expect: Expect,
}

impl Publish {
    /// An entry with this topic that says nothing else.
    pub(crate) fn sample(topic: Template) -> Self {
        Self {
            name: None,
            topic,
            qos: QoS::AtMostOnce,
            retain: false,
            message_expiry: None,
            payload: Payload::default(),
            rate: None,
            per_client: None,
            window: None,
            arrivals: Arrivals::Constant,
            messages: None,
            expect: Expect::Matching,
        }
    }

    /// When messages go out, in a group of `clients`. A loaded plan has exactly one of the three.
    pub(crate) fn pacing(&self, clients: u32) -> Pacing {
        if let Some(window) = self.window {
            Pacing::Closed { window }
        } else if let Some(per_client) = self.per_client {
            Pacing::Open { rate: per_client.times(f64::from(clients.max(1))) }
        } else {
            Pacing::Open { rate: self.rate.unwrap_or(ONE_A_SECOND) }
        }
    }
}

/// Stands in where a plan that was not loaded says nothing.
const ONE_A_SECOND: Rate = Rate::ONE;

/// When the messages of a publish entry go out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pacing {
    /// On an absolute schedule.
    Open {
        /// Messages a second over all clients of the group.
        rate: Rate,
    },
    /// Each client keeps so many under way.
    Closed {
        /// Messages under way, per client.
        window: u16,
    },
}

/// Who must receive a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expect {
    /// Every client of the plan with a filter that matches gets one copy, and one member of every shared group; nobody
    /// else.
    #[default]
    Matching,
    /// Nobody: the broker must not deliver it to any client of the plan.
    Nobody,
    /// Whoever: what arrives is looked at, what does not arrive is not missed.
    Unchecked,
}

/// What a message carries. Exactly one of `bytes`, `text` and `file`; with none, 128 bytes.
///
/// The stamp of 32 bytes that verification needs travels with each of them:
///
/// | payload | where the stamp is |
/// |---|---|
/// | `bytes` | the first 32 of them; the rest is filling |
/// | `text` with `{stamp}` | there, as 48 characters of text, so that JSON stays JSON |
/// | `text` without, and `file` | in front, as 32 bytes that are not text |
/// | Sparkplug | in the payload's field `body`, at its end |
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Payload {
    /// So many bytes in all, at least 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u32>,
    /// Text with variables, rendered for each message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<Template>,
    /// The contents of a file; its path is relative to the scenario file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    /// What `file` held, once it is loaded.
    #[serde(skip)]
    pub(crate) content: Vec<u8>,
}

impl Payload {
    /// Loads `file`, if there is one.
    ///
    /// # Errors
    /// What went wrong and what to do.
    pub(crate) fn load(&mut self, source: &mut Source) -> Result<(), String> {
        if let Some(path) = &self.file {
            self.content = source.file(path)?.to_vec();
        }
        Ok(())
    }

    /// Bytes of the payload that can be told without rendering: of a template, its text as it was written.
    pub(crate) fn length_max(&self) -> usize {
        let text = self.text.as_ref().map_or(0, |text| text.source().len());
        text.max(self.content.len()).max(self.bytes.unwrap_or(0) as usize)
    }

    /// Bytes of the payload of a message, the stamp among them; of a template, as long as `sample` makes it.
    pub(crate) fn length(&self, sample: &mut Scope<'_>) -> usize {
        let Some(text) = &self.text else {
            return match &self.file {
                Some(_) => STAMP_BYTES + self.content.len(),
                None => self.bytes.map_or(PAYLOAD_BYTES, |bytes| bytes as usize),
            };
        };
        let mut out = Vec::new();
        match text.render(sample, &mut out) {
            Some(_) => out.len(),
            None => STAMP_BYTES + out.len(),
        }
    }
}

/// The payload of an entry that says nothing about it.
const PAYLOAD_BYTES: usize = 128;

/// The will of each client of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Will {
    /// The topic.
    pub(crate) topic: Template,
    /// What is sent; the stamp travels as in any message.
    #[serde(default)]
    pub(crate) payload: Payload,
    /// The QoS.
    #[serde(default = "at_most_once", with = "field::qos")]
    pub(crate) qos: QoS,
    /// RETAIN.
    #[serde(default)]
    pub(crate) retain: bool,
    /// Will Delay Interval in whole seconds (MQTT 5).
    #[serde(default)]
    pub(crate) delay: Period,
}

/// Sparkplug-B edge nodes: NBIRTH and DBIRTH when they connect, NDATA and DDATA with a rising sequence number, NDEATH as
/// the will.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sparkplug {
    /// The Sparkplug group id.
    pub(crate) group_id: Template,
    /// The edge node id of each client.
    #[serde(default = "edge_node")]
    pub(crate) edge_node: Template,
    /// Devices behind each node; with none, the node's own metrics are sent as NDATA.
    #[serde(default)]
    pub(crate) devices: u16,
    /// Metrics of a node, or of each device if there are any.
    #[serde(default = "metrics")]
    pub(crate) metrics: u16,
    /// Metrics that change in each NDATA or DDATA.
    #[serde(default = "changing")]
    pub(crate) changing: u16,
    /// QoS of births and data; the standard wants 0.
    #[serde(default = "at_most_once", with = "field::qos")]
    pub(crate) qos: QoS,
    /// NDATA and DDATA a second over the group. One of `rate` and `per_client` must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<Rate>,
    /// NDATA and DDATA a second of each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) per_client: Option<Rate>,
    /// How they are spread in time.
    #[serde(default)]
    pub(crate) arrivals: Arrivals,
}

impl Sparkplug {
    /// A topic of the shape that its data messages have.
    pub(crate) fn data_topic(&self) -> Template {
        let kind = if self.devices == 0 { "NDATA" } else { "DDATA" };
        let device = if self.devices == 0 { "" } else { "/device-0" };
        let text = format!("spBv1.0/{}/{kind}/{}{device}", self.group_id.source(), self.edge_node.source());
        text.parse().expect("two templates and plain text between them are a template")
    }

    /// NDATA and DDATA a second over a group of `clients`.
    pub(crate) fn total_rate(&self, clients: u32) -> Rate {
        self.per_client.map_or_else(
            || self.rate.unwrap_or(ONE_A_SECOND),
            |per_client| per_client.times(f64::from(clients.max(1))),
        )
    }
}

const fn once() -> u32 {
    1
}

const fn send_retained() -> RetainHandling {
    RetainHandling::SendAtSubscribe
}

fn edge_node() -> Template {
    "{client_id}".parse().expect("a template known to be right")
}

const fn metrics() -> u16 {
    10
}

const fn changing() -> u16 {
    3
}
