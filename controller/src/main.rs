//! `akri-mqtt-controller`: parses the command line and runs.

use std::process::ExitCode;

use akri_mqtt_controller::{Args, run};
use akri_mqtt_runtime::{Program, main_with};

/// What the client of Kubernetes calls an error is said once, by whoever asked.
const LOG: &str = "info,kube_client::client::builder=off";

fn main() -> ExitCode {
    let program = Program::new("akri-mqtt-controller").log(LOG);
    main_with::<Args, _, _>(program, run)
}
