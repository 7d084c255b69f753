//! Which devices a topic concerns. In: the devices' filters. Out: a route per topic, remembered.

use std::collections::HashMap;
use std::sync::Arc;

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_core::sparkplug;
use akri_mqtt_core::topic::FilterTree;

use super::wanted::Filters;

/// Topics whose route is remembered; beyond it all are forgotten and found again.
const REMEMBERED: usize = 16_384;
/// A route of more devices is found anew each time: each of the many topics on which a convention names
/// devices concerns all of them.
const MOST_DEVICES: usize = 64;

/// A device of which a topic says something.
#[derive(Debug)]
pub struct Evidence {
    /// The device.
    pub device: DeviceId,
    /// It says only that the device lives.
    pub is_plain: bool,
}

/// Where messages of a topic go.
#[derive(Debug)]
pub struct Route {
    /// The topic.
    pub topic: Arc<str>,
    /// The devices whose data it is, sorted.
    pub data: Arc<[Arc<str>]>,
    /// The devices whose presence it may concern, sorted.
    pub evidence: Vec<Evidence>,
    /// A filter took it, but it is another device's.
    pub is_foreign: bool,
    /// Its messages are births of Sparkplug.
    pub is_birth: bool,
}

impl Route {
    /// Of a topic that is no device's.
    pub fn nobody(topic: &str) -> Arc<Self> {
        Arc::new(Self {
            topic: topic.into(),
            data: [].into(),
            evidence: Vec::new(),
            is_foreign: false,
            is_birth: false,
        })
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
    remembered: HashMap<Arc<str>, Arc<Route>>,
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

    /// The route of a topic, of which `is_plain` tells whether it says only that a device lives.
    pub fn of(&mut self, topic: &str, is_plain: impl Fn(&DeviceId) -> bool) -> Arc<Route> {
        if let Some(route) = self.remembered.get(topic) {
            return Arc::clone(route);
        }
        let route = Arc::new(self.find(topic, is_plain));
        if route.evidence.len() > MOST_DEVICES {
            return route;
        }
        if self.remembered.len() >= REMEMBERED {
            self.remembered.clear();
        }
        self.remembered
            .insert(Arc::clone(&route.topic), Arc::clone(&route));
        route
    }

    fn find(&self, topic: &str, is_plain: impl Fn(&DeviceId) -> bool) -> Route {
        let (mut data, mut evidence, mut is_foreign) = (Vec::new(), Vec::new(), false);
        for target in self.tree.matching(topic) {
            if target.is_data && !target.device.owns(topic) {
                is_foreign = true;
                continue;
            }
            evidence.push(target.device.id.clone());
            if target.is_data {
                data.push(Arc::from(target.device.id.as_str()));
            }
        }
        evidence.sort();
        evidence.dedup();
        data.sort();
        data.dedup();
        let evidence: Vec<_> = evidence
            .into_iter()
            .map(|device| Evidence {
                is_plain: is_plain(&device),
                device,
            })
            .collect();
        Route {
            topic: topic.into(),
            is_birth: sparkplug::is_birth(topic),
            is_foreign: is_foreign && evidence.is_empty(),
            data: data.into(),
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
        assert_eq!(routes.of(&topic(0), |_| false).evidence.len(), MOST_DEVICES);
        assert_eq!(routes.remembered.len(), 1);
        watch(&mut routes, &details, MOST_DEVICES..1_000);
        for n in 0..100 {
            assert_eq!(routes.of(&topic(n), |_| false).evidence.len(), 1_000);
        }
        assert!(routes.remembered.is_empty());
        routes.of("nobody/knows", |_| false);
        assert_eq!(routes.remembered.len(), 1);
    }
}
