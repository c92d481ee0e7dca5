//! Bodies of 5.0 packets, to bytes.

use crate::error::EncodeError;
use crate::greeting;
use crate::packet::{
    Ack, Auth, AuthProperties, ConnAck, ConnAckProperties, ConnectProperties, Disconnect,
    DisconnectProperties, Packet, Publish, PublishProperties, ReasonCodes, ReasonProperties, Subscribe,
    SubscribeProperties, Unsubscribe, UserProperties, WillProperties,
};
use crate::properties::PropertyId as Id;
use crate::reason::{ReasonCode, Senders};
use crate::topic;
use crate::types::{PacketId, PacketType, QoS, Version};
use crate::writer::{PropertyWriter, Sink, WriteProperties, block, text};

/// Writes a packet's body.
pub(crate) fn body<S: Sink>(packet: &Packet<'_>, out: &mut S) -> Result<(), EncodeError> {
    let packet_type = packet.packet_type();
    match packet {
        Packet::Connect(connect) => {
            if connect.version != Version::V5 {
                return Err(EncodeError::VersionMismatch);
            }
            greeting::encode(connect, out)
        }
        Packet::ConnAck(connack) => connack_body(connack, out),
        Packet::Publish(publish) => publish_body(publish, out),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack_body(packet_type, ack, out)
        }
        Packet::Subscribe(subscribe) => subscribe_body(subscribe, out),
        Packet::SubAck(suback) => {
            suback_body(packet_type, suback.packet_id, &suback.properties, suback.codes, out)
        }
        Packet::Unsubscribe(unsubscribe) => unsubscribe_body(unsubscribe, out),
        Packet::UnsubAck(unsuback) => {
            suback_body(packet_type, unsuback.packet_id, &unsuback.properties, unsuback.codes, out)
        }
        Packet::PingReq | Packet::PingResp => Ok(()),
        Packet::Disconnect(disconnect) => disconnect_body(disconnect, out),
        Packet::Auth(auth) => auth_body(auth, out),
    }
}

/// Fails if the code does not belong into the packet.
///
/// `[MQTT5-3.2.2-8]` `[MQTT5-3.4.2-1]` `[MQTT5-3.5.2-1]` `[MQTT5-3.6.2-1]` `[MQTT5-3.7.2-1]`
/// `[MQTT5-3.9.3-2]` `[MQTT5-3.11.3-2]` `[MQTT5-3.14.2-1]` `[MQTT5-3.15.2-1]`
fn check_code(code: ReasonCode, packet: PacketType) -> Result<(), EncodeError> {
    if code.senders(packet) == Senders::NONE {
        return Err(EncodeError::ReasonCodeInvalid { code: code.as_u8(), packet });
    }
    Ok(())
}

/// CONNACK. `[MQTT5-3.2.2-1]` `[MQTT5-3.2.2-6]`: a refusal reports no session.
fn connack_body<S: Sink>(connack: &ConnAck<'_>, out: &mut S) -> Result<(), EncodeError> {
    check_code(connack.code, PacketType::ConnAck)?;
    out.u8(u8::from(connack.session_present && connack.code == ReasonCode::Success));
    out.u8(connack.code.as_u8());
    block(out, PacketType::ConnAck, &connack.properties)
}

