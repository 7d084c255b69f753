//! A command, what became of it, and why not. No payload is ever shown by `Debug`.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::Properties;

/// A message for a device, as a front took it.
pub struct Command {
    /// The device's id.
    pub device: String,
    /// Where to.
    pub topic: String,
    /// What.
    pub payload: Bytes,
    /// 0, 1 or 2; anything else is refused.
    pub qos: u32,
    /// Whether the server keeps it.
    pub retain: bool,
    /// MQTT 5 content type.
    pub content_type: Option<String>,
    /// MQTT 5 user properties.
    pub user_properties: Vec<(String, String)>,
    /// Whether the device's response is waited for.
    pub expect_response: bool,
    /// For all of it; see [`super::timeout`].
    pub timeout: Duration,
    /// Who asked.
    pub peer: Option<SocketAddr>,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("device", &self.device)
            .field("topic", &self.topic)
            .field("payload_len", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// What became of a command that the server took.
pub struct Done {
    /// The server says that nobody subscribes to the topic.
    pub no_subscribers: bool,
    /// What the device answered, if that was asked for.
    pub response: Option<Response>,
}

/// The response of a device.
pub struct Response {
    /// The topic that it came on.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
    /// 0, 1 or 2.
    pub qos: u8,
    /// The packet's DUP flag.
    pub duplicate: bool,
    /// Its MQTT 5 properties.
    pub properties: Properties,
    /// When it was received.
    pub at: Timestamp,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum CommandError {
    /// The device is only history.
    #[error("{0:?} is not served any more: its data can be read, but nothing can be sent to it")]
    NotServed(String),
    /// No filter allows the topic.
    #[error("the topic {topic:?} is not allowed for {device:?}; allowed: {allowed}")]
    NotAllowed {
        /// The topic, shortened.
        topic: String,
        /// The device, shortened.
        device: String,
        /// The filters.
        allowed: String,
    },
    /// The connection or the server cannot do it.
    #[error("{0}")]
    NotPossible(String),
    /// The server does not allow it.
    #[error("{0}")]
    Denied(String),
    /// The server's quota is used up.
    #[error("{0}")]
    Quota(String),
    /// The server is not there, or went away.
    #[error("{0}")]
    Unavailable(String),
    /// As much as is allowed is under way.
    #[error("too many commands are under way, allowed: {0}; try again later")]
    TooMany(String),
    /// No answer in time.
    #[error("{0}")]
    Late(String),
}
