//! CONNACK: the server's answer to CONNECT (§3.2).

use core::num::{NonZeroU16, NonZeroU32};

use super::user_properties::UserProperties;
use crate::reason::ReasonCode;
use crate::types::QoS;

/// Whether the connection stands, and what the server offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the server has a session for this client; never together with a refusal.
    pub session_present: bool,
    /// The verdict. In 3.x it goes through [`crate::reason::ConnectReturnCode`].
    pub code: ReasonCode,
    /// Properties (5.0).
    pub properties: ConnAckProperties<'a>,
}

/// Properties of CONNACK (§MQTT5 3.2.2.3). `None` means absent; the standard's default is noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnAckProperties<'a> {
    /// Session expiry in seconds if the server chose another than the client asked for.
    pub session_expiry_interval: Option<u32>,
    /// QoS 1 and 2 messages that the server takes at once; default 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// The highest QoS that the server takes: 0 or 1; absent means 2.
    pub maximum_qos: Option<QoS>,
    /// Whether the server keeps retained messages; default yes.
    pub retain_available: Option<bool>,
    /// The largest packet that the server takes; default unbounded.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The identifier that the server gave to a client that sent none.
    pub assigned_client_identifier: Option<&'a str>,
    /// The highest Topic Alias that the server takes; default 0, none.
    pub topic_alias_maximum: Option<u16>,
    /// Text for people.
    pub reason_string: Option<&'a str>,
    /// Whether wildcards are allowed in subscriptions; default yes.
    pub wildcard_subscription_available: Option<bool>,
    /// Whether Subscription Identifiers are allowed; default yes.
    pub subscription_identifier_available: Option<bool>,
    /// Whether shared subscriptions are allowed; default yes.
    pub shared_subscription_available: Option<bool>,
    /// The Keep Alive in seconds that the client must use instead of its own.
    pub server_keep_alive: Option<u16>,
    /// Text from which the client makes response topics.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// The authentication method of the CONNECT.
    pub authentication_method: Option<&'a str>,
    /// Data for that method.
    pub authentication_data: Option<&'a [u8]>,
    /// User Properties.
    pub user_properties: UserProperties<'a>,
}
