//! MQTT 3.1, 3.1.1 and 5.0: bytes to packets and back.
//!
//! What is here: packets as borrowed values ([`packet`]), decoding at any chunking ([`decoder`]),
//! exact-size encoding ([`encoder`]), topic names and filters ([`topic`]), reason codes ([`reason`]),
//! the property table ([`properties`]). What is not: IO, time, sessions, any decision of a broker.
//!
//! Reading order: `types.rs` and `packet/` say what a packet is; `decoder.rs` frames it and picks
//! `v3/` or `v5/`; `encoder.rs` does the reverse; `limits.rs` and `error.rs` say what is refused.
//!
//! Decoding allocates nothing: all strings, payloads and lists point into the receive buffer.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::panic,
        clippy::expect_used
    )
)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod decoder;
pub mod encoder;
pub mod error;
mod greeting;
pub mod limits;
pub mod packet;
pub mod properties;
mod reader;
pub mod reason;
pub mod topic;
pub mod types;
pub mod utf8;
mod v3;
mod v5;
pub mod varint;
mod writer;

pub use decoder::{Frame, decode, decode_one, frame, frame_of};
pub use encoder::PublishHead;
pub use error::{Cause, DecodeError, EncodeError};
pub use limits::{Limits, Sender};
pub use packet::Packet;
pub use reason::{ConnectReturnCode, ReasonCode};
pub use topic::{FilterKind, TopicFilter, TopicName};
pub use types::{PacketId, PacketType, QoS, RetainHandling, SubscriptionOptions, Version};
