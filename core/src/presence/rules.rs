//! Turns messages into evidence. In: a message. Out: what it says about which devices.
//! What follows from evidence is left to the machine, which devices there are as well.
//!
//! Announcing rules stand before conventions, those before data rules, and the first that takes a
//! topic decides. A convention may find any number of devices in a message.

use std::sync::Arc;

use super::availability::Announcing;
use super::conventions::Conventions;
use super::devices::{Devices, ServerIndex};
use super::tick::Tick;
use super::wanting::{Wanting, least};
use super::{Evidence, Ignored, Inbound, Outgoing, Wanted};
use crate::convention::{Filters, Verdict};
use crate::details::{
    self, Details, Identifier, PresenceRules, QoS, RetainedData, Unidentified, is_own,
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
    /// Whether a device that is listed or vouched for may stay silent.
    pub lists: bool,
    /// Whether the server would have replaced a retained `online` by the will.
    pub retained_will: bool,
    /// Whether this makes a device known that nobody has heard of.
    pub appears: bool,
}

/// The entry that decided, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Identity(u16),
    Availability(u16),
    Topic(u16),
    Convention(u16),
    /// No entry: a restored device, or one of which only the server is known.
    Nothing,
}

/// Where and when a message came, and who is known there.
#[derive(Debug)]
pub(super) struct At<'a> {
    pub server: ServerIndex,
    pub now: Tick,
    pub devices: &'a Devices,
}

impl At<'_> {
    /// Whether a finding is of a device that is known, or makes one known.
    pub fn concerns(&self, finding: &Finding) -> bool {
        finding.appears || self.devices.find(self.server, &finding.device).is_some()
    }
}

/// The rules of one machine, in the order in which they are asked.
#[derive(Debug)]
pub(super) struct Rules {
    names: Names,
    rules: Vec<Rule>,
    availability: Vec<TopicPattern>,
    wanting: Wanting,
    wanted: Vec<Wanted>,
}

/// Which device a topic names.
#[derive(Debug)]
pub(super) enum Names {
    /// By the entries of a Configuration.
    Entries(Arc<Details>),
    /// All belong to one device.
    One(Arc<DeviceSpec>),
}

/// One way in which devices show themselves.
#[derive(Debug)]
enum Rule {
    Availability(Announcing),
    Conventions(Conventions),
    Data(Data),
}

impl Rules {
    /// For so many servers.
    pub fn of_details(details: Arc<Details>, servers: usize) -> Self {
        let topics = details.topics.iter().map(|t| t.filter().clone()).collect();
        let presence = details.presence.clone();
        let qos = details.mqtt.qos;
        let conventions = Conventions::of_details(&details, servers);
        Self::new(Names::Entries(details), topics, &presence, qos, conventions)
    }

    pub fn of_device(device: Arc<DeviceSpec>) -> Self {
        let topics = device.topics.clone();
        let presence = device.presence.clone();
        let qos = device.mqtt.qos;
        let conventions = Conventions::of_device(&device);
        Self::new(Names::One(device), topics, &presence, qos, conventions)
    }

    fn new(
        names: Names,
        topics: Vec<TopicFilter>,
        presence: &PresenceRules,
        qos: QoS,
        conventions: Conventions,
    ) -> Self {
        let patterns: Vec<TopicPattern> = presence
            .availability
            .iter()
            .map(|rule| rule.topic.clone())
            .collect();
        let of_conventions = conventions.filters();
        let announced = patterns.iter().map(TopicPattern::filter);
        let announcing = announced.chain(&of_conventions.announcing);
        let wanting = Wanting {
            qos,
            trust: presence.retained == RetainedData::Trust,
        };
        let data = topics.iter().chain(&of_conventions.data);
        let wanted = least(wanting.of(announcing, data));
        let mut rules = Vec::new();
        if !presence.availability.is_empty() {
            rules.push(Rule::Availability(Announcing::new(&presence.availability)));
        }
        let data = Data::new(&names, &topics);
        if !conventions.is_empty() {
            rules.push(Rule::Conventions(conventions));
        }
        rules.push(Rule::Data(data));
        Self {
            names,
            rules,
            availability: patterns,
            wanting,
            wanted,
        }
    }

