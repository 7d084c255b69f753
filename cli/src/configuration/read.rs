//! Reads one file into Configurations. In: a path or standard input. Out: Configurations and faults.
//! Documents of other kinds are passed over, whatever they hold: they are not ours to judge.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use akri_mqtt_core::details::Details;
use akri_mqtt_core::yaml::manifest::Embedded;
use akri_mqtt_core::yaml::{self, Bounds, Kind, Node, Position};
use akri_mqtt_runtime::exit::UsageError;

use super::structure::{Found, describe};
use super::{Configuration, Fault, HANDLER, Loaded, schemas};
use crate::properties::{self, Property};

/// A file's text.
#[derive(Debug)]
pub struct Source {
    /// Its name in messages.
    pub name: Arc<str>,
    /// What it holds.
    pub text: String,
}

/// Reads a file; `-` is standard input.
///
/// # Errors
/// It cannot be read, is not UTF-8, or is larger than 1 MiB: exit code 2.
pub fn read(path: &Path) -> Result<Source, UsageError> {
    let stdin = path.as_os_str() == "-";
    let name: Arc<str> = if stdin {
        "<stdin>".into()
    } else {
        path.display().to_string().into()
    };
    let most = u64::try_from(Bounds::MANIFESTS.bytes).unwrap_or(u64::MAX);
    let mut text = String::new();
    // One byte more than is allowed, so that the parser reports what is too long, with its place.
    let result = if stdin {
        std::io::stdin().take(most + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most + 1).read_to_string(&mut text))
    };
    match result {
        Ok(_) => Ok(Source { name, text }),
        Err(error) => Err(UsageError::new(format!("cannot read {name}: {error}"))),
    }
}

/// The Configurations of a file and all that is wrong with them.
pub fn load(source: &Source) -> Loaded {
    let parsed = yaml::parse(&source.text, Bounds::MANIFESTS);
    let (documents, others) = sort_out(parsed.documents);
    let mut loaded = Loaded {
        others: others.len(),
        ..Loaded::default()
    };
    let fault = |at: Position, message: String| Fault {
        file: Arc::clone(&source.name),
        line: at.line,
        column: at.column,
        message,
    };
    for problem in parsed.problems {
        if !belongs_to(problem.at, &others, &documents) {
            loaded.faults.push(fault(problem.at, problem.message));
        }
    }
    for document in &documents {
        let mut found = Vec::new();
        let configuration = configuration(source, document, &mut found);
        loaded.faults.extend(
            found
                .into_iter()
                .map(|found| fault(found.at, found.message)),
        );
        loaded.configurations.extend(configuration);
    }
    loaded.faults.sort();
    loaded.faults.dedup();
    loaded
}

/// Ours, also out of a `List`, and the places of the others.
fn sort_out(documents: Vec<Node>) -> (Vec<Node>, Vec<Position>) {
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for document in documents {
        let items = document.get("items").and_then(Node::elements);
        let is_list = document
            .get("kind")
            .and_then(Node::text)
            .is_some_and(|kind| kind.ends_with("List"));
        let parts = match items {
            Some(items) if is_list => items.to_vec(),
            _ => vec![document],
        };
        for part in parts {
            if is_ours(&part) {
                ours.push(part);
            } else {
                others.push(part.at);
            }
        }
    }
    (ours, others)
}

/// Of Akri's API group, but no Instance; or a Configuration that names no API at all.
fn is_ours(document: &Node) -> bool {
    let text = |key| document.get(key).and_then(Node::text);
    match text("apiVersion") {
        Some(version) => {
            version.split('/').next() == Some("akri.sh") && text("kind") != Some("Instance")
        }
        None => text("kind") == Some("Configuration"),
    }
}

/// Whether the document before a place is one of the others.
fn belongs_to(at: Position, others: &[Position], ours: &[Node]) -> bool {
    let other = others.iter().filter(|start| **start <= at).max();
    let own = ours
        .iter()
        .map(|node| node.at)
        .filter(|start| *start <= at)
        .max();
    other.is_some() && other.copied() > own
}

fn configuration(
    source: &Source,
    document: &Node,
    found: &mut Vec<Found>,
) -> Option<Configuration> {
    schemas::check(document, found);
    let name = check_metadata(document, found);
    let spec = document.get("spec");
    let handler = spec.and_then(|spec| spec.get("discoveryHandler"));
    let handler_name = handler.and_then(|h| h.get("name")).and_then(Node::text);
    let discovery_properties = handler
        .and_then(|handler| handler.get("discoveryProperties"))
        .map(|list| discovery_properties(source, list, found))
        .unwrap_or_default();
    let details_node = handler.and_then(|handler| handler.get("discoveryDetails"));
    let details = match (handler, handler_name) {
        (Some(handler), Some(HANDLER)) => details(source, handler, details_node, found),
        _ => None,
    };
    if !found.is_empty() {
        return None;
    }
    let capacity = spec
        .and_then(|spec| spec.get("capacity"))
        .and_then(Node::number);
    Some(Configuration {
        file: Arc::clone(&source.name),
        at: document.at,
        name: name?,
        namespace: document
            .get("metadata")
            .and_then(|metadata| metadata.get("namespace"))
            .and_then(Node::text)
            .map(str::to_owned),
        handler: handler_name?.to_owned(),
        capacity: capacity.and_then(|n| n.parse().ok()).unwrap_or(1),
        details_text: details_node
            .and_then(Node::text)
            .unwrap_or_default()
            .to_owned(),
        details: details.map(Arc::new),
        discovery_properties,
        broker_properties: spec.map(broker_properties).unwrap_or_default(),
    })
}

