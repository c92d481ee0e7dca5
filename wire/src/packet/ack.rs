//! PUBACK, PUBREC, PUBREL, PUBCOMP: the four acknowledgements share one shape (§3.4 to §3.7).

use super::user_properties::UserProperties;
use crate::reason::ReasonCode;
use crate::types::PacketId;

/// An acknowledgement of a QoS 1 or 2 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The Packet Identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// How it went; 3.x knows only success.
    pub code: ReasonCode,
    /// Properties (5.0).
    pub properties: ReasonProperties<'a>,
}

impl Ack<'_> {
    /// An acknowledgement that reports success and nothing else.
    #[must_use]
    pub const fn success(packet_id: PacketId) -> Self {
        Self::with_code(packet_id, ReasonCode::Success)
    }

    /// An acknowledgement with a code and no properties.
    #[must_use]
    pub const fn with_code(packet_id: PacketId, code: ReasonCode) -> Self {
        Self { packet_id, code, properties: ReasonProperties::NONE }
    }
}

/// The properties that explain a reason code; shared by acknowledgements, SUBACK and UNSUBACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReasonProperties<'a> {
    /// Text for people.
    pub reason_string: Option<&'a str>,
    /// User Properties.
    pub user_properties: UserProperties<'a>,
}

impl ReasonProperties<'_> {
    /// No property.
    pub const NONE: Self = Self { reason_string: None, user_properties: UserProperties::NONE };
}
