//! One MQTT session: servers, TLS, failover, persistence, acknowledgement, back-off.
//!
//! In: [`Options`], credentials through a `watch` channel, the wanted [`Subscription`]s, a
//! [`SessionState`] that remembers what must outlive a connection. Out: [`Events`] and a
//! [`Status`]. What a message means is left to the caller.
//!
//! # The contract with the consumer
//!
//! * A message of QoS 1 or 2 carries an [`Ack`]. Hand it to [`Handle::acknowledge`] once the message is
//!   safe; only then does the server forget it. Acknowledgements leave in the order in which the
//!   messages came (MQTT 5.0, 4.6.0), so one that is missing holds back those after it.
//! * For QoS 2 the consumer puts [`Ack::packet_id`] into its [`SessionState`] in the transaction that stores
//!   the message, then acknowledges. The session asks [`SessionState::contains`] before it delivers.
//! * The event queue is bounded by count and bytes. While it is full the session reads nothing from
//!   the socket, keeps on writing (pings, acknowledgements), and its watchdog does not count that time.
//! * Topic and payload share the read buffer of the connection: copy what is kept for long.

mod codec;
mod driver;
mod error;
mod event;
mod handle;
mod machine;
mod metrics;
mod net;
mod options;
mod queue;
mod state;
mod status;

#[cfg(fuzzing)]
pub use codec::fuzzing;

pub use akri_mqtt_core::{
    credentials::{Credentials, Secret},
    details::{Failover, QoS, Scheme, Server, ServerUrl, VersionChoice},
    identity::ServerName,
};
pub use error::{ErrorKind, SessionError};
pub use event::{Ack, Connected, Event, Message, Properties, Topic};
pub use handle::{Events, Handle, start};
pub use metrics::{Counted, SessionMetrics};
pub use net::check as check_credentials;
pub use options::{Backoff, Options, Publish, Published, Subscription, Will, WillPayload};
pub use state::{BoxFuture, MemoryState, SessionState, StateError};
pub use status::{Counters, CountersSnapshot, Status};

/// The protocol version that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        })
    }
}