fn details(
    source: &Source,
    handler: &Node,
    node: Option<&Node>,
    found: &mut Vec<Found>,
) -> Option<Details> {
    let Some(node) = node else {
        let message = "spec.discoveryHandler.discoveryDetails: missing; the handler mqtt needs serverUrls and topics in it, at the least";
        found.push(Found {
            at: handler.at,
            message: message.to_owned(),
        });
        return None;
    };
    // Anything but a text was reported by the check of the structure.
    let embedded = Embedded::new(&source.text, node)?;
    match Details::parse(&embedded.text) {
        Ok(details) => Some(details),
        Err(faults) => {
            for fault in &faults {
                let message = match fault.key.as_str() {
                    "" => format!("discoveryDetails: {}", fault.message),
                    key => format!("{key}: {}", fault.message),
                };
                let at = embedded.place(fault.line, fault.column);
                found.push(Found { at, message });
            }
            None
        }
    }
}

fn broker_properties(spec: &Node) -> BTreeMap<String, String> {
    let Some(Node {
        kind: Kind::Mapping(entries),
        ..
    }) = spec.get("brokerProperties")
    else {
        return BTreeMap::new();
    };
    let text = |node: &Node| node.text().unwrap_or_default().to_owned();
    entries
        .iter()
        .map(|entry| (entry.key.clone(), text(&entry.value)))
        .collect()
}

/// The entries of `discoveryProperties`; faults of single fields were found by the check of the structure.
fn discovery_properties(source: &Source, list: &Node, found: &mut Vec<Found>) -> Vec<Property> {
    let mut properties = Vec::new();
    for (index, entry) in list.elements().unwrap_or_default().iter().enumerate() {
        let path = format!("spec.discoveryHandler.discoveryProperties[{index}]");
        let Some(name) = entry.get("name").and_then(Node::text) else {
            continue;
        };
        if !is_identifier(name) {
            let message = format!(
                "{path}.name: found {name:?}, allowed are letters, digits and _, and no digit first"
            );
            found.push(Found {
                at: entry.at,
                message,
            });
        }
        match property_source(entry) {
            Ok(from) => properties.push(Property {
                name: name.to_owned(),
                source: from,
                place: format!("{}:{}:{}", source.name, entry.at.line, entry.at.column),
            }),
            Err(message) => found.push(Found {
                at: entry.at,
                message: format!("{path}: {message}"),
            }),
        }
    }
    properties
}

fn property_source(entry: &Node) -> Result<properties::Source, String> {
    let one = "exactly one of value and valueFrom is needed";
    let text = |node: &Node, key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
    let from = match (entry.get("value"), entry.get("valueFrom")) {
        (Some(value), None) => {
            return Ok(properties::Source::Literal(
                value.text().unwrap_or_default().to_owned(),
            ));
        }
        (None, Some(from)) => from,
        _ => return Err(one.to_owned()),
    };
    let (kind, reference) = match (from.get("secretKeyRef"), from.get("configMapKeyRef")) {
        (Some(secret), None) => ("secretKeyRef", secret),
        (None, Some(map)) => ("configMapKeyRef", map),
        _ => {
            return Err(
                "valueFrom: exactly one of secretKeyRef and configMapKeyRef is needed".to_owned(),
            );
        }
    };
    Ok(properties::Source::Reference {
        kind,
        name: text(reference, "name").unwrap_or_default(),
        key: text(reference, "key").ok_or_else(|| format!("valueFrom.{kind}.key: missing"))?,
        optional: reference.get("optional").and_then(Node::boolean) == Some(true),
    })
}

/// `^[_A-Za-z][_A-Za-z0-9]*$`, as Akri's definition says.
fn is_identifier(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `metadata.name`, if it is one.
fn check_metadata(document: &Node, found: &mut Vec<Found>) -> Option<String> {
    let at = document
        .get("metadata")
        .map_or(document.at, |metadata| metadata.at);
    let Some(name) = document
        .get("metadata")
        .and_then(|metadata| metadata.get("name"))
    else {
        let message = "metadata.name: missing; Instances are called after it".to_owned();
        found.push(Found { at, message });
        return None;
    };
    let text = name.text().unwrap_or_default();
    let good = (1..=253).contains(&text.len())
        && text
            .split('.')
            .all(|part| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-'))
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
    if !good {
        let message = format!(
            "metadata.name: found {}, allowed are a-z, 0-9, - and ., with a letter or digit at both ends",
            describe(name)
        );
        found.push(Found {
            at: name.at,
            message,
        });
    }
    good.then(|| text.to_owned())
}
