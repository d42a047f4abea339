#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| spec::scsi::fuzz_scsi_reservation(data));
