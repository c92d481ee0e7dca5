//! Reason codes of 5.0, return codes of 3.x, the map between them, and which packet may carry which.

use crate::types::{PacketType, QoS};

/// A Reason Code of MQTT 5.0 (§MQTT5 2.4). Below `0x80` it reports success, from there on failure.
///
/// One number has up to three names in the standard; the other names of zero are
/// [`ReasonCode::NORMAL_DISCONNECTION`] and [`ReasonCode::GRANTED_QOS_0`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of the standard's table 2-6")]
pub enum ReasonCode {
    #[default]
    Success = 0x00,
    GrantedQoS1 = 0x01,
    GrantedQoS2 = 0x02,
    DisconnectWithWillMessage = 0x04,
    NoMatchingSubscribers = 0x10,
    NoSubscriptionExisted = 0x11,
    ContinueAuthentication = 0x18,
    ReAuthenticate = 0x19,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecificError = 0x83,
    UnsupportedProtocolVersion = 0x84,
    ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    Banned = 0x8A,
    ServerShuttingDown = 0x8B,
    BadAuthenticationMethod = 0x8C,
    KeepAliveTimeout = 0x8D,
    SessionTakenOver = 0x8E,
    TopicFilterInvalid = 0x8F,
    TopicNameInvalid = 0x90,
    PacketIdentifierInUse = 0x91,
    PacketIdentifierNotFound = 0x92,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    MessageRateTooHigh = 0x96,
    QuotaExceeded = 0x97,
    AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99,
    RetainNotSupported = 0x9A,
    QoSNotSupported = 0x9B,
    UseAnotherServer = 0x9C,
    ServerMoved = 0x9D,
    SharedSubscriptionsNotSupported = 0x9E,
    ConnectionRateExceeded = 0x9F,
    MaximumConnectTime = 0xA0,
    SubscriptionIdentifiersNotSupported = 0xA1,
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl ReasonCode {
    /// Zero as a DISCONNECT names it: the Will is not sent.
    pub const NORMAL_DISCONNECTION: Self = Self::Success;
    /// Zero as a SUBACK names it.
    pub const GRANTED_QOS_0: Self = Self::Success;

    /// All codes, ascending.
    pub const ALL: [Self; 43] = [
        Self::Success,
        Self::GrantedQoS1,
        Self::GrantedQoS2,
        Self::DisconnectWithWillMessage,
        Self::NoMatchingSubscribers,
        Self::NoSubscriptionExisted,
        Self::ContinueAuthentication,
        Self::ReAuthenticate,
        Self::UnspecifiedError,
        Self::MalformedPacket,
        Self::ProtocolError,
        Self::ImplementationSpecificError,
        Self::UnsupportedProtocolVersion,
        Self::ClientIdentifierNotValid,
        Self::BadUserNameOrPassword,
        Self::NotAuthorized,
        Self::ServerUnavailable,
        Self::ServerBusy,
        Self::Banned,
        Self::ServerShuttingDown,
        Self::BadAuthenticationMethod,
        Self::KeepAliveTimeout,
        Self::SessionTakenOver,
        Self::TopicFilterInvalid,
        Self::TopicNameInvalid,
        Self::PacketIdentifierInUse,
        Self::PacketIdentifierNotFound,
        Self::ReceiveMaximumExceeded,
        Self::TopicAliasInvalid,
        Self::PacketTooLarge,
        Self::MessageRateTooHigh,
        Self::QuotaExceeded,
        Self::AdministrativeAction,
        Self::PayloadFormatInvalid,
        Self::RetainNotSupported,
        Self::QoSNotSupported,
        Self::UseAnotherServer,
        Self::ServerMoved,
        Self::SharedSubscriptionsNotSupported,
        Self::ConnectionRateExceeded,
        Self::MaximumConnectTime,
        Self::SubscriptionIdentifiersNotSupported,
        Self::WildcardSubscriptionsNotSupported,
    ];

    /// The code with this number, or `None` if the standard defines none.
    #[must_use]
    pub fn from_u8(value: u8) -> Option<Self> {
        Self::ALL
            .binary_search_by_key(&value, |code| code.as_u8())
            .ok()
            .and_then(|i| Self::ALL.get(i))
            .copied()
    }

    /// The number on the wire.
    #[must_use]
    #[expect(clippy::as_conversions, reason = "repr(u8): the discriminant is the wire value")]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether the code reports failure, that is, has its highest bit set.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.as_u8() >= 0x80
    }

    /// The code with which a SUBACK grants this QoS.
    #[must_use]
    pub const fn granted(qos: QoS) -> Self {
        match qos {
            QoS::AtMostOnce => Self::GRANTED_QOS_0,
            QoS::AtLeastOnce => Self::GrantedQoS1,
            QoS::ExactlyOnce => Self::GrantedQoS2,
        }
    }

