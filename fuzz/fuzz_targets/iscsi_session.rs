#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::iscsi::exercise::fuzz_iscsi_session(data));
