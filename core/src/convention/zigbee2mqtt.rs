//! Zigbee2MQTT: `<base>/bridge/devices`, `<base>/bridge/state` and `<base>/<device>/availability`, all
//! retained. In: its messages. Out: which devices it lists, and what is known of each. Groups publish
//! as devices do and are not in the list. When the bridge is gone its devices are; when it is back each
//! is what was announced of it last. A monitoring broker leaves the list to the discovery handler.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use super::{Context, Filters, Module, Said, Verdict, word};
use crate::presence::{Evidence, Ignored, Inbound, Tick};

/// Devices of one list that are looked at; a Zigbee network has some hundreds.
const MAX_DEVICES: usize = 10_000;
/// Names whose availability came before the list.
const MAX_EARLY: usize = 10_000;
/// The longest name, in bytes.
const MAX_NAME: usize = 1_024;
/// A name may have so many levels that its availability is still subscribed.
const MAX_LEVELS: usize = 4;
/// So many levels may follow a name: `<device>/set/brightness`.
const MAX_BELOW: usize = 3;

#[derive(Debug)]
pub(super) struct Zigbee2mqtt {
    base: String,
    listed: BTreeSet<String>,
    /// What was announced of a name last, listed or not.
    announced: HashMap<String, Evidence>,
    bridge_gone: bool,
    /// The one device that matters, in its monitoring broker.
    only: bool,
}

/// What of a device of the list counts.
#[derive(Deserialize)]
struct Listed<'a> {
    #[serde(borrow)]
    friendly_name: Cow<'a, str>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    disabled: bool,
}

/// A state as JSON.
#[derive(Deserialize)]
struct State<'a> {
    #[serde(borrow)]
    state: Cow<'a, str>,
}

pub(super) fn filters(base: &str, device: Option<&str>) -> Filters {
    let mut announcing = vec![format!("{base}/bridge/state")];
    let data = match device {
        Some(name) => {
            announcing.push(format!("{base}/{name}/availability"));
            format!("{base}/{name}")
        }
        None => {
            announcing.push(format!("{base}/bridge/devices"));
            let names = (1..=MAX_LEVELS).map(|levels| vec!["+"; levels].join("/"));
            announcing.extend(names.map(|name| format!("{base}/{name}/availability")));
            // A name may have any number of levels.
            format!("{base}/#")
        }
    };
    Filters::of(&announcing, &[data])
}

impl Zigbee2mqtt {
    pub fn new(base: &str, context: &Context) -> Self {
        Self {
            base: base.to_owned(),
            listed: context.device.iter().cloned().collect(),
            announced: HashMap::new(),
            bridge_gone: false,
            only: context.device.is_some(),
        }
    }

