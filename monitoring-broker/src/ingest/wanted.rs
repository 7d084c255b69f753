//! What a session subscribes. In: its devices. Out: each filter once, without those that another one covers.
//! The data of a device in a group is shared with the other members; its presence is not.

use std::collections::BTreeMap;
use std::sync::Arc;

use akri_mqtt_core::presence::Presence as Machine;
use akri_mqtt_core::properties::{DeviceSpec, ShareName};
use akri_mqtt_core::topic::TopicFilter;
use akri_mqtt_session::{QoS, Subscription};

/// Above so many filters nobody looks for covered ones: it takes the square of the number.
const COVERS: usize = 2_000;

/// A filter, and the group that shares it.
type Key = (Option<ShareName>, TopicFilter);
/// The quality, and whether retained messages are to come with each connection.
type Want = (QoS, bool);

/// The filters of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Its data.
    pub data: Vec<TopicFilter>,
    /// What announces its presence.
    pub presence: Vec<TopicFilter>,
}

impl Filters {
    /// Those of a device of which nothing was heard yet.
    pub fn at_first(device: &DeviceSpec) -> Self {
        let machine = Machine::for_device(Arc::new(device.clone()), super::task::now());
        Self::of(device, &machine)
    }

    /// Those of its properties, and those that payloads of its convention have named.
    pub fn of(device: &DeviceSpec, machine: &Machine) -> Self {
        let (presence, named): (Vec<_>, Vec<_>) = machine
            .subscriptions_on(&device.server.name)
            .into_iter()
            .partition(|wanted| wanted.snapshot);
        let mut data = device.topics.clone();
        data.extend(named.into_iter().map(|wanted| wanted.filter));
        data.sort();
        data.dedup();
        Self {
            data,
            presence: presence.into_iter().map(|wanted| wanted.filter).collect(),
        }
    }
}

/// What the devices of a session want: data with their quality, presence with at most 1. Each filter once.
pub fn subscriptions<'a>(
    devices: impl Iterator<Item = (&'a DeviceSpec, &'a Filters)>,
) -> Vec<Subscription> {
    let mut wanted: BTreeMap<Key, Want> = BTreeMap::new();
    for (device, filters) in devices {
        for filter in &filters.data {
            let key = (device.shared_group.clone(), filter.clone());
            let (qos, _) = wanted.entry(key).or_insert((device.mqtt.qos, false));
            *qos = (*qos).max(device.mqtt.qos);
        }
        for filter in &filters.presence {
            let qos = device.mqtt.qos.min(QoS::AtLeastOnce);
            wanted
                .entry((None, filter.clone()))
                .or_insert((qos, true))
                .1 = true;
        }
    }
    // Filters that another one covers are not subscribed; where two still intersect, the session counts once.
    let is_covered = |(group, filter): &Key, want: &Want| {
        wanted.len() <= COVERS
            && wanted.iter().any(|((of, other), by)| {
                of == group
                    && other != filter
                    && other.covers(filter)
                    && by.0 >= want.0
                    && (by.1 || !want.1)
            })
    };
    let kept = wanted.iter().filter(|(key, want)| !is_covered(key, want));
    kept.map(|((group, filter), (qos, snapshot))| {
        let text = match group {
            Some(group) => group.share(filter),
            None => filter.as_str().to_owned(),
        };
        let subscription = Subscription::new(text, *qos);
        if *snapshot {
            subscription.with_snapshot()
        } else {
            subscription
        }
    })
    .collect()
}
