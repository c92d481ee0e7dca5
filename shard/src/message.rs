//! A message: immutable once accepted, shared by reference between subscribers and cores.
//!
//! Two forms. [`MessageView`] borrows from the publisher's receive buffer: a message that only passes through is never
//! copied or allocated. [`Message`] owns one allocation and is made at most once per message, when a queue, an inflight
//! window, the retained store or another shard has to keep it.

use std::fmt;
use std::sync::Arc;

use dunlin_wire::types::QoS;

use crate::time::WallMs;

/// A message that is being delivered, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageView<'a> {
    /// Where it was published; a valid topic name.
    pub topic: &'a str,
    /// The QoS it was published with.
    pub qos: QoS,
    /// Its RETAIN flag as published.
    pub retain: bool,
    /// When the broker accepted it.
    pub received_at: WallMs,
    /// Message Expiry Interval in seconds from `received_at`, if it has one (§MQTT5 3.3.2.3.3).
    pub expiry_seconds: Option<u32>,
    /// The publisher's client id; empty for the broker's own messages.
    pub publisher: &'a str,
    /// Properties that are forwarded unaltered, in wire form and order.
    pub properties: &'a [u8],
    /// The application message.
    pub payload: &'a [u8],
}

impl MessageView<'_> {
    /// Copies the message into one allocation.
    ///
    /// # Panics
    /// If the topic or the client id is longer than the standard lets it be, 65,535 bytes.
    #[must_use]
    pub fn to_message(&self) -> Message {
        let mut whole: Arc<[u8]> = std::iter::repeat_n(0, self.bytes() - COUNT_BYTES).collect();
        let mut rest = Arc::get_mut(&mut whole).expect("nobody else has it yet");
        let mut put = |bytes: &[u8]| {
            let (place, after) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            place.copy_from_slice(bytes);
            rest = after;
        };
        let flags =
            self.qos as u8 | u8::from(self.retain) << 2 | u8::from(self.expiry_seconds.is_some()) << 3;
        put(&[flags, 0]);
        put(&length_u16(self.topic.len()).to_le_bytes());
        put(&length_u16(self.publisher.len()).to_le_bytes());
        put(&[0; 2]);
        put(&length_u32(self.properties.len()).to_le_bytes());
        put(&self.expiry_seconds.unwrap_or(0).to_le_bytes());
        put(&self.received_at.0.to_le_bytes());
        put(self.topic.as_bytes());
        put(self.publisher.as_bytes());
        put(self.properties);
        put(self.payload);
        Message(whole)
    }

    /// Bytes that it occupies as a [`Message`].
    #[must_use]
    pub const fn bytes(&self) -> usize {
        let texts = self.topic.len() + self.publisher.len();
        COUNT_BYTES + HEAD_BYTES + texts + self.properties.len() + self.payload.len()
    }

    /// When it expires, if it does.
    #[must_use]
    pub fn expires_at(&self) -> Option<WallMs> {
        let seconds = self.expiry_seconds?;
        Some(WallMs(self.received_at.0.saturating_add(u64::from(seconds) * 1000)))
    }

    /// Seconds of life left at `now`, for the Message Expiry Interval sent on; `None` when it has no expiry.
    /// 0 when it has expired.
    #[must_use]
    pub fn expiry_left(&self, now: WallMs) -> Option<u32> {
        let left_ms = self.expires_at()?.0.saturating_sub(now.0);
        // Rounded up, so that a message with life left never says 0.
        u32::try_from(left_ms.div_ceil(1000)).ok()
    }

    /// Whether its life is over at `now`.
    #[must_use]
    pub fn is_expired(&self, now: WallMs) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
    }
}

/// A message that is kept: one allocation of 24 B (and the reference counts) plus its texts and payload, shared by
/// reference. Cloning costs an atomic increment.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(Arc<[u8]>);

impl Message {
    /// The message's parts. A few loads; no allocation.
    #[must_use]
    pub fn view(&self) -> MessageView<'_> {
        let flags = self.0[0];
        let topic_len = usize::from(u16::from_le_bytes([self.0[2], self.0[3]]));
        let publisher_len = usize::from(u16::from_le_bytes([self.0[4], self.0[5]]));
        let properties_len = self.u32_at(8) as usize;
        let expiry = self.u32_at(12);
        let received_at = u64::from(self.u32_at(16)) | u64::from(self.u32_at(20)) << 32;
        let (topic, rest) = self.0[HEAD_BYTES..].split_at(topic_len);
        let (publisher, rest) = rest.split_at(publisher_len);
        let (properties, payload) = rest.split_at(properties_len);
        MessageView {
            topic: text(topic),
            qos: match flags & 3 {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            },
            retain: flags & 4 != 0,
            received_at: WallMs(received_at),
            expiry_seconds: (flags & 8 != 0).then_some(expiry),
            publisher: text(publisher),
            properties,
            payload,
        }
    }

    /// The application message alone: what [`crate::Action::Send`] sends after its head.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.view().payload
    }

    /// Bytes that it occupies, with the reference counts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len() + COUNT_BYTES
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

/// Bytes were checked when the message was made; they are never changed.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("copied from a &str in MessageView::to_message")
}

fn length_u16(length: usize) -> u16 {
    u16::try_from(length).expect("topic names and client ids are at most 65,535 bytes (§MQTT5 1.5.4)")
}

fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("a packet is at most 268,435,460 bytes (§MQTT5 2.1.4)")
}

/// Flags, lengths, expiry and time of arrival before the texts.
const HEAD_BYTES: usize = 24;

/// The reference counts.
const COUNT_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_message_reads_back_as_it_was() {
        let view = MessageView {
            topic: "a/b",
            qos: QoS::ExactlyOnce,
            retain: true,
            received_at: WallMs(1_000_500),
            expiry_seconds: Some(10),
            publisher: "c1",
            properties: &[1, 1],
            payload: b"hello",
        };
        let message = view.to_message();
        assert_eq!(message.view(), view);
        assert_eq!(message.payload(), b"hello");
    }

    #[test]
    fn expiry_counts_down_and_ends() {
        let view = MessageView {
            topic: "a",
            qos: QoS::AtMostOnce,
            retain: false,
            received_at: WallMs(0),
            expiry_seconds: Some(2),
            publisher: "",
            properties: &[],
            payload: &[],
        };
        assert_eq!(view.expiry_left(WallMs(500)), Some(2));
        assert_eq!(view.expiry_left(WallMs(1_500)), Some(1));
        assert!(!view.is_expired(WallMs(1_999)));
        assert!(view.is_expired(WallMs(2_000)));
    }
}
