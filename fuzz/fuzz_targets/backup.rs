#![no_main]

#[path = "../../rpc/tests/replay/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::backup(data));
