//! Home Assistant's MQTT discovery: `<prefix>/<component>/[<node>/]<object>/config` and
//! `<prefix>/device/[<node>/]<id>/config`. In: discovery messages, and what comes on the topics that
//! they name. Out: devices, each of one or more entities. A device is there while one of its entities is
//! available, and gone when the last one is not, or is removed.
//!
//! Entities whose availability another convention of the Configuration announces are left to it: they
//! are its device. So are topics of states on which it announces.

mod config;
mod entity;
mod topics;

use std::collections::{BTreeMap, BTreeSet};

use super::{Context, Filters, Module, Said, Verdict};
use crate::presence::{Evidence, Ignored, Inbound, Tick};
use crate::topic::TopicFilter;
use config::Config;
use entity::{Entity, size};
use topics::Topics;

/// Entities of one server.
const MAX_ENTITIES: usize = 50_000;
/// Entities of one device.
const MAX_OF_DEVICE: usize = config::MAX_ENTITIES;
/// What the entities of one server may take, in bytes.
const MAX_BYTES: usize = 64 << 20;
/// The longest topic of a discovery message, in bytes.
const MAX_TOPIC: usize = 1_024;

#[derive(Debug)]
pub(super) struct HomeAssistant {
    prefix: String,
    foreign: Vec<TopicFilter>,
    /// The one device that matters, in its monitoring broker.
    only: Option<String>,
    /// By the topic of the discovery message.
    configs: BTreeMap<String, Known>,
    devices: BTreeMap<String, Device>,
    topics: Topics,
    entities: usize,
    bytes: usize,
    /// Which snapshot is coming in.
    snapshot: u64,
}

/// What makes up a device.
#[derive(Debug, Default)]
struct Device {
    /// The topics of its discovery messages.
    configs: BTreeSet<String>,
    entities: usize,
}

#[derive(Debug)]
struct Known {
    device: String,
    entities: Vec<(String, Entity)>,
    /// The snapshot that brought it last; `None`: it never came retained.
    snapshot: Option<u64>,
}

pub(super) fn filters(prefix: &str) -> Filters {
    let announcing = [
        format!("{prefix}/+/+/config"),
        format!("{prefix}/+/+/+/config"),
    ];
    Filters::of(&announcing, &[])
}

impl HomeAssistant {
    pub fn new(prefix: &str, context: &Context) -> Self {
        Self {
            prefix: prefix.to_owned(),
            foreign: context.announced.clone(),
            only: context.device.clone(),
            configs: BTreeMap::new(),
            devices: BTreeMap::new(),
            topics: Topics::default(),
            entities: 0,
            bytes: 0,
            snapshot: 0,
        }
    }

