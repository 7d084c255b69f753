//! Fuzzes `akri_mqtt_session::fuzzing::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| akri_mqtt_session::fuzzing::run(data));
