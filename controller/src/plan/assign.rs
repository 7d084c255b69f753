//! Which device has which Instance. In: devices that are listed, Instances that there are. Out: pairs,
//! newcomers with their names, Instances without a listed device, and who is refused.
//!
//! Who is in stays in: an Instance keeps its name and its device. Of newcomers with the same short name
//! the one with the smaller digest gets it, and the others get long ones; so the order in which devices
//! are listed does not count.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use super::blueprint::Blueprint;
use super::naming::{self, Use};
use super::words::shown;
use crate::discover::{Devices, FoundDevice};
use crate::model::InstanceView;

/// Who has what.
#[derive(Debug, Default)]
pub(super) struct Assignment<'a> {
    /// Listed devices and their Instances.
    pub(super) known: Vec<(&'a FoundDevice, &'a InstanceView)>,
    /// Newcomers and the names of their Instances, sorted by name.
    pub(super) new: Vec<(&'a FoundDevice, String)>,
    /// Instances whose devices are not listed.
    pub(super) unlisted: Vec<&'a InstanceView>,
    /// Akri's Instances of listed devices, to be made anew.
    pub(super) akri: Vec<&'a InstanceView>,
    /// Devices that get no Instance.
    pub(super) refused: Refused,
}

/// Devices that get no Instance, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    /// A name would not fit.
    pub(super) invalid: Tally,
    /// Other devices have both of its names.
    pub(super) collided: Tally,
    /// Someone else's object has its name.
    pub(super) taken: Tally,
}

/// How many, and why the first one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) count: usize,
    pub(super) first: String,
}

impl Tally {
    fn add(&mut self, words: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = words();
        }
        self.count = self.count.saturating_add(1);
    }
}

/// Who has a name.
#[derive(Clone, Copy)]
enum Holder<'a> {
    /// An Instance of this Configuration that knows its device.
    Device,
    /// An Instance of this Configuration that does not, as Akri's.
    Nameless(&'a InstanceView),
    /// An Instance of a former Configuration of this name, which is being deleted.
    Former,
    /// Someone else.
    Foreign,
}

/// Whether an Instance belongs to a Configuration, whoever made it.
pub(super) fn belongs(blueprint: &Blueprint, view: &InstanceView) -> bool {
    match view.owner.as_deref() {
        Some(owner) => owner == &*blueprint.uid,
        None => view.ours,
    }
}

/// Assigns devices to Instances.
pub(super) fn assign<'a>(
    blueprint: &Blueprint,
    devices: &'a Devices,
    instances: &[&'a InstanceView],
) -> Assignment<'a> {
    let mut found = Assignment::default();
    let mut by_device: HashMap<&str, &'a InstanceView> = HashMap::new();
    let mut holders: HashMap<&str, Holder<'a>> = HashMap::with_capacity(instances.len());
    for view in instances.iter().copied() {
        let holder = match &view.device {
            _ if !belongs(blueprint, view) && view.ours => Holder::Former,
            _ if !belongs(blueprint, view) => Holder::Foreign,
            Some(device) if view.ours => {
                by_device
                    .entry(device)
                    .and_modify(|known| *known = elder(known, view))
                    .or_insert(view);
                Holder::Device
            }
            _ => Holder::Nameless(view),
        };
        holders.insert(&view.name, holder);
    }
    let mut newcomers = Newcomers {
        blueprint,
        holders: &holders,
        contenders: BTreeMap::new(),
        adopted: HashMap::new(),
    };
    for device in devices.values() {
        match by_device.get(&*device.id) {
            Some(view) => found.known.push((device, view)),
            None => newcomers.add(device),
        }
    }
    newcomers.settle(&mut found);
    let adopted = newcomers.adopted;
    found.unlisted = instances
        .iter()
        .copied()
        .filter(|view| belongs(blueprint, view))
        .filter(|view| match view.device.as_deref().filter(|_| view.ours) {
            Some(device) => {
                let is_its_own = by_device
                    .get(device)
                    .is_some_and(|own| own.name == view.name);
                !(is_its_own && devices.contains_key(device))
            }
            None => !adopted.contains_key(&*view.name),
        })
        .collect();
    found
}

