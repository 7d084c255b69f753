//! Eclipse Sparkplug B 3.0: Edge Nodes, `spBv1.0/<group>/N…/<node>`, and devices behind them,
//! `spBv1.0/<group>/D…/<node>/<device>`. In: births, deaths, data and requests. Out: announcements, of a node's devices
//! too when it dies; and requests for a rebirth, where they are allowed. Nothing of it is retained: what was before us,
//! or happened while nobody listened, only a rebirth tells.
//!
//! `docs/sparkplug.md` maps the rules to assertions of the specification.

mod asks;
mod filters;
mod node;
mod order;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use super::{Context, Module, Said, Verdict};
use crate::identity::MAX_DEVICE_NAME;
use crate::presence::{Evidence, Ignored, Inbound, Irregular, Outgoing, Tick};
use crate::sparkplug::{NodeMessage, Topic, Verb, asks_for_rebirth, rebirth_request, sequence};
use crate::topic::TopicFilter;
use asks::Asks;
pub(super) use filters::filters;
use filters::topic_of;
use node::Node;

/// Nodes and devices of one server that are remembered; later ones are judged by their own messages alone.
const MAX_KNOWN: usize = 100_000;
/// How long messages may come late before a rebirth makes up for them
/// (`tck-id-operational-behavior-host-reordering-param`).
const REORDER: Duration = Duration::from_secs(2);
/// So long a node whose server could not be heard may take to be born by itself.
const RETURN: Duration = Duration::from_secs(5);
/// Monitoring brokers of one node's devices begin together: one asks, and the others hear it.
const SPREAD: u64 = 4_000;

#[derive(Debug)]
pub(super) struct Sparkplug {
    groups: Vec<TopicFilter>,
    nodes: BTreeMap<String, Node>,
    /// Nodes and devices.
    known: usize,
    /// None where nobody is to be asked.
    asks: Option<Asks>,
    /// Before a node is asked that was heard without a birth.
    patience: Duration,
    /// Whether every message of a node comes here, so that their numbers tell what is missing.
    hears_all: bool,
}

/// A message of a node, or of a device behind it.
struct Heard<'m> {
    verb: Verb,
    /// The node's name here.
    node: String,
    device: Option<&'m str>,
    payload: &'m [u8],
    now: Tick,
}

impl Sparkplug {
    pub fn new(groups: &[TopicFilter], rebirth: bool, context: &Context) -> Self {
        let only = context.device.as_deref();
        let mut sparkplug = Self {
            groups: groups.to_vec(),
            nodes: BTreeMap::new(),
            known: 0,
            asks: rebirth.then(Asks::default),
            patience: only.map_or(Duration::ZERO, spread),
            hears_all: only.is_none(),
        };
        if let Some(device) = only {
            sparkplug.restored(device);
        }
        sparkplug
    }

    /// A message of a node itself.
    fn node(&mut self, heard: &Heard<'_>, said: &mut Vec<Said>) -> Verdict {
        let Heard {
            node: name,
            payload,
            now,
            ..
        } = heard;
        match heard.verb {
            Verb::Birth | Verb::Death => match NodeMessage::read(payload) {
                Err(_) => return Verdict::Ignored(Ignored::UnknownPayload),
                Ok(message) if heard.verb == Verb::Birth => self.node_birth(name, message, said),
                Ok(message) => return self.node_death(name, message, said),
            },
            Verb::Data => {
                let Ok(seq) = sequence(payload) else {
                    return Verdict::Ignored(Ignored::UnknownPayload);
                };
                self.numbered(heard, seq, said);
                said.push(Said::data(name));
                let born = self.nodes.get(name).is_some_and(|node| node.born);
                self.ask_unless(born, heard, said);
            }
            Verb::Command => {
                if let Some(asks) = self.asks.as_mut().filter(|_| asks_for_rebirth(payload)) {
                    asks.heard(name, *now);
                }
                return Verdict::Ignored(Ignored::Command);
            }
        }
        Verdict::Taken
    }

