//! What fuzzers throw at the readers of foreign bytes. In: any bytes. Out: nothing, or a panic, which is a finding: of
//! what is read, or of a promise that was not kept. The fuzzers in `fuzz_targets` make up the bytes; the tests throw the
//! collected ones of `corpus`. The reader of MQTT packets is private to its crate, and so is what is thrown at it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a target reports"
)]

pub mod conventions;
pub mod details;
pub mod history;
pub mod readings;
pub mod sparkplug;
pub mod topics;
pub mod traces;

/// Something that takes any bytes.
pub type Target = fn(&[u8]);

/// All of this crate by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("all_conventions", conventions::all_conventions),
    ("announced", conventions::announced),
    ("details", details::run),
    ("emqx_events", conventions::emqx_events),
    ("home_assistant", conventions::home_assistant),
    ("homie", conventions::homie),
    ("readings", readings::run),
    ("sparkplug", sparkplug::run),
    ("sparkplug_nodes", conventions::sparkplug_nodes),
    ("topics", topics::run),
    ("traces", traces::run),
    ("zigbee2mqtt", conventions::zigbee2mqtt),
];
