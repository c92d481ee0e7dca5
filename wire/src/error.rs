//! Why bytes are not a packet, and why a packet cannot be written.

use thiserror::Error;

use crate::reason::ReasonCode;
use crate::types::PacketType;

/// Bytes that are not a packet: the cause, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{cause} (at byte {offset})")]
pub struct DecodeError {
    /// What is wrong.
    #[source]
    pub cause: Cause,
    /// Where: bytes from the start of the packet's body, or of the frame for errors in the fixed
    /// header.
    pub offset: usize,
}

impl DecodeError {
    /// The Reason Code to close the connection with (5.0), or the reason to log (3.x).
    #[must_use]
    pub const fn reason_code(&self) -> ReasonCode {
        self.cause.reason_code()
    }

    /// A stable name of the cause, for counters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.cause.name()
    }
}

/// What is wrong with the bytes. The peer is to blame for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Cause {
    /// Packet type 0.
    #[error("packet type 0 is reserved")]
    PacketTypeReserved,
    /// A packet that this version does not have, or that this end may not send.
    #[error("{packet} may not be sent by this peer")]
    PacketNotAllowed {
        /// Its type.
        packet: PacketType,
    },
    /// The lower four bits of the first byte are not the listed ones.
    #[error("{packet} with reserved flags set otherwise")]
    PacketFlags {
        /// Its type.
        packet: PacketType,
    },
    /// The packet is longer than agreed.
    #[error("packet of {bytes} bytes, the limit is {max}")]
    PacketTooLarge {
        /// Announced size of the whole packet.
        bytes: u32,
        /// The limit.
        max: u32,
    },
    /// A Variable Byte Integer goes on after its fourth byte.
    #[error("variable byte integer longer than four bytes")]
    VarintTooLong,
    /// A Variable Byte Integer takes more bytes than it needs.
    #[error("variable byte integer not in its shortest form")]
    VarintNotMinimal,
    /// A field runs past the end of the packet.
    #[error("field runs past the end of the packet")]
    Truncated,
    /// Bytes are left after the last field.
    #[error("bytes left after the last field")]
    TrailingBytes,
    /// A string is not UTF-8.
    #[error("string is not well-formed UTF-8")]
    StringNotUtf8,
    /// A string contains U+0000.
    #[error("string contains the null character")]
    StringHasNull,
    /// A string contains a control character or a non-character (strict only).
    #[error("string contains a control character or a non-character")]
    StringHasDisallowed,
    /// CONNECT names another protocol.
    #[error("protocol name is neither MQTT nor MQIsdp")]
    ProtocolName,
    /// CONNECT asks for a version that does not exist.
    #[error("protocol level {level} is not known")]
    ProtocolLevel {
        /// The level asked for.
        level: u8,
    },
    /// The reserved bit of the Connect Flags is set.
    #[error("reserved connect flag is set")]
    ConnectFlagReserved,
    /// Will QoS or Will Retain without a Will, or Will QoS 3.
    #[error("will flags contradict each other")]
    WillFlags,
    /// A 3.x CONNECT has a password but no user name.
    #[error("password without user name")]
    PasswordWithoutUserName,
    /// The client identifier is longer than allowed.
    #[error("client identifier of {bytes} bytes, the limit is {max}")]
    ClientIdTooLong {
        /// Its length.
        bytes: u16,
        /// The limit.
        max: u16,
    },
    /// A 3.1 client identifier is empty (strict only).
    #[error("client identifier is empty")]
    ClientIdEmpty,
    /// CONNACK has reserved flags set.
    #[error("reserved connack flag is set")]
    ConnAckFlagReserved,
    /// CONNACK reports a session together with a refusal.
    #[error("session present in a refusal")]
    SessionPresentInRefusal,
    /// PUBLISH with both QoS bits set.
    #[error("QoS 3 does not exist")]
    QoSInvalid,
    /// PUBLISH with DUP and QoS 0.
    #[error("DUP set on a QoS 0 message")]
    DupWithoutQoS,
    /// Packet Identifier 0.
    #[error("packet identifier is zero")]
    PacketIdZero,
    /// A topic name of no characters, and no alias for it.
    #[error("topic name is empty")]
    TopicNameEmpty,
    /// A topic name or response topic contains `+` or `#`.
    #[error("topic name contains a wildcard")]
    TopicNameWildcard,
    /// A topic name has too many levels.
    #[error("topic name has more than {max} levels")]
    TopicLevelsTooMany {
        /// The limit.
        max: u16,
    },
    /// A topic filter is empty or has a wildcard in the wrong place.
    #[error("topic filter is not well-formed")]
    TopicFilterInvalid,
    /// A Topic Alias of zero.
    #[error("topic alias is zero")]
    TopicAliasZero,
    /// A property identifier that does not exist.
    #[error("property {id:#04x} does not exist")]
    PropertyUnknown {
        /// Its identifier.
        id: u32,
    },
    /// A property that this packet, or this sender, may not carry.
    #[error("property {id:#04x} is not allowed here")]
    PropertyNotAllowed {
        /// Its identifier.
        id: u8,
    },
    /// A property stands twice.
    #[error("property {id:#04x} is repeated")]
    PropertyRepeated {
        /// Its identifier.
        id: u8,
    },
    /// A property has a value outside its range.
    #[error("property {id:#04x} has a value that is not allowed")]
    PropertyValue {
        /// Its identifier.
        id: u8,
    },
    /// Authentication Data without Authentication Method.
    #[error("authentication data without authentication method")]
    AuthenticationMethodMissing,
    /// More user properties than allowed.
    #[error("more than {max} user properties")]
    UserPropertiesTooMany {
        /// The limit.
        max: u16,
    },
    /// The payload is not the UTF-8 that it is said to be (strict only).
    #[error("payload is not UTF-8 although its format indicator says so")]
    PayloadNotUtf8,
    /// Subscription options with reserved bits.
    #[error("reserved bits set in the subscription options")]
    SubscriptionOptionsReserved,
    /// Subscription options with QoS 3 or Retain Handling 3.
    #[error("subscription options have QoS or retain handling 3")]
    SubscriptionOptionsValue,
    /// No Local on a shared subscription.
    #[error("no local on a shared subscription")]
    NoLocalOnShared,
    /// SUBSCRIBE or UNSUBSCRIBE without a filter.
    #[error("no topic filter")]
    FiltersMissing,
    /// More filters in one packet than allowed.
    #[error("more than {max} topic filters")]
    FiltersTooMany {
        /// The limit.
        max: u16,
    },
    /// SUBACK or UNSUBACK without a code.
    #[error("no reason code")]
    ReasonCodesMissing,
    /// A reason or return code that does not exist or does not belong into this packet.
    #[error("reason code {value:#04x} is not allowed in {packet}")]
    ReasonCodeInvalid {
        /// The code.
        value: u8,
        /// Where it stood.
        packet: PacketType,
    },
}

