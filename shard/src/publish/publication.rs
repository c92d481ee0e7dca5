//! One message on its way to many subscribers: kept at most once, encoded once per shape.

use std::num::NonZeroU16;

use dunlin_wire::encoder::{self, PublishHead};
use dunlin_wire::types::{PacketId, QoS, Version};

use crate::action::{Action, Actions};
use crate::connection::OutTopic;
use crate::ids::ConnId;
use crate::limits::PAYLOAD_SHARE_BYTES;
use crate::message::{Message, MessageView};
use crate::time::WallMs;

/// A message while it is handed out: borrowed from the publisher's buffer or from a kept message.
#[derive(Debug)]
pub(crate) struct Publication<'a> {
    view: MessageView<'a>,
    /// The owned form, made when the first queue, window or lane needs it.
    kept: Option<Message>,
    expiry_seconds_left: Option<u32>,
    plain: [Encoded; SHAPE_COUNT],
    /// The last encoding with one Subscription Identifier: its shape, the identifier, the bytes.
    with_id: (usize, u32, Encoded),
}

/// How one packet differs from other packets of the same publication.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer<'a> {
    /// The receiver's version.
    pub(crate) version: Version,
    /// QoS of this transfer.
    pub(crate) qos: QoS,
    /// RETAIN of this transfer.
    pub(crate) retain: bool,
    /// Whether this packet is itself a repeat, whatever DUP it came with. [MQTT5-3.3.1-3] [MQTT311-3.3.1-3]
    pub(crate) dup: bool,
    /// Present if the QoS is above 0.
    pub(crate) packet_id: Option<PacketId>,
    /// Subscription Identifiers; ignored before 5.0.
    pub(crate) ids: &'a [u32],
    /// The largest packet that the receiver takes.
    pub(crate) packet_bytes_max: u32,
}

/// The packet would be larger than the receiver takes: it is not sent, and counts as delivered.
///
/// `[MQTT5-3.1.2-24]` `[MQTT5-3.1.2-25]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Where an encoded packet lies in the arena of the tick.
#[derive(Clone, Copy, Debug, Default)]
struct Encoded {
    start: u32,
    /// `start` when there is none yet.
    end: u32,
    /// The whole packet's length.
    packet_bytes: u32,
    /// Where the Packet Identifier stands, from `start`.
    packet_id_at: u32,
    /// Whether the payload is sent by reference after these bytes.
    payload_apart: bool,
}

impl<'a> Publication<'a> {
    /// A message that is borrowed.
    pub(crate) fn new(view: MessageView<'a>, now: WallMs) -> Self {
        Self {
            view,
            kept: None,
            expiry_seconds_left: view.expiry_left(now),
            plain: [Encoded::default(); SHAPE_COUNT],
            with_id: (0, 0, Encoded::default()),
        }
    }

    /// A message that is kept already.
    pub(crate) fn of_message(message: &'a Message, now: WallMs) -> Self {
        Self { kept: Some(message.clone()), ..Self::new(message.view(), now) }
    }

