//! Reads back what a pod is told about its devices. In: environment variables, plain for one
//! device, with `_<HASH>` for several. Out: devices with servers, topics and rules, or every
//! variable that is missing or wrong, by name. Writing them is left to `details`.

use std::collections::{BTreeMap, BTreeSet};

use crate::details::conventions::convention;
use crate::details::read::{Field, Reader};
use crate::details::sections;
use crate::details::{
    Convention, Failover, Fault, Faults, MqttRules, PresenceRules, Server, ServerUrl, SessionKey,
    is_own,
};
use crate::identity::DeviceId;
use crate::topic::{TopicError, TopicFilter, TopicPattern};
use crate::yaml::{Node, Position};

/// The variable whose suffixes tell how many devices there are.
const DEVICE_ID: &str = "MQTT_DEVICE_ID";
/// How many members a server may have.
const MAX_URLS: usize = 16;
/// How many topics or identity patterns a device may have.
const MAX_TOPICS: usize = 2000;

/// A device that a monitoring broker watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Its id, `MQTT_DEVICE_ID`.
    pub id: DeviceId,
    /// Where it is, `MQTT_SERVER_URLS` and `MQTT_SERVER_FAILOVER`; the name is that of the id.
    pub server: Server,
    /// Its data topics, `MQTT_TOPICS`; none: presence only.
    pub topics: Vec<TopicFilter>,
    /// Its rules, `MQTT_PRESENCE`.
    pub presence: PresenceRules,
    /// Session options, `MQTT_SESSION`.
    pub mqtt: MqttRules,
    /// What found it, `MQTT_CONVENTION`.
    pub convention: Option<Convention>,
    /// What tells its topics from those of others, `MQTT_IDENTITY`; none: all are its own.
    pub identity: Vec<TopicPattern>,
    /// With whom its data is shared, `MQTT_SHARED_GROUP` (MQTT 5.0, 4.8.2); none: with nobody.
    pub shared_group: Option<ShareName>,
}

/// The name of a group of sessions of which one gets each message (MQTT 5.0, 4.8.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShareName(Box<str>);

impl ShareName {
    /// The longest name, in bytes.
    pub const MAX: usize = 128;

    /// Reads a name.
    ///
    /// # Errors
    /// Why it is none, with what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |c: char| matches!(c, '/' | '+' | '#') || c.is_control();
        if text.is_empty() || text.len() > Self::MAX || text.contains(wrong) {
            let shown: String = text.chars().take(40).collect();
            return Err(format!(
                "found {shown:?}; allowed are 1 to {} bytes without /, + and #",
                Self::MAX
            ));
        }
        Ok(Self(text.into()))
    }

    /// What a member of the group subscribes to get its share of a filter's messages.
    #[must_use]
    pub fn share(&self, filter: &TopicFilter) -> String {
        format!("$share/{}/{}", self.0, filter.as_str())
    }
}

