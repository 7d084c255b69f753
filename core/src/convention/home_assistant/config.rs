//! Discovery messages of Home Assistant. In: a payload. Out: the device and its entities, with the
//! topics of their availability and their states; abbreviations and `~` are written out.

use serde_json::{Map, Value};

use super::entity::{Availability, Entity, Mode, text};
use crate::details::is_own;
use crate::topic::TopicName;

/// Entities of one message.
pub(super) const MAX_ENTITIES: usize = 1_000;
/// Topics of one entity, of each kind.
const MAX_TOPICS: usize = 16;
/// The longest topic that is subscribed, and the longest name and word, in bytes.
const MAX_TEXT: usize = 512;

/// What a message says.
#[derive(Debug)]
pub(super) struct Config {
    /// The device's name.
    pub device: String,
    /// By component; the only one of a message that is no device's has an empty name.
    pub entities: Vec<(String, Entity)>,
    /// How much was left out, because it is too much or cannot be read.
    pub left_out: usize,
    /// How many templates of availability are of another form than what is understood.
    pub templates: usize,
}

/// Whether a component is one of entities: triggers and tags have neither states nor availability, so
/// that they make no device.
pub(super) fn is_entity(component: &str) -> bool {
    !matches!(component, "device_automation" | "tag")
}

/// Reads a message; `Err` says that it is none, `Ok(None)` that it names no device.
pub(super) fn parse(payload: &[u8], is_device: bool, prefix: &str) -> Result<Option<Config>, ()> {
    let Ok(Value::Object(top)) = serde_json::from_slice(payload) else {
        return Err(());
    };
    let Some(device) = device(&top) else {
        return Ok(None);
    };
    let mut config = Config {
        device,
        entities: Vec::new(),
        left_out: 0,
        templates: 0,
    };
    if is_device {
        let Some(Value::Object(components)) = get(&top, "components", "cmps") else {
            return Err(());
        };
        for (id, component) in components {
            match component {
                // Reduced to its platform: it is removed.
                Value::Object(own) if own.len() == 1 && get(own, "platform", "p").is_some() => {}
                Value::Object(own) if !platform(own).is_none_or(is_entity) => {}
                Value::Object(own) if config.entities.len() < MAX_ENTITIES => {
                    let entity = Reader {
                        own,
                        top: Some(&top),
                        prefix,
                        left_out: 0,
                        templates: 0,
                    };
                    config.add(id, entity);
                }
                _ => config.left_out += 1,
            }
        }
    } else {
        config.add(
            "",
            Reader {
                own: &top,
                top: None,
                prefix,
                left_out: 0,
                templates: 0,
            },
        );
    }
    Ok(Some(config))
}

impl Config {
    fn add(&mut self, id: &str, mut reader: Reader<'_>) {
        let entity = reader.entity();
        self.left_out += reader.left_out;
        self.templates += reader.templates;
        self.entities.push((id.to_owned(), entity));
    }
}

/// The name of the device: its first identifier, else its first connection.
fn device(top: &Map<String, Value>) -> Option<String> {
    let Some(Value::Object(device)) = get(top, "device", "dev") else {
        return None;
    };
    let first = |value: &Value| match value {
        Value::Array(list) => list.first().cloned(),
        other => Some(other.clone()),
    };
    let by_identifier = get(device, "identifiers", "ids").and_then(first);
    let name = match by_identifier {
        Some(identifier) => text(&identifier)?,
        None => match get(device, "connections", "cns")?
            .get(0)?
            .as_array()?
            .as_slice()
        {
            [kind, id] => format!("{}:{}", text(kind)?, text(id)?),
            _ => return None,
        },
    };
    let fits = (1..=MAX_TEXT).contains(&name.len()) && !name.contains(['\0', '#', '+']);
    fits.then_some(name)
}

/// Takes an entity out of its object, and of the device's where that speaks for all.
struct Reader<'a> {
    own: &'a Map<String, Value>,
    top: Option<&'a Map<String, Value>>,
    prefix: &'a str,
    left_out: usize,
    templates: usize,
}

