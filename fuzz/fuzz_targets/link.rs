#![no_main]

#[path = "../../spec/tests/labels/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::link(data));
