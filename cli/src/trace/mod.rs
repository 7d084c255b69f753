//! `akri-mqtt record` and `akri-mqtt replay`. In: a Configuration, and a session or a trace of one. Out: a trace, or
//! what it shows. The form of a trace and the machine that it is played to are the core crate's.

pub mod args;
mod lines;
pub mod record;
pub mod replay;
mod report;
mod write;

use std::path::PathBuf;

use akri_mqtt_runtime::UsageError;

use crate::configuration::{self, Configuration};

/// The one Configuration of these files: a trace is what one Configuration has seen.
fn one(files: &[PathBuf]) -> Result<Configuration, UsageError> {
    let (configurations, notes) = configuration::runnable(files)?;
    for note in &notes {
        eprintln!("note: {note}");
    }
    let names: Vec<String> = configurations.iter().map(|c| c.name.clone()).collect();
    let mut all = configurations.into_iter();
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(UsageError::new(format!(
            "a trace is of one Configuration, but there are {}: {}",
            names.len(),
            names.join(", ")
        ))),
    }
}
