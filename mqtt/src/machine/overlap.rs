//! Filters that intersect. A server may send a message once for each of them (MQTT 5.0, 3.3.4); different
//! subscription identifiers tell such copies from two equal messages. On 3.1.1 there is no way to tell.

use std::{
    collections::{VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

use akri_mqtt_core::topic::TopicFilter;

use crate::QoS;

/// Messages that are remembered; a server sends the copies of one message together.
const RECENT: usize = 256;
/// Above this many filters the pairs are too many to compare; such sets go without identifiers.
const COMPARED: usize = 4096;

/// Gives each filter the smallest identifier that no intersecting filter has; `None` where nothing intersects.
/// Filters of equal identifiers share SUBSCRIBE packets, so that there are few.
pub(super) fn identifiers(filters: &[Option<TopicFilter>]) -> Vec<Option<u32>> {
    let mut chosen: Vec<Option<u32>> = vec![None; filters.len()];
    if filters.len() > COMPARED {
        return chosen;
    }
    let mut colours: Vec<u32> = Vec::with_capacity(filters.len());
    for (index, filter) in filters.iter().enumerate() {
        let Some(filter) = filter else {
            colours.push(0);
            continue;
        };
        let mut taken: Vec<u32> = Vec::new();
        let earlier = filters.iter().zip(&colours).take(index).enumerate();
        let mut touched: Vec<usize> = Vec::new();
        for (other_index, (other, colour)) in earlier {
            if other.as_ref().is_some_and(|other| other.intersects(filter)) {
                taken.push(*colour);
                touched.push(other_index);
            }
        }
        let colour = (1u32..).find(|colour| !taken.contains(colour)).unwrap_or(1);
        colours.push(colour);
        for other in touched
            .into_iter()
            .chain((!taken.is_empty()).then_some(index))
        {
            if let (Some(slot), Some(colour)) = (chosen.get_mut(other), colours.get(other)) {
                *slot = Some(*colour);
            }
        }
    }
    chosen
}

/// The last messages with the identifiers under which they came.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    qos: QoS,
    identifiers: Vec<u32>,
}

impl Recent {
    /// The subscriptions changed: older messages say nothing about newer ones.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Whether this is a further copy of a message that was delivered. A copy of a higher QoS than the first is
    /// none, because the first was not delivered with its guarantee.
    pub(super) fn is_copy(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        identifiers: &[u32],
    ) -> bool {
        if identifiers.is_empty() {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        payload.hash(&mut hasher);
        let hash = hasher.finish();
        let first = self.entries.iter_mut().find(|entry| {
            let same_order = entry.qos == qos || qos == QoS::AtMostOnce;
            entry.hash == hash
                && same_order
                && !identifiers.iter().any(|id| entry.identifiers.contains(id))
        });
        if let Some(first) = first {
            first.identifiers.extend_from_slice(identifiers);
            return true;
        }
        if self.entries.len() >= RECENT {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry {
            hash,
            qos,
            identifiers: identifiers.to_vec(),
        });
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str]) -> Vec<Option<TopicFilter>> {
        texts
            .iter()
            .map(|text| Some(TopicFilter::parse(text).unwrap()))
            .collect()
    }

    #[test]
    fn only_intersecting_filters_get_identifiers_and_as_few_as_possible() {
        let given = identifiers(&filters(&["a/+/status", "b/#", "a/r1/#", "c/x", "a/r2/#"]));
        assert_eq!(given, [Some(1), None, Some(2), None, Some(2)]);
    }

    #[test]
    fn copies_under_other_identifiers_count_once_and_equal_messages_twice() {
        let mut recent = Recent::default();
        let mut copy = |id: u32| recent.is_copy("t", b"x", QoS::AtLeastOnce, &[id]);
        assert_eq!(
            [copy(1), copy(2), copy(1), copy(1), copy(2), copy(2)],
            [false, true, false, false, true, true]
        );
    }

    #[test]
    fn copy_of_higher_qos_is_delivered() {
        let mut recent = Recent::default();
        assert!(!recent.is_copy("t", b"x", QoS::AtMostOnce, &[1]));
        assert!(!recent.is_copy("t", b"x", QoS::AtLeastOnce, &[2]));
    }
}