impl DeviceSpec {
    /// The devices of an environment, sorted by id. Variables that are empty count as unset. For a
    /// single device a plain variable wins over the suffixed one, because `brokerProperties` or a
    /// pod template may override it; with several, plain ones are those of any device.
    ///
    /// # Errors
    /// Every variable that is missing or wrong.
    pub fn from_env(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Vec<Self>, Faults> {
        let all: BTreeMap<String, String> = variables
            .into_iter()
            .filter(|(name, value)| name.starts_with("MQTT_") && !value.is_empty())
            .collect();
        let suffixes: BTreeSet<&str> = all.keys().filter_map(|name| suffix(name)).collect();
        let ids: BTreeSet<&str> = suffixes
            .iter()
            .filter_map(|s| all.get(&format!("{DEVICE_ID}_{s}")))
            .map(String::as_str)
            .collect();
        let plain_is_one_of_them = all
            .get(DEVICE_ID)
            .is_none_or(|id| ids.contains(id.as_str()));
        let alone = suffixes.len() == 1 && plain_is_one_of_them;

        let mut faults = Vec::new();
        let mut devices = BTreeMap::new();
        let mut add = |read: Result<Self, Vec<Fault>>| match read {
            Ok(device) => {
                devices.insert(device.id.clone(), device);
            }
            Err(wrong) => faults.extend(wrong),
        };
        for suffix in &suffixes {
            add(Variables {
                all: &all,
                suffix: Some(suffix),
                plain: alone,
            }
            .device());
        }
        if suffixes.is_empty() || !plain_is_one_of_them {
            add(Variables {
                all: &all,
                suffix: None,
                plain: true,
            }
            .device());
        }
        Faults::check(faults)?;
        Ok(devices.into_values().collect())
    }

    /// The device of one set of properties, as `Details::properties` makes them.
    ///
    /// # Errors
    /// Every property that is missing or wrong.
    pub fn from_properties(properties: &BTreeMap<String, String>) -> Result<Self, Faults> {
        let device = Variables {
            all: properties,
            suffix: None,
            plain: true,
        }
        .device();
        device.or_else(|faults| Faults::check(faults).and_then(|()| Err(missing_device())))
    }

    /// Whether a message on this topic, which one of its filters took, is its own.
    #[must_use]
    pub fn owns(&self, topic: &str) -> bool {
        if is_own(topic) {
            return false;
        }
        let first = self
            .identity
            .iter()
            .find(|pattern| pattern.filter().matches(topic));
        match first {
            Some(pattern) => pattern.device_name(topic).as_deref() == Some(self.id.plain_name()),
            None => self.identity.is_empty() || self.is_of_convention(topic),
        }
    }

    /// Whether its convention, which needs no identity, names this topic as its data.
    fn is_of_convention(&self, topic: &str) -> bool {
        let name = Some(self.id.plain_name());
        let Some(convention) = &self.convention else {
            return false;
        };
        let mut data = convention.filters(name).data.into_iter();
        // What only payloads name is subscribed for this device alone.
        matches!(convention, Convention::HomeAssistant { .. }) || data.any(|f| f.matches(topic))
    }

    /// What makes its MQTT session the same as that of another device.
    #[must_use]
    pub fn session_key(&self) -> SessionKey {
        SessionKey::new(&self.server, &self.mqtt.client_id_prefix)
    }
}

fn missing_device() -> Faults {
    Faults::one(fault(DEVICE_ID, "is not set"))
}

fn fault(name: &str, message: &str) -> Fault {
    Fault {
        line: 0,
        column: 0,
        key: name.to_owned(),
        message: message.to_owned(),
    }
}

/// The suffix of `MQTT_DEVICE_ID_<HASH>`: six hex digits, or twelve where two Instances collide.
fn suffix(name: &str) -> Option<&str> {
    let suffix = name.strip_prefix(DEVICE_ID)?.strip_prefix('_')?;
    let good = matches!(suffix.len(), 6 | 12) && suffix.chars().all(|c| c.is_ascii_hexdigit());
    good.then_some(suffix)
}

/// The variables of one device.
struct Variables<'a> {
    all: &'a BTreeMap<String, String>,
    suffix: Option<&'a str>,
    /// Whether plain names count, and then first.
    plain: bool,
}

impl<'a> Variables<'a> {
    /// A variable's full name and value.
    fn get(&self, name: &str) -> Option<(String, &'a str)> {
        let suffixed = self.suffix.map(|suffix| format!("{name}_{suffix}"));
        let plain = self.plain.then(|| name.to_owned());
        let mut names = plain.into_iter().chain(suffixed);
        names.find_map(|name| {
            self.all
                .get(&name)
                .filter(|v| !v.is_empty())
                .map(|value| (name, value.as_str()))
        })
    }

    /// How a variable that is missing should be called.
    fn name(&self, name: &str) -> String {
        self.suffix
            .map_or(name.to_owned(), |suffix| format!("{name}_{suffix}"))
    }

