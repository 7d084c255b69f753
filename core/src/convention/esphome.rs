//! ESPHome: `<prefix>/status`. In: its messages. Out: `online` and `offline` of birth and Last Will,
//! which ESPHome retains, and the states of its components as data. `homeassistant/status` is Home
//! Assistant's own.

use super::prefixes::Prefixes;
use super::{Context, Filters, Module, Said, Verdict, word};
use crate::presence::{Ignored, Inbound, Tick};
use crate::topic::TopicFilter;

/// Where Home Assistant announces itself, if nobody has changed that.
const HOME_ASSISTANT: &str = "homeassistant";

#[derive(Debug)]
pub(super) struct Esphome {
    prefixes: Prefixes,
    foreign: Vec<String>,
}

pub(super) fn filters(prefixes: &[TopicFilter], device: Option<&str>) -> Filters {
    if let Some(name) = device {
        return Filters::of(&[format!("{name}/status")], &[format!("{name}/#")]);
    }
    let (mut announcing, mut data) = (Vec::new(), Vec::new());
    for prefix in prefixes {
        announcing.push(format!("{prefix}/status"));
        // `sensor/<name>/state`, and `fan/<name>/speed/state`.
        data.push(format!("{prefix}/+/+/state"));
        data.push(format!("{prefix}/+/+/+/state"));
    }
    Filters::of(&announcing, &data)
}

impl Esphome {
    pub fn new(prefixes: &[TopicFilter], context: &Context) -> Self {
        let mut foreign = context.home_assistant.clone();
        foreign.push(HOME_ASSISTANT.to_owned());
        Self {
            prefixes: Prefixes::new(prefixes),
            foreign,
        }
    }
}

impl Module for Esphome {
    fn read(&mut self, message: &Inbound<'_>, _now: Tick, said: &mut Vec<Said>) -> Verdict {
        for (prefix, rest) in self.prefixes.split(message.topic) {
            if self.foreign.iter().any(|foreign| foreign == prefix) {
                continue;
            }
            let last = rest.rsplit('/').next().unwrap_or(rest);
            let what = match (rest.split('/').count(), last) {
                (1, "status") => {
                    Said::announced(prefix, word(message.payload, "online", "offline"))
                }
                (3 | 4, "state") => Said::data(prefix),
                (3 | 4, "command") => return Verdict::Ignored(Ignored::Command),
                _ => continue,
            };
            said.push(what);
            return Verdict::Taken;
        }
        Verdict::NotMine
    }
}