/// PUBLISH, payload included.
fn publish_body<S: Sink>(publish: &Publish<'_>, out: &mut S) -> Result<(), EncodeError> {
    let by_alias = publish.topic.is_empty() && publish.properties.topic_alias.is_some();
    if !by_alias {
        topic::check_name(publish.topic).map_err(|_| EncodeError::TopicNameInvalid)?;
    }
    text(out, publish.topic)?;
    if let Some(packet_id) = publish.packet_id {
        out.u16(packet_id.get());
    }
    block(out, PacketType::Publish, &publish.properties)?;
    out.put(publish.payload);
    Ok(())
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP, in their shortest form.
fn ack_body<S: Sink>(packet: PacketType, ack: &Ack<'_>, out: &mut S) -> Result<(), EncodeError> {
    check_code(ack.code, packet)?;
    // [MQTT5-2.2.1-5]
    out.u16(ack.packet_id.get());
    let bare = ack.properties == ReasonProperties::NONE;
    if !(bare && ack.code == ReasonCode::Success) {
        out.u8(ack.code.as_u8());
    }
    if !bare {
        block(out, packet, &ack.properties)?;
    }
    Ok(())
}

/// SUBSCRIBE. `[MQTT5-3.8.3-2]`
fn subscribe_body<S: Sink>(subscribe: &Subscribe<'_>, out: &mut S) -> Result<(), EncodeError> {
    if subscribe.subscriptions.is_empty() {
        return Err(EncodeError::ListEmpty);
    }
    out.u16(subscribe.packet_id.get());
    block(out, PacketType::Subscribe, &subscribe.properties)?;
    for subscription in subscribe.filters() {
        topic::check_filter(subscription.filter).map_err(|_| EncodeError::TopicFilterInvalid)?;
        text(out, subscription.filter)?;
        out.u8(subscription.options.as_u8());
    }
    Ok(())
}

/// UNSUBSCRIBE. `[MQTT5-3.10.3-2]`
fn unsubscribe_body<S: Sink>(unsubscribe: &Unsubscribe<'_>, out: &mut S) -> Result<(), EncodeError> {
    if unsubscribe.filters.is_empty() {
        return Err(EncodeError::ListEmpty);
    }
    out.u16(unsubscribe.packet_id.get());
    block(out, PacketType::Unsubscribe, &unsubscribe.user_properties)?;
    for filter in unsubscribe.filters() {
        topic::check_filter(filter).map_err(|_| EncodeError::TopicFilterInvalid)?;
        text(out, filter)?;
    }
    Ok(())
}

/// SUBACK and UNSUBACK. `[MQTT5-2.2.1-6]` `[MQTT5-3.9.3-1]` `[MQTT5-3.11.3-1]`: codes in order.
fn suback_body<S: Sink>(
    packet: PacketType,
    packet_id: PacketId,
    properties: &ReasonProperties<'_>,
    codes: ReasonCodes<'_>,
    out: &mut S,
) -> Result<(), EncodeError> {
    if codes.is_empty() {
        return Err(EncodeError::ListEmpty);
    }
    out.u16(packet_id.get());
    block(out, packet, properties)?;
    for code in codes {
        check_code(code, packet)?;
        out.u8(code.as_u8());
    }
    Ok(())
}

/// DISCONNECT, in its shortest form.
fn disconnect_body<S: Sink>(disconnect: &Disconnect<'_>, out: &mut S) -> Result<(), EncodeError> {
    check_code(disconnect.code, PacketType::Disconnect)?;
    let bare = disconnect.properties == DisconnectProperties::default();
    if !(bare && disconnect.code == ReasonCode::NORMAL_DISCONNECTION) {
        out.u8(disconnect.code.as_u8());
    }
    if !bare {
        block(out, PacketType::Disconnect, &disconnect.properties)?;
    }
    Ok(())
}

/// AUTH, in its shortest form.
fn auth_body<S: Sink>(auth: &Auth<'_>, out: &mut S) -> Result<(), EncodeError> {
    check_code(auth.code, PacketType::Auth)?;
    if auth.code == ReasonCode::Success && auth.properties == AuthProperties::default() {
        return Ok(());
    }
    if auth.properties.authentication_method.is_none() {
        return Err(EncodeError::PropertyValue { id: Id::AuthenticationMethod.as_u8() });
    }
    out.u8(auth.code.as_u8());
    block(out, PacketType::Auth, &auth.properties)
}

impl WriteProperties for ConnectProperties<'_> {
    fn write<S: Sink>(&self, out: &mut PropertyWriter<'_, S>) -> Result<(), EncodeError> {
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            return Err(EncodeError::PropertyValue { id: Id::AuthenticationMethod.as_u8() });
        }
        out.u32(Id::SessionExpiryInterval, self.session_expiry_interval);
        out.u16(Id::ReceiveMaximum, self.receive_maximum.map(core::num::NonZeroU16::get));
        out.u32(Id::MaximumPacketSize, self.maximum_packet_size.map(core::num::NonZeroU32::get));
        out.u16(Id::TopicAliasMaximum, self.topic_alias_maximum);
        out.boolean(Id::RequestResponseInformation, self.request_response_information);
        out.boolean(Id::RequestProblemInformation, self.request_problem_information);
        out.text(Id::AuthenticationMethod, self.authentication_method)?;
        out.binary(Id::AuthenticationData, self.authentication_data)?;
        out.user_properties(self.user_properties)
    }
}

impl WriteProperties for WillProperties<'_> {
    fn write<S: Sink>(&self, out: &mut PropertyWriter<'_, S>) -> Result<(), EncodeError> {
        out.u32(Id::WillDelayInterval, self.will_delay_interval);
        out.boolean(Id::PayloadFormatIndicator, self.payload_format_indicator);
        out.u32(Id::MessageExpiryInterval, self.message_expiry_interval);
        out.text(Id::ContentType, self.content_type)?;
        response_topic(out, self.response_topic)?;
        out.binary(Id::CorrelationData, self.correlation_data)?;
        out.user_properties(self.user_properties)
    }
}

