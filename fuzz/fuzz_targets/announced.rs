//! Fuzzes `akri_mqtt_fuzz::conventions::announced`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| akri_mqtt_fuzz::conventions::announced(data));
