//! AUTH: a step of enhanced authentication (§MQTT5 3.15).

use super::user_properties::UserProperties;
use crate::reason::ReasonCode;

/// One step of an exchange that the authentication method defines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success (server), continue (both) or re-authenticate (client).
    pub code: ReasonCode,
    /// Properties.
    pub properties: AuthProperties<'a>,
}

/// Properties of AUTH (§MQTT5 3.15.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthProperties<'a> {
    /// The method of the CONNECT; each AUTH that is not a bare success names it.
    pub authentication_method: Option<&'a str>,
    /// Data for that method.
    pub authentication_data: Option<&'a [u8]>,
    /// Text for people.
    pub reason_string: Option<&'a str>,
    /// User Properties.
    pub user_properties: UserProperties<'a>,
}