impl WriteProperties for ConnAckProperties<'_> {
    fn write<S: Sink>(&self, out: &mut PropertyWriter<'_, S>) -> Result<(), EncodeError> {
        if self.maximum_qos == Some(QoS::ExactlyOnce) {
            return Err(EncodeError::PropertyValue { id: Id::MaximumQoS.as_u8() });
        }
        out.u32(Id::SessionExpiryInterval, self.session_expiry_interval);
        out.u16(Id::ReceiveMaximum, self.receive_maximum.map(core::num::NonZeroU16::get));
        out.u8(Id::MaximumQoS, self.maximum_qos.map(QoS::as_u8));
        out.boolean(Id::RetainAvailable, self.retain_available);
        out.u32(Id::MaximumPacketSize, self.maximum_packet_size.map(core::num::NonZeroU32::get));
        out.text(Id::AssignedClientIdentifier, self.assigned_client_identifier)?;
        out.u16(Id::TopicAliasMaximum, self.topic_alias_maximum);
        out.text(Id::ReasonString, self.reason_string)?;
        out.boolean(Id::WildcardSubscriptionAvailable, self.wildcard_subscription_available);
        out.boolean(Id::SubscriptionIdentifierAvailable, self.subscription_identifier_available);
        out.boolean(Id::SharedSubscriptionAvailable, self.shared_subscription_available);
        out.u16(Id::ServerKeepAlive, self.server_keep_alive);
        out.text(Id::ResponseInformation, self.response_information)?;
        out.text(Id::ServerReference, self.server_reference)?;
        out.text(Id::AuthenticationMethod, self.authentication_method)?;
        out.binary(Id::AuthenticationData, self.authentication_data)?;
        out.user_properties(self.user_properties)
    }
}

impl WriteProperties for PublishProperties<'_> {
    fn write<S: Sink>(&self, out: &mut PropertyWriter<'_, S>) -> Result<(), EncodeError> {
        out.boolean(Id::PayloadFormatIndicator, self.payload_format_indicator);
        out.u32(Id::MessageExpiryInterval, self.message_expiry_interval);
        // [MQTT5-3.3.2-8]: an alias is never zero, by its type.
        out.u16(Id::TopicAlias, self.topic_alias.map(core::num::NonZeroU16::get));
        response_topic(out, self.response_topic)?;
        out.binary(Id::CorrelationData, self.correlation_data)?;
        out.text(Id::ContentType, self.content_type)?;
        for id in self.subscription_ids {
            out.subscription_id(id)?;
        }
        out.user_properties(self.user_properties)
    }
}

/// A Response Topic. `[MQTT5-3.3.2-14]`
fn response_topic<S: Sink>(out: &mut PropertyWriter<'_, S>, topic: Option<&str>) -> Result<(), EncodeError> {
    if topic.is_some_and(|topic| topic::check_name(topic).is_err()) {
        return Err(EncodeError::TopicNameInvalid);
    }
    out.text(Id::ResponseTopic, topic)
}

impl WriteProperties for SubscribeProperties<'_> {
    fn write<S: Sink>(&self, out: &mut PropertyWriter<'_, S>) -> Result<(), EncodeError> {
        if let Some(id) = self.subscription_identifier {
            out.subscription_id(id)?;
        }
        out.user_properties(self.user_properties)
    }
}

impl WriteProperties for UserProperties<'_> {
    fn write<S: Sink>(&self, out: &mut PropertyWriter<'_, S>) -> Result<(), EncodeError> {
        out.user_properties(*self)
    }
}

impl WriteProperties for ReasonProperties<'_> {
    fn write<S: Sink>(&self, out: &mut PropertyWriter<'_, S>) -> Result<(), EncodeError> {
        out.text(Id::ReasonString, self.reason_string)?;
        out.user_properties(self.user_properties)
    }
}

impl WriteProperties for DisconnectProperties<'_> {
    fn write<S: Sink>(&self, out: &mut PropertyWriter<'_, S>) -> Result<(), EncodeError> {
        out.u32(Id::SessionExpiryInterval, self.session_expiry_interval);
        out.text(Id::ReasonString, self.reason_string)?;
        out.text(Id::ServerReference, self.server_reference)?;
        out.user_properties(self.user_properties)
    }
}

impl WriteProperties for AuthProperties<'_> {
    fn write<S: Sink>(&self, out: &mut PropertyWriter<'_, S>) -> Result<(), EncodeError> {
        out.text(Id::AuthenticationMethod, self.authentication_method)?;
        out.binary(Id::AuthenticationData, self.authentication_data)?;
        out.text(Id::ReasonString, self.reason_string)?;
        out.user_properties(self.user_properties)
    }
}
