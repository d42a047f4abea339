#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| spec::scsi::mode::fuzz_mode_select(data));
