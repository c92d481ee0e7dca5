//! Bodies of 3.1 and 3.1.1 packets, to bytes.

use crate::error::EncodeError;
use crate::greeting;
use crate::packet::{Packet, Publish};
use crate::reason::ConnectReturnCode;
use crate::topic;
use crate::types::{PacketType, Version};
use crate::writer::{Sink, text};

/// Writes a packet's body. What 3.x cannot say is left out: properties, reason codes.
pub(crate) fn body<S: Sink>(version: Version, packet: &Packet<'_>, out: &mut S) -> Result<(), EncodeError> {
    match packet {
        Packet::Connect(connect) => {
            if connect.version != version {
                return Err(EncodeError::VersionMismatch);
            }
            greeting::encode(connect, out)?;
        }
        Packet::ConnAck(connack) => {
            // [MQTT311-3.2.2-6]: where no return code fits there is no CONNACK.
            let Some(code) = ConnectReturnCode::from_reason_code(connack.code) else {
                return Err(EncodeError::ReasonCodeInvalid {
                    code: connack.code.as_u8(),
                    packet: PacketType::ConnAck,
                });
            };
            // [MQTT311-3.2.2-4]: a refusal reports no session; 3.1 never reports one.
            let session_present =
                connack.session_present && code == ConnectReturnCode::Accepted && version == Version::V311;
            out.u8(u8::from(session_present));
            out.u8(code.as_u8());
        }
        Packet::Publish(publish) => publish_body(publish, out)?,
        // [MQTT311-2.3.1-6]
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            out.u16(ack.packet_id.get());
        }
        Packet::Subscribe(subscribe) => {
            // [MQTT311-3.8.3-3]
            if subscribe.subscriptions.is_empty() {
                return Err(EncodeError::ListEmpty);
            }
            out.u16(subscribe.packet_id.get());
            for subscription in subscribe.filters() {
                topic::check_filter(subscription.filter).map_err(|_| EncodeError::TopicFilterInvalid)?;
                text(out, subscription.filter)?;
                out.u8(subscription.options.qos.as_u8());
            }
        }
        Packet::SubAck(suback) => {
            if suback.codes.is_empty() {
                return Err(EncodeError::ListEmpty);
            }
            // [MQTT311-2.3.1-7] [MQTT311-3.9.3-1]: the codes stand in the order of the filters.
            out.u16(suback.packet_id.get());
            for code in suback.reason_codes() {
                // [MQTT311-3.9.3-2]: every failure is 0x80.
                out.u8(code.granted_qos().map_or(0x80, crate::types::QoS::as_u8));
            }
        }
        Packet::Unsubscribe(unsubscribe) => {
            // [MQTT311-3.10.3-2]
            if unsubscribe.filters.is_empty() {
                return Err(EncodeError::ListEmpty);
            }
            out.u16(unsubscribe.packet_id.get());
            for filter in unsubscribe.filters() {
                topic::check_filter(filter).map_err(|_| EncodeError::TopicFilterInvalid)?;
                text(out, filter)?;
            }
        }
        // [MQTT311-2.3.1-7]
        Packet::UnsubAck(unsuback) => out.u16(unsuback.packet_id.get()),
        Packet::PingReq | Packet::PingResp | Packet::Disconnect(_) => {}
        Packet::Auth(_) => return Err(EncodeError::PacketNotInVersion { packet: PacketType::Auth }),
    }
    Ok(())
}

/// Writes the body of a PUBLISH, payload included.
fn publish_body<S: Sink>(publish: &Publish<'_>, out: &mut S) -> Result<(), EncodeError> {
    topic::check_name(publish.topic).map_err(|_| EncodeError::TopicNameInvalid)?;
    text(out, publish.topic)?;
    if let Some(packet_id) = publish.packet_id {
        out.u16(packet_id.get());
    }
    out.put(publish.payload);
    Ok(())
}
