//! The legs of a client's life that are timed.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// What is timed, from which moment to which. The names in JSON, CSV and .hlog are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Leg {
    /// From asking for a connection to its being established by TCP.
    TcpConnect,
    /// The TLS handshake.
    Tls,
    /// From sending CONNECT to CONNACK.
    ConnAck,
    /// From sending SUBSCRIBE to SUBACK.
    SubAck,
    /// From sending a QoS 1 PUBLISH to PUBACK.
    PubAck,
    /// From sending a QoS 2 PUBLISH to PUBCOMP.
    PubComp,
    /// From sending a PUBLISH to its arrival at a subscriber.
    Deliver,
    /// From the loss of a connection to the first message on the next one of the same client.
    ReconnectToFirstMessage,
}

impl Leg {
    /// All legs, in the order in which a client meets them.
    pub(crate) const ALL: [Self; 8] = [
        Self::TcpConnect,
        Self::Tls,
        Self::ConnAck,
        Self::SubAck,
        Self::PubAck,
        Self::PubComp,
        Self::Deliver,
        Self::ReconnectToFirstMessage,
    ];

    /// The name in files: the same as in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::TcpConnect => "tcp_connect",
            Self::Tls => "tls",
            Self::ConnAck => "conn_ack",
            Self::SubAck => "sub_ack",
            Self::PubAck => "pub_ack",
            Self::PubComp => "pub_comp",
            Self::Deliver => "deliver",
            Self::ReconnectToFirstMessage => "reconnect_to_first_message",
        }
    }

    /// The leg of this name in files.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|leg| leg.name() == name)
    }

    /// The name for people.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::TcpConnect => "TCP connect",
            Self::Tls => "TLS handshake",
            Self::ConnAck => "CONNECT to CONNACK",
            Self::SubAck => "SUBSCRIBE to SUBACK",
            Self::PubAck => "PUBLISH to PUBACK",
            Self::PubComp => "PUBLISH to PUBCOMP",
            Self::Deliver => "PUBLISH to delivery",
            Self::ReconnectToFirstMessage => "reconnect to first message",
        }
    }

    /// Whether the leg belongs to a message. Message legs of stages that are not measured do not enter the total;
    /// those of connections and subscriptions always do.
    pub(crate) const fn is_of_a_message(self) -> bool {
        matches!(self, Self::PubAck | Self::PubComp | Self::Deliver)
    }

    /// Its place in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// Reads a map from legs to values and skips legs that are not known here: a later version may have more.
///
/// # Errors
/// When it is not a map, or a known leg's value is not what it should be.
pub(super) fn known<'de, D, V>(deserializer: D) -> Result<Vec<(Leg, V)>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    deserializer.deserialize_map(KnownLegs(PhantomData))
}

struct KnownLegs<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for KnownLegs<V> {
    type Value = Vec<(Leg, V)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map from legs to their times")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            match Leg::named(&name) {
                Some(leg) => found.push((leg, map.next_value()?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_json_and_lead_back() {
        for (index, leg) in Leg::ALL.into_iter().enumerate() {
            assert_eq!(leg.index(), index);
            assert_eq!(serde_json::to_value(leg).unwrap(), leg.name());
            assert_eq!(Leg::named(leg.name()), Some(leg));
        }
        assert_eq!(Leg::named("teleport"), None);
    }
}