    /// Its parts.
    pub(crate) const fn view(&self) -> &MessageView<'a> {
        &self.view
    }

    /// The owned form. One allocation at the first call, a reference count later.
    pub(crate) fn keep(&mut self) -> Message {
        self.kept.get_or_insert_with(|| self.view.to_message()).clone()
    }

    /// Sends it to one connection. Returns the packet's bytes.
    ///
    /// Cost: the first of a shape encodes; at QoS 0 the others name the same bytes, above they copy them and write their
    /// Packet Identifier in. A large payload of a kept message is not copied at all.
    pub(crate) fn send(
        &mut self,
        conn: ConnId,
        transfer: &Transfer<'_>,
        actions: &mut Actions,
    ) -> Result<u32, TooLarge> {
        let encoded = self.encoded(transfer, actions)?;
        let payload = if encoded.payload_apart { self.kept.clone() } else { None };
        let head = encoded.start..encoded.end;
        actions.list.push(Action::Send { conn, head, payload });
        Ok(encoded.packet_bytes)
    }

    /// The bytes for this transfer, from the cache or new.
    fn encoded(&mut self, transfer: &Transfer<'_>, actions: &mut Actions) -> Result<Encoded, TooLarge> {
        let shape = shape(transfer);
        let ids = if transfer.version.is_v5() { transfer.ids } else { &[] };
        let cached = match ids {
            [] => self.plain[shape],
            [id] if (self.with_id.0, self.with_id.1) == (shape, *id) => self.with_id.2,
            _ => Encoded::default(),
        };
        if cached.end > cached.start && !transfer.dup {
            if cached.packet_bytes > transfer.packet_bytes_max {
                return Err(TooLarge);
            }
            return Ok(match transfer.packet_id {
                None => cached,
                Some(packet_id) => cached.copied(packet_id, actions),
            });
        }
        let head = self.head(transfer);
        let fresh = self.write(transfer.version, &head, transfer.packet_bytes_max, actions)?;
        if !transfer.dup {
            match ids {
                [] => self.plain[shape] = fresh,
                [id] => self.with_id = (shape, *id, fresh),
                _ => {}
            }
        }
        Ok(fresh)
    }

    /// What all packets of this publication have in common, as one transfer says it.
    pub(crate) fn head<'b>(&'b self, transfer: &Transfer<'b>) -> PublishHead<'b> {
        PublishHead {
            // [MQTT5-3.3.1-2] [MQTT311-3.3.1-2] [MQTT5-4.3.1-1] [MQTT311-4.3.1-1]: never set at QoS 0.
            dup: transfer.dup && transfer.qos != QoS::AtMostOnce,
            qos: transfer.qos,
            retain: transfer.retain,
            topic: self.view.topic,
            packet_id: transfer.packet_id,
            topic_alias: None,
            // [MQTT5-3.3.2-6]
            message_expiry_interval: self.expiry_seconds_left,
            // [MQTT5-3.3.4-3] [MQTT5-3.3.4-5]
            subscription_ids: transfer.ids,
            // [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18] [MQTT5-3.3.2-20]
            forwarded: self.view.properties,
            payload_len: self.view.payload.len(),
        }
    }

    /// Whether the receiver takes a packet of this size.
    pub(crate) fn fits(&self, transfer: &Transfer<'_>) -> bool {
        // An alias that is introduced adds three bytes.
        let room = (transfer.packet_bytes_max as usize).saturating_sub(3);
        encoder::publish_len(transfer.version, &self.head(transfer)).is_ok_and(|bytes| bytes <= room)
    }

    /// Sends one packet under a topic alias, with the topic's name if the alias is new; never shared, for aliases belong
    /// to a connection.
    pub(crate) fn send_aliased(
        &self,
        conn: ConnId,
        transfer: &Transfer<'_>,
        alias: OutTopic,
        actions: &mut Actions,
    ) -> Result<u32, TooLarge> {
        let head = self.head(transfer);
        let (topic, alias) = match alias {
            OutTopic::Named => (head.topic, 0),
            OutTopic::Introduced(alias) => (head.topic, alias),
            OutTopic::Aliased(alias) => ("", alias),
        };
        let head = PublishHead { topic, topic_alias: NonZeroU16::new(alias), ..head };
        let encoded = self.write(transfer.version, &head, transfer.packet_bytes_max, actions)?;
        let payload = if encoded.payload_apart { self.kept.clone() } else { None };
        actions.list.push(Action::Send { conn, head: encoded.start..encoded.end, payload });
        Ok(encoded.packet_bytes)
    }

    fn write(
        &self,
        version: Version,
        head: &PublishHead<'_>,
        packet_bytes_max: u32,
        actions: &mut Actions,
    ) -> Result<Encoded, TooLarge> {
        // [MQTT5-3.1.2-24]
        let packet_bytes = encoder::publish_len(version, head)
            .ok()
            .and_then(|bytes| u32::try_from(bytes).ok())
            .filter(|bytes| *bytes <= packet_bytes_max)
            .ok_or(TooLarge)?;
        let packet_id_at = encoder::packet_id_offset(version, head).map_err(|_| TooLarge)?.unwrap_or(0);
        let payload_apart = self.kept.is_some() && self.view.payload.len() >= PAYLOAD_SHARE_BYTES;
        let start = actions.mark();
        encoder::publish(&mut actions.arena, version, head).map_err(|_| TooLarge)?;
        if !payload_apart {
            actions.arena.extend_from_slice(self.view.payload);
        }
        let packet_id_at = u32::try_from(packet_id_at).map_err(|_| TooLarge)?;
        Ok(Encoded { start, end: actions.mark(), packet_bytes, packet_id_at, payload_apart })
    }
}

impl Encoded {
    /// The same packet with another Packet Identifier.
    fn copied(self, packet_id: PacketId, actions: &mut Actions) -> Self {
        let start = actions.mark();
        actions.arena.extend_from_within(self.start as usize..self.end as usize);
        encoder::patch_publish(
            &mut actions.arena[start as usize..],
            self.packet_id_at as usize,
            packet_id,
            false,
        );
        Self { start, end: actions.mark(), ..self }
    }
}

/// Number of a shape: 5.0 or not, QoS, RETAIN.
const fn shape(transfer: &Transfer<'_>) -> usize {
    let version = if transfer.version.is_v5() { SHAPE_COUNT / 2 } else { 0 };
    let retain = if transfer.retain { 3 } else { 0 };
    version + retain + transfer.qos.as_u8() as usize
}

