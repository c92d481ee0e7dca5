//! Why a connection is refused or ended by this side: the one map from cause to reason code, to what the peer is told,
//! and to a counter.

use dunlin_wire::error::{Cause, DecodeError};
use dunlin_wire::reason::{ConnectReturnCode, ReasonCode};
use dunlin_wire::types::{PacketType, Version};

use crate::metrics::Counter;

/// Why this side ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Bytes that are not a packet, or not one that this peer may send.
    Malformed(Cause),
    /// The first packet is not a CONNECT.
    NotConnect,
    /// A second CONNECT.
    SecondConnect,
    /// A packet that the state of the connection does not take.
    NotTaken(PacketType),
    /// No CONNECT in time, or no end of the authentication.
    ConnectTimeout,
    /// The shard holds too many bytes for clients that are not authenticated yet.
    ConnectMemory,
    /// Too many connections have not been accepted yet, and this is the oldest of them.
    GreetingCount,
    /// More bytes arrived for a connection on hold than it may hold.
    HeldBytes,
    /// The client id is not allowed, or none was given where one is needed.
    ClientId,
    /// The Will asks for what this server does not offer.
    Will(ReasonCode),
    /// Authentication failed, with the reason that the mechanism gave.
    Authentication(ReasonCode),
    /// The method is not known, or is not the one of the CONNECT.
    AuthenticationMethod,
    /// An answer that must not be left out is larger than the client takes.
    AnswerTooLarge,
    /// DISCONNECT sets a Session Expiry Interval where CONNECT had none.
    SessionExpiry,
    /// Silence of more than the Keep Alive allows.
    KeepAlive,
    /// The same client id connected again.
    TakenOver,
    /// The control plane ended it.
    Kicked,
    /// The server stops.
    Stopping,
    /// The disk has no room for what is durable.
    StoreFull,
    /// The disk has failed.
    StoreFailed,
    /// A rule of publishing, subscribing or acknowledging was broken.
    Protocol(ReasonCode),
}

impl Refusal {
    /// What 5.0 calls it.
    pub(crate) const fn reason(self) -> ReasonCode {
        match self {
            Self::Malformed(cause) => cause.reason_code(),
            // [MQTT5-3.1.0-2]
            Self::NotConnect | Self::SecondConnect | Self::NotTaken(_) | Self::SessionExpiry => {
                ReasonCode::ProtocolError
            }
            Self::ConnectTimeout => ReasonCode::MaximumConnectTime,
            Self::ConnectMemory | Self::GreetingCount => ReasonCode::ServerBusy,
            Self::HeldBytes | Self::StoreFull => ReasonCode::QuotaExceeded,
            Self::StoreFailed => ReasonCode::ImplementationSpecificError,
            // [MQTT5-3.1.3-8] [MQTT311-3.1.3-9]
            Self::ClientId => ReasonCode::ClientIdentifierNotValid,
            Self::Will(code) | Self::Authentication(code) | Self::Protocol(code) => code,
            Self::AuthenticationMethod => ReasonCode::BadAuthenticationMethod,
            Self::AnswerTooLarge => ReasonCode::PacketTooLarge,
            Self::KeepAlive => ReasonCode::KeepAliveTimeout,
            Self::TakenOver => ReasonCode::SessionTakenOver,
            Self::Kicked => ReasonCode::AdministrativeAction,
            Self::Stopping => ReasonCode::ServerShuttingDown,
        }
    }

