//! Turns "who is present" into lists: properties that stay, changes, devices that came back.
//! In: the present devices of a request. Out: one list for each response limit that a caller has,
//! sent on only when it differs. When to publish is decided by the request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use akri_mqtt_core::details::Details;
use akri_mqtt_core::identity::DeviceId;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::admission::{Admission, Collisions, Entry, LeftOut};
use crate::naming::RequestLabel;
use crate::streams::{List, Lists};

/// Removed devices that are remembered for each one that may be present.
const REMOVED_PER_DEVICE: usize = 2;
/// Devices that one log line names.
const MAX_NAMED: usize = 10;

/// More changes than this at once are logged as numbers.
const LOGGED_ONE_BY_ONE: usize = 20;

/// What one publication has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New devices, sorted.
    pub added: Vec<DeviceId>,
    /// Devices that are gone, sorted.
    pub removed: Vec<DeviceId>,
}

impl Changes {
    /// Says what has changed, and why where it is not too much.
    pub fn log(&self, request: &RequestLabel, reason: impl Fn(&DeviceId) -> String) {
        let Self { added, removed } = self;
        if added.len() + removed.len() > LOGGED_ONE_BY_ONE {
            info!(%request, added = added.len(), removed = removed.len(), "devices have changed");
            return;
        }
        for device in removed {
            info!(%request, %device, reason = reason(device), "device withdrawn");
        }
        for device in added {
            info!(%request, %device, reason = reason(device), "device listed");
        }
    }
}

struct View {
    admission: Admission,
    lists: watch::Sender<Option<Arc<List>>>,
    reported: usize,
}

/// The lists of one request.
pub struct Publisher {
    details: Arc<Details>,
    collisions: Collisions,
    comeback: Duration,
    /// Properties are made once, when a device appears, and never change while it is present.
    entries: BTreeMap<DeviceId, Arc<Entry>>,
    /// In order of appearance.
    order: Vec<DeviceId>,
    removed: BTreeMap<DeviceId, Instant>,
    comebacks: u64,
    views: BTreeMap<usize, View>,
    published: bool,
}

impl Publisher {
    /// No devices, and nothing published yet.
    #[must_use]
    pub fn new(details: Arc<Details>, collisions: Collisions, comeback: Duration) -> Self {
        Self {
            details,
            collisions,
            comeback,
            entries: BTreeMap::new(),
            order: Vec::new(),
            removed: BTreeMap::new(),
            comebacks: 0,
            views: BTreeMap::new(),
            published: false,
        }
    }

    /// The lists for callers that take responses of `limit` bytes.
    pub fn subscribe(&mut self, limit: usize) -> Lists {
        self.views
            .retain(|known, view| *known == limit || view.lists.receiver_count() > 0);
        let collisions = self.collisions;
        let view = self.views.entry(limit).or_insert_with(|| View {
            admission: Admission::new(collisions, limit),
            lists: watch::channel(None).0,
            reported: 0,
        });
        let lists = view.lists.subscribe();
        if self.published {
            self.send();
        }
        lists
    }

    /// Publishes the devices that are present now, newcomers in the order of their appearance, each
    /// with the place of the convention that found it.
    pub fn publish(
        &mut self,
        present: Vec<DeviceId>,
        found_by: impl Fn(&DeviceId) -> Option<u16>,
        now: Instant,
    ) -> Changes {
        let mut changes = Changes::default();
        let current: BTreeSet<&DeviceId> = present.iter().collect();
        let gone = self.entries.keys().filter(|id| !current.contains(id));
        changes.removed = gone.cloned().collect();
        self.removed
            .retain(|_, at| now.duration_since(*at) < self.comeback);
        let mut came_back = false;
        for id in &present {
            if !self.entries.contains_key(id) {
                came_back |= self.removed.remove(id).is_some();
                let convention = found_by(id).and_then(|at| self.details.convention(at));
                let entry = Entry::new(id, self.details.properties_with(id, convention));
                self.entries.insert(id.clone(), Arc::new(entry));
                changes.added.push(id.clone());
            }
        }
        let remembered = self
            .details
            .limits
            .max_devices
            .saturating_mul(REMOVED_PER_DEVICE);
        for id in &changes.removed {
            self.entries.remove(id);
            if self.removed.len() < remembered {
                self.removed.insert(id.clone(), now);
            }
        }
        self.comebacks += u64::from(came_back);
        changes.added.sort();
        self.order = present;
        self.published = true;
        self.send();
        changes
    }