    /// The component of a topic of discovery; `None` for any other topic.
    fn component<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let rest = topic
            .strip_prefix(self.prefix.as_str())?
            .strip_prefix('/')?;
        let levels = rest.split('/').count();
        let component = rest.split('/').next()?;
        ((3..=4).contains(&levels) && rest.ends_with("/config")).then_some(component)
    }

    fn config(&mut self, message: &Inbound<'_>, component: &str, said: &mut Vec<Said>) -> Verdict {
        let topic = message.topic;
        if !config::is_entity(component) {
            return Verdict::Taken;
        }
        if message.payload.is_empty() {
            self.forget(topic, said);
            return Verdict::Taken;
        }
        if topic.len() > MAX_TOPIC {
            return Verdict::Ignored(Ignored::Excess);
        }
        if !self.configs.contains_key(topic) && !self.may_concern(message.payload) {
            return Verdict::Taken;
        }
        let is_device = component == "device";
        let mut config = match config::parse(message.payload, is_device, &self.prefix) {
            Ok(Some(config)) => config,
            Ok(None) => return Verdict::Ignored(Ignored::EmptyName),
            Err(()) => return Verdict::Ignored(Ignored::UnknownPayload),
        };
        let foreign = &self.foreign;
        let is_foreign = |topic: &str| foreign.iter().any(|filter| filter.matches(topic));
        config
            .entities
            .retain_mut(|(_, entity)| entity.is_left_without(is_foreign));
        let is_other = self
            .only
            .as_ref()
            .is_some_and(|only| *only != config.device);
        if is_other || config.entities.is_empty() {
            self.forget(topic, said);
            return Verdict::Taken;
        }
        if config.left_out > 0 {
            said.push(Said::announced(&config.device, Evidence::Unknown));
        }
        if config.templates > 0 {
            said.push(Said::announced(&config.device, Evidence::Template));
        }
        self.replace(topic, config, message.retained, said);
        Verdict::Taken
    }

    /// Whether a message can be about the one device that matters; reading all of them for each device
    /// of a pool would take too long.
    fn may_concern(&self, payload: &[u8]) -> bool {
        let Some(only) = &self.only else {
            return true;
        };
        // A connection is named by its kind and its id.
        let id = only.split_once(':').map_or(only.as_str(), |(_, id)| id);
        let found = id.is_empty() || payload.windows(id.len()).any(|w| w == id.as_bytes());
        found || payload.contains(&b'\\')
    }

    /// Takes a discovery message in place of an earlier one on its topic.
    fn replace(&mut self, topic: &str, config: Config, retained: bool, said: &mut Vec<Said>) {
        let Config {
            device,
            mut entities,
            ..
        } = config;
        let was = self.judge(&device);
        let was_of_old = self.judge_of(topic);
        let old = self.configs.remove(topic);
        let is_new = old.as_ref().is_none_or(|old| old.device != device);
        let (before, old_entities, snapshot) = match old {
            Some(old) => (Some(old.device), old.entities, old.snapshot),
            None => (None, Vec::new(), None),
        };
        if let Some(before) = &before {
            self.discount(before, &old_entities);
        }
        if !self.fit(&device, &mut entities) {
            said.push(Said::announced(&device, Evidence::Excess));
        }
        let earlier: BTreeMap<&str, &Entity> = old_entities
            .iter()
            .map(|(id, entity)| (id.as_str(), entity))
            .collect();
        for (id, entity) in &mut entities {
            self.topics
                .register(topic, entity, earlier.get(id.as_str()).copied());
        }
        self.topics.unregister(topic, &old_entities, &entities);
        self.entities += entities.len();
        self.bytes += size(&entities);
        if is_new && let Some(before) = before {
            self.leave(&before, topic, was_of_old, said);
        }
        if entities.is_empty() {
            self.leave(&device, topic, was, said);
            return;
        }
        let of_device = self.devices.entry(device.clone()).or_default();
        of_device.configs.insert(topic.to_owned());
        of_device.entities += entities.len();
        let known = Known {
            device: device.clone(),
            entities,
            snapshot: if retained {
                Some(self.snapshot)
            } else {
                snapshot
            },
        };
        self.configs.insert(topic.to_owned(), known);
        let evidence = match (was, self.judge(&device)) {
            (Some(Evidence::Offline), None) => Evidence::Vouched,
            (was, Some(now)) if is_new || was != Some(now) => now,
            _ => Evidence::Listed,
        };
        said.push(Said::announced(&device, evidence));
    }

    /// Cuts off what there is no room for; false if that was something.
    fn fit(&self, device: &str, entities: &mut Vec<(String, Entity)>) -> bool {
        let of_device = self.devices.get(device).map_or(0, |d| d.entities);
        let room = MAX_OF_DEVICE.saturating_sub(of_device);
        let room = room.min(MAX_ENTITIES.saturating_sub(self.entities));
        let mut bytes = self.bytes;
        let fitting = entities.iter().take(room).take_while(|(_, entity)| {
            bytes += entity.size();
            bytes <= MAX_BYTES
        });
        let (fitting, all) = (fitting.count(), entities.len());
        entities.truncate(fitting);
        fitting == all
    }

    /// Counts the entities of a discovery message no longer.
    fn discount(&mut self, device: &str, entities: &[(String, Entity)]) {
        self.entities -= entities.len();
        self.bytes -= size(entities);
        if let Some(of_device) = self.devices.get_mut(device) {
            of_device.entities -= entities.len();
        }
    }

    /// Takes a discovery message back.
    fn forget(&mut self, config: &str, said: &mut Vec<Said>) {
        let was = self.judge_of(config);
        if let Some(known) = self.configs.remove(config) {
            self.discount(&known.device, &known.entities);
            self.topics.unregister(config, &known.entities, &[]);
            self.leave(&known.device, config, was, said);
        }
    }

    /// A discovery message is no longer of a device, which is removed with its last one. `was` is what
    /// its entities said with it.
    fn leave(&mut self, device: &str, config: &str, was: Option<Evidence>, said: &mut Vec<Said>) {
        let Some(of_device) = self.devices.get_mut(device) else {
            return;
        };
        if !of_device.configs.remove(config) {
            return;
        }
        if of_device.configs.is_empty() {
            self.devices.remove(device);
            said.push(Said::announced(device, Evidence::Removed));
            return;
        }
        let evidence = match (was, self.judge(device)) {
            // Nothing says any more that it is gone.
            (Some(Evidence::Offline), None) => Some(Evidence::Vouched),
            (_, now) => now,
        };
        said.extend(evidence.map(|evidence| Said::announced(device, evidence)));
    }

    /// What the entities of the device of a discovery message say together.
    fn judge_of(&self, config: &str) -> Option<Evidence> {
        self.judge(&self.configs.get(config)?.device)
    }

    /// What the entities of a device say together, as far as they are known.
    fn judge(&self, device: &str) -> Option<Evidence> {
        let configs = self.devices.get(device)?.configs.iter();
        let mut any_gone = false;
        for (_, entity) in configs
            .filter_map(|c| self.configs.get(c))
            .flat_map(|k| &k.entities)
        {
            match entity.is_available() {
                Some(true) => return Some(Evidence::Online),
                Some(false) => any_gone = true,
                None => {}
            }
        }
        any_gone.then_some(Evidence::Offline)
    }

    fn announced(&mut self, message: &Inbound<'_>, said: &mut Vec<Said>) {
        self.topics.hear(message.topic, message.payload);
        let Some(topic) = self.topics.get(message.topic) else {
            return;
        };
        let mut devices: BTreeMap<String, bool> = BTreeMap::new();
        for config in &topic.announces {
            if let Some(known) = self.configs.get_mut(config) {
                let understood = devices.entry(known.device.clone()).or_default();
                for (_, entity) in &mut known.entities {
                    *understood |= entity.hear(message.topic, message.payload);
                }
            }
        }
        for (device, understood) in devices {
            let evidence = if understood {
                self.judge(&device)
            } else {
                Some(Evidence::Unknown)
            };
            said.extend(evidence.map(|evidence| Said::announced(&device, evidence)));
        }
    }
}