/// Two forms of packets, three QoS, RETAIN or not.
const SHAPE_COUNT: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId { slot: 0, generation: 0 };

    fn view(payload: &[u8]) -> MessageView<'_> {
        MessageView {
            topic: "a/b",
            qos: QoS::ExactlyOnce,
            retain: false,
            received_at: WallMs(0),
            expiry_seconds: Some(10),
            publisher: "p",
            properties: &[1, 1],
            payload,
        }
    }

    fn transfer(version: Version, qos: QoS, id: u16, ids: &[u32]) -> Transfer<'_> {
        Transfer {
            version,
            qos,
            retain: false,
            dup: false,
            packet_id: PacketId::new(id),
            ids,
            packet_bytes_max: u32::MAX,
        }
    }

    /// What one connection receives.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only sends are expected")]
    fn sent(actions: &Actions) -> Vec<Vec<u8>> {
        let bytes = |action: &Action| match action {
            Action::Send { head, payload, .. } => {
                let mut all = actions.arena[head.start as usize..head.end as usize].to_vec();
                all.extend_from_slice(payload.as_ref().map_or(&[], |message| message.payload()));
                all
            }
            other => panic!("not a send: {other:?}"),
        };
        actions.list.iter().map(bytes).collect()
    }

    #[test]
    fn subscribers_of_one_shape_share_bytes_at_qos_0() {
        let mut actions = Actions::default();
        let mut publication = Publication::new(view(b"hi"), WallMs(500));
        for _ in 0..3 {
            publication.send(CONN, &transfer(Version::V311, QoS::AtMostOnce, 0, &[]), &mut actions).unwrap();
        }
        assert_eq!(actions.arena.len(), 2 + 5 + 2);
        assert_eq!(sent(&actions)[2], b"\x30\x07\x00\x03a/bhi");
        assert!(publication.kept.is_none(), "nothing was kept");
    }

    #[test]
    fn each_qos_1_packet_has_its_own_identifier_and_else_the_same_bytes() {
        let mut actions = Actions::default();
        let mut publication = Publication::new(view(b"hi"), WallMs(500));
        for id in [7, 0x1234] {
            publication.send(CONN, &transfer(Version::V5, QoS::AtLeastOnce, id, &[9]), &mut actions).unwrap();
        }
        let expected = |id: [u8; 2]| {
            let mut bytes = b"\x32\x13\x00\x03a/b".to_vec();
            bytes.extend_from_slice(&id);
            // Expiry 10 s, Subscription Identifier 9, what the publisher gave, payload.
            bytes.extend_from_slice(b"\x09\x02\x00\x00\x00\x0a\x0b\x09\x01\x01hi");
            bytes
        };
        assert_eq!(sent(&actions), [expected([0, 7]), expected([0x12, 0x34])]);
    }

    #[test]
    fn a_large_kept_payload_is_sent_by_reference() {
        let payload = vec![5; PAYLOAD_SHARE_BYTES];
        let mut actions = Actions::default();
        let mut publication = Publication::new(view(&payload), WallMs(0));
        publication.keep();
        for id in 1..4 {
            publication
                .send(CONN, &transfer(Version::V311, QoS::AtLeastOnce, id, &[]), &mut actions)
                .unwrap();
        }
        assert!(actions.arena.len() < 100);
        for (packet, id) in sent(&actions).iter().zip(1_u8..) {
            assert_eq!(packet.len(), 1 + 2 + 5 + 2 + payload.len());
            assert_eq!(packet[8..10], [0, id]);
        }
    }

    #[test]
    fn a_packet_above_the_receivers_maximum_is_not_sent() {
        // [MQTT5-3.1.2-24]
        let mut actions = Actions::default();
        let mut publication = Publication::new(view(b"hi"), WallMs(0));
        let wide = transfer(Version::V5, QoS::AtMostOnce, 0, &[]);
        let bytes = publication.send(CONN, &wide, &mut actions).unwrap();
        let exact = Transfer { packet_bytes_max: bytes, ..wide };
        let narrow = Transfer { packet_bytes_max: bytes - 1, ..wide };
        assert_eq!(publication.send(CONN, &exact, &mut actions), Ok(bytes));
        assert_eq!(publication.send(CONN, &narrow, &mut actions), Err(TooLarge));
        assert_eq!(actions.list.len(), 2);
    }

    #[test]
    fn dup_is_never_set_at_qos_0_and_a_repeat_is_not_reused() {
        // [MQTT5-3.3.1-1] [MQTT5-3.3.1-2] [MQTT5-3.3.1-3] [MQTT5-4.3.1-1]
        // [MQTT311-3.3.1-1] [MQTT311-3.3.1-2] [MQTT311-3.3.1-3] [MQTT311-4.3.1-1]
        let mut actions = Actions::default();
        let mut publication = Publication::new(view(b""), WallMs(0));
        let first = transfer(Version::V311, QoS::AtLeastOnce, 1, &[]);
        publication.send(CONN, &Transfer { dup: true, ..first }, &mut actions).unwrap();
        publication.send(CONN, &first, &mut actions).unwrap();
        let zero = transfer(Version::V311, QoS::AtMostOnce, 0, &[]);
        publication.send(CONN, &Transfer { dup: true, ..zero }, &mut actions).unwrap();
        let flags: Vec<u8> = sent(&actions).iter().map(|packet| packet[0]).collect();
        assert_eq!(flags, [0x3A, 0x32, 0x30]);
    }
}
