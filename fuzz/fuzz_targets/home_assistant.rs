//! Fuzzes `akri_mqtt_fuzz::conventions::home_assistant`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| akri_mqtt_fuzz::conventions::home_assistant(data));
