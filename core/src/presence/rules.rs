//! Turns messages into evidence. In: a message. Out: what it says about which devices.
//! What follows from evidence is left to the machine, which devices there are as well.
//!
//! Announcing rules stand before data rules, and the first rule that takes a topic decides. A
//! convention joins as another kind of [`Rule`], which may find any number of devices in a message.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Evidence, Ignored, Inbound, Wanted};
use crate::details::{
    self, Availability, Details, Identifier, PresenceRules, QoS, RetainedData, Unidentified, is_own,
};
use crate::properties::DeviceSpec;
use crate::topic::{FilterTree, TopicFilter, TopicPattern};

/// What a message says about one device.
#[derive(Debug)]
pub(super) struct Finding {
    /// The device's name on the server, with the salt.
    pub device: String,
    pub evidence: Evidence,
    /// The entry that found it.
    pub source: Source,
    /// Whether live data shows that a device is there that is announced as offline.
    pub overrides: bool,
    /// Whether the server would have replaced a retained `online` by the will.
    pub retained_will: bool,
}

/// The entry that decided, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Identity(u16),
    Availability(u16),
    Topic(u16),
    /// No entry: a restored device, or one of which only the server is known.
    Nothing,
}

/// What a rule makes of a message.
enum Verdict {
    NotMine,
    Taken,
    Ignored(Ignored),
}

/// The rules of one machine, in the order in which they are asked.
#[derive(Debug)]
pub(super) struct Rules {
    names: Names,
    rules: Vec<Rule>,
    availability: Vec<TopicPattern>,
    wanted: Vec<Wanted>,
}

/// Which device a topic names.
#[derive(Debug)]
enum Names {
    /// By the entries of a Configuration.
    Entries(Arc<Details>),
    /// All belong to one device.
    One(Arc<DeviceSpec>),
}

/// One way in which devices show themselves.
#[derive(Debug)]
enum Rule {
    Availability(Announcing),
    Data(Data),
}

impl Rules {
    pub fn of_details(details: Arc<Details>) -> Self {
        let topics = details.topics.iter().map(|t| t.filter().clone()).collect();
        let presence = details.presence.clone();
        let qos = details.mqtt.qos;
        Self::new(Names::Entries(details), topics, &presence, qos)
    }

    pub fn of_device(device: Arc<DeviceSpec>) -> Self {
        let topics = device.topics.clone();
        let presence = device.presence.clone();
        let qos = device.mqtt.qos;
        Self::new(Names::One(device), topics, &presence, qos)
    }

    fn new(names: Names, topics: Vec<TopicFilter>, presence: &PresenceRules, qos: QoS) -> Self {
        let patterns: Vec<TopicPattern> = presence
            .availability
            .iter()
            .map(|rule| rule.topic.clone())
            .collect();
        let announcing = patterns.iter().map(|pattern| Wanted {
            filter: pattern.filter().clone(),
            qos,
            snapshot: true,
        });
        let data = topics.iter().map(|filter| Wanted {
            filter: filter.clone(),
            qos: QoS::AtMostOnce,
            snapshot: presence.retained == RetainedData::Trust,
        });
        let wanted = least(announcing.chain(data));
        let mut rules = Vec::new();
        if !presence.availability.is_empty() {
            rules.push(Rule::Availability(Announcing::new(&presence.availability)));
        }
        rules.push(Rule::Data(Data::new(&names, &topics)));
        Self {
            names,
            rules,
            availability: patterns,
            wanted,
        }
    }

    /// What to subscribe on every server, sorted.
    pub fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// Adds what `message` says to `found`.
    ///
    /// # Errors
    /// Why it says nothing.
    pub fn read(&self, message: &Inbound<'_>, found: &mut Vec<Finding>) -> Result<(), Ignored> {
        if is_own(message.topic) {
            return Err(Ignored::Own);
        }
        for rule in &self.rules {
            let verdict = match rule {
                Rule::Availability(rule) => rule.read(&self.names, message, found),
                Rule::Data(rule) => rule.read(&self.names, message, found),
            };
            match verdict {
                Verdict::NotMine => {}
                Verdict::Taken => return Ok(()),
                Verdict::Ignored(reason) => return Err(reason),
            }
        }
        Err(Ignored::NoRule)
    }

