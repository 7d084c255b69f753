//! `discoveryDetails`: what a Configuration says. In: YAML. Out: `Details`, or every fault of the
//! text with line and column; and from them, which device a topic names and what its pod is told.
//! Who is present is left to `presence`.

mod convention;
mod fault;
mod identifier;
mod model;
mod server;

pub use convention::{ClientPattern, Convention};
pub use fault::{Fault, Faults};
pub use identifier::{Identified, Identifier, Rule, Unidentified, is_own};
pub use model::{
    Availability, Limits, MqttRules, PresenceRules, QoS, RetainedData, ServerLost, VersionChoice,
};
pub use server::{Failover, Scheme, Server, ServerUrl, UrlError};
