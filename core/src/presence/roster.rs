//! The list of published devices that outlives the process. In: the devices of a machine. Out: a
//! sorted list in a versioned form. Where it is kept is left to the shell.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::State;
use super::machine::Presence;
use crate::identity::DeviceId;

/// The published devices of one request, sorted by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Of this form; [`Roster::VERSION`] is the one that is understood.
    pub version: u32,
    /// Sorted by id.
    pub devices: Vec<RosterEntry>,
}

/// A device of a roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// Its id.
    #[serde(serialize_with = "id_to_text", deserialize_with = "id_from_text")]
    pub id: DeviceId,
    /// Its place in the order of first appearance.
    pub order: u64,
    /// What was believed when the roster was made.
    pub state: State,
    /// The place in `conventions` of the one that found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convention: Option<u16>,
}

impl Roster {
    /// The version that is written. Another one is not restored.
    pub const VERSION: u32 = 1;

    /// Sorts the devices by id.
    pub fn sort(&mut self) {
        self.devices.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    }
}

impl Default for Roster {
    fn default() -> Self {
        Self {
            version: Self::VERSION,
            devices: Vec::new(),
        }
    }
}

impl Presence {
    /// The published devices, to be kept.
    #[must_use]
    pub fn roster(&self) -> Roster {
        let mut roster = Roster {
            devices: self.entries().collect(),
            ..Roster::default()
        };
        roster.sort();
        roster
    }

    /// The entries of the roster, in no order: for those who sort elsewhere.
    pub fn entries(&self) -> impl Iterator<Item = RosterEntry> {
        self.devices.published().map(|device| RosterEntry {
            id: device.id.clone(),
            order: device.order,
            state: device.state,
            convention: device.found_by,
        })
    }
}

fn id_to_text<S: Serializer>(id: &DeviceId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.as_str())
}

fn id_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DeviceId, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    DeviceId::parse(&text).map_err(serde::de::Error::custom)
}
