//! Tasmota: `tele/<topic>/LWT`, or `<topic>/tele/LWT` where the FullTopic has that order. In: its
//! messages. Out: `Online` and `Offline` of the Last Will, which Tasmota retains, and telemetry as data.

use super::{Filters, Module, Said, Verdict, word};
use crate::presence::{Ignored, Inbound, Tick};

/// It needs no memory.
#[derive(Debug)]
pub(super) struct Tasmota;

/// The prefixes of Tasmota's topics.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Telemetry,
    Status,
    Command,
}

impl Kind {
    fn of(level: &str) -> Option<Self> {
        match level {
            "tele" => Some(Self::Telemetry),
            "stat" => Some(Self::Status),
            "cmnd" => Some(Self::Command),
            _ => None,
        }
    }
}

pub(super) fn filters(device: Option<&str>) -> Filters {
    let name = device.unwrap_or("+");
    Filters::of(
        &[format!("tele/{name}/LWT"), format!("{name}/tele/LWT")],
        &[
            format!("tele/{name}/#"),
            format!("stat/{name}/#"),
            format!("{name}/tele/#"),
            format!("{name}/stat/#"),
        ],
    )
}

impl Module for Tasmota {
    fn read(&mut self, message: &Inbound<'_>, _now: Tick, said: &mut Vec<Said>) -> Verdict {
        let mut levels = message.topic.splitn(3, '/');
        let (Some(first), Some(second), Some(rest)) = (levels.next(), levels.next(), levels.next())
        else {
            return Verdict::NotMine;
        };
        let (kind, name) = match (Kind::of(first), Kind::of(second)) {
            (Some(kind), _) => (kind, second),
            (None, Some(kind)) => (kind, first),
            (None, None) => return Verdict::NotMine,
        };
        if name.is_empty() {
            return Verdict::Ignored(Ignored::EmptyName);
        }
        said.push(match (kind, rest) {
            (Kind::Command, _) => return Verdict::Ignored(Ignored::Command),
            (Kind::Telemetry, "LWT") => {
                Said::announced(name, word(message.payload, "Online", "Offline"))
            }
            _ => Said::data(name),
        });
        Verdict::Taken
    }
}
