//! What makes a run fail.

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the oracle looks for. All of it, unless the file says why not: `loss = { off = "…" }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Verify {
    /// Messages that did not come.
    pub(crate) loss: Check,
    /// Messages that came again. (At QoS 1, those that carry DUP or follow a reconnect are allowed in any case.)
    pub(crate) duplicates: Check,
    /// Messages of one publisher, topic and QoS that came in another order than they were sent.
    pub(crate) order: Check,
    /// Messages that came to a client with no filter for them.
    pub(crate) wrong_recipient: Check,
    /// Payloads that are damaged.
    pub(crate) corruption: Check,
    /// Retained messages that were not the latest of their topic when the subscription was made.
    pub(crate) stale_retained: Check,
    /// Messages that reached no member, or several members, of a shared group.
    pub(crate) shared_exactly_one: Check,
    /// Wills that were not published, or were published although the client said goodbye.
    pub(crate) wills: Check,
    /// Connections that were refused, or ended without our doing.
    pub(crate) connections: Check,
    /// Malformed packets after which the broker kept the connection.
    pub(crate) malformed: Check,
}

impl Verify {
    /// All checks with the names that they have in a file.
    pub(crate) const fn named(&self) -> [(&'static str, &Check); 10] {
        [
            ("loss", &self.loss),
            ("duplicates", &self.duplicates),
            ("order", &self.order),
            ("wrong_recipient", &self.wrong_recipient),
            ("corruption", &self.corruption),
            ("stale_retained", &self.stale_retained),
            ("shared_exactly_one", &self.shared_exactly_one),
            ("wills", &self.wills),
            ("connections", &self.connections),
            ("malformed", &self.malformed),
        ]
    }
}

/// Whether something is looked for: `true`, or `{ off = "why not" }`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Check {
    /// It is, and what is found fails the run.
    #[default]
    On,
    /// It is counted, but does not fail the run.
    Off {
        /// Why it can't be asked for.
        why: String,
    },
}

impl Check {
    /// Whether what is found fails the run.
    pub(crate) const fn is_on(&self) -> bool {
        matches!(self, Self::On)
    }
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct CheckVisitor;
        impl<'de> Visitor<'de> for CheckVisitor {
            type Value = Check;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("true, or { off = \"why not\" }")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Check, E> {
                if on { Ok(Check::On) } else { Err(E::custom(REASON_WANTED)) }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Check, A::Error> {
                let mut found = None;
                while let Some((key, why)) = map.next_entry::<String, String>()? {
                    if key != "off" {
                        return Err(de::Error::unknown_field(&key, &["off"]));
                    }
                    found = Some(why);
                }
                match found {
                    Some(why) if !why.trim().is_empty() => Ok(Check::Off { why }),
                    _ => Err(de::Error::custom(REASON_WANTED)),
                }
            }
        }
        source.deserialize_any(CheckVisitor)
    }
}

const REASON_WANTED: &str = "a check is only left out with its reason: write { off = \"why not\" }";

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        match self {
            Self::On => sink.serialize_bool(true),
            Self::Off { why } => {
                let mut map = sink.serialize_map(Some(1))?;
                map.serialize_entry("off", why)?;
                map.end()
            }
        }
    }
}
