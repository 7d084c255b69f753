//! Turns changes of who is present into lists: properties that stay, devices that came back.
//! In: what has changed since the last time. Out: one list for each response limit that a caller has,
//! sent on only when it differs. When to publish is decided by the request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akri_mqtt_core::details::Details;
use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::presence::{Listed, Moved};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::admission::{Admission, Entry, LeftOut, Turn};
use crate::comebacks::Comebacks;
use crate::naming::RequestLabel;
use crate::rosters::Line;
use crate::streams::{List, Lists};
use crate::twins::{Arrival, Collisions, Twins};

/// Removed devices that are remembered for each one that may be present.
const REMOVED_PER_DEVICE: usize = 2;
/// Devices that one log line names.
const MAX_NAMED: usize = 10;
/// More changes than this at once are logged as numbers.
const LOGGED_ONE_BY_ONE: usize = 20;

/// Says what has changed, and why where it is not too much.
pub fn log(moved: &[Moved], request: &RequestLabel, reason: impl Fn(&DeviceId) -> String) {
    let removed = moved.iter().filter(|one| one.is.is_none());
    let added = moved.iter().filter(|one| one.was.is_none());
    if moved.len() > LOGGED_ONE_BY_ONE {
        let (added, removed) = (added.count(), removed.count());
        info!(%request, added, removed, "devices have changed");
        return;
    }
    for Moved { id: device, .. } in removed {
        info!(%request, %device, reason = reason(device), "device withdrawn");
    }
    for Moved { id: device, .. } in added {
        info!(%request, %device, reason = reason(device), "device listed");
    }
}

/// Why present devices are in no list, as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortage {
    /// Withheld for another device with the same Instance name.
    pub withheld: usize,
    /// Devices for which the list has no room.
    pub waiting: usize,
    /// Bytes of the list.
    pub bytes: usize,
    /// The most that it may have.
    pub limit: usize,
    /// About how many bytes more it would need for all.
    pub missing: usize,
}

impl Shortage {
    /// Present devices that are not in the list.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.withheld + self.waiting
    }
}

struct View {
    admission: Admission,
    lists: watch::Sender<Option<Arc<List>>>,
    /// So many had been left out when it was last said.
    reported: usize,
}

/// The lists of one request.
pub struct Publisher {
    details: Arc<Details>,
    twins: Twins,
    comebacks: Comebacks,
    views: BTreeMap<usize, View>,
    published: bool,
}

impl Publisher {
    /// No devices, and nothing published yet.
    #[must_use]
    pub fn new(details: Arc<Details>, collisions: Collisions, comeback: Duration) -> Self {
        let most = details
            .limits
            .max_devices
            .saturating_mul(REMOVED_PER_DEVICE);
        Self {
            details,
            twins: Twins::new(collisions),
            comebacks: Comebacks::new(comeback, most),
            views: BTreeMap::new(),
            published: false,
        }
    }

    /// Whether there is a list for callers that take responses of `limit` bytes.
    #[must_use]
    pub fn serves(&self, limit: usize) -> bool {
        self.views.contains_key(&limit)
    }

    /// The lists for callers that take responses of `limit` bytes. For a limit that nobody had before, `present` are the
    /// devices that were published, with their order, and `of` tells of each.
    pub fn subscribe(
        &mut self,
        limit: usize,
        present: impl FnOnce() -> Vec<(DeviceId, u64)>,
        of: impl Fn(&DeviceId) -> Option<Listed>,
    ) -> Lists {
        self.views
            .retain(|known, view| *known == limit || view.lists.receiver_count() > 0);
        if let Some(view) = self.views.get(&limit) {
            return view.lists.subscribe();
        }
        let mut view = View {
            admission: Admission::new(limit),
            lists: watch::channel(None).0,
            reported: 0,
        };
        let lists = view.lists.subscribe();
        if self.published {
            for (id, order) in present() {
                if self.twins.loses_to(&id).is_none() {
                    view.admission.add(id, (false, order));
                }
            }
            view.admit(&self.details, of);
            view.send(&self.twins, self.comebacks.count());
        }
        self.views.insert(limit, view);
        lists
    }

    /// Publishes what has changed. `of` tells of each device that is present now, `waited` whether it waited for
    /// room before a restart.
    pub fn publish(
        &mut self,
        moved: &[Moved],
        of: impl Fn(&DeviceId) -> Option<Listed>,
        waited: impl Fn(&DeviceId) -> bool,
        now: Instant,
    ) {
        self.comebacks.forget(now);
        for Moved { id, was, is } in moved {
            match (*was, *is) {
                (Some(was), None) => self.remove(id, was, &of, now),
                (Some(was), Some(is)) => {
                    for view in self.views.values_mut() {
                        view.admission.reorder(id, was, is);
                    }
                }
                (None, _) => {}
            }
        }
        let mut came_back = false;
        for Moved { id, was, is } in moved {
            if let (None, Some(is)) = (*was, *is) {
                came_back |= self.comebacks.appear(id);
                self.add(id, (waited(id), is), &of);
            }
        }
        if came_back {
            self.comebacks.add();
        }
        self.published = true;
        let comebacks = self.comebacks.count();
        for view in self.views.values_mut() {
            view.admit(&self.details, &of);
            view.send(&self.twins, comebacks);
        }
    }

    fn add(&mut self, id: &DeviceId, turn: Turn, of: impl Fn(&DeviceId) -> Option<Listed>) {
        match self.twins.meet(id) {
            Arrival::Loses => return,
            Arrival::Alone => {}
            Arrival::Wins(other) => {
                let order = of(&other).map(|other| other.order).unwrap_or_default();
                for view in self.views.values_mut() {
                    view.admission.remove(&other, order);
                }
            }
        }
        for view in self.views.values_mut() {
            view.admission.add(id.clone(), turn);
        }
    }

