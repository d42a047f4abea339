#![no_main]

#[path = "../../config/tests/replay/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::yaml(data));
