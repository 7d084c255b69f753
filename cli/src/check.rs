//! `akri-mqtt check`: validates Configurations. In: files. Out: a line per fault on standard output and exit code 2, or a line per
//! file. What a fault is, is decided in `configuration`.

use akri_mqtt_runtime::exit::UsageError;
use serde::Serialize;

use crate::args::{Check, CheckOutput};
use crate::configuration::{self, Fault, HANDLER, Loaded};
use crate::output;

#[derive(Serialize)]
struct Report {
    faults: usize,
    files: Vec<File>,
}

#[derive(Serialize)]
struct File {
    file: String,
    configurations: Vec<Entry>,
    other_documents: usize,
    faults: Vec<Place>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    handler: String,
    line: u32,
    /// Whether its `discoveryDetails` were checked: those of other handlers are their own business.
    details_checked: bool,
}

#[derive(Serialize)]
struct Place {
    line: u32,
    column: u32,
    message: String,
}

/// Runs it.
///
/// # Errors
/// A file that cannot be read, or faults: exit code 2.
pub fn run(arguments: &Check) -> anyhow::Result<()> {
    let mut loaded = Vec::new();
    for file in &arguments.files {
        let source = configuration::read(file)?;
        loaded.push((source.name.to_string(), configuration::load(&source)));
    }
    let all: Vec<_> = loaded
        .iter()
        .flat_map(|(_, loaded)| loaded.configurations.clone())
        .collect();
    let mut faults: Vec<Fault> = loaded
        .iter()
        .flat_map(|(_, loaded)| loaded.faults.clone())
        .collect();
    faults.extend(configuration::duplicates(&all));
    let text = match arguments.output {
        CheckOutput::Text => text(&loaded, &faults),
        CheckOutput::Json => json(loaded, &faults)?,
    };
    output::write(&text)?;
    match faults.len() {
        0 => Ok(()),
        1 => Err(UsageError::new("1 fault").into()),
        many => Err(UsageError::new(format!("{many} faults")).into()),
    }
}

fn text(loaded: &[(String, Loaded)], faults: &[Fault]) -> String {
    let mut lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    for (name, loaded) in loaded {
        if faults.iter().any(|fault| *fault.file == **name) {
            continue;
        }
        let count = match loaded.configurations.len() {
            0 => "no Configuration in it".to_owned(),
            1 => "1 Configuration, no fault".to_owned(),
            many => format!("{many} Configurations, no fault"),
        };
        let others = match loaded.others {
            0 => String::new(),
            1 => "; 1 other document passed over".to_owned(),
            many => format!("; {many} other documents passed over"),
        };
        let unchecked: Vec<String> = loaded
            .configurations
            .iter()
            .filter(|c| c.handler != HANDLER)
            .map(|c| {
                format!(
                    "; {}: discoveryDetails of the handler {} are not checked",
                    c.name, c.handler
                )
            })
            .collect();
        lines.push(format!("{name}: {count}{others}{}", unchecked.concat()));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn json(loaded: Vec<(String, Loaded)>, faults: &[Fault]) -> anyhow::Result<String> {
    let files = loaded
        .into_iter()
        .map(|(name, loaded)| File {
            configurations: loaded
                .configurations
                .into_iter()
                .map(|c| Entry {
                    details_checked: c.handler == HANDLER,
                    name: c.name,
                    namespace: c.namespace,
                    handler: c.handler,
                    line: c.at.line,
                })
                .collect(),
            other_documents: loaded.others,
            faults: faults
                .iter()
                .filter(|fault| *fault.file == *name)
                .map(|fault| Place {
                    line: fault.line,
                    column: fault.column,
                    message: fault.message.clone(),
                })
                .collect(),
            file: name,
        })
        .collect();
    let report = Report {
        faults: faults.len(),
        files,
    };
    Ok(format!("{}\n", serde_json::to_string_pretty(&report)?))
}
