#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| spec::iscsi::fuzz_iscsi_text(data));