    /// The QoS that a SUBACK with this code grants; `None` if the subscription was refused.
    #[must_use]
    pub const fn granted_qos(self) -> Option<QoS> {
        QoS::from_u8(self.as_u8())
    }

    /// A stable name in lower case with underscores, for counters and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::GrantedQoS1 => "granted_qos_1",
            Self::GrantedQoS2 => "granted_qos_2",
            Self::DisconnectWithWillMessage => "disconnect_with_will_message",
            Self::NoMatchingSubscribers => "no_matching_subscribers",
            Self::NoSubscriptionExisted => "no_subscription_existed",
            Self::ContinueAuthentication => "continue_authentication",
            Self::ReAuthenticate => "re_authenticate",
            Self::UnspecifiedError => "unspecified_error",
            Self::MalformedPacket => "malformed_packet",
            Self::ProtocolError => "protocol_error",
            Self::ImplementationSpecificError => "implementation_specific_error",
            Self::UnsupportedProtocolVersion => "unsupported_protocol_version",
            Self::ClientIdentifierNotValid => "client_identifier_not_valid",
            Self::BadUserNameOrPassword => "bad_user_name_or_password",
            Self::NotAuthorized => "not_authorized",
            Self::ServerUnavailable => "server_unavailable",
            Self::ServerBusy => "server_busy",
            Self::Banned => "banned",
            Self::ServerShuttingDown => "server_shutting_down",
            Self::BadAuthenticationMethod => "bad_authentication_method",
            Self::KeepAliveTimeout => "keep_alive_timeout",
            Self::SessionTakenOver => "session_taken_over",
            Self::TopicFilterInvalid => "topic_filter_invalid",
            Self::TopicNameInvalid => "topic_name_invalid",
            Self::PacketIdentifierInUse => "packet_identifier_in_use",
            Self::PacketIdentifierNotFound => "packet_identifier_not_found",
            Self::ReceiveMaximumExceeded => "receive_maximum_exceeded",
            Self::TopicAliasInvalid => "topic_alias_invalid",
            Self::PacketTooLarge => "packet_too_large",
            Self::MessageRateTooHigh => "message_rate_too_high",
            Self::QuotaExceeded => "quota_exceeded",
            Self::AdministrativeAction => "administrative_action",
            Self::PayloadFormatInvalid => "payload_format_invalid",
            Self::RetainNotSupported => "retain_not_supported",
            Self::QoSNotSupported => "qos_not_supported",
            Self::UseAnotherServer => "use_another_server",
            Self::ServerMoved => "server_moved",
            Self::SharedSubscriptionsNotSupported => "shared_subscriptions_not_supported",
            Self::ConnectionRateExceeded => "connection_rate_exceeded",
            Self::MaximumConnectTime => "maximum_connect_time",
            Self::SubscriptionIdentifiersNotSupported => "subscription_identifiers_not_supported",
            Self::WildcardSubscriptionsNotSupported => "wildcard_subscriptions_not_supported",
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "each table lists a few of all codes")]
impl ReasonCode {
    /// Who may send this code in a packet of this type: the columns of the tables in §MQTT5 3.
    #[must_use]
    pub const fn senders(self, packet: PacketType) -> Senders {
        match packet {
            PacketType::ConnAck => self.in_connack(),
            PacketType::PubAck | PacketType::PubRec => self.in_puback(),
            PacketType::PubRel | PacketType::PubComp => match self {
                Self::Success | Self::PacketIdentifierNotFound => Senders::BOTH,
                _ => Senders::NONE,
            },
            PacketType::SubAck => self.in_suback(),
            PacketType::UnsubAck => self.in_unsuback(),
            PacketType::Disconnect => self.in_disconnect(),
            PacketType::Auth => match self {
                Self::Success => Senders::SERVER,
                Self::ContinueAuthentication => Senders::BOTH,
                Self::ReAuthenticate => Senders::CLIENT,
                _ => Senders::NONE,
            },
            PacketType::Connect
            | PacketType::Publish
            | PacketType::Subscribe
            | PacketType::Unsubscribe
            | PacketType::PingReq
            | PacketType::PingResp => Senders::NONE,
        }
    }

