//! Each convention against messages as its project documents them (`core/tests/data/<convention>`).

mod exact;
mod hostile;
mod sparkplug;

use crate::details::{ClientPattern, Convention, QoS};
use crate::presence::{Evidence, Inbound};
use crate::topic::TopicFilter;

use super::*;

fn filters_of(texts: &[&str]) -> Vec<TopicFilter> {
    let parsed = texts.iter().map(|text| TopicFilter::parse(text).unwrap());
    parsed.collect()
}

pub(super) fn esphome() -> Convention {
    let prefixes = filters_of(&["+", "home/+"]);
    Convention::Esphome { prefixes }
}

pub(super) fn shelly() -> Convention {
    let prefixes = filters_of(&["+"]);
    Convention::Shelly { prefixes }
}

pub(super) fn emqx() -> Convention {
    let clients = ["robot-#", "plc/1"].map(|text| ClientPattern::parse(text).unwrap());
    Convention::EmqxEvents {
        clients: clients.to_vec(),
    }
}

pub(super) fn homie() -> Convention {
    Convention::Homie {
        domain: "homie".to_owned(),
    }
}

pub(super) fn zigbee2mqtt() -> Convention {
    Convention::Zigbee2mqtt {
        base: "zigbee2mqtt".to_owned(),
    }
}

pub(super) fn home_assistant() -> Convention {
    Convention::HomeAssistant {
        prefix: "homeassistant".to_owned(),
    }
}

pub(super) fn sparkplug_b() -> Convention {
    Convention::SparkplugB {
        groups: filters_of(&["+"]),
        host_id: None,
        rebirth: true,
    }
}

/// A module of one server.
pub(super) struct World {
    module: Box<dyn Module>,
    now: Tick,
}

impl World {
    pub fn of(convention: &Convention) -> Self {
        let context = Context {
            client_id_prefix: "akri-mqtt".to_owned(),
            home_assistant: vec!["ha".to_owned()],
            announced: filters_of(&["tele/+/LWT"]),
            device: None,
        };
        Self {
            module: convention.module(&context),
            now: Tick::START,
        }
    }

    pub fn read(&mut self, topic: &str, payload: &[u8]) -> (Verdict, Vec<Said>) {
        let message = Inbound {
            topic,
            payload,
            retained: false,
            qos: QoS::AtMostOnce,
        };
        let mut said = Vec::new();
        let verdict = self.module.read(&message, self.now, &mut said);
        (verdict, said)
    }

    /// What is said of which device, as text.
    pub fn said(&mut self, topic: &str, payload: &str) -> Vec<String> {
        self.said_bytes(topic, payload.as_bytes())
    }

    fn said_bytes(&mut self, topic: &str, payload: &[u8]) -> Vec<String> {
        let (verdict, said) = self.read(topic, payload);
        match verdict {
            Verdict::Taken => said
                .iter()
                .map(|said| format!("{} {}", said.device, name_of(said.evidence)))
                .collect(),
            Verdict::Unclaimed => vec!["unclaimed".to_owned()],
            Verdict::NotMine => vec!["not mine".to_owned()],
            Verdict::Ignored(reason) => vec![reason.as_str().to_owned()],
        }
    }
}

fn name_of(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Online => "online",
        Evidence::Offline => "offline",
        Evidence::Removed => "removed",
        Evidence::Data => "data",
        Evidence::Command => "command",
        Evidence::Listed => "listed",
        Evidence::Vouched => "vouched",
        Evidence::Doubted => "doubted",
        Evidence::Irregular(what) => what.as_str(),
        Evidence::Superseded => "superseded",
        Evidence::Unknown => "unknown",
        Evidence::Template => "template",
        Evidence::Excess => "excess",
    }
}

/// Plays a corpus: a line for each message, with tabs between topic, payload and what it says.
pub(super) fn play(convention: &Convention, corpus: &str) {
    play_bytes(convention, corpus, |payload| payload.as_bytes().to_vec());
}

/// The same for payloads that are written down in another way.
pub(super) fn play_bytes(convention: &Convention, corpus: &str, read: impl Fn(&str) -> Vec<u8>) {
    let mut world = World::of(convention);
    let mut count = 0;
    for line in corpus.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [topic, payload, expected] = fields.as_slice() else {
            panic!("not three fields: {line:?}");
        };
        let said = world.said_bytes(topic, &read(payload));
        assert_eq!(said.join(", "), *expected, "{line}");
        count += 1;
    }
    assert!(count > 0);
}
