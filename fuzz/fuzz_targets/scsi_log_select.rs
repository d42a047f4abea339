#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| spec::scsi::log::fuzz_log_select(data));
