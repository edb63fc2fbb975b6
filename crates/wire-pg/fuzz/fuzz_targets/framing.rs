#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| windlass_wire_pg::fuzzing::framing(data));