    fn node_birth(&mut self, name: &str, message: NodeMessage, said: &mut Vec<Said>) {
        said.push(Said::announced(name, Evidence::Online));
        if let Some(asks) = &mut self.asks {
            asks.answered(name);
        }
        let hears_all = self.hears_all;
        let Some(node) = self.entry(name) else {
            said.push(Said::announced(name, Evidence::Excess));
            return;
        };
        node.born = true;
        node.bd_seq = Some(message.bd_seq);
        if hears_all && let Some(irregular) = node.order.begin(message.seq) {
            said.push(Said::announced(name, Evidence::Irregular(irregular)));
        }
        // Each is born again now, or is no more.
        let before = node.devices.len();
        node.devices.retain(|_, device| !device.dead);
        let gone = before - node.devices.len();
        for (device, known) in &mut node.devices {
            known.born = false;
            known.at = 0;
            let device = format!("{name}/{device}");
            said.push(Said::announced(&device, Evidence::Doubted));
        }
        self.known -= gone;
    }

    fn node_death(&mut self, name: &str, message: NodeMessage, said: &mut Vec<Said>) -> Verdict {
        let of = self.nodes.get(name).and_then(|node| node.bd_seq);
        if of.is_some_and(|bd_seq| bd_seq != message.bd_seq) {
            return Verdict::Ignored(Ignored::Superseded);
        }
        said.push(Said::announced(name, Evidence::Offline));
        if let Some(node) = self.nodes.remove(name) {
            self.known -= 1 + node.devices.len();
            for device in node.devices.keys() {
                let device = format!("{name}/{device}");
                said.push(Said::announced(&device, Evidence::Offline));
            }
        }
        if let Some(asks) = &mut self.asks {
            asks.answered(name);
        }
        Verdict::Taken
    }

    /// A message of a device behind a node.
    fn device(&mut self, heard: &Heard<'_>, device: &str, said: &mut Vec<Said>) -> Verdict {
        let name = heard.node.as_str();
        if heard.verb == Verb::Command {
            return Verdict::Ignored(Ignored::Command);
        }
        let Ok(seq) = sequence(heard.payload) else {
            return Verdict::Ignored(Ignored::UnknownPayload);
        };
        let at = self.numbered(heard, seq, said).unwrap_or_default();
        said.push(Said::data(name));
        let full = format!("{name}/{device}");
        if heard.verb == Verb::Birth && self.device_entry(name, device).is_none() {
            said.push(Said::announced(&full, Evidence::Online));
            said.push(Said::announced(&full, Evidence::Excess));
            return Verdict::Taken;
        }
        let node = self.nodes.get_mut(name);
        let knows_node = !self.hears_all || node.as_ref().is_some_and(|node| node.born);
        let known = node.and_then(|node| node.devices.get_mut(device));
        let superseded = known.as_ref().is_some_and(|known| known.is_superseded(at));
        let born = match heard.verb {
            Verb::Data | Verb::Command => {
                said.push(Said::data(&full));
                knows_node && known.is_some_and(|known| known.born || superseded)
            }
            Verb::Birth | Verb::Death if superseded => {
                said.push(Said::announced(&full, Evidence::Superseded));
                true
            }
            verb => {
                let born = verb == Verb::Birth;
                if let Some(known) = known {
                    (known.born, known.dead, known.at) = (born, !born, at);
                }
                let evidence = if born {
                    Evidence::Online
                } else {
                    Evidence::Offline
                };
                said.push(Said::announced(&full, evidence));
                knows_node || !born
            }
        };
        self.ask_unless(born, heard, said);
        Verdict::Taken
    }

    /// Where a message belongs among those of its node, if that is known.
    fn numbered(
        &mut self,
        heard: &Heard<'_>,
        seq: Option<u64>,
        said: &mut Vec<Said>,
    ) -> Option<u64> {
        let name = heard.node.as_str();
        let order = &mut self.nodes.get_mut(name)?.order;
        let place = order.take(seq);
        let Some(irregular) = place.irregular else {
            return place.at;
        };
        said.push(Said::announced(name, Evidence::Irregular(irregular)));
        let is_complete = order.is_complete();
        match irregular {
            Irregular::Gap => self.ask(name, heard.now.plus(REORDER), said),
            Irregular::Late if is_complete => {
                if let Some(asks) = &mut self.asks {
                    asks.answered(name);
                }
            }
            _ => {}
        }
        place.at
    }

    /// Asks a node for a rebirth that was heard without a birth.
    fn ask_unless(&mut self, born: bool, heard: &Heard<'_>, said: &mut Vec<Said>) {
        if !born {
            self.ask(&heard.node, heard.now.plus(self.patience), said);
        }
    }

