//! MQTT 3.1 and 3.1.1: no properties, no reason codes.

pub(crate) mod decode;
pub(crate) mod encode;