    /// What to subscribe on every server, sorted.
    pub fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// What to subscribe on one server, sorted, with what payloads have named there.
    pub fn wanted_on(&self, server: ServerIndex) -> Vec<Wanted> {
        let named = self.conventions().map(|all| all.named(server));
        let Some(named) = named.filter(|named| *named != Filters::default()) else {
            return self.wanted.clone();
        };
        let more = self.wanting.of(named.announcing.iter(), named.data.iter());
        least(self.wanted.iter().cloned().chain(more))
    }

    /// Whether payloads on a topic of a server decide, as opposed to that there is a message at all.
    pub fn decides(&self, server: ServerIndex, topic: &str) -> bool {
        let mut patterns = self.availability.iter();
        patterns.any(|pattern| pattern.filter().matches(topic))
            || self
                .conventions()
                .is_some_and(|all| all.decides(server, topic))
    }

    /// Changes whenever [`Rules::wanted_on`] does for a server.
    pub fn revision(&self) -> u64 {
        self.conventions().map_or(0, Conventions::revision)
    }

    fn conventions(&self) -> Option<&Conventions> {
        self.rules.iter().find_map(|rule| match rule {
            Rule::Conventions(all) => Some(all),
            _ => None,
        })
    }

    /// A connection to a server begins.
    pub fn connected(&mut self, server: ServerIndex) {
        for rule in &mut self.rules {
            if let Rule::Conventions(all) = rule {
                all.connected(server);
            }
        }
    }

    /// The retained messages of a server have come: adds what is not among them any more.
    pub fn snapshot_complete(&mut self, server: ServerIndex, now: Tick, found: &mut Vec<Finding>) {
        for rule in &mut self.rules {
            if let Rule::Conventions(all) = rule {
                all.snapshot_complete(&self.names, (server, now), found);
            }
        }
    }

    /// The snapshot of a server lacks the message of a topic. True if it announces devices.
    pub fn lacks(&mut self, server: ServerIndex, topic: &str) -> bool {
        let all = self.conventions_mut();
        let of_conventions = all.is_some_and(|all| all.lacks(server, topic));
        let mut patterns = self.availability.iter();
        of_conventions || patterns.any(|pattern| pattern.filter().matches(topic))
    }

    /// A server has kept nothing for us: adds what is not certain any more.
    pub fn session_lost(&mut self, server: ServerIndex, found: &mut Vec<Finding>) {
        for rule in &mut self.rules {
            if let Rule::Conventions(all) = rule {
                all.session_lost(&self.names, server, found);
            }
        }
    }

    /// A device that a convention found was there before the restart. True if nothing but its end will be
    /// told of it.
    pub fn restored(&mut self, server: ServerIndex, convention: u16, device: &str) -> bool {
        self.conventions_mut().is_some_and(|all| {
            all.restored(server, convention, device);
            all.tells_changes_only(convention)
        })
    }

    /// When to call [`Rules::wake`].
    pub fn next(&self) -> Option<Tick> {
        self.conventions().and_then(Conventions::next)
    }

    pub fn wake(&mut self, now: Tick) {
        if let Some(all) = self.conventions_mut() {
            all.wake(now);
        }
    }

    /// Takes what is to be published, each with the place of its server.
    pub fn outgoing(&mut self, millis: u64) -> Vec<(usize, Outgoing)> {
        self.conventions_mut()
            .map_or_else(Vec::new, |all| all.outgoing(millis))
    }

    fn conventions_mut(&mut self) -> Option<&mut Conventions> {
        self.rules.iter_mut().find_map(|rule| match rule {
            Rule::Conventions(all) => Some(all),
            _ => None,
        })
    }

