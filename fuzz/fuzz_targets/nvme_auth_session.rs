#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::nvmf::exercise::auth_session(bytes));
