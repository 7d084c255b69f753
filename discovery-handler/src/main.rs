//! `akri-mqtt-discovery-handler`: parses the command line and runs.

use std::process::ExitCode;

use akri_mqtt_discovery_handler::{Args, run};
use akri_mqtt_runtime::{Program, main_with};

fn main() -> ExitCode {
    main_with::<Args, _, _>(Program::new("akri-mqtt-discovery-handler"), run)
}
