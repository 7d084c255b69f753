//! Fuzzes `akri_mqtt_fuzz::readings::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| akri_mqtt_fuzz::readings::run(data));
