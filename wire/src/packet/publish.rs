//! PUBLISH: a message on its way (§3.3).

use core::fmt;
use core::num::NonZeroU16;

use super::connect::WillProperties;
use super::user_properties::UserProperties;
use crate::error::{Cause, DecodeError};
use crate::limits::Limits;
use crate::properties::{PropertyId, skip_value};
use crate::reader::Reader;
use crate::types::{PacketId, QoS};

/// An application message with the marks of this transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether it may have been sent before.
    pub dup: bool,
    /// QoS of this transfer.
    pub qos: QoS,
    /// To the server: keep it. From the server: it was kept.
    pub retain: bool,
    /// The topic; empty only in 5.0 if `properties.topic_alias` stands for it.
    pub topic: &'a str,
    /// Present if and only if the QoS is above 0.
    pub packet_id: Option<PacketId>,
    /// Properties (5.0).
    pub properties: PublishProperties<'a>,
    /// The message itself.
    pub payload: &'a [u8],
}

/// Properties of PUBLISH (§MQTT5 3.3.2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    /// `true` if the payload is UTF-8 text.
    pub payload_format_indicator: Option<bool>,
    /// Seconds that the message has left to live.
    pub message_expiry_interval: Option<u32>,
    /// A number that stands for the topic on this connection.
    pub topic_alias: Option<NonZeroU16>,
    /// Topic for the answer.
    pub response_topic: Option<&'a str>,
    /// Tells the asker which request an answer is for.
    pub correlation_data: Option<&'a [u8]>,
    /// MIME type or another description of the payload.
    pub content_type: Option<&'a str>,
    /// Which subscriptions of the receiver matched; only servers send it.
    pub subscription_ids: SubscriptionIds<'a>,
    /// User Properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> PublishProperties<'a> {
    /// Reads properties in wire form, without the length before them, such as
    /// [`PublishProperties::write_forwardable`] wrote.
    ///
    /// # Errors
    /// As for the properties of a PUBLISH.
    pub fn parse(wire: &'a [u8], limits: &Limits) -> Result<Self, DecodeError> {
        crate::v5::decode::publish_properties(wire, limits)
    }

    /// Whether there is something that [`PublishProperties::write_forwardable`] would write.
    #[must_use]
    #[inline]
    pub const fn has_forwardable(&self) -> bool {
        self.payload_format_indicator.is_some()
            || self.response_topic.is_some()
            || self.correlation_data.is_some()
            || self.content_type.is_some()
            || !self.user_properties.is_empty()
    }

    /// Appends, in wire form, the properties that a server forwards unaltered.
    ///
    /// These are the Payload Format Indicator `[MQTT5-3.3.2-4]`, Response Topic `[MQTT5-3.3.2-15]`,
    /// Correlation Data `[MQTT5-3.3.2-16]`, User Properties in their order `[MQTT5-3.3.2-17]`
    /// `[MQTT5-3.3.2-18]` and Content Type `[MQTT5-3.3.2-20]`. Not the alias, which ends at this
    /// connection, nor the expiry, which counts down, nor Subscription Identifiers.
    ///
    /// Cost: nothing if there are none; else copies, with one `reserve` at most. Strings are taken
    /// as decoded: a caller's own ones must be at most 65,535 bytes and are cut to that otherwise.
    #[inline]
    pub fn write_forwardable(&self, out: &mut Vec<u8>) {
        if self.has_forwardable() {
            self.forwardable().write(out);
        }
    }

    /// The forwardable part.
    const fn forwardable(&self) -> Forwardable<'a> {
        Forwardable {
            payload_format_indicator: self.payload_format_indicator,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            content_type: self.content_type,
            user_properties: self.user_properties,
        }
    }
}

impl<'a> WillProperties<'a> {
    /// Appends the properties with which the Will is published, as
    /// [`PublishProperties::write_forwardable`] does; not the delay and not the expiry.
    /// `[MQTT5-3.1.3-10]`: the order of User Properties is kept.
    pub fn write_forwardable(&self, out: &mut Vec<u8>) {
        self.forwardable().write(out);
    }

    /// The forwardable part.
    const fn forwardable(&self) -> Forwardable<'a> {
        Forwardable {
            payload_format_indicator: self.payload_format_indicator,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            content_type: self.content_type,
            user_properties: self.user_properties,
        }
    }
}

