//! What passes between a session and the requests that share it: events one way, commands the other.
//! In: nothing. Out: types.

use std::time::Instant;

use akri_mqtt_core::credentials::Credentials;
use akri_mqtt_core::details::QoS;
use akri_mqtt_core::identity::ServerName;
use akri_mqtt_core::presence::{Outgoing, Wanted};
use akri_mqtt_session::Topic;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::credentials::Properties;

/// What a request is told about one of its servers.
#[derive(Clone, Debug)]
pub enum Observed {
    /// The server accepted the connection.
    Connected {
        /// Whether nothing was missed since the request has heard of its devices.
        resumed: bool,
        /// When.
        at: Instant,
    },
    /// All filters of the request are subscribed on this connection.
    Subscribed {
        /// When.
        at: Instant,
    },
    /// A message that one of its filters matches.
    Message {
        /// Its topic.
        topic: Topic,
        /// Its payload.
        payload: Bytes,
        /// Part of a snapshot.
        retained: bool,
        /// Quality of service of the delivery.
        qos: QoS,
        /// When it was read.
        at: Instant,
    },
    /// A message that one of its filters matches was too large to be received.
    TooLarge {
        /// Its topic.
        topic: Topic,
        /// Part of a snapshot.
        retained: bool,
        /// When its head was read.
        at: Instant,
    },
    /// The server answered a ping.
    Alive {
        /// When.
        at: Instant,
    },
    /// What is presented to the server is something else, or could not be changed; its status says what.
    Account,
    /// The connection is gone.
    Disconnected {
        /// The last sign of life of the server.
        last_packet: Option<Instant>,
        /// When.
        at: Instant,
    },
}

/// A request's side of the session.
#[derive(Clone, Debug)]
pub struct Member {
    /// What it wants.
    pub wanted: Vec<Wanted>,
    /// Until when it, or whoever wrote its roster, has heard of its devices.
    pub known: Option<Timestamp>,
    /// Where its events go.
    pub to: mpsc::Sender<(ServerName, Observed)>,
}

impl Member {
    /// The side of a request that wants this and has heard of its devices until then.
    #[must_use]
    pub fn new(
        wanted: Vec<Wanted>,
        known: Option<Timestamp>,
        to: mpsc::Sender<(ServerName, Observed)>,
    ) -> Self {
        Self { wanted, known, to }
    }
}

/// What a session is told.
pub enum Command {
    /// A request joins.
    Join(u64, Member),
    /// A request wants something else by now.
    Want(u64, Vec<Wanted>),
    /// A request has something to say.
    Publish(Outgoing),
    /// A request leaves.
    Leave(u64),
    /// The request's credentials are these now.
    Credentials(Properties, Credentials),
    /// Nobody is left: unsubscribe and end.
    End,
}
