//! What each convention does with messages, one module for each. In: a convention with its options.
//! Out: what to subscribe, and what messages say about which devices. What follows from it is left
//! to `presence`, reading the options to `details`.
//!
//! A module's state is that of one MQTT server and is bounded. It comes back from retained messages; where
//! nothing is retained (Sparkplug B, events of EMQX), from what is restored, and by asking where that is
//! allowed.

mod emqx;
mod esphome;
mod home_assistant;
mod homie;
mod prefixes;
mod shelly;
mod sparkplug;
mod tasmota;
mod zigbee2mqtt;

use std::fmt;

use crate::details::Convention;
use crate::presence::{Evidence, Ignored, Inbound, Outgoing, Tick};
use crate::topic::TopicFilter;

/// Reads the messages of one convention from one server.
pub(crate) trait Module: fmt::Debug + Send + Sync {
    /// Adds what `message` says to `said`.
    fn read(&mut self, message: &Inbound<'_>, now: Tick, said: &mut Vec<Said>) -> Verdict;

    /// Changes whenever [`Module::named`] does.
    fn revision(&self) -> u64 {
        0
    }

    /// What to subscribe on this server because payloads have named it.
    fn named(&self) -> Filters {
        Filters::default()
    }

    /// Whether [`Module::named`] has a topic among those where presence is announced.
    fn announces(&self, topic: &str) -> bool {
        let named = self.named().announcing;
        named.iter().any(|filter| filter.matches(topic))
    }

    /// A connection begins, and with it a snapshot of what is retained.
    fn connected(&mut self) {}

    /// The server has kept nothing for us since the connection before: adds what is not certain any more.
    fn session_lost(&mut self, _said: &mut Vec<Said>) {}

    /// The snapshot is complete: adds what follows from what was not in it.
    fn snapshot_complete(&mut self, _now: Tick, _said: &mut Vec<Said>) {}

    /// A device that it found was there before our restart.
    fn restored(&mut self, _device: &str) {}

    /// When to call [`Module::wake`], if no message comes before.
    fn next(&self) -> Option<Tick> {
        None
    }

    fn wake(&mut self, _now: Tick) {}

    /// Takes what is to be published, at `millis` since 1970.
    fn outgoing(&mut self, _millis: u64, _out: &mut Vec<Outgoing>) {}
}

/// What a message says about one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Its name on the server, never empty.
    pub device: String,
    pub evidence: Evidence,
    /// Whether this makes a device known that nobody has heard of.
    pub appears: bool,
}

impl Said {
    /// An announcement.
    fn announced(device: &str, evidence: Evidence) -> Self {
        Self {
            device: device.to_owned(),
            evidence,
            appears: true,
        }
    }

    /// Whether this is [`Said::data`].
    pub(crate) fn is_data(&self) -> bool {
        self.evidence == Evidence::Data && !self.appears
    }

    /// Data of a device that announces itself elsewhere: foreign topics can look the same.
    fn data(device: &str) -> Self {
        Self {
            device: device.to_owned(),
            evidence: Evidence::Data,
            appears: false,
        }
    }
}

/// What a module makes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The topic is none of the convention's.
    NotMine,
    /// Read; it may have said nothing.
    Taken,
    /// Read, but nothing but data of devices that are not known: whoever else wants it may have it.
    Unclaimed,
    Ignored(Ignored),
}

/// What a module is told of the Configuration around it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    /// What our own client ids begin with.
    pub client_id_prefix: String,
    /// Where Home Assistant listens, whose own `status` is no device's.
    pub home_assistant: Vec<String>,
    /// Where other conventions, and `presence.availability`, announce devices.
    pub announced: Vec<TopicFilter>,
    /// The one device that matters, in its monitoring broker.
    pub device: Option<String>,
}

/// What to subscribe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    /// Where presence is announced; the retained messages are wanted.
    pub announcing: Vec<TopicFilter>,
    /// Where devices publish.
    pub data: Vec<TopicFilter>,
}

impl Filters {
    /// Those of the texts that are filters: a device's name may hold what none can.
    fn of(announcing: &[String], data: &[String]) -> Self {
        let parsed = |texts: &[String]| {
            let filters = texts
                .iter()
                .filter_map(|text| TopicFilter::parse(text).ok());
            filters.collect()
        };
        Self {
            announcing: parsed(announcing),
            data: parsed(data),
        }
    }
}

impl Convention {
    /// What reads the messages of one server.
    pub(crate) fn module(&self, context: &Context) -> Box<dyn Module> {
        match self {
            Self::Tasmota {} => Box::new(tasmota::Tasmota),
            Self::Shelly { prefixes } => Box::new(shelly::Shelly::new(prefixes)),
            Self::Esphome { prefixes } => Box::new(esphome::Esphome::new(prefixes, context)),
            Self::EmqxEvents { clients } => Box::new(emqx::Events::new(clients, context)),
            Self::Homie { domain } => Box::new(homie::Homie::new(domain, context)),
            Self::Zigbee2mqtt { base } => Box::new(zigbee2mqtt::Zigbee2mqtt::new(base, context)),
            Self::HomeAssistant { prefix } => {
                Box::new(home_assistant::HomeAssistant::new(prefix, context))
            }
            Self::SparkplugB {
                groups, rebirth, ..
            } => Box::new(sparkplug::Sparkplug::new(groups, *rebirth, context)),
        }
    }

    /// What to subscribe for all devices, or for the one of this name.
    pub(crate) fn filters(&self, device: Option<&str>) -> Filters {
        match self {
            Self::Tasmota {} => tasmota::filters(device),
            Self::Shelly { prefixes } => shelly::filters(prefixes, device),
            Self::Esphome { prefixes } => esphome::filters(prefixes, device),
            Self::EmqxEvents { clients } => emqx::filters(clients, device),
            Self::Homie { domain } => homie::filters(domain, device),
            Self::Zigbee2mqtt { base } => zigbee2mqtt::filters(base, device),
            Self::HomeAssistant { prefix } => home_assistant::filters(prefix),
            Self::SparkplugB {
                groups, rebirth, ..
            } => sparkplug::filters(groups, *rebirth, device),
        }
    }

    /// Whether it lists its devices, so that one need say nothing while it is listed.
    pub(crate) fn lists(&self) -> bool {
        matches!(self, Self::Zigbee2mqtt { .. })
    }

    /// Whether it tells of a device only when that comes and goes, and nothing of it is retained.
    pub(crate) fn tells_changes_only(&self) -> bool {
        match self {
            Self::EmqxEvents { .. } => true,
            // Otherwise it asks.
            Self::SparkplugB { rebirth, .. } => !rebirth,
            _ => false,
        }
    }

    /// Whether the payloads of data say in which order they were sent.
    pub(crate) fn numbers_data(&self) -> bool {
        matches!(self, Self::SparkplugB { .. })
    }

    /// Whether live data shows that a device is there that was announced as gone.
    pub(crate) fn data_overrides(&self) -> bool {
        matches!(
            self,
            Self::Tasmota {} | Self::Shelly { .. } | Self::Esphome { .. } | Self::EmqxEvents { .. }
        )
    }
}

/// What one of two words says; an empty payload takes the announcement back.
fn word(payload: &[u8], online: &str, offline: &str) -> Evidence {
    let text = payload.trim_ascii();
    if payload.is_empty() {
        Evidence::Removed
    } else if text.eq_ignore_ascii_case(online.as_bytes()) {
        Evidence::Online
    } else if text.eq_ignore_ascii_case(offline.as_bytes()) {
        Evidence::Offline
    } else {
        Evidence::Unknown
    }
}

#[cfg(test)]
mod tests;
