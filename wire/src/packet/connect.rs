//! CONNECT: a client opens its session (§3.1), and the Will that it leaves.

use core::fmt;
use core::num::{NonZeroU16, NonZeroU32};

use super::user_properties::UserProperties;
use crate::types::{QoS, Version};

/// The first packet of a connection. Its `Debug` form hides the password, so that no log shows it by accident.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version that the client speaks.
    pub version: Version,
    /// The highest bit of the protocol level: a 3.x bridge asks to be treated as one.
    pub bridge: bool,
    /// Clean Start (5.0) or Clean Session (3.x).
    pub clean_start: bool,
    /// Keep Alive in seconds; 0 turns it off.
    pub keep_alive_seconds: u16,
    /// The client identifier; empty to have one assigned.
    pub client_id: &'a str,
    /// The message to publish if the connection ends without a DISCONNECT.
    pub will: Option<Will<'a>>,
    /// User name.
    pub user_name: Option<&'a str>,
    /// Password: any bytes.
    pub password: Option<&'a [u8]>,
    /// Properties (5.0).
    pub properties: ConnectProperties<'a>,
}

impl fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            bridge,
            clean_start,
            keep_alive_seconds,
            client_id,
            will,
            user_name,
            password,
            properties,
        } = self;
        f.debug_struct("Connect")
            .field("version", version)
            .field("bridge", bridge)
            .field("clean_start", clean_start)
            .field("keep_alive_seconds", keep_alive_seconds)
            .field("client_id", client_id)
            .field("will", will)
            .field("user_name", user_name)
            .field("password", &password.map(|_| format_args!("hidden")))
            .field("properties", properties)
            .finish()
    }
}

/// Properties of CONNECT (§MQTT5 3.1.2.11). `None` means absent; the standard's default is noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Seconds that the session outlives the connection; default 0, `u32::MAX` for ever.
    pub session_expiry_interval: Option<u32>,
    /// QoS 1 and 2 messages that the client takes at once; default 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// The largest packet that the client takes; default unbounded.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The highest Topic Alias that the client takes; default 0, none.
    pub topic_alias_maximum: Option<u16>,
    /// Whether the client asks for Response Information; default no.
    pub request_response_information: Option<bool>,
    /// Whether the client wants reason strings and user properties on failures; default yes.
    pub request_problem_information: Option<bool>,
    /// Name of the authentication method; its presence starts an enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// Data for that method.
    pub authentication_data: Option<&'a [u8]>,
    /// User Properties.
    pub user_properties: UserProperties<'a>,
}

/// The message that a client leaves for the case that its connection breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Will<'a> {
    /// QoS of the message.
    pub qos: QoS,
    /// Whether it is published as a retained message.
    pub retain: bool,
    /// Its topic.
    pub topic: &'a str,
    /// Its payload, at most 65,535 bytes.
    pub payload: &'a [u8],
    /// Its properties (5.0).
    pub properties: WillProperties<'a>,
}

/// Properties of a Will (§MQTT5 3.1.3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WillProperties<'a> {
    /// Seconds to wait before the Will is published; default 0.
    pub will_delay_interval: Option<u32>,
    /// `true` if the payload is UTF-8 text.
    pub payload_format_indicator: Option<bool>,
    /// Seconds that the message lives once published.
    pub message_expiry_interval: Option<u32>,
    /// MIME type or another description of the payload.
    pub content_type: Option<&'a str>,
    /// Topic for the answer.
    pub response_topic: Option<&'a str>,
    /// Tells the asker which request an answer is for.
    pub correlation_data: Option<&'a [u8]>,
    /// User Properties, published with the message.
    pub user_properties: UserProperties<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_printed() {
        let connect = Connect {
            version: Version::V5,
            bridge: false,
            clean_start: true,
            keep_alive_seconds: 0,
            client_id: "c",
            will: None,
            user_name: Some("user"),
            password: Some(b"secret"),
            properties: ConnectProperties::default(),
        };
        let shown = format!("{connect:?}");
        assert!(shown.contains("password: Some(hidden)"), "{shown}");
        assert!(!shown.contains("secret") && !shown.contains("115, 101"), "{shown}");
    }
}
