#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keylane::fuzzing::record_headers(input));