    /// Table 3-1 of §MQTT5 3.2.2.2. `[MQTT5-3.2.2-8]`
    const fn in_connack(self) -> Senders {
        match self {
            Self::Success
            | Self::UnspecifiedError
            | Self::MalformedPacket
            | Self::ProtocolError
            | Self::ImplementationSpecificError
            | Self::UnsupportedProtocolVersion
            | Self::ClientIdentifierNotValid
            | Self::BadUserNameOrPassword
            | Self::NotAuthorized
            | Self::ServerUnavailable
            | Self::ServerBusy
            | Self::Banned
            | Self::BadAuthenticationMethod
            | Self::TopicNameInvalid
            | Self::PacketTooLarge
            | Self::QuotaExceeded
            | Self::PayloadFormatInvalid
            | Self::RetainNotSupported
            | Self::QoSNotSupported
            | Self::UseAnotherServer
            | Self::ServerMoved
            | Self::ConnectionRateExceeded => Senders::SERVER,
            _ => Senders::NONE,
        }
    }

    /// Tables of §MQTT5 3.4.2.1 and 3.5.2.1. `[MQTT5-3.4.2-1]` `[MQTT5-3.5.2-1]`
    const fn in_puback(self) -> Senders {
        match self {
            Self::NoMatchingSubscribers => Senders::SERVER,
            Self::Success
            | Self::UnspecifiedError
            | Self::ImplementationSpecificError
            | Self::NotAuthorized
            | Self::TopicNameInvalid
            | Self::PacketIdentifierInUse
            | Self::QuotaExceeded
            | Self::PayloadFormatInvalid => Senders::BOTH,
            _ => Senders::NONE,
        }
    }

    /// Table of §MQTT5 3.9.3. `[MQTT5-3.9.3-2]`
    const fn in_suback(self) -> Senders {
        match self {
            Self::Success
            | Self::GrantedQoS1
            | Self::GrantedQoS2
            | Self::UnspecifiedError
            | Self::ImplementationSpecificError
            | Self::NotAuthorized
            | Self::TopicFilterInvalid
            | Self::PacketIdentifierInUse
            | Self::QuotaExceeded
            | Self::SharedSubscriptionsNotSupported
            | Self::SubscriptionIdentifiersNotSupported
            | Self::WildcardSubscriptionsNotSupported => Senders::SERVER,
            _ => Senders::NONE,
        }
    }

    /// Table of §MQTT5 3.11.3. `[MQTT5-3.11.3-2]`
    const fn in_unsuback(self) -> Senders {
        match self {
            Self::Success
            | Self::NoSubscriptionExisted
            | Self::UnspecifiedError
            | Self::ImplementationSpecificError
            | Self::NotAuthorized
            | Self::TopicFilterInvalid
            | Self::PacketIdentifierInUse => Senders::SERVER,
            _ => Senders::NONE,
        }
    }

    /// Table of §MQTT5 3.14.2.1. `[MQTT5-3.14.2-1]`
    const fn in_disconnect(self) -> Senders {
        match self {
            Self::DisconnectWithWillMessage => Senders::CLIENT,
            Self::Success
            | Self::UnspecifiedError
            | Self::MalformedPacket
            | Self::ProtocolError
            | Self::ImplementationSpecificError
            | Self::TopicNameInvalid
            | Self::ReceiveMaximumExceeded
            | Self::TopicAliasInvalid
            | Self::PacketTooLarge
            | Self::MessageRateTooHigh
            | Self::QuotaExceeded
            | Self::AdministrativeAction
            | Self::PayloadFormatInvalid => Senders::BOTH,
            Self::NotAuthorized
            | Self::ServerBusy
            | Self::ServerShuttingDown
            | Self::KeepAliveTimeout
            | Self::SessionTakenOver
            | Self::TopicFilterInvalid
            | Self::RetainNotSupported
            | Self::QoSNotSupported
            | Self::UseAnotherServer
            | Self::ServerMoved
            | Self::SharedSubscriptionsNotSupported
            | Self::ConnectionRateExceeded
            | Self::MaximumConnectTime
            | Self::SubscriptionIdentifiersNotSupported
            | Self::WildcardSubscriptionsNotSupported => Senders::SERVER,
            // Listed for DISCONNECT by §MQTT5 2.4 though table 3.14.2.1 leaves it out.
            Self::BadAuthenticationMethod => Senders::BOTH,
            _ => Senders::NONE,
        }
    }
}

/// Which ends of a connection may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Senders {
    /// The client may.
    pub client: bool,
    /// The server may.
    pub server: bool,
}

impl Senders {
    /// Nobody may.
    pub const NONE: Self = Self { client: false, server: false };
    /// Only the client may.
    pub const CLIENT: Self = Self { client: true, server: false };
    /// Only the server may.
    pub const SERVER: Self = Self { client: false, server: true };
    /// Both may.
    pub const BOTH: Self = Self { client: true, server: true };
}

/// The answer to a CONNECT in 3.1 and 3.1.1 (§MQTT311 3.2.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectReturnCode {
    /// 0: accepted.
    Accepted,
    /// 1: the server does not speak this version.
    UnacceptableProtocolVersion,
    /// 2: the client identifier is not allowed.
    IdentifierRejected,
    /// 3: the service is not available.
    ServerUnavailable,
    /// 4: malformed user name or password.
    BadUserNameOrPassword,
    /// 5: not authorised.
    NotAuthorized,
}

