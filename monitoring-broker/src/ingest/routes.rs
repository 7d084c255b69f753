//! Which devices a topic concerns. In: the devices' filters. Out: a route per topic, remembered.

use std::collections::HashMap;
use std::sync::Arc;

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_core::sparkplug;
use akri_mqtt_core::topic::FilterTree;
use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::wanted::Filters;
use crate::store::Place;

/// Topics whose route is remembered; beyond it all are forgotten and found again.
const REMEMBERED: usize = 16_384;
/// A route of more devices is found anew each time: each of the many topics on which a convention names
/// devices concerns all of them.
const MOST_DEVICES: usize = 64;

/// A device of which a topic says something.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// Its index among those that are watched. A device that comes or goes makes all routes forgotten.
    pub index: usize,
    /// It says only that the device lives.
    pub is_plain: bool,
}

/// Where messages of a topic go.
#[derive(Clone, Debug)]
pub struct Route {
    /// The topic, and the devices whose data it is, sorted.
    pub place: Arc<Place>,
    /// The devices whose presence it may concern, sorted.
    pub evidence: SmallVec<[Evidence; 1]>,
    /// A filter took it, but it is another device's.
    pub is_foreign: bool,
    /// Its messages are births of Sparkplug.
    pub is_birth: bool,
}

impl Route {
    /// Of a topic that is no device's.
    pub fn nobody(topic: &str) -> Self {
        Self {
            place: Arc::new(Place::new(topic, [])),
            evidence: SmallVec::new(),
            is_foreign: false,
            is_birth: false,
        }
    }
}

#[derive(Clone, Debug)]
struct Target {
    device: Arc<DeviceSpec>,
    is_data: bool,
}

/// See the module.
#[derive(Default)]
pub struct Routes {
    tree: FilterTree<Target>,
    remembered: HashMap<Arc<str>, Route, RandomState>,
}

impl Routes {
    /// Adds a device with its data filters and the filters of its presence.
    pub fn add(&mut self, device: &Arc<DeviceSpec>, filters: &Filters) {
        let data = filters.data.iter().map(|filter| (filter, true));
        for (filter, is_data) in data.chain(filters.presence.iter().map(|filter| (filter, false))) {
            let device = Arc::clone(device);
            self.tree.insert(filter, Target { device, is_data });
        }
        self.remembered.clear();
    }

    /// Takes a device out again.
    pub fn remove(&mut self, device: &DeviceSpec, filters: &Filters) {
        for filter in filters.data.iter().chain(&filters.presence) {
            self.tree
                .remove(filter, |target| target.device.id == device.id);
        }
        self.remembered.clear();
    }

    /// The route of a topic, if it is remembered.
    pub fn known(&self, topic: &str) -> Option<&Route> {
        self.remembered.get(topic)
    }

    /// The route of a topic. `watched` tells of a device that is watched its index, and whether the topic says only
    /// that it lives.
    pub fn of(
        &mut self,
        topic: &str,
        watched: impl Fn(&DeviceId) -> Option<(usize, bool)>,
    ) -> Route {
        if let Some(route) = self.known(topic) {
            return route.clone();
        }
        let route = self.find(topic, watched);
        if route.evidence.len() > MOST_DEVICES {
            return route;
        }
        if self.remembered.len() >= REMEMBERED {
            self.remembered.clear();
        }
        self.remembered
            .insert(Arc::clone(route.place.topic()), route.clone());
        route
    }

    fn find(&self, topic: &str, watched: impl Fn(&DeviceId) -> Option<(usize, bool)>) -> Route {
        let (mut data, mut evidence, mut is_foreign) = (Vec::new(), Vec::new(), false);
        for target in self.tree.matching(topic) {
            if target.is_data && !target.device.owns(topic) {
                is_foreign = true;
                continue;
            }
            evidence.push(target.device.id.clone());
            if target.is_data {
                data.push(Arc::<str>::from(target.device.id.as_str()));
            }
        }
        evidence.sort();
        evidence.dedup();
        data.sort();
        data.dedup();
        let evidence = evidence.iter().filter_map(|device| {
            let (index, is_plain) = watched(device)?;
            Some(Evidence { index, is_plain })
        });
        let evidence: SmallVec<_> = evidence.collect();
        Route {
            place: Arc::new(Place::new(topic, data)),
            is_birth: sparkplug::is_birth(topic),
            is_foreign: is_foreign && evidence.is_empty(),
            evidence,
        }
    }
}

#[cfg(test)]
mod tests {
    use akri_mqtt_core::details::Details;

    use super::*;

    fn watch(routes: &mut Routes, details: &Details, names: impl Iterator<Item = usize>) {
        for n in names {
            let id = DeviceId::new(details.servers[0].name.clone(), &format!("d{n}")).unwrap();
            let properties = details.properties_with(&id, details.convention(0));
            let device = Arc::new(DeviceSpec::from_properties(&properties).unwrap());
            routes.add(&device, &Filters::at_first(&device));
        }
    }

    #[test]
    fn routes_are_remembered_but_for_those_of_very_many_devices() {
        let yaml = "servers: [{name: a, urls: ['tcp://a:1883']}]\nconventions: [homeAssistant]\n";
        let details = Details::parse(yaml).unwrap();
        let mut routes = Routes::default();
        watch(&mut routes, &details, 0..MOST_DEVICES);
        let topic = |n: usize| format!("homeassistant/sensor/s{n}/config");
        let plain = |_: &DeviceId| Some((0, false));
        assert_eq!(routes.of(&topic(0), plain).evidence.len(), MOST_DEVICES);
        assert_eq!(routes.remembered.len(), 1);
        watch(&mut routes, &details, MOST_DEVICES..1_000);
        for n in 0..100 {
            assert_eq!(routes.of(&topic(n), plain).evidence.len(), 1_000);
        }
        assert!(routes.remembered.is_empty());
        routes.of("nobody/knows", plain);
        assert_eq!(routes.remembered.len(), 1);
    }
}
