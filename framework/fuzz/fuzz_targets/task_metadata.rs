#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keylane::fuzzing::task_metadata(input));
