//! What `discover` found, as a table, JSON or YAML. In: findings. Out: text. Finds nothing by itself.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::args::DiscoverOutput;
use crate::output::printable;

/// Everything that was found. Sorted, so that two runs with the same devices print the same.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// One per Configuration, in the order of the files.
    pub configurations: Vec<Configuration>,
}

/// What one Configuration finds.
#[derive(Debug, Serialize)]
pub struct Configuration {
    /// Its name.
    pub name: String,
    /// Its MQTT servers.
    pub servers: Vec<Server>,
    /// The devices that Akri would make Instances of.
    pub devices: Vec<Device>,
}

/// An MQTT server.
#[derive(Debug, Serialize)]
pub struct Server {
    /// Its name in the Configuration.
    pub name: String,
    /// Whether it was connected at the end.
    pub connected: bool,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A device.
#[derive(Debug, Serialize)]
pub struct Device {
    /// `<server>/<device>`.
    pub id: String,
    /// The name of its Instance.
    pub instance: String,
    /// `online`, `unconfirmed` or `leaving`.
    pub state: String,
    /// What showed that it is there, in one sentence.
    pub evidence: String,
    /// The environment of its pod; Akri gives each variable with `_<HASH>` as well.
    pub environment: BTreeMap<String, String>,
}

/// How wide a column of the table may become.
const COLUMN: usize = 48;
/// How wide the last one may.
const EVIDENCE: usize = 160;

/// The report as text.
///
/// # Errors
/// None in practice: a report always has a JSON form.
pub fn render(report: &Report, output: DiscoverOutput) -> serde_json::Result<String> {
    Ok(match output {
        DiscoverOutput::Table => table(report),
        DiscoverOutput::Json => format!("{}\n", serde_json::to_string_pretty(report)?),
        DiscoverOutput::Yaml => yaml(&serde_json::to_value(report)?),
    })
}

fn table(report: &Report) -> String {
    let all: Vec<&Device> = report
        .configurations
        .iter()
        .flat_map(|c| &c.devices)
        .collect();
    let mut text = rows(all.iter().copied());
    for device in all {
        text.push_str(&format!(
            "\nEnvironment of {}\n",
            printable(&device.instance, COLUMN)
        ));
        for (name, value) in &device.environment {
            text.push_str(&format!(
                "  {}={}\n",
                printable(name, usize::MAX),
                printable(value, usize::MAX)
            ));
        }
    }
    text
}

/// A row per device.
pub fn rows<'d>(devices: impl IntoIterator<Item = &'d Device>) -> String {
    let head = ["DEVICE", "INSTANCE", "STATE", "EVIDENCE"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(head)
        .chain(devices.into_iter().map(|device| {
            [
                printable(&device.id, COLUMN),
                printable(&device.instance, COLUMN),
                device.state.clone(),
                printable(&device.evidence, EVIDENCE),
            ]
        }))
        .collect();
    let width = |pick: fn(&[String; 4]) -> &String| {
        rows.iter()
            .map(|row| pick(row).chars().count())
            .max()
            .unwrap_or_default()
    };
    let (a, b, c) = (width(|r| &r[0]), width(|r| &r[1]), width(|r| &r[2]));
    rows.iter()
        .map(|[id, instance, state, evidence]| {
            format!("{id:a$}  {instance:b$}  {state:c$}  {evidence}\n")
        })
        .collect()
}

/// YAML in its plainest form: block style, every text in double quotes as JSON has it, which YAML 1.2 takes over.
fn yaml(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

fn block(value: &Value, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                text.push_str(&pad);
                let plain =
                    key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !key.is_empty();
                let key = if plain {
                    key.clone()
                } else {
                    Value::from(key.as_str()).to_string()
                };
                entry(&format!("{key}:"), value, indent, text);
            }
        }
        Value::Array(values) => {
            for value in values {
                let mut inner = String::new();
                block(value, indent + 2, &mut inner);
                // The first line of the element stands behind its dash.
                text.push_str(&format!("{pad}- {}", inner.trim_start()));
            }
        }
        scalar => text.push_str(&format!("{pad}{scalar}\n")),
    }
}

fn entry(key: &str, value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push_str(&format!("{key}\n"));
            block(value, indent + 2, text);
        }
        Value::Array(values) if !values.is_empty() => {
            text.push_str(&format!("{key}\n"));
            block(value, indent + 2, text);
        }
        scalar => text.push_str(&format!("{key} {scalar}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let device = Device {
            id: "plant-a/r1".to_owned(),
            instance: "plant-8120fe".to_owned(),
            state: "online".to_owned(),
            evidence: "live data on robots/r1/joints".to_owned(),
            environment: [(
                "MQTT_TOPICS".to_owned(),
                "[\"robots/r1/joints\"]".to_owned(),
            )]
            .into(),
        };
        Report {
            configurations: vec![Configuration {
                name: "plant".to_owned(),
                servers: vec![Server {
                    name: "plant-a".to_owned(),
                    connected: true,
                    error: None,
                }],
                devices: vec![device],
            }],
        }
    }

    #[test]
    fn the_table_has_a_row_per_device_and_its_environment() {
        assert_eq!(
            table(&report()),
            "\
DEVICE      INSTANCE      STATE   EVIDENCE
plant-a/r1  plant-8120fe  online  live data on robots/r1/joints

Environment of plant-8120fe
  MQTT_TOPICS=[\"robots/r1/joints\"]
"
        );
    }

    #[test]
    fn yaml_says_the_same_as_json() {
        let text = render(&report(), DiscoverOutput::Yaml).unwrap();
        assert_eq!(
            text,
            "\
configurations:
  - devices:
      - environment:
          MQTT_TOPICS: \"[\\\"robots/r1/joints\\\"]\"
        evidence: \"live data on robots/r1/joints\"
        id: \"plant-a/r1\"
        instance: \"plant-8120fe\"
        state: \"online\"
    name: \"plant\"
    servers:
      - connected: true
        name: \"plant-a\"
"
        );
        assert_eq!(
            yaml(&serde_json::json!({"a": [], "b: ": {}})),
            "a: []\n\"b: \": {}\n"
        );
    }
}
