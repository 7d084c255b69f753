//! What runs in the pods of the end-to-end tests. In: the command line. Out: an exit code.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match akri_mqtt_tests::pod::run(akri_mqtt_tests::pod::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("akri-mqtt-test-pod: {error:#}");
            ExitCode::FAILURE
        }
    }
}
