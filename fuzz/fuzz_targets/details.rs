//! Fuzzes `akri_mqtt_fuzz::details::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| akri_mqtt_fuzz::details::run(data));
