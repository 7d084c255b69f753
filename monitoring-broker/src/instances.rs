//! The devices of `--pool`: the Instances of a Configuration. In: their list and every change, from the API server.
//! Out: devices, read from what their pods would have as environment; one that cannot be read leaves the others
//! as they are. What is done with them is left to whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

type Events = BoxStream<'static, Event<Instance>>;

/// See the module.
pub struct Instances {
    begin: Box<dyn Fn() -> Events + Send>,
    events: Events,
    book: Book,
    /// How many were refused when the last changes were handed out.
    refused: usize,
    /// What has changed and was not handed out yet.
    changes: Changes,
}

impl Instances {
    /// Those of a Configuration. How they can be seen is a part of the readiness until they were listed once.
    #[must_use]
    pub fn new(client: Client, namespace: &str, configuration: &str, ready: Condition) -> Self {
        let api = Api::namespaced(client, namespace);
        let ready = Arc::new((ready, AtomicBool::new(false)));
        let begin = move || {
            let ready = Arc::clone(&ready);
            let report = move |problem| report(&ready.0, &ready.1, problem);
            follow(api.clone(), Config::default(), None, report)
        };
        Self {
            events: begin(),
            begin: Box::new(begin),
            book: Book::new(configuration, MOST),
            refused: 0,
            changes: Changes::default(),
        }
    }

    /// How many are refused now.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.book.refused.len() + self.book.over.len()
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
            if self.book.wants_list() {
                self.events = (self.begin)();
            }
            let is_news = !self.changes.is_empty() || self.refused() != self.refused;
            if is_complete || (self.book.is_listed && is_news) {
                self.refused = self.refused();
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

/// Until there was a list, what is wrong is a reason not to be ready.
fn report(ready: &Condition, is_listed: &AtomicBool, problem: Option<String>) {
    let Some(problem) = problem else {
        is_listed.store(true, Ordering::Relaxed);
        ready.ready("watched");
        return;
    };
    tracing::warn!(problem, "the Instances cannot be watched; trying again");
    if is_listed.load(Ordering::Relaxed) {
        ready.ready(format!("the last list stands: {problem}"));
    } else {
        ready.not_ready(problem);
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
    /// So many are known at most.
    most: usize,
    /// Those for which there is no room; at most as many again.
    over: BTreeSet<String>,
    /// A list is under way, or asked for.
    is_listing: bool,
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
    fn new(configuration: &str, most: usize) -> Self {
        Self {
            most,
            over: BTreeSet::new(),
            is_listing: true,
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
            Event::Init => {
                self.listing.clear();
                self.is_listing = true;
            }
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
                let known: BTreeSet<_> = known.chain(&self.over).cloned().collect();
                for name in known.difference(&named) {
                    self.remove(name, listed, changes);
                }
                (self.is_listed, self.is_listing) = (true, false);
            }
        }
    }

    /// Whether a new list would bring in Instances for which there was no room: all of them, or many.
    fn wants_list(&mut self) -> bool {
        let room = self.most.saturating_sub(self.known());
        let is_due = !self.over.is_empty() && room >= self.over.len().min(AT_ONCE);
        is_due && !std::mem::replace(&mut self.is_listing, true)
    }

    fn known(&self) -> usize {
        self.devices.len() + self.refused.len()
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
        if !is_known && self.known() >= self.most {
            self.leave_out(name);
            return;
        }
        self.over.remove(&name);
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

    fn leave_out(&mut self, name: String) {
        if self.over.is_empty() {
            let most = self.most;
            tracing::warn!(
                instance = name,
                most,
                "too many Instances; this one and further ones are left out until there is room"
            );
        }
        if self.over.len() < self.most {
            self.over.insert(name);
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
        self.over.remove(name);
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
        let (mut book, mut listed) = (Book::new("c", 9), Listed::new());
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
        let (mut book, mut listed) = (Book::new("c", 9), Listed::new());
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
    fn instances_for_which_there_is_no_room_are_counted_and_come_with_a_list_once_there_is() {
        let (mut book, mut listed) = (Book::new("c", 2), Listed::new());
        let all = ["1", "2", "3"].map(|n| instance(&format!("c-{n}"), "c", &format!("plant/r{n}")));
        let list = |instances: &[Instance]| {
            let listed = instances.iter().cloned().map(Event::InitApply);
            let list = [Event::Init].into_iter().chain(listed);
            list.chain([Event::InitDone]).collect::<Vec<_>>()
        };
        after(&mut book, &mut listed, list(&all));
        let again = Event::Apply(all[2].clone());
        after(&mut book, &mut listed, vec![again]);
        assert_eq!(ids(&listed), ["plant/r1", "plant/r2"]);
        assert_eq!((book.over.len(), book.wants_list()), (1, false));
        let deleted = Event::Delete(all[0].clone());
        after(&mut book, &mut listed, vec![deleted]);
        // Once, however long the list takes.
        assert!(book.wants_list() && !book.wants_list());
        let (gone, new) = after(&mut book, &mut listed, list(&all[1..]));
        assert_eq!((gone, new), (vec![], vec!["plant/r3".to_owned()]));
        assert_eq!((book.over.len(), book.wants_list()), (0, false));
    }

    #[test]
    fn a_second_instance_of_a_device_waits_for_the_first_to_go() {
        let (mut book, mut listed) = (Book::new("c", 9), Listed::new());
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