    /// Adds what `message` says to `found`.
    ///
    /// # Errors
    /// Why it says nothing.
    pub fn read(
        &mut self,
        at: &At<'_>,
        message: &Inbound<'_>,
        found: &mut Vec<Finding>,
    ) -> Result<(), Ignored> {
        if is_own(message.topic) {
            return Err(Ignored::Own);
        }
        let mut nobody = Ignored::NoRule;
        for rule in &mut self.rules {
            let verdict = match rule {
                Rule::Availability(rule) => rule.read(&self.names, message, found),
                Rule::Conventions(rule) => rule.read(&self.names, at, message, found),
                Rule::Data(rule) => rule.read(&self.names, message, found),
            };
            match verdict {
                Verdict::NotMine => {}
                Verdict::Unclaimed => nobody = Ignored::UnknownDevice,
                Verdict::Taken => return Ok(()),
                Verdict::Ignored(Ignored::NoRule) => return Err(nobody),
                Verdict::Ignored(reason) => return Err(reason),
            }
        }
        Err(nobody)
    }

    /// Whether live messages of a topic say nothing but that their device lives, whatever their payload.
    pub fn is_plain_data(&self, topic: &str) -> bool {
        let is_read_so = |rule: &Rule| match rule {
            Rule::Availability(rule) => !rule.takes(topic),
            Rule::Conventions(_) => false,
            Rule::Data(rule) => rule.takes(topic),
        };
        !is_own(topic)
            && !is_command(topic)
            && self.rules.iter().all(is_read_so)
            && self.names.name(topic).is_ok()
    }

    /// Where a device was found: ` on ` the topic or filter of an entry, as narrow as the device's
    /// name allows, or ` by ` a convention.
    pub fn describe(&self, source: Source, device: &str) -> Option<String> {
        let pattern = match (source, &self.names) {
            (Source::Availability(n), _) => self.availability.get(usize::from(n))?,
            (Source::Topic(n), Names::Entries(details)) => details.topics.get(usize::from(n))?,
            (Source::Identity(n), Names::Entries(details)) => {
                details.identity.get(usize::from(n))?
            }
            (Source::Topic(n), Names::One(spec)) => {
                return spec
                    .topics
                    .get(usize::from(n))
                    .map(|topic| format!(" on {topic}"));
            }
            (Source::Convention(n), names) => {
                let convention = match names {
                    Names::Entries(details) => details.convention(n),
                    Names::One(spec) => spec.convention.as_ref(),
                };
                return convention.map(|convention| format!(" by {}", convention.name()));
            }
            (Source::Identity(_), Names::One(_)) | (Source::Nothing, _) => return None,
        };
        let narrowed = pattern.for_device(device);
        let topic = narrowed.map_or_else(|| pattern.to_string(), |filter| filter.to_string());
        Some(format!(" on {topic}"))
    }
}

impl Names {
    /// The name, and the entry that gave it.
    pub fn name(&self, topic: &str) -> Result<(String, Source), Ignored> {
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
            Unidentified::LongName => Ignored::LongName,
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

pub(super) fn short(index: usize) -> Option<u16> {
    u16::try_from(index).ok()
}

/// `topics`: what devices publish.
#[derive(Debug)]
struct Data {
    /// Of a single device, where no Configuration decides.
    filters: Option<FilterTree<usize>>,
    overrides: bool,
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
        let overrides = match names {
            Names::Entries(_) => true,
            Names::One(spec) => spec.convention.as_ref().is_none_or(|c| c.data_overrides()),
        };
        Self { filters, overrides }
    }

    fn takes(&self, topic: &str) -> bool {
        let filters = self.filters.as_ref();
        filters.is_none_or(|tree| tree.matching(topic).next().is_some())
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
            overrides: self.overrides,
            lists: false,
            retained_will: true,
            appears: true,
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