/// What a message keeps from its publisher to its receivers.
struct Forwardable<'a> {
    payload_format_indicator: Option<bool>,
    response_topic: Option<&'a str>,
    correlation_data: Option<&'a [u8]>,
    content_type: Option<&'a str>,
    user_properties: UserProperties<'a>,
}

impl Forwardable<'_> {
    /// Appends all in wire form.
    fn write(&self, out: &mut Vec<u8>) {
        if let Some(text) = self.payload_format_indicator {
            out.extend_from_slice(&[PropertyId::PayloadFormatIndicator.as_u8(), u8::from(text)]);
        }
        if let Some(topic) = self.response_topic {
            put_field(out, PropertyId::ResponseTopic, topic.as_bytes());
        }
        if let Some(data) = self.correlation_data {
            put_field(out, PropertyId::CorrelationData, data);
        }
        if let Some(content_type) = self.content_type {
            put_field(out, PropertyId::ContentType, content_type.as_bytes());
        }
        // [MQTT5-3.3.2-17] [MQTT5-3.3.2-18]: all of them, in their order.
        if let Some(run) = self.user_properties.wire_run() {
            out.extend_from_slice(run);
            return;
        }
        for (name, value) in self.user_properties {
            put_field(out, PropertyId::UserProperty, name.as_bytes());
            put_counted(out, value.as_bytes());
        }
    }
}

/// Appends a property's identifier and its length-prefixed value.
fn put_field(out: &mut Vec<u8>, id: PropertyId, bytes: &[u8]) {
    out.push(id.as_u8());
    put_counted(out, bytes);
}

/// Appends a length and the bytes.
fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    let count = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(bytes.get(..usize::from(count)).unwrap_or(bytes));
}

/// The Subscription Identifiers of a PUBLISH: from the wire, or from a list of the sender's.
#[derive(Clone, Copy)]
pub struct SubscriptionIds<'a>(Source<'a>);

/// Where the identifiers are.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// Validated properties in wire form.
    Wire(&'a [u8]),
    /// A sender's list.
    List(&'a [u32]),
}

impl<'a> SubscriptionIds<'a> {
    /// No identifier.
    pub const NONE: Self = Self(Source::List(&[]));

    /// The identifiers of a list, each from 1 to 268,435,455.
    #[must_use]
    pub const fn from_slice(ids: &'a [u32]) -> Self {
        Self(Source::List(ids))
    }

    /// Validated properties in wire form.
    pub(crate) const fn from_wire(bytes: &'a [u8]) -> Self {
        Self(Source::Wire(bytes))
    }

    /// The identifiers in order.
    #[must_use]
    pub const fn iter(&self) -> SubscriptionIdsIter<'a> {
        SubscriptionIdsIter(match self.0 {
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

/// The identifiers of [`SubscriptionIds`], in order.
#[derive(Clone, Debug)]
pub struct SubscriptionIdsIter<'a>(Cursor<'a>);

/// What is left of them.
#[derive(Clone, Debug)]
enum Cursor<'a> {
    Wire(Reader<'a>),
    List(&'a [u32]),
}

impl Iterator for SubscriptionIdsIter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        match &mut self.0 {
            Cursor::Wire(reader) => loop {
                let id = reader.u8().ok()?;
                if id == PropertyId::SubscriptionIdentifier.as_u8() {
                    return reader.varint().ok();
                }
                skip_value(reader, id)?;
            },
            Cursor::List(list) => {
                let (first, rest) = list.split_first()?;
                *list = rest;
                Some(*first)
            }
        }
    }
}

impl<'a> IntoIterator for SubscriptionIds<'a> {
    type Item = u32;
    type IntoIter = SubscriptionIdsIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Default for SubscriptionIds<'_> {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscriptionIds<'_> {}

/// Checks a payload against its Payload Format Indicator.
///
/// # Errors
/// [`Cause::PayloadNotUtf8`] if it should be text and is not (§MQTT5 3.3.2.3.2).
pub fn check_payload_format(indicator: Option<bool>, payload: &[u8]) -> Result<(), Cause> {
    if indicator == Some(true) && core::str::from_utf8(payload).is_err() {
        return Err(Cause::PayloadNotUtf8);
    }
    Ok(())
}
