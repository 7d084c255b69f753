//! The birth certificates of Sparkplug senders, by topic and sequence: what is stored is decoded when it is
//! asked for, with the birth that came before it. In: births, before anyone can read them from the store.
//! Out: the birth that explains a message.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, PoisonError, RwLock};

use akri_mqtt_core::decode::Decoder;
use akri_mqtt_core::sparkplug::{self, Birth};
use prometheus_client::metrics::counter::Counter;

use super::Decoders;
use crate::store::{End, Scan, Store, StoreError};

/// Different births of one topic; metrics seldom change, so that equal ones are kept once.
const VERSIONS: usize = 16;
/// All births together, about.
const BYTES: usize = 64 << 20;

/// Births of one topic by the sequence of the message that had them.
type Versions = BTreeMap<u64, Arc<Birth>>;

#[derive(Debug, Default)]
struct Known {
    by_topic: BTreeMap<Box<str>, Versions>,
    bytes: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Births {
    known: RwLock<Known>,
    /// Births that found no room.
    pub(super) dropped: Counter,
}

impl Births {
    /// Keeps a birth; what is none is left to whoever decodes it.
    pub fn learn(&self, topic: &str, sequence: u64, payload: &[u8]) {
        let Ok(birth) = Birth::read(payload) else {
            return;
        };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if !known.keep(topic, sequence, birth) {
            self.dropped.inc();
        }
    }

    /// The birth that explains a message.
    #[must_use]
    pub fn of(&self, topic: &str, sequence: u64) -> Option<Arc<Birth>> {
        let birth = sparkplug::birth_of(topic)?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let versions = known.by_topic.get(birth.as_str())?;
        let (_, birth) = versions.range(..=sequence).next_back()?;
        Some(Arc::clone(birth))
    }
}

impl Known {
    fn keep(&mut self, topic: &str, sequence: u64, birth: Birth) -> bool {
        let before = self.by_topic.get(topic);
        let before = before.and_then(|versions| versions.range(..=sequence).next_back());
        if before.is_some_and(|(_, before)| **before == birth) {
            return true;
        }
        let size = birth.size() + topic.len();
        if self.bytes + size > BYTES {
            self.forget_former();
            if self.bytes + size > BYTES {
                return false;
            }
        }
        let versions = match self.by_topic.entry(topic.into()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Versions::new()),
        };
        let replaced = versions.insert(sequence, Arc::new(birth));
        let oldest = (versions.len() > VERSIONS)
            .then(|| versions.pop_first())
            .flatten()
            .map(|(_, oldest)| oldest);
        self.bytes += size;
        for gone in replaced.into_iter().chain(oldest) {
            self.bytes = self.bytes.saturating_sub(gone.size() + topic.len());
        }
        true
    }

    /// Keeps the latest birth of each topic only.
    fn forget_former(&mut self) {
        self.bytes = 0;
        for (topic, versions) in &mut self.by_topic {
            if let Some((sequence, latest)) = versions.pop_last() {
                self.bytes += latest.size() + topic.len();
                *versions = Versions::from([(sequence, latest)]);
            }
        }
    }
}

/// Learns what the store has from earlier runs.
///
/// # Errors
/// When the store cannot be read.
pub async fn restore_births(store: &Store, decoders: &Decoders) -> Result<(), StoreError> {
    let mut topics: Vec<u32> = {
        let catalog = store.catalog();
        let births = catalog.all().filter(|(_, topic)| {
            sparkplug::is_birth(&topic.name) && decoders.of(&topic.name) == Decoder::SparkplugB
        });
        births.map(|(number, _)| number).collect()
    };
    topics.sort_unstable();
    let mut start = 0;
    while !topics.is_empty() {
        let births = Arc::clone(&decoders.births);
        let scan = Scan {
            topics: topics.clone(),
            from: None,
            to: None,
            ascending: true,
            start,
        };
        let read = store.read(move |reader| {
            reader.scan(&scan, &mut |stored| {
                if sparkplug::is_birth(&stored.topic) {
                    births.learn(&stored.topic, stored.sequence, &stored.record.payload);
                }
                std::ops::ControlFlow::Continue(())
            })
        });
        match read.await? {
            End::Bounded(next) => start = next,
            End::Finished | End::Stopped => break,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "spBv1.0/g/DBIRTH/n/d";

    /// A payload with one metric that has an alias.
    fn birth(name: &str, alias: u8) -> Vec<u8> {
        let size = u8::try_from(name.len()).unwrap();
        let mut payload = vec![0x12, size + 4, 0x0a, size];
        payload.extend(name.as_bytes());
        payload.extend([0x10, alias]);
        payload
    }

    fn name(births: &Births, sequence: u64) -> Option<String> {
        let birth = births.of("spBv1.0/g/DDATA/n/d", sequence)?;
        // Alias 1, value 7.
        let data = [0x12, 4, 0x10, 1, 0x50, 7];
        let decoded = sparkplug::decode(&data, Some(&birth));
        Some(decoded.readings[0].0.to_string())
    }

    #[test]
    fn message_is_explained_by_the_birth_before_it() {
        let births = Births::default();
        births.learn(TOPIC, 10, &birth("a", 1));
        births.learn(TOPIC, 20, &birth("a", 1));
        births.learn(TOPIC, 30, &birth("b", 1));
        births.learn(TOPIC, 40, b"\xff");
        let at = |sequence| name(&births, sequence);
        assert_eq!(at(9), None);
        assert_eq!(at(10).as_deref(), Some("a"));
        assert_eq!(at(29).as_deref(), Some("a"));
        assert_eq!(at(30).as_deref(), Some("b"));
        assert_eq!(births.known.read().unwrap().by_topic[TOPIC].len(), 2);
    }

    #[test]
    fn former_births_are_bounded_in_number_and_bytes() {
        let births = Births::default();
        for sequence in 0..100 {
            let other = format!("{sequence:03}");
            births.learn(TOPIC, sequence, &birth(&other, 1));
        }
        assert_eq!(births.known.read().unwrap().by_topic[TOPIC].len(), VERSIONS);
        assert_eq!(name(&births, 99).as_deref(), Some("099"));
        let mut known = births.known.write().unwrap();
        known.bytes = BYTES;
        assert!(known.keep(TOPIC, 200, Birth::read(&birth("z", 1)).unwrap()));
        assert_eq!(known.by_topic[TOPIC].len(), 2);
        assert_eq!(births.dropped.get(), 0);
    }
}