impl Cause {
    /// The Reason Code that 5.0 prescribes for this cause (§MQTT5 4.13).
    #[must_use]
    pub const fn reason_code(&self) -> ReasonCode {
        match self {
            Self::PacketTypeReserved
            | Self::PacketFlags { .. }
            | Self::VarintTooLong
            | Self::VarintNotMinimal
            | Self::Truncated
            | Self::TrailingBytes
            | Self::StringNotUtf8
            | Self::StringHasNull
            | Self::StringHasDisallowed
            | Self::ConnectFlagReserved
            | Self::WillFlags
            | Self::PasswordWithoutUserName
            | Self::ConnAckFlagReserved
            | Self::QoSInvalid
            | Self::PropertyUnknown { .. }
            | Self::PropertyNotAllowed { .. }
            | Self::SubscriptionOptionsReserved => ReasonCode::MalformedPacket,
            Self::PacketNotAllowed { .. }
            | Self::SessionPresentInRefusal
            | Self::DupWithoutQoS
            | Self::PacketIdZero
            | Self::TopicNameEmpty
            | Self::PropertyRepeated { .. }
            | Self::PropertyValue { .. }
            | Self::AuthenticationMethodMissing
            | Self::SubscriptionOptionsValue
            | Self::NoLocalOnShared
            | Self::FiltersMissing
            | Self::ReasonCodesMissing
            | Self::ReasonCodeInvalid { .. } => ReasonCode::ProtocolError,
            // [MQTT5-3.1.2-1] [MQTT311-3.1.2-2]
            Self::ProtocolName | Self::ProtocolLevel { .. } => ReasonCode::UnsupportedProtocolVersion,
            Self::ClientIdTooLong { .. } | Self::ClientIdEmpty => ReasonCode::ClientIdentifierNotValid,
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::TopicNameWildcard | Self::TopicLevelsTooMany { .. } => ReasonCode::TopicNameInvalid,
            Self::TopicFilterInvalid => ReasonCode::TopicFilterInvalid,
            Self::TopicAliasZero => ReasonCode::TopicAliasInvalid,
            Self::PayloadNotUtf8 => ReasonCode::PayloadFormatInvalid,
            Self::UserPropertiesTooMany { .. } | Self::FiltersTooMany { .. } => ReasonCode::QuotaExceeded,
        }
    }

