//! The entry point of `wire_roundtrip` for cargo-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::wire_roundtrip(data));