    /// The topic or filter of an entry, as narrow as the device's name allows.
    pub fn describe(&self, source: Source, device: &str) -> Option<String> {
        let pattern = match (source, &self.names) {
            (Source::Availability(n), _) => self.availability.get(usize::from(n))?,
            (Source::Topic(n), Names::Entries(details)) => details.topics.get(usize::from(n))?,
            (Source::Identity(n), Names::Entries(details)) => {
                details.identity.get(usize::from(n))?
            }
            (Source::Topic(n), Names::One(spec)) => {
                return spec.topics.get(usize::from(n)).map(ToString::to_string);
            }
            (Source::Identity(_), Names::One(_)) | (Source::Nothing, _) => return None,
        };
        let narrowed = pattern.for_device(device);
        Some(narrowed.map_or_else(|| pattern.to_string(), |filter| filter.to_string()))
    }
}

impl Names {
    /// The name, and the entry that gave it.
    fn name(&self, topic: &str) -> Result<(String, Source), Ignored> {
        let details = match self {
            Self::Entries(details) => details,
            Self::One(spec) if spec.owns(topic) => {
                return Ok((spec.id.name().to_owned(), Source::Nothing));
            }
            Self::One(_) => return Err(Ignored::NoRule),
        };
        let identifier: &Identifier = details.identifier();
        let identified = identifier.identify(topic).map_err(|why| match why {
            Unidentified::NoRule => Ignored::NoRule,
            Unidentified::EmptyName => Ignored::EmptyName,
            Unidentified::Own => Ignored::Own,
        })?;
        let source = match identified.rule {
            details::Rule::Identity(n) => short(n).map(Source::Identity),
            details::Rule::Availability(n) => short(n).map(Source::Availability),
            details::Rule::Topic(n) => short(n).map(Source::Topic),
        };
        Ok((
            identified.name().to_owned(),
            source.unwrap_or(Source::Nothing),
        ))
    }
}

fn short(index: usize) -> Option<u16> {
    u16::try_from(index).ok()
}

/// The filters that take everything that all of them take: none is covered by one that brings at
/// least as much.
fn least(all: impl Iterator<Item = Wanted>) -> Vec<Wanted> {
    let mut merged: BTreeMap<TopicFilter, Wanted> = BTreeMap::new();
    for one in all {
        let entry = merged
            .entry(one.filter.clone())
            .or_insert_with(|| one.clone());
        entry.qos = entry.qos.max(one.qos);
        entry.snapshot |= one.snapshot;
    }
    let covered = |one: &Wanted| {
        merged.values().any(|other| {
            other.filter != one.filter
                && other.qos >= one.qos
                && other.snapshot >= one.snapshot
                && other.filter.covers(&one.filter)
                // `#` and its like can cover each other; then the first one stays.
                && !(one.filter.covers(&other.filter) && one.filter < other.filter)
        })
    };
    merged
        .values()
        .filter(|one| !covered(one))
        .cloned()
        .collect()
}

/// `presence.availability`: status topics and topics of Last Wills.
#[derive(Debug)]
struct Announcing {
    tree: FilterTree<usize>,
    rules: Vec<Words>,
}

/// The words of one announcing rule.
#[derive(Debug)]
struct Words {
    online: Vec<String>,
    offline: Vec<String>,
    pointer: Option<String>,
    retained_will: bool,
}

