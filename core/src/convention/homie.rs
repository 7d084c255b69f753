//! Homie 3 and 4 (`<domain>/<device>/$state`) and 5 (`<domain>/5/<device>/$state`). In: states and, of
//! version 5, descriptions, all retained. Out: announcements. A child whose root is `lost` counts as
//! lost, whatever it says itself, and is back to that when its root is back.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use super::{Context, Filters, Module, Said, Verdict};
use crate::presence::{Evidence, Ignored, Inbound, Tick};
use crate::topic::TopicFilter;

/// The level that tells version 5 from earlier ones.
const FIVE: &str = "5";
/// Devices of version 5 that are remembered for the sake of their children; later ones are judged by
/// their own state alone.
const MAX_DEVICES: usize = 100_000;
/// The longest name that is remembered, in bytes.
const MAX_NAME: usize = 256;
/// Children of one root, so that a state of the root says so much at most.
const MAX_CHILDREN: usize = 1_000;

#[derive(Debug)]
pub(super) struct Homie {
    domain: String,
    /// Of version 5.
    devices: HashMap<String, Known>,
    /// Which devices have named a root, by the root.
    children: HashMap<String, BTreeSet<String>>,
    /// The one device that matters, in its monitoring broker.
    only: Option<String>,
    revision: u64,
}

/// What a device of version 5 says of itself.
#[derive(Debug, Default)]
struct Known {
    own: Option<Evidence>,
    lost: bool,
    root: Option<String>,
}

/// What of a `$description` counts.
#[derive(Deserialize)]
struct Description {
    #[serde(default)]
    root: Option<String>,
}

pub(super) fn filters(domain: &str, device: Option<&str>) -> Filters {
    let name = device.unwrap_or("+");
    let announcing = [
        format!("{domain}/{name}/$state"),
        format!("{domain}/{FIVE}/{name}/$state"),
        format!("{domain}/{FIVE}/{name}/$description"),
    ];
    let data = match device {
        Some(name) => [
            format!("{domain}/{name}/#"),
            format!("{domain}/{FIVE}/{name}/#"),
        ],
        None => [format!("{domain}/+/+/+"), format!("{domain}/{FIVE}/+/+/+")],
    };
    Filters::of(&announcing, &data)
}

impl Homie {
    pub fn new(domain: &str, context: &Context) -> Self {
        Self {
            domain: domain.to_owned(),
            devices: HashMap::new(),
            children: HashMap::new(),
            only: context.device.clone(),
            revision: 0,
        }
    }

    /// A state of a device of version 5, and what it means for its children.
    fn state(&mut self, name: &str, payload: &[u8], said: &mut Vec<Said>) {
        let own = judge(payload, &["init", "ready", "sleeping"]);
        if own == Evidence::Unknown {
            said.push(Said::announced(name, own));
            return;
        }
        let Some(known) = self.known(name) else {
            said.push(Said::announced(name, own));
            said.push(Said::announced(name, Evidence::Excess));
            return;
        };
        let was_lost = known.lost;
        known.own = Some(own);
        known.lost = payload == b"lost";
        let is_lost = known.lost;
        said.push(Said::announced(name, self.effective(name, own)));
        if is_lost {
            self.restate(name, said, |_| Some(Evidence::Offline));
        } else if was_lost && own != Evidence::Removed {
            self.restate(name, said, |child| child.own);
        }
        if own == Evidence::Removed {
            self.adopt(name, None);
            self.devices.remove(name);
        }
    }

    /// What a device of version 5 says of its place in a tree.
    fn description(&mut self, name: &str, payload: &[u8], said: &mut Vec<Said>) -> Verdict {
        let root = if payload.is_empty() {
            None
        } else {
            let Ok(description) = serde_json::from_slice::<Description>(payload) else {
                return Verdict::Ignored(Ignored::UnknownPayload);
            };
            description
                .root
                .filter(|root| root != name && root.len() <= MAX_NAME)
        };
        // What was taken back is not remembered for its own sake.
        if payload.is_empty() && !self.devices.contains_key(name) {
            return Verdict::Taken;
        }
        if self.known(name).is_none() {
            said.push(Said::announced(name, Evidence::Excess));
            return Verdict::Taken;
        }
        let before = self.follows_lost(name);
        if !self.adopt(name, root) {
            said.push(Said::announced(name, Evidence::Excess));
        }
        let after = self.follows_lost(name);
        let own = self.devices.get(name).and_then(|known| known.own);
        match own {
            Some(Evidence::Online) if after && !before => {
                said.push(Said::announced(name, Evidence::Offline));
            }
            Some(own) if before && !after => said.push(Said::announced(name, own)),
            None if payload.is_empty() => {
                self.devices.remove(name);
            }
            _ => {}
        }
        Verdict::Taken
    }

