//! Shelly, Gen 1 (`shellies/<id>/online`) and Gen 2 and later (`<prefix>/online`). In: their
//! messages. Out: `true` and `false`, which the devices retain, and what they publish as data.

use super::prefixes::Prefixes;
use super::{Filters, Module, Said, Verdict, word};
use crate::presence::{Ignored, Inbound, Tick};
use crate::topic::TopicFilter;

/// The first level of all topics of Gen 1.
const GEN1: &str = "shellies";

#[derive(Debug)]
pub(super) struct Shelly {
    prefixes: Prefixes,
}

pub(super) fn filters(prefixes: &[TopicFilter], device: Option<&str>) -> Filters {
    let prefixes: Vec<&str> = match device {
        Some(name) => vec![name],
        None => prefixes.iter().map(TopicFilter::as_str).collect(),
    };
    let id = device.unwrap_or("+");
    let mut announcing = vec![format!("{GEN1}/{id}/online")];
    let mut data = vec![format!("{GEN1}/{id}/#")];
    for prefix in prefixes {
        announcing.push(format!("{prefix}/online"));
        data.push(format!("{prefix}/events/rpc"));
        data.push(format!("{prefix}/status/#"));
    }
    Filters::of(&announcing, &data)
}

impl Shelly {
    pub fn new(prefixes: &[TopicFilter]) -> Self {
        Self {
            prefixes: Prefixes::new(prefixes),
        }
    }
}

impl Module for Shelly {
    fn read(&mut self, message: &Inbound<'_>, _now: Tick, said: &mut Vec<Said>) -> Verdict {
        if let Some((GEN1, rest)) = message.topic.split_once('/')
            && let Some((id, rest)) = rest.split_once('/')
        {
            return gen1(id, rest, message, said);
        }
        for (prefix, rest) in self.prefixes.split(message.topic) {
            let what = match rest.split_once('/').map_or(rest, |(first, _)| first) {
                "online" if rest == "online" => {
                    Said::announced(prefix, word(message.payload, "true", "false"))
                }
                "events" if rest == "events/rpc" => Said::data(prefix),
                "status" if rest != "status" => Said::data(prefix),
                "rpc" if rest == "rpc" => return Verdict::Ignored(Ignored::Command),
                "command" => return Verdict::Ignored(Ignored::Command),
                _ => continue,
            };
            said.push(what);
            return Verdict::Taken;
        }
        Verdict::NotMine
    }
}

fn gen1(id: &str, rest: &str, message: &Inbound<'_>, said: &mut Vec<Said>) -> Verdict {
    if id.is_empty() {
        return Verdict::Ignored(Ignored::EmptyName);
    }
    if is_command(rest) {
        return Verdict::Ignored(Ignored::Command);
    }
    said.push(match rest {
        "online" => Said::announced(id, word(message.payload, "true", "false")),
        _ => Said::data(id),
    });
    Verdict::Taken
}

/// Whether others send on a topic below `shellies/<id>`, which can be the prefix of a Gen 2 device.
fn is_command(rest: &str) -> bool {
    rest == "rpc" || rest.ends_with("/set") || rest.split('/').any(|level| level == "command")
}
