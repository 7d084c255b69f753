//! From YAML to `Details`. In: the text of `discoveryDetails`. Out: `Details`, or all faults.

use super::identifier::{Identifier, Rule};
use super::legacy::{self, Legacy};
use super::model::{Limits, MqttRules};
use super::read::{Field, Map, Reader};
use super::sections::{self, Presence};
use super::topics::{self, Placed};
use super::{Convention, Details, Fault, Faults, conventions, servers};
use crate::yaml::{Bounds, Node, Position};

/// The keys of the current form.
const KEYS: [&str; 8] = [
    "serverUrls",
    "servers",
    "topics",
    "identity",
    "conventions",
    "presence",
    "mqtt",
    "limits",
];

impl Details {
    /// Reads the text of `discoveryDetails`.
    ///
    /// # Errors
    /// All faults of the text, in its order. None repeats a secret.
    pub fn parse(yaml: &str) -> Result<Self, Faults> {
        let parsed = crate::yaml::parse(yaml, Bounds::DETAILS);
        let mut reader = Reader::default();
        for problem in parsed.problems {
            reader.fault(problem.at, "", problem.message);
        }
        let details = match parsed.documents.first() {
            Some(node) => document(&mut reader, node),
            None => {
                if reader.faults.is_empty() {
                    let at = Position { line: 1, column: 1 };
                    let message =
                        "found nothing; allowed is a map with at least `serverUrls` and `topics`";
                    reader.fault(at, "", message.to_owned());
                }
                None
            }
        };
        Faults::check(reader.faults)?;
        details.ok_or_else(|| {
            Faults::one(Fault {
                line: 1,
                column: 1,
                key: String::new(),
                message: "found no map".to_owned(),
            })
        })
    }
}

fn document(reader: &mut Reader, node: &Node) -> Option<Details> {
    let top = Field {
        key: String::new(),
        at: node.at,
        node,
    };
    if legacy::KEYS.iter().any(|key| node.get(key).is_some()) {
        return legacy::document(reader, &top, &KEYS);
    }
    let known = [KEYS.as_slice(), &legacy::KEYS].concat();
    let map = reader.map(&top, &known)?;
    let servers = servers::servers(reader, &map);
    let (topics, identity) = topics_and_identity(reader, &map);
    let conventions = map
        .get("conventions")
        .map_or_else(Vec::new, |f| conventions::conventions(reader, &f));
    let presence = map
        .get("presence")
        .map_or_else(Presence::default, |f| sections::presence(reader, &f));
    let mqtt = map
        .get("mqtt")
        .map_or_else(MqttRules::default, |f| sections::mqtt(reader, &f));
    let limits = map
        .get("limits")
        .map_or_else(Limits::default, |f| sections::limits(reader, &f));

    let announces = map.get("conventions").is_some()
        || map
            .get("presence")
            .is_some_and(|p| p.node.get("availability").is_some());
    let no_topics = map
        .get("topics")
        .is_none_or(|f| f.node.elements().is_some_and(<[_]>::is_empty));
    if no_topics && !announces {
        let at = map.place_of("topics").unwrap_or(top.at);
        let message = "found no topics; allowed is a list such as [robots/+/joints]. It may be left out only with \
                       `conventions` or `presence.availability`";
        reader.fault(at, "topics", message.to_owned());
    }
    topics::need_identity(reader, &topics, &identity);
    topics::need_identity(reader, &presence.topics(), &identity);
    topics::same_ids(reader, &presence, &topics, &identity);
    let parts = Parts {
        servers,
        topics,
        identity,
        conventions,
        presence,
        mqtt,
        limits,
        legacy: None,
    };
    Some(parts.into_details())
}

fn topics_and_identity(reader: &mut Reader, map: &Map<'_>) -> (Vec<Placed>, Vec<Placed>) {
    let topics = map
        .get("topics")
        .map_or_else(Vec::new, |f| topics::patterns(reader, &f, "topics"));
    let identity = map
        .get("identity")
        .map_or_else(Vec::new, |f| topics::identity(reader, &f));
    (topics, identity)
}

/// Everything that was read, before it is put together.
pub(super) struct Parts {
    pub servers: Vec<super::Server>,
    pub topics: Vec<Placed>,
    pub identity: Vec<Placed>,
    pub conventions: Vec<Convention>,
    pub presence: Presence,
    pub mqtt: MqttRules,
    pub limits: Limits,
    pub legacy: Option<Legacy>,
}

impl Parts {
    pub fn into_details(self) -> Details {
        let patterns =
            |placed: Vec<Placed>| placed.into_iter().map(|p| p.pattern).collect::<Vec<_>>();
        let (topics, identity) = (patterns(self.topics), patterns(self.identity));
        let presence = self.presence.settled(!self.conventions.is_empty());
        let by_identity = identity
            .iter()
            .cloned()
            .enumerate()
            .map(|(i, p)| (Rule::Identity(i), p));
        let by_availability = presence
            .availability
            .iter()
            .map(|a| a.topic.clone())
            .enumerate();
        let by_topic = topics
            .iter()
            .cloned()
            .enumerate()
            .map(|(i, p)| (Rule::Topic(i), p));
        let rules = by_identity
            .chain(by_availability.map(|(i, p)| (Rule::Availability(i), p)))
            .chain(by_topic)
            .collect();
        Details {
            identifier: Identifier::new(rules, &self.limits.id_salt),
            servers: self.servers,
            topics,
            identity,
            conventions: self.conventions,
            presence,
            mqtt: self.mqtt,
            limits: self.limits,
            legacy: self.legacy.is_some(),
            legacy_properties: self.legacy,
        }
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
