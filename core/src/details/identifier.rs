//! Which device a topic names ("Which device is it?", rules 1 to 5). In: patterns in their order
//! and a topic. Out: a device's name, or why there is none.
//!
//! The first pattern that takes the topic decides: identity patterns, then availability topics,
//! then topics. How it names the device follows from the pattern alone, see `topic::Naming`.

use std::collections::BTreeSet;
use std::fmt;

use crate::identity::{DeviceId, MAX_DEVICE_NAME, ServerName};
use crate::topic::{FilterTree, Naming, TopicFilter, TopicPattern};

/// Topics under this prefix are ours; nothing of ours is a device (invariant 9).
const OWN_TOPICS: &str = "akri-mqtt";

/// Decides for each topic which device it names.
#[derive(Clone, Default)]
pub struct Identifier {
    patterns: Vec<(Rule, TopicPattern)>,
    tree: FilterTree<usize>,
    salt: String,
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.patterns.iter().map(|(_, pattern)| pattern))
            .finish()
    }
}

/// The entry of the Configuration that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// `identity[n]`
    Identity(usize),
    /// `presence.availability[n]`
    Availability(usize),
    /// `topics[n]`
    Topic(usize),
}

/// A device's name that a topic gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// With the salt, if there is one; never empty.
    name: String,
    /// What decided.
    pub rule: Rule,
}

impl Identified {
    /// The name on its server, with the salt; never empty.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the device as seen through `server`.
    #[must_use]
    pub fn device(&self, server: &ServerName) -> DeviceId {
        DeviceId::from_checked(server.clone(), &self.name)
    }
}

/// Why a topic names no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unidentified {
    /// No entry takes it.
    #[error("no entry of the Configuration takes this topic")]
    NoRule,
    /// A level that would name the device is empty.
    #[error("the level of the topic that names the device is empty")]
    EmptyName,
    /// The name would be too long.
    #[error("the device's name would have more than {MAX_DEVICE_NAME} bytes")]
    LongName,
    /// It is below `akri-mqtt/`.
    #[error("topics under akri-mqtt/ are our own")]
    Own,
}

impl Identifier {
    /// Takes the patterns in the order in which they decide.
    #[must_use]
    pub fn new(patterns: Vec<(Rule, TopicPattern)>, salt: &str) -> Self {
        let mut tree = FilterTree::new();
        for (index, (_, pattern)) in patterns.iter().enumerate() {
            tree.insert(pattern.filter(), index);
        }
        let salt = if salt.is_empty() {
            String::new()
        } else {
            format!("#{salt}")
        };
        Self {
            patterns,
            tree,
            salt,
        }
    }

    /// Which device `topic` names, if a topic or availability rule takes it: what only an identity
    /// pattern takes was delivered for somebody else who shares the session.
    ///
    /// # Errors
    /// Why it names none.
    pub fn identify(&self, topic: &str) -> Result<Identified, Unidentified> {
        if is_own(topic) {
            return Err(Unidentified::Own);
        }
        let mut first = usize::MAX;
        let mut taken = false;
        for index in self.tree.matching(topic) {
            first = first.min(*index);
            taken |= self
                .patterns
                .get(*index)
                .is_some_and(|(rule, _)| !matches!(rule, Rule::Identity(_)));
        }
        let (rule, pattern) = self
            .patterns
            .get(first)
            .filter(|_| taken)
            .ok_or(Unidentified::NoRule)?;
        let mut name = pattern.device_name(topic).ok_or(Unidentified::EmptyName)?;
        if name.len() > MAX_DEVICE_NAME {
            return Err(Unidentified::LongName);
        }
        name.push_str(&self.salt);
        Ok(Identified { name, rule: *rule })
    }

    /// A name with the salt of this Configuration, for devices that no topic names.
    #[must_use]
    pub fn salted(&self, name: &str) -> String {
        format!("{name}{}", self.salt)
    }

    /// The patterns, in their order.
    pub fn patterns(&self) -> impl Iterator<Item = &TopicPattern> {
        self.patterns.iter().map(|(_, pattern)| pattern)
    }

    /// The patterns that one must know to tell the topics of the device `name` from those of
    /// others, all of which `filters` take; none if no filter takes another's topics.
    pub(super) fn needed_for(&self, name: &str, filters: &[TopicFilter]) -> Vec<&TopicPattern> {
        let mut involved = BTreeSet::new();
        let mut others = false;
        for filter in filters {
            let mut earlier: Vec<TopicFilter> = Vec::new();
            for (index, (_, pattern)) in self.patterns.iter().enumerate() {
                let Some(part) = filter.intersection(pattern.filter()) else {
                    continue;
                };
                if earlier.iter().any(|e| e.covers(&part)) {
                    continue;
                }
                involved.insert(index);
                others |= name_within(pattern, &part).as_deref() != Some(name);
                if pattern.filter().covers(filter) {
                    break;
                }
                earlier.push(part);
            }
        }
        if !others {
            return Vec::new();
        }
        involved
            .iter()
            .filter_map(|i| self.patterns.get(*i))
            .map(|(_, p)| p)
            .collect()
    }
}

/// Whether a topic is below `akri-mqtt/`.
#[must_use]
pub fn is_own(topic: &str) -> bool {
    topic
        .strip_prefix(OWN_TOPICS)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The name that `pattern` gives to every topic that `part` takes, if it is the same for all.
/// `part` takes nothing that `pattern` does not.
fn name_within(pattern: &TopicPattern, part: &TopicFilter) -> Option<String> {
    let fixed = |level: &str| level != "+" && level != "#";
    match pattern.naming() {
        Naming::BeforeHash(count) => {
            let levels: Vec<&str> = pattern.filter().levels().take(count).collect();
            Some(levels.join("/"))
        }
        Naming::Whole => (!part.has_wildcard()).then(|| part.as_str().to_owned()),
        Naming::UpToPlus(count) => {
            let levels: Vec<&str> = part.levels().take(count).collect();
            (levels.len() == count && levels.iter().all(|l| fixed(l))).then(|| levels.join("/"))
        }
        Naming::Captures => {
            let levels = pattern.captured_levels(part)?;
            levels.iter().all(|l| fixed(l)).then(|| levels.join("/"))
        }
    }
}

#[cfg(test)]
#[path = "identifier_tests.rs"]
mod tests;
