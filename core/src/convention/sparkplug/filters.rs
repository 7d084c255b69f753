//! What is subscribed for Edge Nodes and devices. In: groups, or the name of a device. Out: filters.

use crate::convention::Filters;
use crate::sparkplug::{NAMESPACE, Topic, Verb};
use crate::topic::TopicFilter;

/// What to subscribe for all devices of these groups, or for the one of this name.
pub(in crate::convention) fn filters(
    groups: &[TopicFilter],
    rebirth: bool,
    device: Option<&str>,
) -> Filters {
    let Some(name) = device else {
        let (mut announcing, mut data) = (Vec::new(), Vec::new());
        for group in groups {
            let at = |level: &str| format!("{NAMESPACE}/{group}/{level}");
            announcing.extend(["NBIRTH/+", "NDEATH/+", "DBIRTH/+/+", "DDEATH/+/+"].map(at));
            announcing.extend(rebirth.then(|| at("NCMD/+")));
            data.extend(["NDATA/+", "DDATA/+/+"].map(at));
        }
        return Filters::of(&announcing, &data);
    };
    let Some(own) = topic_of(name) else {
        return Filters::default();
    };
    let node = Topic {
        device: None,
        ..own
    };
    let mut announcing = vec![node.with(Verb::Birth), node.with(Verb::Death)];
    if own.device.is_some() {
        announcing.extend([own.with(Verb::Birth), own.with(Verb::Death)]);
    }
    announcing.extend(rebirth.then(|| node.with(Verb::Command)));
    // Births and deaths have readings as well, and births explain the aliases of data.
    let data = [Verb::Birth, Verb::Data, Verb::Death].map(|verb| own.with(verb));
    Filters::of(&announcing, &data)
}

/// A topic of the device with this name: `<group>/<node>` or `<group>/<node>/<device>`.
pub(super) fn topic_of(name: &str) -> Option<Topic<'_>> {
    let levels: Vec<&str> = name.split('/').take(4).collect();
    let (group, node, device) = match levels.as_slice() {
        [group, node] => (*group, *node, None),
        [group, node, device] => (*group, *node, Some(*device)),
        _ => return None,
    };
    (!levels.contains(&"")).then_some(Topic {
        group,
        verb: Verb::Data,
        node,
        device,
    })
}
