//! The devices of `--pool`: the Instances of a Configuration. In: their list and every change, from the API server.
//! Out: devices, read from what their pods would have as environment; one that cannot be read leaves the others
//! as they are. What is done with them is left to whoever asks.

use std::collections::{BTreeMap, BTreeSet};

use akri_mqtt_cluster::follow;
use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_crds::Instance;
use akri_mqtt_runtime::Condition;
use futures_util::FutureExt as _;
use futures_util::stream::{BoxStream, StreamExt as _};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};

use crate::source::{Changes, Listed};

/// Further Instances of one Configuration are refused.
const MOST: usize = 100_000;
/// Changes that are handed out at once at most, but for a whole list.
const AT_ONCE: usize = 1_000;

/// See the module.
pub struct Instances {
    events: BoxStream<'static, Event<Instance>>,
    book: Book,
    /// What has changed and was not handed out yet.
    changes: Changes,
}

impl Instances {
    /// Those of a Configuration. How they can be seen is a part of the readiness until they were listed once.
    #[must_use]
    pub fn new(client: Client, namespace: &str, configuration: &str, ready: Condition) -> Self {
        let api = Api::namespaced(client, namespace);
        let mut is_listed = false;
        let report = move |problem: Option<String>| match problem {
            None => {
                is_listed = true;
                ready.ready("watched");
            }
            Some(problem) => {
                tracing::warn!(problem, "the Instances cannot be watched; trying again");
                if is_listed {
                    ready.ready(format!("the last list stands: {problem}"));
                } else {
                    ready.not_ready(problem);
                }
            }
        };
        Self {
            events: follow(api, Config::default(), None, report),
            book: Book::new(configuration),
            changes: Changes::default(),
        }
    }

    /// How many are refused now.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.book.refused.len()
    }

    /// Waits for a change, and applies it to the list. The first one is the whole list. May be dropped and called
    /// again at any time.
    pub async fn changed(&mut self, listed: &mut Listed) -> Changes {
        loop {
            // It never ends.
            let Some(event) = self.events.next().await else {
                return std::future::pending().await;
            };
            let mut is_complete = self.apply(event, listed);
            // What is there already goes with it: a session is told once.
            while self.changes.gone.len() + self.changes.new.len() < AT_ONCE
                && let Some(Some(event)) = self.events.next().now_or_never()
            {
                is_complete |= self.apply(event, listed);
            }
            if is_complete || (self.book.is_listed && !self.changes.is_empty()) {
                return std::mem::take(&mut self.changes);
            }
        }
    }

    /// Returns whether the first list is complete by it.
    fn apply(&mut self, event: Event<Instance>, listed: &mut Listed) -> bool {
        let before = self.book.is_listed;
        self.book.on_event(event, listed, &mut self.changes);
        self.book.is_listed && !before
    }
}

/// Which Instance a device is of. Reads no clock and sends nothing.
#[derive(Debug)]
struct Book {
    configuration: String,
    devices: BTreeMap<String, DeviceId>,
    instances: BTreeMap<DeviceId, String>,
    /// Those that are not listed, each with the reason.
    refused: BTreeMap<String, Refused>,
    /// What a list that is under way has named.
    listing: BTreeSet<String>,
    is_listed: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Refused {
    /// It cannot be read. What was read last stands.
    Wrong(String),
    /// Another Instance has the device; this one is for the time after.
    Second(Box<DeviceSpec>),
}

impl Book {
    fn new(configuration: &str) -> Self {
        Self {
            configuration: configuration.to_owned(),
            devices: BTreeMap::new(),
            instances: BTreeMap::new(),
            refused: BTreeMap::new(),
            listing: BTreeSet::new(),
            is_listed: false,
        }
    }