impl ConnectReturnCode {
    /// The return code with this number; 6 to 255 are reserved.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Accepted,
            1 => Self::UnacceptableProtocolVersion,
            2 => Self::IdentifierRejected,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }

    /// The number on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::UnacceptableProtocolVersion => 1,
            Self::IdentifierRejected => 2,
            Self::ServerUnavailable => 3,
            Self::BadUserNameOrPassword => 4,
            Self::NotAuthorized => 5,
        }
    }

    /// The 5.0 code that means the same.
    #[must_use]
    pub const fn to_reason_code(self) -> ReasonCode {
        match self {
            Self::Accepted => ReasonCode::Success,
            Self::UnacceptableProtocolVersion => ReasonCode::UnsupportedProtocolVersion,
            Self::IdentifierRejected => ReasonCode::ClientIdentifierNotValid,
            Self::ServerUnavailable => ReasonCode::ServerUnavailable,
            Self::BadUserNameOrPassword => ReasonCode::BadUserNameOrPassword,
            Self::NotAuthorized => ReasonCode::NotAuthorized,
        }
    }

    /// The 3.x code that comes closest to a 5.0 code.
    ///
    /// `None` means that nothing fits and the connection is closed without a CONNACK
    /// `[MQTT311-3.2.2-6]`.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "few codes have a counterpart")]
    pub const fn from_reason_code(code: ReasonCode) -> Option<Self> {
        Some(match code {
            ReasonCode::Success => Self::Accepted,
            ReasonCode::UnsupportedProtocolVersion => Self::UnacceptableProtocolVersion,
            ReasonCode::ClientIdentifierNotValid => Self::IdentifierRejected,
            ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::ServerShuttingDown
            | ReasonCode::QuotaExceeded
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved
            | ReasonCode::ConnectionRateExceeded => Self::ServerUnavailable,
            ReasonCode::BadUserNameOrPassword => Self::BadUserNameOrPassword,
            ReasonCode::NotAuthorized
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod
            | ReasonCode::TopicNameInvalid
            | ReasonCode::RetainNotSupported
            | ReasonCode::QoSNotSupported => Self::NotAuthorized,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_maps_to_at_most_one_code() {
        let mut found = 0;
        for value in 0..=u8::MAX {
            if let Some(code) = ReasonCode::from_u8(value) {
                assert_eq!(code.as_u8(), value);
                found += 1;
            }
        }
        assert_eq!(found, ReasonCode::ALL.len());
    }

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = ReasonCode::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ReasonCode::ALL.len());
    }

    #[test]
    fn return_codes_survive_the_way_through_reason_codes() {
        // [MQTT311-3.2.2-6]
        for value in 0..=5 {
            let code = ConnectReturnCode::from_u8(value).unwrap();
            assert_eq!(code.as_u8(), value);
            assert_eq!(ConnectReturnCode::from_reason_code(code.to_reason_code()), Some(code));
        }
        assert_eq!(ConnectReturnCode::from_u8(6), None);
        assert_eq!(ConnectReturnCode::from_reason_code(ReasonCode::SessionTakenOver), None);
    }

    #[test]
    fn the_tables_have_as_many_rows_as_the_standard() {
        // [MQTT5-3.2.2-8] [MQTT5-3.4.2-1] [MQTT5-3.5.2-1] [MQTT5-3.6.2-1] [MQTT5-3.7.2-1]
        // [MQTT5-3.9.3-2] [MQTT5-3.11.3-2] [MQTT5-3.14.2-1] [MQTT5-3.15.2-1]
        let rows =
            |packet| ReasonCode::ALL.iter().filter(|code| code.senders(packet) != Senders::NONE).count();
        assert_eq!(rows(PacketType::ConnAck), 22);
        assert_eq!(rows(PacketType::PubAck), 9);
        assert_eq!(rows(PacketType::PubRec), 9);
        assert_eq!(rows(PacketType::PubRel), 2);
        assert_eq!(rows(PacketType::PubComp), 2);
        assert_eq!(rows(PacketType::SubAck), 12);
        assert_eq!(rows(PacketType::UnsubAck), 7);
        assert_eq!(rows(PacketType::Disconnect), 30);
        assert_eq!(rows(PacketType::Auth), 3);
        assert_eq!(rows(PacketType::Publish), 0);
    }

    #[test]
    fn granted_qos_goes_both_ways() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert_eq!(ReasonCode::granted(qos).granted_qos(), Some(qos));
        }
        assert_eq!(ReasonCode::NotAuthorized.granted_qos(), None);
    }
}
