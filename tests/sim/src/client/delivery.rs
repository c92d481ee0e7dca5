//! Messages that come to the client: their topics, their identifiers, their acknowledgements.

use dunlin_wire::packet::{Ack, Packet, Publish};
use dunlin_wire::{PacketId, QoS};

use super::{Client, encoded};
use crate::log::{Log, Receipt};

impl Client {
    pub(super) fn on_publish(&mut self, publish: &Publish<'_>, hold: bool, out: &mut Vec<u8>, log: &mut Log) {
        let Some(topic) = self.topic_of(publish, log) else { return };
        if publish.payload.is_empty() {
            // A retained message that clears; carries no index. Only its acknowledgement matters.
            if let Some(packet_id) = publish.packet_id {
                self.take_id(packet_id, usize::MAX, publish, log);
                self.answer(publish.qos, packet_id, out);
            }
            return;
        }
        let text = std::str::from_utf8(publish.payload).unwrap_or("");
        let index = text.split(' ').next().and_then(|number| number.parse::<usize>().ok());
        let Some(index) = index.filter(|index| *index < log.publications.len()) else {
            log.violation(format!("{}: payload {text:?} was never published", self.id));
            return;
        };
        if log.publications[index].topic != topic
            || log.publications[index].payload_bytes != publish.payload.len()
        {
            log.violation(format!("{}: message {index} came damaged on {topic}", self.id));
        }
        let fresh = publish.packet_id.is_none_or(|packet_id| self.take_id(packet_id, index, publish, log));
        if fresh {
            let at = log.moment();
            let epoch = self.epoch.expect("connected");
            log.note(format!("{} gets message {index} {:?}", self.id, publish.packet_id));
            log.receipts.push(Receipt {
                epoch,
                publication: index,
                qos: publish.qos,
                retain: publish.retain,
                dup: publish.dup,
                subscription_ids: publish.properties.subscription_ids.iter().collect(),
                at,
            });
        }
        if let Some(packet_id) = publish.packet_id {
            if hold {
                self.held.push((publish.qos, packet_id));
            } else {
                self.answer(publish.qos, packet_id, out);
            }
        }
    }

    /// The topic of a PUBLISH, aliases resolved.
    pub(super) fn topic_of(&mut self, publish: &Publish<'_>, log: &mut Log) -> Option<String> {
        let Some(alias) = publish.properties.topic_alias else { return Some(publish.topic.to_owned()) };
        // [MQTT5-3.3.2-10]: not above what this client announced.
        if alias.get() > self.alias_max {
            log.violation(format!("{}: topic alias {alias} above {}", self.id, self.alias_max));
        }
        if !publish.topic.is_empty() {
            self.aliases_in.insert(alias.get(), publish.topic.to_owned());
        }
        let topic = self.aliases_in.get(&alias.get()).cloned();
        if topic.is_none() {
            log.violation(format!("{}: topic alias {alias} stands for nothing", self.id));
        }
        topic
    }

    /// Checks the packet identifier of a delivery; `true` if the message is to be taken.
    pub(super) fn take_id(
        &mut self,
        packet_id: PacketId,
        index: usize,
        publish: &Publish<'_>,
        log: &mut Log,
    ) -> bool {
        if log.is_weak() {
            // What the broker has forgotten it begins anew.
            self.inbound.insert(packet_id, (index, publish.qos));
            return publish.qos != QoS::ExactlyOnce || self.taken.insert(packet_id) || !publish.dup;
        }
        if self.taken.contains(&packet_id) {
            if !publish.dup || self.inbound.get(&packet_id).is_some_and(|(old, _)| *old != index) {
                // [MQTT5-2.2.1-4]
                log.violation(format!("{}: packet id {packet_id:?} used again before PUBCOMP", self.id));
            }
            return false;
        }
        if self.inbound.insert(packet_id, (index, publish.qos)).is_some() {
            log.violation(format!("{}: packet id {packet_id:?} used again while in flight", self.id));
        }
        // [MQTT5-3.3.4-9]: never more than Receive Maximum unacknowledged.
        if self.inbound.len() > usize::from(self.receive_maximum) {
            log.violation(format!(
                "{}: {} in flight, Receive Maximum {}",
                self.id,
                self.inbound.len(),
                self.receive_maximum
            ));
        }
        if publish.qos == QoS::ExactlyOnce {
            self.taken.insert(packet_id);
        }
        true
    }

    pub(super) fn answer(&mut self, qos: QoS, packet_id: PacketId, out: &mut Vec<u8>) {
        let packet = if qos == QoS::ExactlyOnce {
            Packet::PubRec(Ack::success(packet_id))
        } else {
            self.inbound.remove(&packet_id);
            Packet::PubAck(Ack::success(packet_id))
        };
        out.extend(encoded(&packet, self.version));
    }
}