    /// The record of a device, if there is room for one.
    fn known(&mut self, name: &str) -> Option<&mut Known> {
        let room = self.devices.len() < MAX_DEVICES && name.len() <= MAX_NAME;
        if !room && !self.devices.contains_key(name) {
            return None;
        }
        Some(self.devices.entry(name.to_owned()).or_default())
    }

    /// Puts a device below a root, or below none; false if the root has no room for it.
    fn adopt(&mut self, name: &str, root: Option<String>) -> bool {
        let Some(known) = self.devices.get_mut(name) else {
            return true;
        };
        if known.root == root {
            return true;
        }
        let full = |root: &String| {
            let children = self.children.get(root);
            children.is_some_and(|children| children.len() >= MAX_CHILDREN)
        };
        let wanted = root.is_some();
        let root = root.filter(|root| !full(root));
        let has_room = !wanted || root.is_some();
        if let Some(before) = std::mem::replace(&mut known.root, root.clone())
            && let Some(siblings) = self.children.get_mut(&before)
        {
            siblings.remove(name);
            if siblings.is_empty() {
                self.children.remove(&before);
            }
        }
        if let Some(root) = root {
            let children = self.children.entry(root).or_default();
            children.insert(name.to_owned());
        }
        if self.only.as_deref() == Some(name) {
            self.revision += 1;
        }
        has_room
    }

    fn follows_lost(&self, name: &str) -> bool {
        let root = self.devices.get(name).and_then(|known| known.root.as_ref());
        root.and_then(|root| self.devices.get(root))
            .is_some_and(|root| root.lost)
    }

    fn effective(&self, name: &str, own: Evidence) -> Evidence {
        if own == Evidence::Online && self.follows_lost(name) {
            Evidence::Offline
        } else {
            own
        }
    }

    /// Says what the root's state means for those of its children that say they are there.
    fn restate(
        &self,
        root: &str,
        said: &mut Vec<Said>,
        means: impl Fn(&Known) -> Option<Evidence>,
    ) {
        for child in self.children.get(root).into_iter().flatten() {
            if let Some(known) = self.devices.get(child)
                && known.own == Some(Evidence::Online)
                && let Some(evidence) = means(known)
            {
                said.push(Said::announced(child, evidence));
            }
        }
    }
}

impl Module for Homie {
    fn read(&mut self, message: &Inbound<'_>, _now: Tick, said: &mut Vec<Said>) -> Verdict {
        let Some(rest) = message.topic.strip_prefix(self.domain.as_str()) else {
            return Verdict::NotMine;
        };
        let levels: Vec<&str> = rest.split('/').skip(1).take(6).collect();
        let (name, below, five) = match levels.as_slice() {
            _ if !rest.starts_with('/') => return Verdict::NotMine,
            [FIVE, name, below @ ..] if !below.is_empty() => (*name, below, true),
            [FIVE, ..] => return Verdict::NotMine,
            [name, below @ ..] => (*name, below, false),
            [] => return Verdict::NotMine,
        };
        if name.is_empty() {
            return Verdict::Ignored(Ignored::EmptyName);
        }
        match below {
            _ if name.starts_with('$') => return Verdict::NotMine,
            ["$state"] if five => self.state(name, message.payload, said),
            ["$state"] => {
                let online = ["init", "ready", "sleeping", "alert"];
                said.push(Said::announced(name, judge(message.payload, &online)));
            }
            ["$description"] if five => return self.description(name, message.payload, said),
            [_, _, "set"] => return Verdict::Ignored(Ignored::Command),
            [node, property] if !node.starts_with('$') && !property.starts_with('$') => {
                // Whoever removes a device deletes its values too, and that after its state; an empty value is the byte 0.
                if !message.payload.is_empty() {
                    said.push(Said::data(name));
                }
            }
            _ => return Verdict::NotMine,
        }
        Verdict::Taken
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    /// In its monitoring broker a child follows its root, which only its description names.
    fn named(&self) -> Filters {
        let own = self.only.as_ref().and_then(|name| self.devices.get(name));
        let root = own.and_then(|known| known.root.as_ref());
        let announcing = root.and_then(|root| {
            TopicFilter::parse(&format!("{}/{FIVE}/{root}/$state", self.domain)).ok()
        });
        Filters {
            announcing: announcing
                .filter(|f| !f.has_wildcard())
                .into_iter()
                .collect(),
            data: Vec::new(),
        }
    }
}

fn judge(payload: &[u8], online: &[&str]) -> Evidence {
    let is = |word: &str| payload == word.as_bytes();
    if payload.is_empty() {
        Evidence::Removed
    } else if online.iter().any(|word| is(word)) {
        Evidence::Online
    } else if is("disconnected") || is("lost") {
        Evidence::Offline
    } else {
        Evidence::Unknown
    }
}
