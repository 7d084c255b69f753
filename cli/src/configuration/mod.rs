//! Akri Configurations from files: what they say, and what is wrong with them and where.
//! In: YAML files. Out: checked Configurations, faults with file, line and column, and notes.
//! The fields are checked in `schemas`; what `discoveryDetails` may say is up to the core crate.

mod read;
mod schemas;
mod structure;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use akri_mqtt_core::details::Details;
use akri_mqtt_core::yaml::Position;
use akri_mqtt_runtime::exit::UsageError;

use crate::properties::Property;
pub use read::{Source, load, read};

/// The handler whose `discoveryDetails` are understood.
pub const HANDLER: &str = "mqtt";

/// One thing that is wrong. Sorted by place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file, as it was given; `<stdin>` for standard input.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            message,
        } = self;
        write!(f, "{file}:{line}:{column}: {message}")
    }
}

/// A Configuration without faults.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The file that it stands in.
    pub file: Arc<str>,
    /// Where its document starts.
    pub at: Position,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `spec.discoveryHandler.name`.
    pub handler: String,
    /// `spec.capacity`.
    pub capacity: u32,
    /// The text of `discoveryDetails`.
    pub details_text: String,
    /// What it says; only for [`HANDLER`].
    pub details: Option<Arc<Details>>,
    /// `discoveryProperties`, not yet resolved.
    pub discovery_properties: Vec<Property>,
    /// `brokerProperties`.
    pub broker_properties: BTreeMap<String, String>,
}

/// What one file holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Configurations without faults, in the order of the file.
    pub configurations: Vec<Configuration>,
    /// All faults, sorted.
    pub faults: Vec<Fault>,
    /// Documents that are no Configurations.
    pub others: usize,
}

/// The Configurations of `files` that this handler serves, and notes about the rest. For commands that run them.
///
/// # Errors
/// A file that cannot be read, a fault, or nothing to run: exit code 2, with all faults.
pub fn runnable(
    files: &[std::path::PathBuf],
) -> Result<(Vec<Configuration>, Vec<String>), UsageError> {
    let mut all = Vec::new();
    let mut faults = Vec::new();
    for file in files {
        let loaded = load(&read(file)?);
        all.extend(loaded.configurations);
        faults.extend(loaded.faults);
    }
    faults.extend(duplicates(&all));
    if !faults.is_empty() {
        let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
        return Err(UsageError::new(lines.join("\n       ")));
    }
    let (ours, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|c| c.handler == HANDLER);
    let mut notes: Vec<String> = others
        .iter()
        .map(|c| {
            format!(
                "{}: Configuration {} is for the handler {}, which does not run here; passed over",
                c.file, c.name, c.handler
            )
        })
        .collect();
    for c in ours.iter().filter(|c| c.capacity > 1) {
        notes.push(format!(
            "{}: Configuration {}: capacity {} means nothing here; a device has one monitor",
            c.file, c.name, c.capacity
        ));
    }
    if ours.is_empty() {
        let names: Vec<_> = files.iter().map(|f| f.display().to_string()).collect();
        return Err(UsageError::new(format!(
            "no Configuration (apiVersion: akri.sh/v0, kind: Configuration) for the handler {HANDLER} in {}",
            names.join(", ")
        )));
    }
    Ok((ours, notes))
}

/// Configurations of the same name: their Instances would have the same names.
pub fn duplicates(configurations: &[Configuration]) -> Vec<Fault> {
    let mut first: BTreeMap<(&str, Option<&str>), &Configuration> = BTreeMap::new();
    let mut faults = Vec::new();
    for configuration in configurations {
        let key = (
            configuration.name.as_str(),
            configuration.namespace.as_deref(),
        );
        match first.get(&key) {
            None => {
                first.insert(key, configuration);
            }
            Some(earlier) => faults.push(Fault {
                file: Arc::clone(&configuration.file),
                line: configuration.at.line,
                column: configuration.at.column,
                message: format!(
                    "a Configuration of the name {} stands already at {}:{}",
                    configuration.name, earlier.file, earlier.at.line
                ),
            }),
        }
    }
    faults
}