    /// What it was, in words for the people at the other end: the Reason String of 5.0. A constant, never a value of theirs.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Malformed(cause) => cause.name(),
            Self::NotConnect => "the first packet is not CONNECT",
            Self::SecondConnect => "second CONNECT",
            Self::NotTaken(_) => "packet not taken in this state",
            Self::ConnectTimeout => "no CONNECT in time",
            Self::ConnectMemory => "too many clients connect at once",
            Self::GreetingCount => "too many clients have not connected yet",
            Self::HeldBytes => "too many bytes while packets wait",
            Self::ClientId => "client identifier not allowed",
            Self::Will(_) => "the Will is not allowed here",
            Self::Authentication(_) => "authentication refused",
            Self::AuthenticationMethod => "authentication method not known or changed",
            Self::AnswerTooLarge => "an answer is larger than Maximum Packet Size",
            Self::SessionExpiry => "Session Expiry Interval was 0 in CONNECT",
            Self::KeepAlive => "silent for longer than Keep Alive allows",
            Self::TakenOver => "the same client identifier connected again",
            Self::Kicked => "ended by an administrator",
            Self::Stopping => "the server stops",
            Self::StoreFull => "no room to store what must not be lost",
            Self::StoreFailed => "what must not be lost cannot be stored",
            Self::Protocol(code) => code.name(),
        }
    }

    /// Where it is counted.
    pub(crate) const fn counter(self) -> Counter {
        match self {
            Self::Malformed(Cause::ProtocolName | Cause::ProtocolLevel { .. }) => {
                Counter::RefusedUnsupportedVersion
            }
            Self::Malformed(_) => Counter::RefusedMalformed,
            Self::NotConnect => Counter::RefusedNotConnect,
            Self::SecondConnect => Counter::RefusedSecondConnect,
            Self::NotTaken(_) => Counter::RefusedPacketNotTaken,
            Self::ConnectTimeout => Counter::RefusedConnectTimeout,
            Self::ConnectMemory => Counter::RefusedConnectMemory,
            Self::GreetingCount => Counter::RefusedGreetingCount,
            Self::HeldBytes => Counter::RefusedHeldBytes,
            Self::ClientId => Counter::RefusedClientId,
            Self::Will(_) => Counter::RefusedWill,
            Self::Authentication(_) => Counter::RefusedAuthentication,
            Self::AuthenticationMethod => Counter::RefusedAuthenticationMethod,
            Self::AnswerTooLarge => Counter::RefusedAnswerTooLarge,
            Self::SessionExpiry => Counter::RefusedSessionExpiry,
            Self::KeepAlive => Counter::EndedKeepAlive,
            Self::TakenOver => Counter::EndedTakenOver,
            Self::Kicked => Counter::EndedKicked,
            Self::Stopping => Counter::EndedStopping,
            Self::StoreFull => Counter::RefusedStoreFull,
            Self::StoreFailed => Counter::RefusedStoreFailed,
            Self::Protocol(_) => Counter::EndedProtocol,
        }
    }

    /// Whether a peer that is not connected yet hears nothing at all.
    const fn is_silent(self) -> bool {
        match self {
            // It does not speak MQTT, or says nothing: any answer would be a guess.
            Self::NotConnect | Self::ConnectTimeout | Self::GreetingCount | Self::AnswerTooLarge => true,
            Self::Malformed(_)
            | Self::SecondConnect
            | Self::NotTaken(_)
            | Self::ConnectMemory
            | Self::HeldBytes
            | Self::ClientId
            | Self::Will(_)
            | Self::Authentication(_)
            | Self::AuthenticationMethod
            | Self::SessionExpiry
            | Self::KeepAlive
            | Self::TakenOver
            | Self::Kicked
            | Self::Stopping
            | Self::StoreFull
            | Self::StoreFailed
            | Self::Protocol(_) => false,
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error.cause)
    }
}

/// The last packet that a peer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Nothing: the connection is just closed.
    Silence,
    /// CONNACK with this code.
    ConnAck(ReasonCode),
    /// DISCONNECT with this code.
    Disconnect(ReasonCode),
}

impl Farewell {
    /// What a client hears that has not had its CONNACK.
    ///
    /// [MQTT5-3.14.0-1]: no DISCONNECT before CONNACK. [MQTT311-3.2.2-6]: no CONNACK where no return code fits.
    pub(crate) fn before_connack(version: Version, refusal: Refusal) -> Self {
        if refusal.is_silent() {
            return Self::Silence;
        }
        let code = refusal.reason();
        match version {
            // [MQTT5-3.2.2-8]
            Version::V5 if code.senders(PacketType::ConnAck).server => Self::ConnAck(code),
            // 0x8B is not a code of CONNACK; this is the nearest.
            Version::V5 if refusal == Refusal::Stopping => Self::ConnAck(ReasonCode::ServerUnavailable),
            Version::V5 => Self::ConnAck(ReasonCode::UnspecifiedError),
            Version::V31 | Version::V311 => match refusal {
                Refusal::StoreFull | Refusal::StoreFailed => Self::ConnAck(ReasonCode::ServerUnavailable),
                // [MQTT311-3.1.4-1]: a CONNECT that breaks the format is not answered.
                Refusal::Malformed(
                    Cause::ProtocolLevel { .. } | Cause::ClientIdTooLong { .. } | Cause::ClientIdEmpty,
                )
                | Refusal::ConnectMemory
                | Refusal::ClientId
                | Refusal::Will(_)
                | Refusal::Authentication(_)
                | Refusal::AuthenticationMethod
                | Refusal::Stopping
                | Refusal::Kicked
                | Refusal::HeldBytes => {
                    ConnectReturnCode::from_reason_code(code).map_or(Self::Silence, |_| Self::ConnAck(code))
                }
                Refusal::Malformed(_)
                | Refusal::NotConnect
                | Refusal::SecondConnect
                | Refusal::NotTaken(_)
                | Refusal::ConnectTimeout
                | Refusal::GreetingCount
                | Refusal::AnswerTooLarge
                | Refusal::SessionExpiry
                | Refusal::KeepAlive
                | Refusal::TakenOver
                | Refusal::Protocol(_) => Self::Silence,
            },
        }
    }

