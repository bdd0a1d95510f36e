//! What a peer says on an HTTP/2 connection.
#![no_main]

#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::http2_frames(data));
