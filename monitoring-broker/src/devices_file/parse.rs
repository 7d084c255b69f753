//! Reads a list of devices. In: YAML, of which JSON is a part. Out: devices, or every fault at its place.

use std::collections::BTreeMap;

use akri_mqtt_core::details::Fault;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_core::yaml::{self, Bounds, Entry, Kind, Node, Position};
use serde_json::Value;

use super::MOST_BYTES;
use crate::source::Listed;

/// What the keys of a device begin with.
const PREFIX: &str = "MQTT_";

/// The devices of a text, sorted.
///
/// # Errors
/// Everything that is wrong, in the order of the text.
pub fn parse(text: &str) -> Result<Listed, Vec<Fault>> {
    let bounds = Bounds {
        bytes: usize::try_from(MOST_BYTES).unwrap_or(usize::MAX),
        depth: 16,
        documents: 1,
    };
    let parsed = yaml::parse(text, bounds);
    let mut faults: Vec<_> = parsed
        .problems
        .into_iter()
        .map(|problem| fault(problem.at, "", problem.message))
        .collect();
    let mut listed = Listed::new();
    match parsed.documents.first().map(|node| &node.kind) {
        Some(Kind::Sequence(nodes)) => {
            for node in nodes {
                match device(node) {
                    Ok(device) if listed.contains_key(&device.id) => {
                        let text = format!("{} is in the list already", device.id);
                        faults.push(fault(node.at, "MQTT_DEVICE_ID", text));
                    }
                    Ok(device) => {
                        listed.insert(device.id.clone(), device);
                    }
                    Err(wrong) => faults.extend(wrong),
                }
            }
        }
        _ if !faults.is_empty() => {}
        _ => faults.push(fault(
            Position { line: 1, column: 1 },
            "",
            "a list of devices is expected; `[]` is one without any".to_owned(),
        )),
    }
    if faults.is_empty() {
        return Ok(listed);
    }
    faults.sort();
    Err(faults)
}

fn device(node: &Node) -> Result<DeviceSpec, Vec<Fault>> {
    let Kind::Mapping(entries) = &node.kind else {
        let text =
            "a device is a map with MQTT_DEVICE_ID, MQTT_SERVER_URLS, MQTT_TOPICS …".to_owned();
        return Err(vec![fault(node.at, "", text)]);
    };
    let foreign = entries
        .iter()
        .filter(|entry| !entry.key.starts_with(PREFIX));
    let foreign: Vec<_> = foreign
        .map(|entry| {
            fault(
                entry.at,
                &entry.key,
                format!("only {PREFIX}… is known here"),
            )
        })
        .collect();
    if !foreign.is_empty() {
        return Err(foreign);
    }
    let properties: BTreeMap<_, _> = entries
        .iter()
        .map(|entry| (entry.key.clone(), variable(&entry.value)))
        .collect();
    DeviceSpec::from_properties(&properties).map_err(|faults| {
        let placed = faults.into_iter();
        placed
            .map(|wrong| {
                let at = place(entries, &wrong.key).unwrap_or(node.at);
                fault(at, &wrong.key, wrong.message)
            })
            .collect()
    })
}

/// Where the variable stands of which a key such as `MQTT_PRESENCE.offlineAfter` speaks.
fn place(entries: &[Entry], key: &str) -> Option<Position> {
    let end = key.find(['.', '[']).unwrap_or(key.len());
    let name = key.get(..end)?;
    let entry = entries.iter().find(|entry| entry.key == name)?;
    Some(entry.at)
}

/// A scalar is the variable itself; lists and maps may stand as they are in place of their JSON.
fn variable(node: &Node) -> String {
    match &node.kind {
        Kind::Scalar { text, .. } => text.clone(),
        // It is among the faults already.
        Kind::Refused => String::new(),
        Kind::Sequence(_) | Kind::Mapping(_) => json(node).to_string(),
    }
}

fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Sequence(nodes) => nodes.iter().map(json).collect(),
        Kind::Mapping(entries) => {
            let entries = entries.iter();
            let pairs = entries.map(|entry| (entry.key.clone(), json(&entry.value)));
            Value::Object(pairs.collect())
        }
        Kind::Refused => Value::Null,
        Kind::Scalar { .. } if node.is_null() => Value::Null,
        Kind::Scalar { text, .. } => {
            let number = node
                .number()
                .and_then(|text| serde_json::from_str(text).ok());
            let plain = number.or_else(|| node.boolean().map(Value::Bool));
            plain.unwrap_or_else(|| Value::String(text.clone()))
        }
    }
}

fn fault(at: Position, key: &str, message: String) -> Fault {
    Fault {
        line: at.line,
        column: at.column,
        key: key.to_owned(),
        message,
    }
}
