//! What a session subscribes. In: its devices. Out: each filter once, without those that another one covers.

use std::collections::BTreeMap;
use std::sync::Arc;

use akri_mqtt_core::presence::Presence as Machine;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_core::topic::TopicFilter;
use akri_mqtt_session::{QoS, Subscription};

/// Above so many filters nobody looks for covered ones: it takes the square of the number.
const COVERS: usize = 2_000;

/// What the devices of a session want: data with their quality, presence with at most 1. Each filter once.
pub fn subscriptions<'a>(devices: impl Iterator<Item = &'a DeviceSpec>) -> Vec<Subscription> {
    let mut wanted: BTreeMap<String, (QoS, bool)> = BTreeMap::new();
    for device in devices {
        for filter in &device.topics {
            let entry = wanted.entry(filter.as_str().to_owned());
            let (qos, _) = entry.or_insert((device.mqtt.qos, false));
            *qos = (*qos).max(device.mqtt.qos);
        }
        let machine = Machine::for_device(Arc::new(device.clone()), super::task::now());
        for presence in machine
            .subscriptions()
            .into_iter()
            .filter(|wanted| wanted.snapshot)
        {
            let entry = wanted.entry(presence.filter.as_str().to_owned());
            entry
                .or_insert((presence.qos.min(QoS::AtLeastOnce), true))
                .1 = true;
        }
    }
    // Filters that another one covers are not subscribed; where two still intersect, the session counts once.
    let parsed: Vec<_> = wanted
        .iter()
        .filter_map(|(text, want)| Some((TopicFilter::parse(text).ok()?, *want)))
        .collect();
    let is_covered = |filter: &TopicFilter, want: (QoS, bool)| {
        parsed.len() <= COVERS
            && parsed.iter().any(|(other, by)| {
                other != filter && other.covers(filter) && by.0 >= want.0 && (by.1 || !want.1)
            })
    };
    let kept = parsed
        .iter()
        .filter(|(filter, want)| !is_covered(filter, *want));
    kept.map(|(filter, (qos, snapshot))| {
        let subscription = Subscription::new(filter.as_str(), *qos);
        if *snapshot {
            subscription.with_snapshot()
        } else {
            subscription
        }
    })
    .collect()
}
