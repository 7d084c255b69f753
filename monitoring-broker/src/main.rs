//! akri-mqtt-monitoring-broker: stores and serves the messages of its devices.

use std::process::ExitCode;

use akri_mqtt_monitoring_broker::{Args, run};
use akri_mqtt_runtime::{Program, main_with};

/// What the client of Kubernetes calls an error is said once, by whoever asked.
const LOG: &str = "info,kube_client::client::builder=off,kube_runtime::watcher=off";

fn main() -> ExitCode {
    let program = Program::new("akri-mqtt-monitoring-broker").log(LOG);
    main_with::<Args, _, _>(program, run)
}
