//! Numbers for devices' topics, and the latest message of each. In: what the writer commits.
//! Out: names for numbers, numbers for filters. Lives in memory; the writer saves it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::block::INLINE;
use super::place::Home;

/// So many topics are known by number (some 200 bytes each). Messages of further ones carry their
/// topic themselves: they are served by history and streams, not by `latest`, and are counted.
pub const MOST_TOPICS: usize = 100_000;

/// A topic of a device.
#[derive(Clone, Debug)]
pub struct Topic {
    /// The device.
    pub device: Arc<str>,
    /// The topic.
    pub name: Arc<str>,
    /// Sequence of its latest message; 0: none is committed yet.
    pub last: u64,
    /// The same, of what is about to be committed as well.
    pub newest: u64,
    /// Time of its latest message.
    pub last_time: i64,
    /// The latest message has outlived its block and has a row of its own.
    pub kept: bool,
    /// `last` is newer than what is saved.
    pub dirty: bool,
}

/// What a message gets from the catalog.
#[derive(Clone, Copy, Debug)]
pub struct Numbered {
    /// Of its topic, or [`INLINE`] if there is no room.
    pub number: u32,
    /// The message before it of the same topic, or 0.
    pub previous: u64,
    /// Its topic was not known.
    pub is_new: bool,
}

/// All topics of all devices.
#[derive(Debug, Default)]
pub struct Catalog {
    topics: HashMap<u32, Topic, RandomState>,
    devices: HashMap<Arc<str>, HashMap<Arc<str>, u32>>,
    served: BTreeSet<Arc<str>>,
    highest: u32,
    /// The last message to which no later one of its topic points: it carries its topic itself, or was stored by a
    /// version that did not write down which message came before.
    pub unlinked: u64,
}

impl Catalog {
    /// Adds a topic that was saved earlier.
    pub fn restore(&mut self, number: u32, topic: Topic) {
        self.highest = self.highest.max(number);
        self.devices
            .entry(Arc::clone(&topic.device))
            .or_default()
            .insert(Arc::clone(&topic.name), number);
        self.topics.insert(number, topic);
    }

    /// The number of the topic of a message that is about to be committed.
    pub(super) fn number(&mut self, home: &Home, name: &Arc<str>, sequence: u64) -> Numbered {
        let mut next = |number: u32| {
            let topic = self.topics.get_mut(&number)?;
            Some(Numbered {
                number,
                previous: std::mem::replace(&mut topic.newest, sequence),
                is_new: false,
            })
        };
        if let Some(numbered) = next(home.number()) {
            return numbered;
        }
        let device = &home.device;
        let known = self.devices.get(device).and_then(|topics| topics.get(name));
        if let Some(numbered) = known.and_then(|number| next(*number)) {
            home.set_number(numbered.number);
            return numbered;
        }
        if self.topics.len() >= MOST_TOPICS || self.highest == u32::MAX {
            return Numbered {
                number: INLINE,
                previous: 0,
                is_new: false,
            };
        }
        let number = self.highest + 1;
        let topic = Topic {
            device: Arc::clone(device),
            name: Arc::clone(name),
            last: 0,
            newest: sequence,
            last_time: 0,
            kept: false,
            dirty: false,
        };
        self.restore(number, topic);
        home.set_number(number);
        Numbered {
            number,
            previous: 0,
            is_new: true,
        }
    }

    /// The topic of a number.
    pub fn get(&self, number: u32) -> Option<&Topic> {
        self.topics.get(&number)
    }

    /// The topic of a number, to change it.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Topic> {
        self.topics.get_mut(&number)
    }

    /// Forgets a topic of which nothing is stored any more.
    pub fn remove(&mut self, number: u32) {
        let Some(topic) = self.topics.remove(&number) else {
            return;
        };
        if let Some(topics) = self.devices.get_mut(&topic.device) {
            topics.remove(&topic.name);
            if topics.is_empty() {
                self.devices.remove(&topic.device);
            }
        }
    }

    /// The topics of a device with their numbers; unsorted.
    pub fn of_device(&self, device: &str) -> impl Iterator<Item = (u32, &Topic)> {
        self.devices
            .get(device)
            .into_iter()
            .flat_map(HashMap::values)
            .filter_map(|number| Some((*number, self.topics.get(number)?)))
    }

    /// All topics with their numbers; unsorted.
    pub fn all(&self) -> impl Iterator<Item = (u32, &Topic)> {
        self.topics.iter().map(|(number, topic)| (*number, topic))
    }

    /// All topics, to change them; unsorted.
    pub fn all_mut(&mut self) -> impl Iterator<Item = (u32, &mut Topic)> {
        self.topics
            .iter_mut()
            .map(|(number, topic)| (*number, topic))
    }

    /// Devices with at least one topic; unsorted.
    pub fn devices(&self) -> impl Iterator<Item = &Arc<str>> {
        self.devices.keys()
    }

    /// Whether something is stored for a device.
    pub fn has_device(&self, device: &str) -> bool {
        self.devices.contains_key(device)
    }

    /// When the latest message of a device was received.
    pub fn last_time(&self, device: &str) -> Option<i64> {
        self.of_device(device)
            .filter(|(_, topic)| topic.last > 0)
            .map(|(_, topic)| topic.last_time)
            .max()
    }

    /// Whether the last messages of a device are kept whatever their age.
    pub fn is_served(&self, device: &str) -> bool {
        self.served.contains(device)
    }

    /// Says whether a device is served.
    pub fn serve(&mut self, device: &Arc<str>, served: bool) {
        if served {
            self.served.insert(Arc::clone(device));
        } else {
            self.served.remove(device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Place;
    use super::*;

    #[test]
    fn a_place_whose_topic_was_forgotten_gets_a_number_that_nobody_had() {
        let mut catalog = Catalog::default();
        let place = Place::new("t", ["s/d".into()]);
        let number = |catalog: &mut Catalog, sequence| {
            let numbered = catalog.number(&place.homes()[0], place.topic(), sequence);
            (numbered.number, numbered.previous, numbered.is_new)
        };
        assert_eq!(number(&mut catalog, 1), (1, 0, true));
        assert_eq!(number(&mut catalog, 2), (1, 1, false));
        catalog.remove(1);
        assert_eq!(number(&mut catalog, 3), (2, 0, true));
        assert_eq!(number(&mut catalog, 4), (2, 3, false));
        let same = Place::new("t", ["s/d".into()]);
        let numbered = catalog.number(&same.homes()[0], same.topic(), 5);
        assert_eq!((numbered.number, numbered.previous), (2, 4));
    }
}