    /// A stable name in lower case with underscores, for counters and test data.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PacketTypeReserved => "packet_type_reserved",
            Self::PacketNotAllowed { .. } => "packet_not_allowed",
            Self::PacketFlags { .. } => "packet_flags",
            Self::PacketTooLarge { .. } => "packet_too_large",
            Self::VarintTooLong => "varint_too_long",
            Self::VarintNotMinimal => "varint_not_minimal",
            Self::Truncated => "truncated",
            Self::TrailingBytes => "trailing_bytes",
            Self::StringNotUtf8 => "string_not_utf8",
            Self::StringHasNull => "string_has_null",
            Self::StringHasDisallowed => "string_has_disallowed",
            Self::ProtocolName => "protocol_name",
            Self::ProtocolLevel { .. } => "protocol_level",
            Self::ConnectFlagReserved => "connect_flag_reserved",
            Self::WillFlags => "will_flags",
            Self::PasswordWithoutUserName => "password_without_user_name",
            Self::ClientIdTooLong { .. } => "client_id_too_long",
            Self::ClientIdEmpty => "client_id_empty",
            Self::ConnAckFlagReserved => "connack_flag_reserved",
            Self::SessionPresentInRefusal => "session_present_in_refusal",
            Self::QoSInvalid => "qos_invalid",
            Self::DupWithoutQoS => "dup_without_qos",
            Self::PacketIdZero => "packet_id_zero",
            Self::TopicNameEmpty => "topic_name_empty",
            Self::TopicNameWildcard => "topic_name_wildcard",
            Self::TopicLevelsTooMany { .. } => "topic_levels_too_many",
            Self::TopicFilterInvalid => "topic_filter_invalid",
            Self::TopicAliasZero => "topic_alias_zero",
            Self::PropertyUnknown { .. } => "property_unknown",
            Self::PropertyNotAllowed { .. } => "property_not_allowed",
            Self::PropertyRepeated { .. } => "property_repeated",
            Self::PropertyValue { .. } => "property_value",
            Self::AuthenticationMethodMissing => "authentication_method_missing",
            Self::UserPropertiesTooMany { .. } => "user_properties_too_many",
            Self::PayloadNotUtf8 => "payload_not_utf8",
            Self::SubscriptionOptionsReserved => "subscription_options_reserved",
            Self::SubscriptionOptionsValue => "subscription_options_value",
            Self::NoLocalOnShared => "no_local_on_shared",
            Self::FiltersMissing => "filters_missing",
            Self::FiltersTooMany { .. } => "filters_too_many",
            Self::ReasonCodesMissing => "reason_codes_missing",
            Self::ReasonCodeInvalid { .. } => "reason_code_invalid",
        }
    }
}

/// Why a packet value cannot be written. Nothing has been appended to the output then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The version has no such packet.
    #[error("{packet} does not exist in this version")]
    PacketNotInVersion {
        /// Its type.
        packet: PacketType,
    },
    /// A CONNECT value of one version is to be written in another.
    #[error("CONNECT names another version than the one asked for")]
    VersionMismatch,
    /// A string or binary field is longer than 65,535 bytes.
    #[error("field of {bytes} bytes, the limit is 65535")]
    FieldTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A string contains U+0000.
    #[error("string contains the null character")]
    StringHasNull,
    /// A number is too large for a Variable Byte Integer.
    #[error("{value} does not fit a variable byte integer")]
    VarintTooLarge {
        /// The number.
        value: u64,
    },
    /// The packet is larger than the peer takes, or than the protocol can say.
    #[error("packet of {bytes} bytes, the limit is {max}")]
    PacketTooLarge {
        /// Size of the whole packet.
        bytes: usize,
        /// The limit.
        max: u32,
    },
    /// QoS 1 or 2 without a Packet Identifier.
    #[error("QoS above 0 needs a packet identifier")]
    PacketIdMissing,
    /// QoS 0 with a Packet Identifier.
    #[error("QoS 0 has no packet identifier")]
    PacketIdUnexpected,
    /// DUP with QoS 0.
    #[error("DUP set on a QoS 0 message")]
    DupWithoutQoS,
    /// A topic name that is empty or has a wildcard.
    #[error("topic name is not valid")]
    TopicNameInvalid,
    /// A topic filter that is not well-formed.
    #[error("topic filter is not valid")]
    TopicFilterInvalid,
    /// SUBSCRIBE or UNSUBSCRIBE without a filter, SUBACK without a code.
    #[error("list is empty")]
    ListEmpty,
    /// A reason code that does not belong into this packet, or has no counterpart in 3.x.
    #[error("reason code {code:#04x} does not belong into {packet}")]
    ReasonCodeInvalid {
        /// The code's number.
        code: u8,
        /// The packet's type.
        packet: PacketType,
    },
    /// A 3.x CONNECT has a password but no user name.
    #[error("password without user name")]
    PasswordWithoutUserName,
    /// A property's value is out of its range, such as a Subscription Identifier of zero.
    #[error("property {id:#04x} has a value that is not allowed")]
    PropertyValue {
        /// The property's identifier.
        id: u8,
    },
}

impl EncodeError {
    /// A stable name in lower case with underscores, for counters and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PacketNotInVersion { .. } => "packet_not_in_version",
            Self::VersionMismatch => "version_mismatch",
            Self::FieldTooLong { .. } => "field_too_long",
            Self::StringHasNull => "string_has_null",
            Self::VarintTooLarge { .. } => "varint_too_large",
            Self::PacketTooLarge { .. } => "packet_too_large",
            Self::PacketIdMissing => "packet_id_missing",
            Self::PacketIdUnexpected => "packet_id_unexpected",
            Self::DupWithoutQoS => "dup_without_qos",
            Self::TopicNameInvalid => "topic_name_invalid",
            Self::TopicFilterInvalid => "topic_filter_invalid",
            Self::ListEmpty => "list_empty",
            Self::ReasonCodeInvalid { .. } => "reason_code_invalid",
            Self::PasswordWithoutUserName => "password_without_user_name",
            Self::PropertyValue { .. } => "property_value",
        }
    }
}