/// Of two Instances of one device, which nothing but a hand can make, the one with the shorter name.
fn elder<'a>(one: &'a InstanceView, other: &'a InstanceView) -> &'a InstanceView {
    let rank = |view: &'a InstanceView| (view.deleting, view.name.len(), &view.name);
    if rank(other) < rank(one) { other } else { one }
}

/// Devices without an Instance.
struct Newcomers<'a, 'b> {
    blueprint: &'b Blueprint,
    holders: &'b HashMap<&'b str, Holder<'a>>,
    /// By short name.
    contenders: BTreeMap<String, Vec<&'a FoundDevice>>,
    /// Instances that did not know their device and have got one.
    adopted: HashMap<&'a str, &'a FoundDevice>,
}

impl<'a> Newcomers<'a, '_> {
    fn add(&mut self, device: &'a FoundDevice) {
        let name = naming::short(&self.blueprint.key.name, &device.id);
        self.contenders.entry(name).or_default().push(device);
    }

    fn settle(&mut self, found: &mut Assignment<'a>) {
        let mut long: BTreeMap<String, &'a FoundDevice> = BTreeMap::new();
        for (name, mut devices) in std::mem::take(&mut self.contenders) {
            if devices.len() > 1 {
                devices.sort_by_cached_key(|device| naming::precedence(&device.id));
            }
            let taken = matches!(self.holders.get(name.as_str()), Some(Holder::Device));
            let mut devices = devices.into_iter();
            if !taken && let Some(first) = devices.next() {
                self.give(found, first, name);
            }
            for device in devices {
                let name = naming::long(&self.blueprint.key.name, &device.id);
                match long.entry(name) {
                    Entry::Occupied(_) => found.refused.collided.add(|| collided(device)),
                    Entry::Vacant(free) => {
                        free.insert(device);
                    }
                }
            }
        }
        for (name, device) in long {
            match self.holders.get(name.as_str()) {
                Some(Holder::Device) => found.refused.collided.add(|| collided(device)),
                _ => self.give(found, device, name),
            }
        }
        found.new.sort_unstable_by(|(_, a), (_, b)| a.cmp(b));
    }

    /// Gives a name that no other device has.
    fn give(&mut self, found: &mut Assignment<'a>, device: &'a FoundDevice, name: String) {
        match self.holders.get(name.as_str()) {
            None | Some(Holder::Device) => match fits(self.blueprint, &name) {
                Ok(()) => found.new.push((device, name)),
                Err(why) => found.refused.invalid.add(|| why),
            },
            Some(Holder::Nameless(view)) => {
                self.adopted.insert(&view.name, device);
                if view.ours {
                    found.known.push((device, view));
                } else {
                    found.akri.push(view);
                }
            }
            // Its name will be free.
            Some(Holder::Former) => {}
            Some(Holder::Foreign) => found
                .refused
                .taken
                .add(|| format!("the Instance `{name}` belongs to another owner")),
        }
    }
}

fn collided(device: &FoundDevice) -> String {
    format!(
        "other devices have both names of {}; set limits.idSalt or identity in discoveryDetails",
        shown(&device.id)
    )
}

/// Whether an Instance of this name and everything that would be made for it has a name that fits.
pub(super) fn fits(blueprint: &Blueprint, instance: &str) -> Result<(), String> {
    naming::check(instance, Use::Object)?;
    if blueprint.pod.is_some() {
        let last = blueprint.capacity.saturating_sub(1);
        naming::check(&naming::pod(instance, last), Use::Object)?;
    }
    if blueprint.job.is_some() {
        naming::check(&naming::job(instance, blueprint.generation), Use::Object)?;
    }
    if blueprint.instance_service.is_some() {
        naming::check(&naming::service(instance), Use::Service)?;
    }
    if blueprint.configuration_service.is_some() {
        naming::check(&naming::service(&blueprint.key.name), Use::Service)?;
    }
    Ok(())
}
