//! Messages on their way to the broker: what it says to them, and sending them again.

use dunlin_wire::ReasonCode;
use dunlin_wire::packet::{Ack, Packet, Publish, PublishProperties};

use super::{Client, encoded};
use crate::log::Log;

impl Client {
    pub(super) fn resend(&self, out: &mut Vec<u8>, log: &mut Log) {
        let was_kicked = self.was_kicked(log);
        for outgoing in &self.out {
            if outgoing.released {
                out.extend(encoded(&Packet::PubRel(Ack::success(outgoing.packet_id)), self.version));
                continue;
            }
            let publication = &mut log.publications[outgoing.publication];
            publication.is_repeated = true;
            publication.is_repeated_anew |= was_kicked;
            let padding =
                publication.payload_bytes.saturating_sub(format!("{} ", outgoing.publication).len());
            let payload = if publication.payload_bytes == 0 {
                String::new()
            } else {
                format!("{} {}", outgoing.publication, "x".repeat(padding))
            };
            let packet = Packet::Publish(Publish {
                dup: true,
                qos: publication.qos,
                retain: publication.retain,
                topic: &publication.topic,
                packet_id: Some(outgoing.packet_id),
                properties: PublishProperties::default(),
                payload: payload.as_bytes(),
            });
            out.extend(encoded(&packet, self.version));
        }
    }

    pub(super) fn on_pubrec(&mut self, ack: &Ack<'_>, out: &mut Vec<u8>, log: &mut Log) {
        if ack.code.is_error() {
            if !self.excuses(ack.code) {
                log.violation(format!("{}: PUBREC {:?}", self.id, ack.code));
            }
            self.out.retain(|outgoing| outgoing.packet_id != ack.packet_id);
            return;
        }
        for outgoing in self.out.iter_mut().filter(|outgoing| outgoing.packet_id == ack.packet_id) {
            outgoing.released = true;
        }
        out.extend(encoded(&Packet::PubRel(Ack::success(ack.packet_id)), self.version));
    }

    pub(super) fn finish(&mut self, ack: &Ack<'_>, log: &mut Log) {
        let at = log.moment();
        let Some(position) = self.out.iter().position(|outgoing| outgoing.packet_id == ack.packet_id) else {
            log.violation(format!(
                "{}: acknowledgement of {:?}, which is not on its way",
                self.id, ack.packet_id
            ));
            return;
        };
        let outgoing = self.out.remove(position);
        // A PUBREL that is sent again after its PUBCOMP was lost: the exchange is over (§MQTT5 3.7.2.1).
        let over = outgoing.released && ack.code == ReasonCode::PacketIdentifierNotFound;
        if ack.code.is_error() && !over {
            if !self.excuses(ack.code) {
                log.violation(format!(
                    "{}: message {} refused with {:?}",
                    self.id, outgoing.publication, ack.code
                ));
            }
        } else {
            log.publications[outgoing.publication].acked_at = Some(at);
        }
    }
}