    /// What a connected client hears: 5.0 has a DISCONNECT from the server, 3.x has not.
    pub(crate) const fn when_connected(version: Version, refusal: Refusal) -> Self {
        let code = refusal.reason();
        match version {
            // [MQTT5-3.14.2-1]
            Version::V5 if code.senders(PacketType::Disconnect).server => Self::Disconnect(code),
            Version::V5 => Self::Disconnect(ReasonCode::UnspecifiedError),
            Version::V31 | Version::V311 => Self::Silence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Refusal> {
        vec![
            Refusal::Malformed(Cause::Truncated),
            Refusal::Malformed(Cause::ProtocolLevel { level: 9 }),
            Refusal::NotConnect,
            Refusal::SecondConnect,
            Refusal::NotTaken(PacketType::SubAck),
            Refusal::ConnectTimeout,
            Refusal::ConnectMemory,
            Refusal::GreetingCount,
            Refusal::HeldBytes,
            Refusal::ClientId,
            Refusal::Will(ReasonCode::QoSNotSupported),
            Refusal::Authentication(ReasonCode::NotAuthorized),
            Refusal::AuthenticationMethod,
            Refusal::AnswerTooLarge,
            Refusal::SessionExpiry,
            Refusal::KeepAlive,
            Refusal::TakenOver,
            Refusal::Kicked,
            Refusal::Stopping,
            Refusal::StoreFull,
            Refusal::StoreFailed,
            Refusal::Protocol(ReasonCode::TopicAliasInvalid),
        ]
    }

    #[test]
    fn a_farewell_uses_only_codes_that_its_packet_may_carry() {
        // [MQTT5-3.2.2-8] [MQTT5-3.14.2-1] [MQTT5-3.14.0-1] [MQTT311-3.2.2-6]
        for refusal in all() {
            assert!(refusal.reason().is_error(), "{refusal:?}");
            for version in Version::ALL {
                match Farewell::before_connack(version, refusal) {
                    Farewell::Silence => {}
                    Farewell::ConnAck(code) if version.is_v5() => {
                        assert!(code.senders(PacketType::ConnAck).server, "{refusal:?}");
                    }
                    Farewell::ConnAck(code) => {
                        assert!(ConnectReturnCode::from_reason_code(code).is_some(), "{refusal:?}");
                    }
                    Farewell::Disconnect(_) => panic!("DISCONNECT before CONNACK for {refusal:?}"),
                }
                match Farewell::when_connected(version, refusal) {
                    Farewell::Silence => assert!(!version.is_v5()),
                    Farewell::Disconnect(code) => {
                        assert!(
                            version.is_v5() && code.senders(PacketType::Disconnect).server,
                            "{refusal:?}"
                        );
                    }
                    Farewell::ConnAck(_) => panic!("second CONNACK for {refusal:?}"),
                }
            }
        }
    }

    #[test]
    fn old_clients_hear_only_what_has_a_return_code() {
        // [MQTT311-3.1.2-2] [MQTT311-3.1.4-1] [MQTT311-3.1.3-9]
        let hears = |refusal| Farewell::before_connack(Version::V311, refusal);
        assert_eq!(
            hears(Refusal::Malformed(Cause::ProtocolLevel { level: 2 })),
            Farewell::ConnAck(ReasonCode::UnsupportedProtocolVersion)
        );
        assert_eq!(hears(Refusal::ClientId), Farewell::ConnAck(ReasonCode::ClientIdentifierNotValid));
        assert_eq!(hears(Refusal::Malformed(Cause::Truncated)), Farewell::Silence);
        assert_eq!(hears(Refusal::NotConnect), Farewell::Silence);
    }
}