    fn device(&self) -> Result<DeviceSpec, Vec<Fault>> {
        let mut reader = Reader {
            literal: true,
            ..Reader::default()
        };
        let id = self.id(&mut reader);
        let urls = self.urls(&mut reader);
        let failover = self.failover(&mut reader);
        let convention = self
            .json(&mut reader, "MQTT_CONVENTION", convention)
            .flatten();
        let presence = self
            .json(&mut reader, "MQTT_PRESENCE", sections::presence)
            .unwrap_or_default();
        let presence = presence.settled(convention.is_some());
        let mqtt = self
            .json(&mut reader, "MQTT_SESSION", sections::mqtt)
            .unwrap_or_default();
        let topics = self.json(&mut reader, "MQTT_TOPICS", |reader, field| {
            list(reader, field, TopicFilter::parse)
        });
        let identity = self.json(&mut reader, "MQTT_IDENTITY", |reader, field| {
            list(reader, field, TopicPattern::parse)
        });
        let wrong = reader
            .faults
            .iter()
            .any(|fault| fault.key.contains("MQTT_TOPICS"));
        let nothing = presence.availability.is_empty() && convention.is_none();
        if topics.is_none() && nothing && !wrong {
            let what = "is not set; it holds the device's topics as a JSON array, such as [\"robots/r1/joints\"]";
            reader.faults.push(fault(&self.name("MQTT_TOPICS"), what));
        }
        let shared_group = self.get("MQTT_SHARED_GROUP").and_then(|(name, value)| {
            let wrong = |why: String| reader.faults.push(fault(&name, &why));
            ShareName::parse(value).map_err(wrong).ok()
        });
        match id {
            Some(id) if reader.faults.is_empty() => Ok(DeviceSpec {
                server: Server {
                    name: id.server().clone(),
                    urls,
                    failover,
                },
                id,
                topics: topics.unwrap_or_default(),
                presence,
                mqtt,
                convention,
                identity: identity.unwrap_or_default(),
                shared_group,
            }),
            _ => Err(reader.faults),
        }
    }

    fn id(&self, reader: &mut Reader) -> Option<DeviceId> {
        let Some((name, value)) = self.get(DEVICE_ID) else {
            let what = "is not set; it holds the device's id, such as plant-a/r1";
            reader.faults.push(fault(&self.name(DEVICE_ID), what));
            return None;
        };
        let id = DeviceId::parse(value);
        id.map_err(|error| reader.faults.push(fault(&name, &error.to_string())))
            .ok()
    }

    fn urls(&self, reader: &mut Reader) -> Vec<ServerUrl> {
        let key = "MQTT_SERVER_URLS";
        let Some((name, value)) = self.get(key) else {
            let what = "is not set; it holds the server's URLs, such as tcp://10.0.0.5:1883";
            reader.faults.push(fault(&self.name(key), what));
            return Vec::new();
        };
        let texts: Vec<&str> = value.split(',').map(str::trim).collect();
        if texts.len() > MAX_URLS {
            reader.faults.push(fault(
                &name,
                &format!("found {} URLs; allowed are {MAX_URLS}", texts.len()),
            ));
        }
        let mut urls = Vec::new();
        for text in texts.iter().take(MAX_URLS) {
            match ServerUrl::parse(text) {
                Ok(url) => urls.push(url),
                Err(error) => reader.faults.push(fault(&name, &error.to_string())),
            }
        }
        urls
    }

    fn failover(&self, reader: &mut Reader) -> Failover {
        let Some((name, value)) = self.get("MQTT_SERVER_FAILOVER") else {
            return Failover::default();
        };
        let all = [Failover::Ordered, Failover::RoundRobin];
        all.into_iter()
            .find(|f| f.as_str() == value)
            .unwrap_or_else(|| {
                reader.faults.push(fault(
                    &name,
                    "found something else; allowed is ordered or roundRobin",
                ));
                Failover::default()
            })
    }

    /// Reads a variable that holds JSON with the same reader as the Configuration's YAML.
    fn json<T>(
        &self,
        reader: &mut Reader,
        name: &str,
        read: impl FnOnce(&mut Reader, &Field<'_>) -> T,
    ) -> Option<T> {
        let (key, value) = self.get(name)?;
        match serde_json::from_str(value) {
            Ok(json) => {
                let node = Node::from_json(&json);
                let at = Position::default();
                Some(read(
                    reader,
                    &Field {
                        key,
                        at,
                        node: &node,
                    },
                ))
            }
            Err(error) => {
                reader
                    .faults
                    .push(fault(&key, &format!("this is not JSON: {error}")));
                None
            }
        }
    }
}

fn list<T>(
    reader: &mut Reader,
    field: &Field<'_>,
    parse: impl Fn(&str) -> Result<T, TopicError>,
) -> Vec<T> {
    let mut found = Vec::new();
    for element in reader.list(field, "topic filters", MAX_TOPICS) {
        found.extend(reader.parsed(&element, "a topic filter", &parse));
    }
    found
}

#[cfg(test)]
#[path = "properties_tests.rs"]
mod tests;
