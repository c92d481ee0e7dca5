//! The entry point of `wire_decode_v3` for cargo-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::wire_decode_v3(data));
