//! The least that a program of this workspace consists of: an admin port and one critical task.
//! `--outcome` makes it end in each way that a program can end; `tests/process.rs` tries them.

#![allow(clippy::panic, reason = "it shows what a panic does")]

use std::process::ExitCode;
use std::time::SystemTime;

use akri_mqtt_runtime::{
    Health, Program, Shutdown, Tasks, UsageError, admin, bind, main_with, metrics, serve,
};

#[derive(clap::Args)]
struct Arguments {
    /// How the program ends
    #[arg(long, value_enum, default_value_t = Outcome::Serve)]
    outcome: Outcome,
    /// Finds a fault in its configuration
    #[arg(long)]
    refuse: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Outcome {
    /// Serves until it is stopped
    Serve,
    /// Loses a critical task to an error
    Fail,
    /// Loses a critical task to a panic
    Panic,
    /// Does not stop when it is asked to
    Hang,
}

const PROGRAM: Program = Program::new("minimal");

fn main() -> ExitCode {
    main_with(PROGRAM, run)
}

async fn run(arguments: Arguments, shutdown: Shutdown) -> anyhow::Result<()> {
    if arguments.refuse {
        return Err(UsageError::new("--refuse: found true, allowed is false").into());
    }
    let health = Health::new();
    let serving = health.condition("serving", "not listening yet");
    let listener = bind("--admin", ([127, 0, 0, 1], 0).into()).await?;
    println!("http://{}", listener.local_addr()?);
    serving.ready("listening");
    let registry = metrics::registry("minimal", SystemTime::now());
    let tasks = Tasks::new(shutdown.clone());
    let router = admin::router(health, registry);
    tasks.critical("admin", serve(listener, router, shutdown));
    match arguments.outcome {
        Outcome::Fail => tasks.critical("work", async { Err(anyhow::anyhow!("disk full")) }),
        Outcome::Panic => tasks.critical("work", async { panic!("index 7") }),
        Outcome::Hang => tasks.critical("work", std::future::pending()),
        Outcome::Serve => {}
    }
    tasks.join().await
}
