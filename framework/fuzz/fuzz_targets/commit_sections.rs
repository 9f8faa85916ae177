#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keylane_core::fuzzing::commit_sections(input));
