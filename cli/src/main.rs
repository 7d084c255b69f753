//! akri-mqtt: MQTT devices discovered and served without Kubernetes.

mod agent;
mod app;
mod args;
mod browser;
mod check;
mod configuration;
mod credentials;
mod demo;
mod discover;
mod engine;
mod feed;
mod fleet;
mod in_process;
mod migrate;
mod output;
mod ports;
mod properties;
mod report;
mod roster;
mod trace;
mod up;

fn main() -> std::process::ExitCode {
    app::main()
}