impl Reader<'_> {
    fn entity(&mut self) -> Entity {
        let mut availability = Vec::new();
        let list = match self.get("availability", "avty") {
            Some(Value::Array(list)) => list.clone(),
            Some(one @ Value::Object(_)) => vec![one.clone()],
            _ => Vec::new(),
        };
        self.left_out += list.len().saturating_sub(MAX_TOPICS);
        for one in list.iter().take(MAX_TOPICS).filter_map(Value::as_object) {
            let template = get(one, "value_template", "val_tpl").cloned();
            let words = (
                get(one, "payload_available", "pl_avail").cloned(),
                get(one, "payload_not_available", "pl_not_avail").cloned(),
            );
            let topic = get(one, "topic", "t").cloned();
            availability.extend(self.availability(topic, words, template));
        }
        if availability.is_empty() {
            let shared = |long, short| self.get(long, short).cloned();
            let topic = shared("availability_topic", "avty_t");
            let template = shared("availability_template", "avty_tpl");
            let words = (
                shared("payload_available", "pl_avail"),
                shared("payload_not_available", "pl_not_avail"),
            );
            availability.extend(self.availability(topic, words, template));
        }
        let mode = match self
            .get("availability_mode", "avty_mode")
            .and_then(Value::as_str)
        {
            Some("all") => Mode::All,
            Some("any") => Mode::Any,
            _ => Mode::Latest,
        };
        Entity {
            availability,
            mode,
            latest: None,
            states: self.states(),
        }
    }

    fn availability(
        &mut self,
        topic: Option<Value>,
        (online, offline): (Option<Value>, Option<Value>),
        template: Option<Value>,
    ) -> Option<Availability> {
        let topic = self.topic(&topic?)?;
        let word = |value: Option<Value>, default: &str| {
            let word = value.as_ref().and_then(text);
            word.filter(|word| word.len() <= MAX_TEXT)
                .unwrap_or_else(|| default.to_owned())
        };
        let path = match template.as_ref().and_then(Value::as_str) {
            None => Vec::new(),
            Some(template) => path(template).unwrap_or_else(|| {
                self.templates += 1;
                Vec::new()
            }),
        };
        Some(Availability {
            topic,
            online: word(online, "online"),
            offline: word(offline, "offline"),
            path,
            state: None,
        })
    }

    /// The topics of its states, but for those on which it takes commands.
    fn states(&mut self) -> Vec<String> {
        let top = self.top.into_iter().flat_map(|top| {
            let shared = ["state_topic", "stat_t", "command_topic", "cmd_t"];
            top.iter()
                .filter(move |(key, _)| shared.contains(&key.as_str()))
        });
        let (mut states, mut commands) = (Vec::new(), Vec::new());
        for (key, value) in self.own.iter().chain(top) {
            let is = |long: &str, short: &str| {
                key.strip_suffix(long)
                    .or_else(|| key.strip_suffix(short))
                    .is_some_and(|before| before.is_empty() || before.ends_with('_'))
            };
            if is("state_topic", "stat_t") {
                states.push(value.clone());
            } else if is("command_topic", "cmd_t") {
                commands.push(value.clone());
            }
        }
        self.left_out += states.len().saturating_sub(MAX_TOPICS);
        states.truncate(MAX_TOPICS);
        let mut states: Vec<String> = states.iter().filter_map(|s| self.topic(s)).collect();
        let commands: Vec<String> = commands.iter().filter_map(|c| self.topic(c)).collect();
        states.retain(|state| !commands.contains(state));
        states.sort();
        states.dedup();
        states
    }

    fn get(&self, long: &str, short: &str) -> Option<&Value> {
        get(self.own, long, short).or_else(|| get(self.top?, long, short))
    }

    /// A topic with the base in place of `~`, if it is one that may be subscribed.
    fn topic(&mut self, value: &Value) -> Option<String> {
        let written = value.as_str()?;
        let base = self.own.get("~").or_else(|| self.top?.get("~"));
        let base = base.and_then(Value::as_str).unwrap_or("~");
        let topic = if let Some(rest) = written.strip_prefix('~') {
            format!("{base}{rest}")
        } else if let Some(rest) = written.strip_suffix('~') {
            format!("{rest}{base}")
        } else {
            written.to_owned()
        };
        let is_status = topic.strip_prefix(self.prefix) == Some("/status");
        let fits = topic.len() <= MAX_TEXT && TopicName::parse(&topic).is_ok();
        if !fits || topic.starts_with('$') || is_own(&topic) || is_status {
            self.left_out += 1;
            return None;
        }
        Some(topic)
    }
}

fn get<'v>(map: &'v Map<String, Value>, long: &str, short: &str) -> Option<&'v Value> {
    map.get(long).or_else(|| map.get(short))
}

fn platform(component: &Map<String, Value>) -> Option<&str> {
    get(component, "platform", "p").and_then(Value::as_str)
}

/// The keys of `{{ value_json.a.b }}` or `{{ value_json['a'] }}`; `None` for any other template.
fn path(template: &str) -> Option<Vec<String>> {
    if template.len() > MAX_TEXT {
        return None;
    }
    let inner = template
        .trim()
        .strip_prefix("{{")?
        .strip_suffix("}}")?
        .trim();
    let mut rest = inner.strip_prefix("value_json")?;
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let (key, after) = if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            after.split_at_checked(end)?
        } else {
            let after = rest.strip_prefix('[')?;
            let quote = after.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
            let (key, after) = after.get(1..)?.split_once(quote)?;
            (key, after.strip_prefix(']')?)
        };
        let good = key
            .chars()
            .all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        if key.is_empty() || !good {
            return None;
        }
        keys.push(key.to_owned());
        rest = after;
    }
    (!keys.is_empty()).then_some(keys)
}
