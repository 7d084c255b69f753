//! akri-mqtt: MQTT devices discovered and served without Kubernetes.

mod agent;
mod app;
mod args;
mod check;
mod configuration;
mod credentials;
mod discover;
mod in_process;
mod output;
mod properties;
mod roster;

fn main() -> std::process::ExitCode {
    app::main()
}