    fn remove(
        &mut self,
        id: &DeviceId,
        order: u64,
        of: impl Fn(&DeviceId) -> Option<Listed>,
        now: Instant,
    ) {
        let mut was_listed = false;
        for view in self.views.values_mut() {
            was_listed |= view.admission.remove(id, order);
        }
        if was_listed {
            self.comebacks.withdraw(id, now);
        }
        let Some(next) = self.twins.part(id) else {
            return;
        };
        // It may be gone as well, of which the next change tells.
        if let Some(listed) = of(&next) {
            for view in self.views.values_mut() {
                view.admission.add(next.clone(), (false, listed.order));
            }
        }
    }

    /// How far the strictest list is from naming all.
    #[must_use]
    pub fn shortage(&self) -> Shortage {
        let withheld = self.twins.withheld().len();
        let Some(admission) = self.strictest().map(|view| &view.admission) else {
            return Shortage {
                withheld,
                ..Shortage::default()
            };
        };
        Shortage {
            withheld,
            waiting: admission.waiting().len(),
            bytes: admission.bytes(),
            limit: admission.limit(),
            missing: admission.missing(),
        }
    }

    /// A present device that the strictest list leaves out, with the reason.
    #[must_use]
    pub fn example(&self) -> Option<(&DeviceId, String)> {
        let admission = &self.strictest()?.admission;
        let first = admission.waiting().next();
        let id = first.or_else(|| self.twins.withheld().first())?;
        let why = match self.twins.loses_to(id) {
            Some(other) => LeftOut::Collides(other.clone()),
            None => LeftOut::NoRoom,
        };
        Some((id, why.sentence(admission.limit())))
    }

    /// Why the strictest list leaves out a present device with this place in the order; `None` if it does not.
    #[must_use]
    pub fn left_out(&self, id: &DeviceId, order: u64) -> Option<String> {
        let admission = &self.strictest()?.admission;
        let why = match self.twins.loses_to(id) {
            Some(other) => LeftOut::Collides(other.clone()),
            None if admission.waits(id, order) => LeftOut::NoRoom,
            None => return None,
        };
        Some(why.sentence(admission.limit()))
    }

    /// Who waits for room and who does not, for the roster.
    #[must_use]
    pub fn line(&self) -> Line {
        let Some(admission) = self.strictest().map(|view| &view.admission) else {
            return Line::default();
        };
        let listed = admission.list();
        if admission.waiting().len() <= listed.len() {
            Line::Waiting(admission.waiting().cloned().collect())
        } else {
            Line::Listed(listed.map(|(id, _)| id.clone()).collect())
        }
    }

    /// The view with the least room that a caller has, or had last.
    fn strictest(&self) -> Option<&View> {
        let mut views = self.views.values();
        let open = views.find(|view| view.lists.receiver_count() > 0);
        open.or_else(|| self.views.values().next())
    }
}

impl View {
    fn admit(&mut self, details: &Details, of: impl Fn(&DeviceId) -> Option<Listed>) {
        self.admission.admit(|id| {
            let convention = of(id).and_then(|listed| listed.convention);
            let convention = convention.and_then(|at| details.convention(at));
            Entry::new(id, details.properties_with(id, convention))
        });
    }

    /// Sends the list if it is another one than before.
    fn send(&mut self, twins: &Twins, comebacks: u64) {
        let admission = &self.admission;
        let revision = admission.revision();
        self.lists.send_if_modified(|known| {
            let same = known.as_ref().is_some_and(|known| {
                known.comebacks == comebacks
                    && (known.revision == revision || equal(&known.devices, admission))
            });
            if !same {
                *known = Some(Arc::new(List {
                    devices: admission
                        .list()
                        .map(|(_, entry)| Arc::clone(entry))
                        .collect(),
                    bytes: admission.bytes(),
                    comebacks,
                    revision,
                }));
            }
            !same
        });
        self.report(twins);
    }

    /// Logs when devices are left out, and again when they have become twice as many.
    fn report(&mut self, twins: &Twins) {
        let (waiting, withheld) = (self.admission.waiting(), twins.withheld());
        let (devices, limit) = (waiting.len() + withheld.len(), self.admission.limit());
        if devices >= self.reported.saturating_mul(2).max(1) {
            let reason = LeftOut::NoRoom.sentence(limit);
            for device in waiting.take(MAX_NAMED) {
                warn!(%device, reason, "device is not listed");
            }
            let pairs = withheld
                .iter()
                .filter_map(|id| Some((id, twins.loses_to(id)?)));
            for (device, other) in pairs.take(MAX_NAMED) {
                let reason = LeftOut::Collides(other.clone()).sentence(limit);
                warn!(%device, reason, "device is not listed");
            }
            let (bytes, missing) = (self.admission.bytes(), self.admission.missing());
            warn!(
                devices,
                bytes, limit, missing, "devices are present and not listed"
            );
        }
        if devices == 0 || devices >= self.reported.saturating_mul(2) {
            self.reported = devices;
        }
    }
}

fn equal(known: &[Arc<Entry>], admission: &Admission) -> bool {
    let list = admission.list();
    let same = |(a, (_, b)): (&Arc<Entry>, (_, &Arc<Entry>))| Arc::ptr_eq(a, b) || a == b;
    known.len() == list.len() && known.iter().zip(list).all(same)
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
