//! `discoveryDetails`: what a Configuration says. In: YAML. Out: `Details`, or every fault of the
//! text with line and column; and from them, which device a topic names and what its pod is told.
//! Who is present is left to `presence`.

mod convention;
pub(crate) mod conventions;
mod fault;
mod identifier;
mod keys;
mod legacy;
mod model;
mod parse;
mod properties;
pub(crate) mod read;
pub(crate) mod sections;
mod server;
mod servers;
mod topics;
mod units;

pub use convention::{ClientPattern, Convention};
pub use fault::{Fault, Faults};
pub use identifier::{Identified, Identifier, Rule, Unidentified, is_own};
pub use keys::SessionKey;
pub use model::{
    Availability, Limits, MqttRules, PresenceRules, QoS, RetainedData, ServerLost, VersionChoice,
};
pub use server::{Failover, Scheme, Server, ServerUrl, UrlError};
pub use units::parse_size;

use crate::identity::{DeviceId, ServerName};
use crate::topic::TopicPattern;

/// What a Configuration says about what to discover.
#[derive(Clone, Debug)]
pub struct Details {
    /// Logical servers with distinct names; at least one.
    pub servers: Vec<Server>,
    /// Data topics.
    pub topics: Vec<TopicPattern>,
    /// Which levels of a topic name its device; each has a capture.
    pub identity: Vec<TopicPattern>,
    /// How devices announce themselves.
    pub conventions: Vec<Convention>,
    /// When a device counts as there.
    pub presence: PresenceRules,
    /// How to speak with the servers.
    pub mqtt: MqttRules,
    /// How much of it.
    pub limits: Limits,
    /// Whether it has the form of the earlier MQTT handler; then its names of credentials count.
    pub legacy: bool,
    identifier: Identifier,
    legacy_properties: Option<legacy::Legacy>,
}

impl Details {
    /// Which device a concrete topic names; `None` if it names none.
    #[must_use]
    pub fn identify(&self, topic: &str) -> Option<Identified> {
        self.identifier.identify(topic).ok()
    }

    /// What decides which device a topic names, with the reasons where there is none.
    #[must_use]
    pub fn identifier(&self) -> &Identifier {
        &self.identifier
    }

    /// The id of a device that something else than a topic names, as a convention's payload does.
    ///
    /// # Errors
    /// The name is empty or has a null character.
    pub fn device_id(
        &self,
        server: &ServerName,
        name: &str,
    ) -> Result<DeviceId, crate::identity::IdentityError> {
        if name.is_empty() {
            return Err(crate::identity::IdentityError::DeviceName);
        }
        DeviceId::new(server.clone(), &self.identifier.salted(name))
    }

    /// The convention in this place of `conventions`.
    #[must_use]
    pub fn convention(&self, index: u16) -> Option<&Convention> {
        self.conventions.get(usize::from(index))
    }

    /// The id of the Sparkplug Host Application that its sessions are, if any.
    #[must_use]
    pub fn host_id(&self) -> Option<&str> {
        self.conventions.iter().find_map(Convention::host_id)
    }

    /// The server with this name.
    #[must_use]
    pub fn server(&self, name: &ServerName) -> Option<&Server> {
        self.servers.iter().find(|server| server.name == *name)
    }
}
