//! Fuzzes `akri_mqtt_fuzz::conventions::emqx_events`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| akri_mqtt_fuzz::conventions::emqx_events(data));
