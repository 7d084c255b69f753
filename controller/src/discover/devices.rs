//! Devices as a handler lists them. In: the bytes of its response. Out: a sorted, bounded list without
//! duplicates, and what was left out of it. Which lists count is decided by `line` and `desk`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use akri_mqtt_proto::akri::Device;
use prost::Message;
use prost::bytes::Bytes;

use super::LeftOut;

/// Devices by id.
pub type Devices = BTreeMap<Arc<str>, Arc<FoundDevice>>;

/// Devices that one list may have.
pub const MAX_DEVICES: usize = 100_000;
/// Bytes of an id; ours have at most a few hundred.
pub const MAX_ID: usize = 1_024;
/// Bytes of a device in a response. Its properties become environment variables of a pod and lie in
/// an Instance, which etcd limits to 1.5 MiB in all.
pub const MAX_DEVICE: usize = 64 << 10;
/// Properties, mounts and device nodes that a device may have.
const MAX_PARTS: usize = 256;

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDevice {
    /// Its id; unique in its list.
    pub id: Arc<str>,
    /// What its pods are told.
    pub properties: Properties,
    /// Directories of the node that the handler wants its pods to have.
    pub mounts: Box<[Mount]>,
    /// Device nodes that it wants them to have.
    pub device_specs: Box<[NodeDevice]>,
}

/// A directory of the node in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where the pod has it.
    pub container_path: String,
    /// Where the node has it.
    pub host_path: String,
    /// Whether the pod may only read it.
    pub read_only: bool,
}

/// A device node in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDevice {
    /// Where the pod has it.
    pub container_path: String,
    /// Where the node has it.
    pub host_path: String,
    /// `r`, `w`, `m`.
    pub permissions: String,
}

/// Properties, sorted by name. Ten thousand devices have them in memory, so names are shared.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(Box<[(Arc<str>, Box<str>)]>);

impl Properties {
    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of a property.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(name));
        at.ok()
            .and_then(|at| self.0.get(at))
            .map(|(_, value)| &**value)
    }

    /// As a map, as Instances have them.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        self.iter().map(owned).collect()
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(properties: I) -> Self {
        let sorted: BTreeMap<String, String> = properties
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let shared = sorted
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        Self(shared.collect())
    }
}

/// A `DiscoverResponse` whose devices are not decoded yet, so that they need not all be in memory
/// twice at once.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RawResponse {
    /// The devices.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub devices: Vec<Bytes>,
}

/// As much of a device as its id.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    id: String,
}

/// A list of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    pub devices: Arc<Devices>,
    pub left_out: LeftOut,
}

/// Reads the lists of one stream, and keeps what has not changed from one to the next.
#[derive(Default)]
pub(super) struct Reader {
    names: BTreeSet<Arc<str>>,
    last: Arc<Devices>,
}

/// Property names that are shared; a handler has a dozen.
const MAX_NAMES: usize = 1_024;

impl Reader {
    /// Makes a list of a response.
    pub fn read(&mut self, response: RawResponse) -> List {
        let mut devices = Devices::new();
        let mut left_out = LeftOut::default();
        for bytes in response.devices {
            if devices.len() >= MAX_DEVICES {
                left_out.excess = left_out.excess.saturating_add(1);
                continue;
            }
            let Some(device) = decode(bytes.clone()) else {
                left_out.oversized = left_out.oversized.saturating_add(1);
                // A device that was listed stays as it was, however it has grown.
                if let Some((id, known)) = self.known(bytes) {
                    devices.entry(id).or_insert(known);
                }
                continue;
            };
            if device.id.is_empty() {
                left_out.nameless = left_out.nameless.saturating_add(1);
            } else if devices.contains_key(device.id.as_str()) {
                left_out.duplicates = left_out.duplicates.saturating_add(1);
            } else {
                let device = self.found(device);
                devices.insert(Arc::clone(&device.id), device);
            }
        }
        if *self.last != devices {
            self.last = Arc::new(devices);
        }
        List {
            devices: Arc::clone(&self.last),
            left_out,
        }
    }

    /// What the last list had under the id of this device.
    fn known(&self, bytes: Bytes) -> Option<(Arc<str>, Arc<FoundDevice>)> {
        let named = Named::decode(bytes).ok()?;
        let (id, known) = self.last.get_key_value(named.id.as_str())?;
        Some((Arc::clone(id), Arc::clone(known)))
    }

    fn found(&mut self, device: Device) -> Arc<FoundDevice> {
        let known = self.last.get_key_value(device.id.as_str());
        let id = known.map_or_else(|| device.id.into(), |(id, _)| Arc::clone(id));
        let properties = device
            .properties
            .into_iter()
            .map(|(name, value)| (shared(&mut self.names, name), value.into()));
        let found = FoundDevice {
            id,
            properties: Properties(properties.collect()),
            mounts: device.mounts.into_iter().map(mount).collect(),
            device_specs: device.device_specs.into_iter().map(node_device).collect(),
        };
        match known {
            Some((_, known)) if **known == found => Arc::clone(known),
            _ => Arc::new(found),
        }
    }
}

/// `None` where it is no device, or larger than one may be.
fn decode(bytes: Bytes) -> Option<Device> {
    if bytes.len() > MAX_DEVICE {
        return None;
    }
    let device = Device::decode(bytes).ok()?;
    let most = [
        device.properties.len(),
        device.mounts.len(),
        device.device_specs.len(),
    ];
    (device.id.len() <= MAX_ID && most.iter().all(|parts| *parts <= MAX_PARTS)).then_some(device)
}

fn shared(names: &mut BTreeSet<Arc<str>>, name: String) -> Arc<str> {
    if let Some(known) = names.get(name.as_str()) {
        return Arc::clone(known);
    }
    let name: Arc<str> = name.into();
    if names.len() < MAX_NAMES {
        names.insert(Arc::clone(&name));
    }
    name
}

fn mount(mount: akri_mqtt_proto::akri::Mount) -> Mount {
    Mount {
        container_path: mount.container_path,
        host_path: mount.host_path,
        read_only: mount.read_only,
    }
}

fn node_device(device: akri_mqtt_proto::akri::DeviceSpec) -> NodeDevice {
    NodeDevice {
        container_path: device.container_path,
        host_path: device.host_path,
        permissions: device.permissions,
    }
}
