#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::scsi::exercise::fuzz_scsi_server(data));
