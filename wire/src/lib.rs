//! MQTT 3.1, 3.1.1 and 5.0: bytes to packets and back. No IO, no time.
#![forbid(unsafe_code)]

pub mod reason;
pub mod types;
