//! `akri-mqtt-controller`: parses the command line and runs.

use std::process::ExitCode;

use akri_mqtt_controller::{Args, run};
use akri_mqtt_runtime::{Program, main_with};

fn main() -> ExitCode {
    main_with::<Args, _, _>(Program::new("akri-mqtt-controller"), run)
}