    /// Asks a node for a rebirth at this time, where that is allowed.
    fn ask(&mut self, name: &str, at: Tick, said: &mut Vec<Said>) {
        if let Some(asks) = &mut self.asks
            && !asks.want(name, at)
        {
            said.push(Said::announced(name, Evidence::Excess));
        }
    }

    /// The record of a node, if there is room for one.
    fn entry(&mut self, name: &str) -> Option<&mut Node> {
        if !self.nodes.contains_key(name) {
            if self.known >= MAX_KNOWN {
                return None;
            }
            self.known += 1;
        }
        Some(self.nodes.entry(name.to_owned()).or_default())
    }

    /// The record of a device behind a node, if there is room for both.
    fn device_entry(&mut self, name: &str, device: &str) -> Option<&mut node::Device> {
        self.entry(name)?;
        let has_room = self.known < MAX_KNOWN;
        let node = self.nodes.get_mut(name)?;
        if !node.devices.contains_key(device) {
            if !has_room {
                return None;
            }
            self.known += 1;
        }
        Some(node.devices.entry(device.to_owned()).or_default())
    }
}

impl Module for Sparkplug {
    fn read(&mut self, message: &Inbound<'_>, now: Tick, said: &mut Vec<Said>) -> Verdict {
        let Some(topic) = Topic::parse(message.topic) else {
            return Verdict::NotMine;
        };
        let Topic {
            group,
            verb,
            node,
            device,
        } = topic;
        if !self.groups.iter().any(|filter| filter.matches(group)) {
            return Verdict::NotMine;
        }
        if group.is_empty() || node.is_empty() || device == Some("") {
            return Verdict::Ignored(Ignored::EmptyName);
        }
        if message.topic.len() > MAX_DEVICE_NAME {
            return Verdict::Ignored(Ignored::LongName);
        }
        if message.retained {
            // Births, deaths and data are not (`tck-id-topics-nbirth-mqtt` and its like): it is an old one.
            return Verdict::Ignored(Ignored::Retained);
        }
        let heard = Heard {
            verb,
            node: format!("{group}/{node}"),
            device,
            payload: message.payload,
            now,
        };
        match heard.device {
            None => self.node(&heard, said),
            Some(device) => self.device(&heard, device, said),
        }
    }

    fn connected(&mut self) {
        for node in self.nodes.values_mut() {
            node.unlearn();
        }
    }

    fn session_lost(&mut self, said: &mut Vec<Said>) {
        // Where nobody can be asked, a node that seldom speaks would be taken for gone.
        if self.asks.is_none() {
            return;
        }
        for (name, node) in &self.nodes {
            said.push(Said::announced(name, Evidence::Doubted));
            for device in node.devices.keys() {
                let device = format!("{name}/{device}");
                said.push(Said::announced(&device, Evidence::Doubted));
            }
        }
    }

    fn snapshot_complete(&mut self, now: Tick, said: &mut Vec<Said>) {
        let Some(asks) = self.asks.as_mut().filter(|_| self.hears_all) else {
            return;
        };
        for (name, _) in self.nodes.iter().filter(|(_, node)| !node.born) {
            if !asks.want(name, now.plus(RETURN)) {
                said.push(Said::announced(name, Evidence::Excess));
            }
        }
    }

    fn restored(&mut self, device: &str) {
        match topic_of(device) {
            Some(Topic {
                group,
                node,
                device: Some(device),
                ..
            }) => {
                self.device_entry(&format!("{group}/{node}"), device);
            }
            Some(_) => {
                self.entry(device);
            }
            None => {}
        }
    }

    fn next(&self) -> Option<Tick> {
        self.asks.as_ref().and_then(Asks::next)
    }

    fn wake(&mut self, now: Tick) {
        if let Some(asks) = &mut self.asks {
            asks.wake(now);
        }
    }

    fn outgoing(&mut self, millis: u64, out: &mut Vec<Outgoing>) {
        let ready = self.asks.as_mut().map_or_else(Vec::new, Asks::ready);
        let topics = ready.iter().filter_map(|name| topic_of(name));
        out.extend(topics.map(|node| Outgoing {
            topic: node.with(Verb::Command),
            payload: rebirth_request(millis),
        }));
    }
}

/// A time for this device, the same each time.
fn spread(device: &str) -> Duration {
    let mut hasher = DefaultHasher::new();
    device.hash(&mut hasher);
    Duration::from_millis(hasher.finish() % SPREAD)
}
