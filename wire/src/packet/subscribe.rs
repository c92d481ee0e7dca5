//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK and the lists in them (§3.8 to §3.11).

use core::fmt;

use super::ack::ReasonProperties;
use super::user_properties::UserProperties;
use crate::reader::Reader;
use crate::reason::ReasonCode;
use crate::types::{PacketId, SubscriptionOptions};

/// A client asks for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The SUBACK will carry it too.
    pub packet_id: PacketId,
    /// Properties (5.0).
    pub properties: SubscribeProperties<'a>,
    /// What it asks for: at least one.
    pub subscriptions: Subscriptions<'a>,
}

impl<'a> Subscribe<'a> {
    /// The subscriptions in order.
    #[must_use]
    pub const fn filters(&self) -> SubscriptionsIter<'a> {
        self.subscriptions.iter()
    }
}

/// Properties of SUBSCRIBE (§MQTT5 3.8.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeProperties<'a> {
    /// A number that comes back with each message of these subscriptions, 1 to 268,435,455.
    pub subscription_identifier: Option<u32>,
    /// User Properties.
    pub user_properties: UserProperties<'a>,
}

/// A filter and how its messages are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subscription<'a> {
    /// The topic filter; [`crate::topic::FilterKind::parse`] tells shared ones apart.
    pub filter: &'a str,
    /// QoS and, in 5.0, more.
    pub options: SubscriptionOptions,
}

/// The server's verdict on each subscription, in the order of the SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The Packet Identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// Properties (5.0).
    pub properties: ReasonProperties<'a>,
    /// One code per subscription. In 3.x every failure is written as 0x80.
    pub codes: ReasonCodes<'a>,
}

impl<'a> SubAck<'a> {
    /// The codes in order.
    #[must_use]
    pub const fn reason_codes(&self) -> ReasonCodesIter<'a> {
        self.codes.iter()
    }
}

/// A client gives up subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The UNSUBACK will carry it too.
    pub packet_id: PacketId,
    /// User Properties (5.0).
    pub user_properties: UserProperties<'a>,
    /// The filters to give up: at least one.
    pub filters: TopicFilters<'a>,
}

impl<'a> Unsubscribe<'a> {
    /// The filters in order.
    #[must_use]
    pub const fn filters(&self) -> TopicFiltersIter<'a> {
        self.filters.iter()
    }
}

/// The server's verdict on each filter, in the order of the UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The Packet Identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// Properties (5.0).
    pub properties: ReasonProperties<'a>,
    /// One code per filter; always empty in 3.x.
    pub codes: ReasonCodes<'a>,
}

impl<'a> UnsubAck<'a> {
    /// The codes in order.
    #[must_use]
    pub const fn reason_codes(&self) -> ReasonCodesIter<'a> {
        self.codes.iter()
    }
}

/// Defines a list that is borrowed either from the wire, validated, or from a sender's slice.
macro_rules! list {
    ($(#[$doc:meta])* $name:ident, $iter:ident, $item:ty, $read:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name<'a>(Source<'a, $item>);

        impl<'a> $name<'a> {
            /// The values of a slice, in its order.
            #[must_use]
            pub const fn from_slice(values: &'a [$item]) -> Self {
                Self(Source::List(values))
            }

            /// A validated list in wire form.
            pub(crate) const fn from_wire(bytes: &'a [u8]) -> Self {
                Self(Source::Wire(bytes))
            }

            /// The values in order.
            #[must_use]
            pub const fn iter(&self) -> $iter<'a> {
                $iter(match self.0 {
                    Source::Wire(bytes) => Cursor::Wire(Reader::new(bytes, false)),
                    Source::List(list) => Cursor::List(list),
                })
            }

            /// Whether there is none.
            #[must_use]
            pub const fn is_empty(&self) -> bool {
                match self.0 {
                    Source::Wire(bytes) => bytes.is_empty(),
                    Source::List(list) => list.is_empty(),
                }
            }
        }

        #[doc = concat!("The values of [`", stringify!($name), "`], in order.")]
        #[derive(Clone, Debug)]
        pub struct $iter<'a>(Cursor<'a, $item>);

        impl<'a> Iterator for $iter<'a> {
            type Item = $item;

            fn next(&mut self) -> Option<$item> {
                match &mut self.0 {
                    Cursor::Wire(reader) => {
                        let read: fn(&mut Reader<'a>) -> Option<$item> = $read;
                        read(reader)
                    }
                    Cursor::List(list) => {
                        let (first, rest) = list.split_first()?;
                        *list = rest;
                        Some(*first)
                    }
                }
            }
        }

        impl<'a> IntoIterator for $name<'a> {
            type Item = $item;
            type IntoIter = $iter<'a>;

            fn into_iter(self) -> Self::IntoIter {
                self.iter()
            }
        }

        impl Default for $name<'_> {
            fn default() -> Self {
                Self::from_slice(&[])
            }
        }

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.iter()).finish()
            }
        }

        impl PartialEq for $name<'_> {
            fn eq(&self, other: &Self) -> bool {
                self.iter().eq(other.iter())
            }
        }

        impl Eq for $name<'_> {}
    };
}

list! {
    /// The subscriptions of a SUBSCRIBE.
    Subscriptions, SubscriptionsIter, Subscription<'a>, |reader| {
        let filter = reader.known_string()?;
        let options = SubscriptionOptions::from_u8(reader.u8().ok()?)?;
        Some(Subscription { filter, options })
    }
}

list! {
    /// The filters of an UNSUBSCRIBE.
    TopicFilters, TopicFiltersIter, &'a str, Reader::known_string
}

list! {
    /// The codes of a SUBACK or UNSUBACK.
    ReasonCodes, ReasonCodesIter, ReasonCode, |reader| ReasonCode::from_u8(reader.u8().ok()?)
}

/// Where a list is.
#[derive(Clone, Copy)]
enum Source<'a, T> {
    Wire(&'a [u8]),
    List(&'a [T]),
}

/// What is left of a list.
#[derive(Clone, Debug)]
enum Cursor<'a, T> {
    Wire(Reader<'a>),
    List(&'a [T]),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::QoS;

    #[test]
    fn lists_from_the_wire_equal_lists_of_a_sender() {
        let subscription = |filter, qos| Subscription { filter, options: SubscriptionOptions::with_qos(qos) };
        assert_eq!(
            Subscriptions::from_wire(b"\x00\x01a\x01\x00\x01#\x02"),
            Subscriptions::from_slice(&[
                subscription("a", QoS::AtLeastOnce),
                subscription("#", QoS::ExactlyOnce)
            ])
        );
        assert_eq!(TopicFilters::from_wire(b"\x00\x01a\x00\x02b/"), TopicFilters::from_slice(&["a", "b/"]));
        let codes = ReasonCodes::from_wire(&[0, 0x87]);
        assert_eq!(codes, ReasonCodes::from_slice(&[ReasonCode::Success, ReasonCode::NotAuthorized]));
        assert_eq!(format!("{codes:?}"), "[Success, NotAuthorized]");
        assert!(!codes.is_empty() && ReasonCodes::default().is_empty());
    }
}
