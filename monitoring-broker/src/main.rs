//! akri-mqtt-monitoring-broker: stores and serves the messages of its devices.

use std::process::ExitCode;

use akri_mqtt_monitoring_broker::{Args, run};
use akri_mqtt_runtime::{Program, main_with};

fn main() -> ExitCode {
    main_with(
        Program::new("akri-mqtt-monitoring-broker"),
        |args: Args, shutdown| run(args, shutdown),
    )
}
