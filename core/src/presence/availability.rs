//! The rules of `presence.availability`. In: messages. Out: what their words announce.
//! Which device a topic names is left to `rules`.

use serde_json::Value;

use super::rules::{Finding, Names, Source, short};
use super::{Evidence, Inbound};
use crate::convention::Verdict;
use crate::details::Availability;
use crate::topic::FilterTree;

/// `presence.availability`: status topics and topics of Last Wills.
#[derive(Debug)]
pub(super) struct Announcing {
    tree: FilterTree<usize>,
    rules: Vec<Words>,
}

/// The words of one announcing rule.
#[derive(Debug)]
struct Words {
    online: Vec<String>,
    offline: Vec<String>,
    pointer: Option<String>,
    retained_will: bool,
}

impl Announcing {
    pub fn new(rules: &[Availability]) -> Self {
        let mut tree = FilterTree::new();
        for (index, rule) in rules.iter().enumerate() {
            tree.insert(rule.topic.filter(), index);
        }
        let rules = rules
            .iter()
            .map(|rule| Words {
                online: rule.online.clone(),
                offline: rule.offline.clone(),
                pointer: rule.json_pointer.clone(),
                retained_will: rule.retained_will,
            })
            .collect();
        Self { tree, rules }
    }

    pub fn takes(&self, topic: &str) -> bool {
        self.tree.matching(topic).next().is_some()
    }

    pub fn read(&self, names: &Names, message: &Inbound<'_>, found: &mut Vec<Finding>) -> Verdict {
        let first = self.tree.matching(message.topic).min().copied();
        let Some((index, words)) = first.and_then(|i| Some((i, self.rules.get(i)?))) else {
            return Verdict::NotMine;
        };
        let device = match names.name(message.topic) {
            Ok((device, _)) => device,
            Err(reason) => return Verdict::Ignored(reason),
        };
        found.push(Finding {
            device,
            evidence: words.read(message.payload),
            source: short(index).map_or(Source::Nothing, Source::Availability),
            overrides: true,
            lists: false,
            retained_will: words.retained_will,
            appears: true,
        });
        Verdict::Taken
    }
}

impl Words {
    fn read(&self, payload: &[u8]) -> Evidence {
        if payload.is_empty() {
            return Evidence::Removed;
        }
        let is_one_of =
            |words: &[String], text: &str| words.iter().any(|word| word.eq_ignore_ascii_case(text));
        let judge = |text: &str| {
            if is_one_of(&self.online, text) {
                Evidence::Online
            } else if is_one_of(&self.offline, text) {
                Evidence::Offline
            } else {
                Evidence::Unknown
            }
        };
        let Some(pointer) = &self.pointer else {
            return std::str::from_utf8(payload)
                .map_or(Evidence::Unknown, |text| judge(text.trim()));
        };
        let Ok(json) = serde_json::from_slice::<Value>(payload) else {
            return Evidence::Unknown;
        };
        match json.pointer(pointer) {
            Some(Value::String(text)) => judge(text.trim()),
            Some(value @ (Value::Bool(_) | Value::Number(_))) => judge(&value.to_string()),
            _ => Evidence::Unknown,
        }
    }
}
