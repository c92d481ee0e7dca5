//! DISCONNECT: the last packet of a connection (§3.14).

use super::user_properties::UserProperties;
use crate::reason::ReasonCode;

/// Why the sender ends the connection. Empty in 3.x, where only clients send it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// The reason; zero is [`ReasonCode::NORMAL_DISCONNECTION`].
    pub code: ReasonCode,
    /// Properties (5.0).
    pub properties: DisconnectProperties<'a>,
}

/// Properties of DISCONNECT (§MQTT5 3.14.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DisconnectProperties<'a> {
    /// A new session expiry in seconds; only clients send it.
    pub session_expiry_interval: Option<u32>,
    /// Text for people.
    pub reason_string: Option<&'a str>,
    /// Another server to use; only servers send it.
    pub server_reference: Option<&'a str>,
    /// User Properties.
    pub user_properties: UserProperties<'a>,
}