    /// Present devices that the strictest list leaves out, with the reason.
    pub fn left_out(&self) -> BTreeMap<DeviceId, String> {
        let Some(view) = self.strictest() else {
            return BTreeMap::new();
        };
        let limit = view.admission.limit();
        let left_out = view.admission.left_out();
        left_out
            .map(|(id, why)| (id.clone(), why.sentence(limit)))
            .collect()
    }

    /// Devices that wait for room, for the roster.
    pub fn waiting(&self) -> impl Iterator<Item = DeviceId> {
        let view = self.strictest();
        let left_out = view.into_iter().flat_map(|view| view.admission.left_out());
        left_out
            .filter(|(_, why)| *why == LeftOut::NoRoom)
            .map(|(id, _)| id.clone())
    }

    /// The view with the least room that a caller has, or had last.
    fn strictest(&self) -> Option<&View> {
        let mut views = self.views.values();
        let open = views.find(|view| view.lists.receiver_count() > 0);
        open.or_else(|| self.views.values().next())
    }

    fn send(&mut self) {
        for (limit, view) in &mut self.views {
            view.admission
                .update(&self.order, |id| match self.entries.get(id) {
                    Some(entry) => Arc::clone(entry),
                    None => unreachable!("every device of the order has an entry"),
                });
            let devices: Vec<Arc<Entry>> = view
                .admission
                .list()
                .map(|(_, entry)| Arc::clone(entry))
                .collect();
            let (bytes, comebacks) = (view.admission.bytes(), self.comebacks);
            view.lists.send_if_modified(|known| {
                let same = known.as_ref().is_some_and(|known| {
                    known.comebacks == comebacks && equal(&known.devices, &devices)
                });
                if !same {
                    *known = Some(Arc::new(List {
                        devices,
                        bytes,
                        comebacks,
                    }));
                }
                !same
            });
            report(&view.admission, *limit, &mut view.reported);
        }
    }
}

fn equal(a: &[Arc<Entry>], b: &[Arc<Entry>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Logs when more devices are left out than were before.
fn report(admission: &Admission, limit: usize, reported: &mut usize) {
    let left_out = admission.left_out().count();
    if left_out > *reported {
        for (device, why) in admission.left_out().take(MAX_NAMED) {
            warn!(%device, reason = why.sentence(limit), "device is not listed");
        }
        warn!(
            devices = left_out,
            limit, "devices are present and not listed"
        );
    }
    *reported = left_out;
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMEBACK: Duration = Duration::from_secs(60);

    fn publisher() -> Publisher {
        let yaml = "servers: [{name: s, urls: [tcp://h:1883]}]\ntopics: ['r/{device}/x']\n";
        let details = Arc::new(Details::parse(yaml).unwrap());
        Publisher::new(details, Collisions::Withhold, COMEBACK)
    }

    fn ids(names: &[&str]) -> Vec<DeviceId> {
        names
            .iter()
            .map(|name| DeviceId::parse(&format!("s/{name}")).unwrap())
            .collect()
    }

    fn listed(lists: &Lists) -> Vec<String> {
        let list = lists.borrow().clone().unwrap();
        list.devices
            .iter()
            .map(|entry| entry.device.id.clone())
            .collect()
    }

    #[test]
    fn nothing_is_sent_until_something_was_published_and_only_changes_afterwards() {
        let (mut publisher, now) = (publisher(), Instant::now());
        let mut lists = publisher.subscribe(1 << 20);
        assert!(lists.borrow().is_none());
        publisher.publish(ids(&["b", "a"]), |_| None, now);
        assert_eq!(listed(&lists), ["s/a", "s/b"]);
        lists.mark_unchanged();
        publisher.publish(ids(&["a", "b"]), |_| None, now);
        assert!(!lists.has_changed().unwrap());
        let changes = publisher.publish(ids(&["b"]), |_| None, now);
        assert_eq!(changes.removed, ids(&["a"]));
        assert_eq!(listed(&lists), ["s/b"]);
        assert_eq!(listed(&publisher.subscribe(64 << 20)), ["s/b"]);
    }

    #[test]
    fn only_a_device_that_returns_within_a_minute_counts_as_come_back() {
        let (mut publisher, now) = (publisher(), Instant::now());
        let lists = publisher.subscribe(1 << 20);
        let comebacks = |lists: &Lists| lists.borrow().as_ref().unwrap().comebacks;
        publisher.publish(ids(&["a"]), |_| None, now);
        publisher.publish(ids(&[]), |_| None, now);
        publisher.publish(ids(&["a"]), |_| None, now + COMEBACK / 2);
        assert_eq!(comebacks(&lists), 1);
        publisher.publish(ids(&[]), |_| None, now + COMEBACK);
        publisher.publish(ids(&["a"]), |_| None, now + 3 * COMEBACK);
        assert_eq!(comebacks(&lists), 1);
    }
}
