//! Starts the subcommand that was asked for. In: the command line. Out: an exit code.
//! Arguments, logging and signals are the runtime's.

use std::process::ExitCode;

use akri_mqtt_runtime::{Program, Shutdown, main_with, program};
use clap_complete::Shell;

use crate::args::{Cli, Command};
use crate::trace::{record, replay};
use crate::{check, demo, discover, migrate, output, up};

/// What users see is printed by the subcommands; the log is for what goes wrong. The embedded MQTT server of `demo` and its
/// simulated devices log each planned crash as an error.
const PROGRAM: Program = Program::new("akri-mqtt").log("warn,mqtt5=off,mqtt5_protocol=off");

/// Runs the program.
pub fn main() -> ExitCode {
    main_with(PROGRAM, run)
}

async fn run(cli: Cli, shutdown: Shutdown) -> anyhow::Result<()> {
    match cli.command {
        Command::Demo(arguments) => demo::run(&arguments, &shutdown).await,
        Command::Up(arguments) => up::run(&arguments, &shutdown).await,
        Command::Check(arguments) => check::run(&arguments),
        Command::Discover(arguments) => discover::run(&arguments, &shutdown).await,
        Command::Record(arguments) => record::run(&arguments, &shutdown).await,
        Command::Replay(arguments) => replay::run(&arguments, &shutdown).await,
        Command::Migrate(arguments) => migrate::run(&arguments, &shutdown).await,
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut command = program::command::<Cli>(PROGRAM);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "akri-mqtt", &mut script);
    output::write(&String::from_utf8_lossy(&script))?;
    Ok(())
}
