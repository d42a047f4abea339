#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| spec::nvme::exercise::tls_hello(bytes));