impl Module for HomeAssistant {
    fn read(&mut self, message: &Inbound<'_>, _now: Tick, said: &mut Vec<Said>) -> Verdict {
        if let Some(component) = self.component(message.topic) {
            return self.config(message, component, said);
        }
        let Some(topic) = self.topics.get(message.topic) else {
            return Verdict::NotMine;
        };
        if topic.announces.is_empty() {
            let configs = topic
                .states
                .iter()
                .filter_map(|config| self.configs.get(config));
            let devices: BTreeSet<&str> = configs.map(|known| known.device.as_str()).collect();
            said.extend(devices.into_iter().map(Said::data));
        } else {
            self.announced(message, said);
        }
        Verdict::Taken
    }

    fn revision(&self) -> u64 {
        self.topics.revision()
    }

    fn named(&self) -> Filters {
        self.topics.named()
    }

    fn announces(&self, topic: &str) -> bool {
        let named = self.topics.get(topic);
        named.is_some_and(|topic| !topic.announces.is_empty())
    }

    fn connected(&mut self) {
        self.snapshot += 1;
    }

    /// What was retained before and is not any more was removed while we were away.
    fn snapshot_complete(&mut self, _now: Tick, said: &mut Vec<Said>) {
        let is_gone = |known: &Known| known.snapshot.is_some_and(|seen| seen != self.snapshot);
        let gone: Vec<String> = self
            .configs
            .iter()
            .filter(|(_, known)| is_gone(known))
            .map(|(topic, _)| topic.clone())
            .collect();
        for topic in gone {
            self.forget(&topic, said);
        }
    }
}
