//! What the broker says: packets out of bytes, and the answers to CONNECT and SUBSCRIBE.

use std::num::NonZeroU16;

use dunlin_wire::decoder;
use dunlin_wire::packet::{Ack, ConnAck, Packet};
use dunlin_wire::{Limits, PacketId, QoS, ReasonCode, Version};

use super::{Client, State, encoded};
use crate::log::Log;

impl Client {
    /// Takes bytes; appends answers to `out`. `hold` keeps acknowledgements back. Returns `false` when the broker asked
    /// for the end of the connection.
    pub(crate) fn receive(&mut self, bytes: &[u8], hold: bool, out: &mut Vec<u8>, log: &mut Log) -> bool {
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut at = 0;
        let mut open = true;
        loop {
            match decoder::decode_one(&buffer[at..], self.version, &Limits::CLIENT) {
                Ok(Some((packet, used))) => {
                    let limit = self.packet_bytes_max.unwrap_or(u32::MAX) as usize;
                    if used > limit {
                        // [MQTT5-3.1.2-24]
                        log.violation(format!(
                            "{}: packet of {used} bytes over Maximum Packet Size {limit}",
                            self.id
                        ));
                    }
                    at += used;
                    open &= self.on_packet(&packet, hold, out, log);
                }
                Ok(None) => break,
                Err(error) => {
                    log.violation(format!("{}: the broker sent what is no packet: {error}", self.id));
                    return false;
                }
            }
        }
        self.buffer = buffer[at..].to_vec();
        open
    }

    pub(super) fn on_packet(
        &mut self,
        packet: &Packet<'_>,
        hold: bool,
        out: &mut Vec<u8>,
        log: &mut Log,
    ) -> bool {
        if !matches!(packet, Packet::Publish(_)) {
            log.note(format!("{} reads {packet:?}", self.id));
        }
        match packet {
            Packet::ConnAck(connack) => self.on_connack(connack, out, log),
            Packet::Publish(publish) => {
                self.on_publish(publish, hold, out, log);
                true
            }
            Packet::PubAck(ack) => {
                self.finish(ack, log);
                true
            }
            Packet::PubRec(ack) => {
                self.on_pubrec(ack, out, log);
                true
            }
            Packet::PubRel(ack) => {
                self.taken.remove(&ack.packet_id);
                self.inbound.remove(&ack.packet_id);
                out.extend(encoded(&Packet::PubComp(Ack::success(ack.packet_id)), self.version));
                true
            }
            Packet::PubComp(ack) => {
                self.finish(ack, log);
                true
            }
            Packet::SubAck(suback) => {
                self.on_suback(suback.packet_id, suback.reason_codes().next(), log);
                true
            }
            Packet::UnsubAck(unsuback) => {
                let moment = log.moment();
                if let Some(index) = self.unsubscribing.remove(&unsuback.packet_id) {
                    log.subscriptions[index].gone_at = Some(moment);
                }
                true
            }
            Packet::PingResp => true,
            Packet::Disconnect(disconnect) => {
                log.note(format!("{} told to disconnect: {:?}", self.id, disconnect.code));
                let expected = matches!(
                    disconnect.code,
                    ReasonCode::SessionTakenOver
                        | ReasonCode::KeepAliveTimeout
                        | ReasonCode::AdministrativeAction
                        | ReasonCode::ServerShuttingDown
                );
                if !expected && !self.excuses(disconnect.code) {
                    log.complaint(format!("{}: told to disconnect with {:?}", self.id, disconnect.code));
                }
                false
            }
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq
            | Packet::Auth(_) => {
                log.violation(format!("{}: the broker sent {:?}", self.id, packet.packet_type()));
                true
            }
        }
    }

    pub(super) fn on_connack(&mut self, connack: &ConnAck<'_>, out: &mut Vec<u8>, log: &mut Log) -> bool {
        if connack.code != ReasonCode::Success {
            if !self.excuses(connack.code) {
                log.violation(format!("{}: refused with {:?}", self.id, connack.code));
            }
            return false;
        }
        if self.asked_clean && connack.session_present {
            // [MQTT5-3.2.2-2] [MQTT311-3.2.2-1]
            log.violation(format!("{}: a clean start, and a session is present", self.id));
        }
        self.asked_clean = false;
        self.state = State::Up;
        let properties = &connack.properties;
        self.broker_receive_maximum = properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        self.broker_alias_max = properties.topic_alias_maximum.unwrap_or(0);
        self.broker_qos_max = properties.maximum_qos.unwrap_or(QoS::ExactlyOnce);
        let expected = self.expects_session(log);
        // 3.1 has no Session Present: its clients trust that the session they ask for is there.
        let present = connack.session_present || self.version == Version::V31;
        if expected && !present {
            if !self.was_kicked(log) {
                log.complaint(format!("{}: its session is lost", self.id));
            }
            self.begin_epoch(log);
        }
        let now = log.moment();
        if let Some(epoch) = self.epoch {
            log.epochs[epoch].begun_at.get_or_insert(now);
        }
        if !present {
            // The broker knows nothing: what was on the way is sent anew by a careful client; this one gives it up.
            self.out.clear();
            self.taken.clear();
            self.inbound.clear();
        }
        self.resend(out, log);
        true
    }

    pub(super) fn on_suback(&mut self, packet_id: PacketId, code: Option<ReasonCode>, log: &mut Log) {
        let at = log.moment();
        let Some(index) = self.subscribing.remove(&packet_id) else {
            log.violation(format!("{}: SUBACK for {packet_id:?}, which was not asked", self.id));
            return;
        };
        match code {
            Some(code) if !code.is_error() => {
                let granted = QoS::from_u8(code.as_u8()).unwrap_or(QoS::AtMostOnce);
                let subscribed = &mut log.subscriptions[index];
                subscribed.qos = subscribed.qos.min(granted);
                subscribed.acked_at = Some(at);
            }
            Some(code) if self.excuses(code) => {}
            other => log.violation(format!("{}: SUBACK {other:?}", self.id)),
        }
    }

    /// Whether a refusal is what may happen in this run.
    pub(super) fn excuses(&self, code: ReasonCode) -> bool {
        let stops = matches!(code, ReasonCode::ServerUnavailable | ReasonCode::ServerShuttingDown);
        let no_room = matches!(
            code,
            ReasonCode::QuotaExceeded
                | ReasonCode::ImplementationSpecificError
                | ReasonCode::UnspecifiedError
        );
        stops || (self.may_be_refused && no_room)
    }
}