    fn on_event(&mut self, event: Event<Instance>, listed: &mut Listed, changes: &mut Changes) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(instance) => {
                self.listing.extend(instance.metadata.name.clone());
                self.put(instance, listed, changes);
            }
            Event::Apply(instance) => self.put(instance, listed, changes),
            Event::Delete(instance) => {
                let name = instance.metadata.name.unwrap_or_default();
                self.remove(&name, listed, changes);
            }
            Event::InitDone => {
                let named = std::mem::take(&mut self.listing);
                let known = self.devices.keys().chain(self.refused.keys());
                let known: BTreeSet<_> = known.cloned().collect();
                for name in known.difference(&named) {
                    self.remove(name, listed, changes);
                }
                self.is_listed = true;
            }
        }
    }

    fn put(&mut self, instance: Instance, listed: &mut Listed, changes: &mut Changes) {
        let Some(name) = instance.metadata.name else {
            return;
        };
        if instance.spec.configuration_name != self.configuration {
            self.remove(&name, listed, changes);
            return;
        }
        let is_known = self.devices.contains_key(&name) || self.refused.contains_key(&name);
        if !is_known && self.devices.len() + self.refused.len() >= MOST {
            tracing::warn!(
                instance = name,
                most = MOST,
                "too many Instances; one is left out"
            );
            return;
        }
        match DeviceSpec::from_properties(&instance.spec.broker_properties) {
            Ok(device) => self.admit(name, device, listed, changes),
            Err(faults) => {
                let reason = Refused::Wrong(faults.to_string());
                if self.refused.get(&name) != Some(&reason) {
                    tracing::warn!(instance = name, error = %faults, "an Instance is no device");
                    self.refused.insert(name, reason);
                }
            }
        }
    }

    fn admit(
        &mut self,
        name: String,
        device: DeviceSpec,
        listed: &mut Listed,
        changes: &mut Changes,
    ) {
        let first = self.instances.get(&device.id).cloned();
        if let Some(first) = first.filter(|first| *first != name) {
            self.leave_device(&name, listed, changes);
            let before = self.refused.get(&name);
            if !matches!(before, Some(Refused::Second(before)) if before.id == device.id) {
                let device = &device.id;
                tracing::warn!(instance = name, %device, first, "the device of another Instance");
            }
            self.refused.insert(name, Refused::Second(Box::new(device)));
            return;
        }
        self.refused.remove(&name);
        if self.devices.get(&name).is_some_and(|id| *id != device.id) {
            self.leave_device(&name, listed, changes);
        }
        self.devices.insert(name.clone(), device.id.clone());
        self.instances.insert(device.id.clone(), name);
        if listed.get(&device.id) != Some(&device) {
            changes.new.insert(device.id.clone(), device.clone());
            listed.insert(device.id.clone(), device);
        }
    }

    fn remove(&mut self, name: &str, listed: &mut Listed, changes: &mut Changes) {
        self.refused.remove(name);
        self.leave_device(name, listed, changes);
    }

    /// The Instance is not this device's any more; another one that waits for it takes its place.
    fn leave_device(&mut self, name: &str, listed: &mut Listed, changes: &mut Changes) {
        let Some(id) = self.devices.remove(name) else {
            return;
        };
        self.instances.remove(&id);
        listed.remove(&id);
        changes.new.remove(&id);
        changes.gone.insert(id.clone());
        let next = self
            .refused
            .iter()
            .find_map(|(name, refused)| match refused {
                Refused::Second(device) if device.id == id => Some((name.clone(), device)),
                _ => None,
            });
        if let Some((name, device)) = next {
            let device = (**device).clone();
            self.admit(name, device, listed, changes);
        }
    }
}

#[cfg(test)]
mod tests {
    use akri_mqtt_crds::InstanceSpec;

    use super::*;

