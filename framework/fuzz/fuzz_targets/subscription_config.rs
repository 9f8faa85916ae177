#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keylane::fuzzing::subscription_config(input));
