//! The topics that discovery messages have named. In: entities as they come and go, and payloads. Out:
//! which discovery messages name a topic, what was said on it last, and what to subscribe. What that
//! means for a device is left to the module.

use std::collections::{BTreeMap, BTreeSet};

use super::entity::{Entity, names};
use crate::convention::Filters;

/// A longer payload on an availability topic is not kept for entities that come later.
const MAX_KEPT: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Topics {
    all: BTreeMap<String, Topic>,
    /// How many payloads were heard.
    heard: u64,
    revision: u64,
}

/// A topic that discovery messages have named.
#[derive(Debug, Default)]
pub(super) struct Topic {
    /// What was heard last, and how many payloads had been heard by then.
    last: Option<(u64, Vec<u8>)>,
    /// The discovery topics that name it for availability, and for states.
    pub announces: BTreeSet<String>,
    pub states: BTreeSet<String>,
}

impl Topics {
    pub fn get(&self, name: &str) -> Option<&Topic> {
        self.all.get(name)
    }

    /// Changes whenever [`Topics::named`] does.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What to subscribe: topics of availability, and those of states alone.
    pub fn named(&self) -> Filters {
        let (announcing, data): (Vec<_>, Vec<_>) = self
            .all
            .iter()
            .partition(|(_, topic)| !topic.announces.is_empty());
        let names = |topics: Vec<(&String, &Topic)>| -> Vec<String> {
            topics.into_iter().map(|(name, _)| name.clone()).collect()
        };
        Filters::of(&names(announcing), &names(data))
    }

    /// Notes what was published on a topic of availability.
    pub fn hear(&mut self, name: &str, payload: &[u8]) {
        if let Some(topic) = self.all.get_mut(name) {
            self.heard += 1;
            let keep = payload.len() <= MAX_KEPT && !payload.is_empty();
            topic.last = keep.then(|| (self.heard, payload.to_vec()));
        }
    }

    /// Files the topics of an entity, and tells it what is known of them.
    pub fn register(&mut self, config: &str, entity: &mut Entity, earlier: Option<&Entity>) {
        let inherits = earlier.is_some_and(|earlier| entity.inherit(earlier));
        let announcing: BTreeSet<String> = entity
            .availability
            .iter()
            .map(|one| one.topic.clone())
            .collect();
        let mut known = Vec::new();
        for name in announcing {
            let topic = self.all.entry(name.clone()).or_default();
            self.revision += u64::from(topic.announces.is_empty());
            topic.announces.insert(config.to_owned());
            if let Some((at, last)) = topic.last.clone().filter(|_| !inherits) {
                known.push((at, name, last));
            }
        }
        known.sort_unstable();
        for (_, name, last) in known {
            entity.hear(&name, &last);
        }
        for name in &entity.states {
            let topic = self.all.entry(name.clone()).or_default();
            self.revision += u64::from(topic.states.is_empty());
            topic.states.insert(config.to_owned());
        }
    }

    /// Takes the topics back that a discovery message does not name any more.
    pub fn unregister(&mut self, config: &str, old: &[(String, Entity)], new: &[(String, Entity)]) {
        let ((announces, states), (still, still_states)) = (names(old), names(new));
        for name in announces.union(&states) {
            let Some(topic) = self.all.get_mut(*name) else {
                continue;
            };
            let mut changed = !still.contains(name) && topic.announces.remove(config);
            changed |= !still_states.contains(name) && topic.states.remove(config);
            self.revision += u64::from(changed);
            if topic.announces.is_empty() && topic.states.is_empty() {
                self.all.remove(*name);
            }
        }
    }
}
