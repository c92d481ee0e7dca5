//! MQTT 5.0: properties and reason codes.

pub(crate) mod decode;
pub(crate) mod encode;
