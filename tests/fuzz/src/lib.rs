//! Fuzz targets: functions over bytes that panic if a rule is broken.
//!
//! `fuzz_targets/` hands them to cargo-fuzz, `tests/short_run.rs` runs them for a few seconds.

#![forbid(unsafe_code)]

mod build;
mod canary;
mod core_ops;
pub mod mutate;
mod recover;
pub mod seeds;
mod topics;
mod wire;

pub use canary::canary;
pub use core_ops::core_ops;
pub use recover::log_recover;
pub use topics::topic_match;
pub use wire::{wire_decode_v3, wire_decode_v5, wire_roundtrip, wire_split};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets that must never panic, by name.
pub const TARGETS: [(&str, Target); 7] = [
    ("wire_decode_v3", wire_decode_v3),
    ("wire_decode_v5", wire_decode_v5),
    ("wire_roundtrip", wire_roundtrip),
    ("wire_split", wire_split),
    ("topic_match", topic_match),
    ("core_ops", core_ops),
    ("log_recover", log_recover),
];
