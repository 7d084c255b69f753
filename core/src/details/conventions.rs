//! Reads `conventions`. In: nodes of a Configuration, or of a device's properties. Out: typed
//! conventions with their defaults.

use super::convention::{ClientPattern, Convention};
use super::read::{Field, Map, Reader, nearest, shown};
use crate::topic::{TopicFilter, TopicName};
use crate::yaml::{Kind, Position};

/// How many conventions a Configuration may name.
const MAX_CONVENTIONS: usize = 32;
/// How many filters or patterns an option may have.
const MAX_FILTERS: usize = 256;

/// Reads the list of conventions.
pub(super) fn conventions(reader: &mut Reader, field: &Field<'_>) -> Vec<Convention> {
    let mut found: Vec<Convention> = Vec::new();
    for element in reader.list(field, "conventions", MAX_CONVENTIONS) {
        let Some(convention) = convention(reader, &element) else {
            continue;
        };
        if found.contains(&convention) {
            let message = format!(
                "found `{}` with the same options a second time",
                convention.name()
            );
            reader.fault(element.at, &element.key, message);
        }
        let earlier = found.iter().find_map(Convention::host_id);
        if let (Some(earlier), Some(id)) = (earlier, convention.host_id())
            && earlier != id
        {
            let message = format!(
                "found the host ids `{earlier}` and `{id}`; allowed is one, because a connection has one Last Will"
            );
            reader.fault(element.at, &element.key, message);
        }
        found.push(convention);
    }
    found
}

/// Reads a name, or a map with a name and its options.
pub(crate) fn convention(reader: &mut Reader, field: &Field<'_>) -> Option<Convention> {
    let allowed = "the name of a convention, or a map of a name to its options, as in {zigbee2mqtt: {base: zigbee2mqtt}}";
    match &field.node.kind {
        Kind::Mapping(entries) => {
            let [entry] = entries.as_slice() else {
                reader.wrong(field, allowed);
                return None;
            };
            let options = Field {
                key: format!("{}.{}", field.key, shown(&entry.key)),
                at: entry.value.at,
                node: &entry.value,
            };
            named(reader, &entry.key, entry.at, &options)
        }
        Kind::Scalar { text, .. } if !field.node.is_null() => {
            let nothing = crate::yaml::Node::from_json(&serde_json::Value::Null);
            let options = Field {
                key: field.key.clone(),
                at: field.at,
                node: &nothing,
            };
            named(reader, text, field.at, &options)
        }
        _ => {
            reader.wrong(field, allowed);
            None
        }
    }
}

fn named(reader: &mut Reader, name: &str, at: Position, options: &Field<'_>) -> Option<Convention> {
    let known: &[&str] = match name {
        "homeAssistant" => &["prefix"],
        "zigbee2mqtt" => &["base"],
        "tasmota" => &[],
        "shelly" | "esphome" => &["prefixes"],
        "homie" => &["domain"],
        "sparkplugB" => &["groups", "hostId", "rebirth"],
        "emqxEvents" => &["clients"],
        _ => {
            let hint = nearest(name, &Convention::NAMES)
                .map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            let message = format!(
                "found the unknown convention `{}`{hint} (allowed are {})",
                shown(name),
                Convention::NAMES.join(", ")
            );
            reader.fault(at, &options.key, message);
            return None;
        }
    };
    let map = reader.map(options, known)?;
    let before = reader.faults.len();
    let convention = match name {
        "homeAssistant" => Convention::HomeAssistant {
            prefix: levels(reader, &map, "prefix", "homeassistant", true),
        },
        "zigbee2mqtt" => Convention::Zigbee2mqtt {
            base: levels(reader, &map, "base", "zigbee2mqtt", true),
        },
        "tasmota" => Convention::Tasmota {},
        "shelly" => Convention::Shelly {
            prefixes: filters(reader, &map, "prefixes", true),
        },
        "esphome" => Convention::Esphome {
            prefixes: filters(reader, &map, "prefixes", true),
        },
        "homie" => Convention::Homie {
            domain: levels(reader, &map, "domain", "homie", false),
        },
        "sparkplugB" => Convention::SparkplugB {
            groups: filters(reader, &map, "groups", false),
            host_id: map
                .get("hostId")
                .map(|f| level(reader, &f, "a host id without `/`, `+` and `#`", false)),
            rebirth: map
                .get("rebirth")
                .and_then(|f| reader.boolean(&f))
                .unwrap_or(false),
        },
        _ => Convention::EmqxEvents {
            clients: clients(reader, &map, options),
        },
    };
    (reader.faults.len() == before).then_some(convention)
}

/// One or more levels of a topic.
fn levels(reader: &mut Reader, map: &Map<'_>, name: &str, default: &str, several: bool) -> String {
    match map.get(name) {
        None => default.to_owned(),
        Some(field) => level(
            reader,
            &field,
            &format!("a topic such as {default}"),
            several,
        ),
    }
}

fn level(reader: &mut Reader, field: &Field<'_>, what: &str, several: bool) -> String {
    let check = |text: &str| {
        let name = TopicName::parse(text).map_err(|error| error.to_string())?;
        let bad = name.as_str().split('/').any(str::is_empty) || (!several && text.contains('/'));
        if bad {
            Err(format!("allowed is {what}"))
        } else {
            Ok(text.to_owned())
        }
    };
    reader.parsed(field, what, check).unwrap_or_default()
}

/// Filters for the first levels of topics; `+` if there are none.
fn filters(reader: &mut Reader, map: &Map<'_>, name: &str, several: bool) -> Vec<TopicFilter> {
    let Some(field) = map.get(name) else {
        return TopicFilter::parse("+").into_iter().collect();
    };
    let check = |text: &str| {
        let filter = TopicFilter::parse(text).map_err(|error| error.to_string())?;
        if text.contains('#') {
            Err(
                "`#` does not fit here, because more levels follow; allowed are names and `+`"
                    .to_owned(),
            )
        } else if text.contains('/') && !several {
            Err("allowed is one level, a name or `+`".to_owned())
        } else {
            Ok(filter)
        }
    };
    let mut filters = Vec::new();
    let elements = reader.list(&field, "filters", MAX_FILTERS);
    for element in &elements {
        filters.extend(reader.parsed(element, "a topic filter such as \"+\"", check));
    }
    at_least_one(reader, &field);
    filters
}

fn clients(reader: &mut Reader, map: &Map<'_>, options: &Field<'_>) -> Vec<ClientPattern> {
    let what = "client ids such as \"robot-7\" or \"robot-#\"";
    let Some(field) = map.get("clients") else {
        let message = format!(
            "found no `clients`; required is a list of {what}, because not every client is a device"
        );
        reader.fault(options.at, &options.key, message);
        return Vec::new();
    };
    let mut clients = Vec::new();
    for element in reader.list(&field, "client ids", MAX_FILTERS) {
        clients.extend(reader.parsed(&element, "a client id", ClientPattern::parse));
    }
    at_least_one(reader, &field);
    clients
}

fn at_least_one(reader: &mut Reader, field: &Field<'_>) {
    if field.node.elements().is_some_and(<[_]>::is_empty) {
        reader.fault(
            field.at,
            &field.key,
            "found an empty list; allowed is at least one".to_owned(),
        );
    }
}