    fn list(&mut self, payload: &[u8], said: &mut Vec<Said>) -> Verdict {
        let devices: Vec<Listed<'_>> = match serde_json::from_slice(payload) {
            Ok(devices) => devices,
            Err(_) if payload.is_empty() => Vec::new(),
            Err(_) => return Verdict::Ignored(Ignored::UnknownPayload),
        };
        let is_device = |device: &&Listed<'_>| {
            let name = &device.friendly_name;
            let fits = (1..=MAX_NAME).contains(&name.len()) && !name.contains(['\0', '+', '#']);
            fits && !device.disabled && device.kind.as_deref() != Some("Coordinator")
        };
        let mut names = devices
            .iter()
            .filter(is_device)
            .map(|d| d.friendly_name.to_string());
        let listed: BTreeSet<String> = names.by_ref().take(MAX_DEVICES).collect();
        if let Some(name) = names.next() {
            said.push(Said::announced(&name, Evidence::Excess));
        }
        for gone in self.listed.difference(&listed) {
            self.announced.remove(gone);
            said.push(Said::announced(gone, Evidence::Removed));
        }
        for name in &listed {
            let evidence = if self.listed.contains(name) {
                Evidence::Listed
            } else if self.bridge_gone {
                Evidence::Offline
            } else {
                self.announced
                    .get(name)
                    .copied()
                    .unwrap_or(Evidence::Listed)
            };
            said.push(Said::announced(name, evidence));
        }
        self.listed = listed;
        Verdict::Taken
    }

    fn bridge(&mut self, payload: &[u8], said: &mut Vec<Said>) -> Verdict {
        let returned = match judge(payload) {
            Evidence::Offline => false,
            Evidence::Online => true,
            _ => return Verdict::Ignored(Ignored::UnknownPayload),
        };
        let was_gone = std::mem::replace(&mut self.bridge_gone, !returned);
        for name in &self.listed {
            let evidence = match (returned, self.announced.get(name)) {
                (false, _) => Evidence::Offline,
                (true, Some(evidence)) if was_gone => *evidence,
                (true, None) if was_gone => Evidence::Vouched,
                // Nothing but that its witness is there.
                (true, _) if self.only => Evidence::Listed,
                (true, _) => continue,
            };
            said.push(Said::announced(name, evidence));
        }
        Verdict::Taken
    }

    fn availability(&mut self, name: &str, payload: &[u8], said: &mut Vec<Said>) -> Verdict {
        let evidence = judge(payload);
        let listed = self.listed.contains(name);
        match evidence {
            Evidence::Removed => {
                self.announced.remove(name);
            }
            Evidence::Online | Evidence::Offline => {
                let known = listed || self.announced.contains_key(name);
                if !known && self.announced.len() >= MAX_EARLY + MAX_DEVICES {
                    return Verdict::Ignored(Ignored::Excess);
                }
                self.announced.insert(name.to_owned(), evidence);
            }
            _ => return Verdict::Ignored(Ignored::UnknownPayload),
        }
        if listed && !self.bridge_gone {
            // Without availability it is still in the list.
            let evidence = if evidence == Evidence::Removed {
                Evidence::Vouched
            } else {
                evidence
            };
            said.push(Said::announced(name, evidence));
        }
        Verdict::Taken
    }

    /// A message of a device, or to it.
    fn state(&self, rest: &str, said: &mut Vec<Said>) -> Verdict {
        let mut name = rest;
        for _ in 0..=MAX_BELOW {
            if self.listed.contains(name) {
                let below = rest.get(name.len()..).unwrap_or_default();
                if below
                    .split('/')
                    .nth(1)
                    .is_some_and(|l| matches!(l, "set" | "get"))
                {
                    return Verdict::Ignored(Ignored::Command);
                }
                said.push(Said::data(name));
                return Verdict::Taken;
            }
            match name.rsplit_once('/') {
                Some((before, _)) => name = before,
                None => break,
            }
        }
        Verdict::Ignored(Ignored::UnknownDevice)
    }
}

impl Module for Zigbee2mqtt {
    fn read(&mut self, message: &Inbound<'_>, _now: Tick, said: &mut Vec<Said>) -> Verdict {
        let rest = message.topic.strip_prefix(self.base.as_str());
        let Some(rest) = rest.and_then(|rest| rest.strip_prefix('/')) else {
            return Verdict::NotMine;
        };
        match rest.rsplit_once('/') {
            Some(("bridge", "devices")) if self.only => Verdict::Taken,
            Some(("bridge", "devices")) => self.list(message.payload, said),
            Some(("bridge", "state")) => self.bridge(message.payload, said),
            _ if rest == "bridge" || rest.starts_with("bridge/") => {
                Verdict::Ignored(Ignored::NoRule)
            }
            Some((name, "availability")) if !name.is_empty() && name.len() <= MAX_NAME => {
                self.availability(name, message.payload, said)
            }
            _ => self.state(rest, said),
        }
    }
}

/// `online` and `offline`, plain or as JSON.
fn judge(payload: &[u8]) -> Evidence {
    match serde_json::from_slice::<State<'_>>(payload) {
        Ok(json) => match word(json.state.as_bytes(), "online", "offline") {
            Evidence::Removed => Evidence::Unknown,
            evidence => evidence,
        },
        Err(_) => word(payload, "online", "offline"),
    }
}
