//! Fuzzes `akri_mqtt_fuzz::sparkplug::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| akri_mqtt_fuzz::sparkplug::run(data));