impl Announcing {
    fn new(rules: &[Availability]) -> Self {
        let mut tree = FilterTree::new();
        for (index, rule) in rules.iter().enumerate() {
            tree.insert(rule.topic.filter(), index);
        }
        let rules = rules
            .iter()
            .map(|rule| Words {
                online: rule.online.clone(),
                offline: rule.offline.clone(),
                pointer: rule.json_pointer.clone(),
                retained_will: rule.retained_will,
            })
            .collect();
        Self { tree, rules }
    }

    fn read(&self, names: &Names, message: &Inbound<'_>, found: &mut Vec<Finding>) -> Verdict {
        let first = self.tree.matching(message.topic).min().copied();
        let Some((index, words)) = first.and_then(|i| Some((i, self.rules.get(i)?))) else {
            return Verdict::NotMine;
        };
        let device = match names.name(message.topic) {
            Ok((device, _)) => device,
            Err(reason) => return Verdict::Ignored(reason),
        };
        found.push(Finding {
            device,
            evidence: words.read(message.payload),
            source: short(index).map_or(Source::Nothing, Source::Availability),
            overrides: true,
            retained_will: words.retained_will,
        });
        Verdict::Taken
    }
}

impl Words {
    fn read(&self, payload: &[u8]) -> Evidence {
        if payload.is_empty() {
            return Evidence::Removed;
        }
        let is_one_of =
            |words: &[String], text: &str| words.iter().any(|word| word.eq_ignore_ascii_case(text));
        let judge = |text: &str| {
            if is_one_of(&self.online, text) {
                Evidence::Online
            } else if is_one_of(&self.offline, text) {
                Evidence::Offline
            } else {
                Evidence::Unknown
            }
        };
        let Some(pointer) = &self.pointer else {
            return std::str::from_utf8(payload)
                .map_or(Evidence::Unknown, |text| judge(text.trim()));
        };
        let Ok(json) = serde_json::from_slice::<Value>(payload) else {
            return Evidence::Unknown;
        };
        match json.pointer(pointer) {
            Some(Value::String(text)) => judge(text.trim()),
            Some(value @ (Value::Bool(_) | Value::Number(_))) => judge(&value.to_string()),
            _ => Evidence::Unknown,
        }
    }
}

/// `topics`: what devices publish.
#[derive(Debug)]
struct Data {
    /// Of a single device, where no Configuration decides.
    filters: Option<FilterTree<usize>>,
}

/// The last level of topics on which others send to a device.
const COMMAND_LEVELS: [&str; 3] = ["set", "rpc", "command"];
/// The first level of topics on which others send to a device.
const COMMAND_ROOT: &str = "cmnd";

impl Data {
    fn new(names: &Names, topics: &[TopicFilter]) -> Self {
        let filters = match names {
            Names::Entries(_) => None,
            Names::One(_) => {
                let mut tree = FilterTree::new();
                for (index, filter) in topics.iter().enumerate() {
                    tree.insert(filter, index);
                }
                Some(tree)
            }
        };
        Self { filters }
    }

    fn read(&self, names: &Names, message: &Inbound<'_>, found: &mut Vec<Finding>) -> Verdict {
        let first = match &self.filters {
            Some(tree) => match tree.matching(message.topic).min() {
                Some(index) => short(*index).map(Source::Topic),
                None => return Verdict::NotMine,
            },
            None => None,
        };
        let (device, source) = match names.name(message.topic) {
            Ok(found) => found,
            Err(reason) => return Verdict::Ignored(reason),
        };
        let evidence = if is_command(message.topic) {
            Evidence::Command
        } else {
            Evidence::Data
        };
        found.push(Finding {
            device,
            evidence,
            source: first.unwrap_or(source),
            overrides: true,
            retained_will: true,
        });
        Verdict::Taken
    }
}

/// Whether others send on this topic to a device.
fn is_command(topic: &str) -> bool {
    let (root, rest) = topic.split_once('/').unwrap_or((topic, ""));
    let last = rest.rsplit('/').next().unwrap_or_default();
    root == COMMAND_ROOT || COMMAND_LEVELS.contains(&last)
}