    fn instance(name: &str, configuration: &str, id: &str) -> Instance {
        let properties = [
            ("MQTT_DEVICE_ID", id),
            ("MQTT_SERVER_URLS", "tcp://127.0.0.1:1883"),
            ("MQTT_TOPICS", r#"["a/#"]"#),
            ("SOMETHING_ELSE", "of the Configuration"),
        ];
        let spec = serde_json::json!({
            "configurationName": configuration, "cdiName": "akri.sh/c=1", "capacity": 1,
            "brokerProperties": BTreeMap::from(properties),
        });
        Instance::new(name, serde_json::from_value::<InstanceSpec>(spec).unwrap())
    }

    /// What there is after these events, and what changed.
    fn after(
        book: &mut Book,
        listed: &mut Listed,
        events: Vec<Event<Instance>>,
    ) -> (Vec<String>, Vec<String>) {
        let mut changes = Changes::default();
        for event in events {
            book.on_event(event, listed, &mut changes);
        }
        let ids = |ids: Vec<&DeviceId>| ids.into_iter().map(ToString::to_string).collect();
        (
            ids(changes.gone.iter().collect()),
            ids(changes.new.keys().collect()),
        )
    }

    fn ids(listed: &Listed) -> Vec<&str> {
        listed.keys().map(DeviceId::as_str).collect()
    }

    #[test]
    fn devices_are_those_of_one_configuration_as_they_come_and_go() {
        let (mut book, mut listed) = (Book::new("c"), Listed::new());
        let (gone, new) = after(
            &mut book,
            &mut listed,
            vec![
                Event::Init,
                Event::InitApply(instance("c-1", "c", "plant/r1")),
                Event::InitApply(instance("c-2", "c", "plant/r2")),
                Event::InitApply(instance("d-1", "d", "plant/r3")),
                Event::InitDone,
            ],
        );
        assert_eq!((gone, new.len()), (vec![], 2));
        assert_eq!(ids(&listed), ["plant/r1", "plant/r2"]);
        let deleted = Event::Delete(instance("c-1", "c", "plant/r1"));
        let same = Event::Apply(instance("c-2", "c", "plant/r2"));
        let (gone, new) = after(&mut book, &mut listed, vec![deleted, same]);
        assert_eq!((gone, new), (vec!["plant/r1".to_owned()], vec![]));
        let list = vec![Event::Init, Event::InitDone];
        let (gone, _) = after(&mut book, &mut listed, list);
        assert_eq!(gone, ["plant/r2"]);
        assert!(listed.is_empty());
    }

    #[test]
    fn an_instance_that_cannot_be_read_is_counted_and_what_was_read_last_stands() {
        let (mut book, mut listed) = (Book::new("c"), Listed::new());
        let wrong = |name: &str| {
            let mut wrong = instance(name, "c", "plant/r1");
            wrong.spec.broker_properties.remove("MQTT_TOPICS");
            Event::Apply(wrong)
        };
        after(
            &mut book,
            &mut listed,
            vec![
                wrong("c-0"),
                Event::Apply(instance("c-1", "c", "plant/r1")),
                wrong("c-1"),
            ],
        );
        assert_eq!(ids(&listed), ["plant/r1"]);
        assert_eq!(book.refused.len(), 2);
        let good = Event::Apply(instance("c-1", "c", "plant/r1"));
        let deleted = Event::Delete(instance("c-0", "c", "plant/r1"));
        after(&mut book, &mut listed, vec![good, deleted]);
        assert_eq!((ids(&listed), book.refused.len()), (vec!["plant/r1"], 0));
    }

    #[test]
    fn a_second_instance_of_a_device_waits_for_the_first_to_go() {
        let (mut book, mut listed) = (Book::new("c"), Listed::new());
        let both = ["c-1", "c-2"].map(|name| Event::Apply(instance(name, "c", "plant/r1")));
        after(&mut book, &mut listed, both.into());
        assert_eq!((listed.len(), book.refused.len()), (1, 1));
        let deleted = Event::Delete(instance("c-1", "c", "plant/r1"));
        let (gone, new) = after(&mut book, &mut listed, vec![deleted]);
        assert_eq!(
            (gone, new),
            (vec!["plant/r1".into()], vec!["plant/r1".into()])
        );
        assert_eq!((listed.len(), book.refused.len()), (1, 0));
        let renamed = Event::Apply(instance("c-2", "c", "plant/r2"));
        let (gone, new) = after(&mut book, &mut listed, vec![renamed]);
        assert_eq!(
            (gone, new),
            (vec!["plant/r1".into()], vec!["plant/r2".into()])
        );
    }
}
