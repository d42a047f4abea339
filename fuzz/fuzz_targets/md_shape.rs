#![no_main]

#[path = "../../spec/tests/md/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::shape(data));
