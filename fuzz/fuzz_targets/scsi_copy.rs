#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| spec::scsi::copy::fuzz_scsi_copy(data));
