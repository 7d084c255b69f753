//! What `/v1/presence` shows, as types; `docs/presence-api.md` describes them.
//! In: nothing. Out: JSON, sorted, without a secret.

use akri_mqtt_core::presence::Explanation;
use serde::Serialize;

/// Answer of `GET /v1/presence`.
#[derive(Clone, Debug, Serialize)]
pub struct PresenceView {
    /// Instance of the handler.
    pub instance: String,
    /// The requests, by id.
    pub requests: Vec<RequestView>,
}

/// One request: what one or more Configurations with the same details ask for.
#[derive(Clone, Debug, Serialize)]
pub struct RequestView {
    /// 8 hex digits of servers and topics; the label `request` of metrics.
    pub request: String,
    /// 16 hex digits of the `discoveryDetails` text as it was received.
    pub details: String,
    /// Open Discover streams.
    pub streams: usize,
    /// Whether a list was or could be sent: every server has settled or was given up, or a roster was restored.
    pub listed: bool,
    /// Whether devices were taken over from an earlier process or a sibling.
    pub restored: bool,
    /// Seconds without a message after which a device is offline; null where only announcements count.
    pub offline_after: Option<f64>,
    /// The servers, by name.
    pub servers: Vec<ServerView>,
    /// Devices that are published.
    pub published: usize,
    /// Published devices that the lists leave out.
    pub left_out: usize,
    /// New devices that `maxDevices` refuses.
    pub refused: u64,
    /// The devices, by id; none where they were not asked for.
    pub devices: Vec<DeviceView>,
}

/// One MQTT server of a request.
#[derive(Clone, Debug, Serialize)]
pub struct ServerView {
    /// Its name.
    pub name: String,
    /// Client id of our session.
    pub client_id: String,
    /// Whether it has accepted our connection.
    pub connected: bool,
    /// The member that is connected, or was last.
    pub url: Option<String>,
    /// Since when it is connected or not.
    pub since: jiff::Timestamp,
    /// Why it is not connected: the last failure.
    pub last_error: Option<String>,
    /// Why changed files of `--credentials-dir` are not used; those before them are.
    pub credentials_error: Option<String>,
    /// Filters that the server refuses, with its reasons.
    pub refused_filters: Vec<(String, String)>,
}

/// One device of one request.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceView {
    /// Id, state, since when and why.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// The 6 hex digits at the end of its Instance's name.
    pub hash: String,
    /// Whether it is in the lists.
    pub listed: bool,
    /// Why it is not in the lists although it is present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

/// Answer of `GET /v1/presence/{device}`.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceAnswer {
    /// Its id.
    pub device: String,
    /// What each request says about it.
    pub requests: Vec<DeviceInRequest>,
}

/// A device as one request sees it.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceInRequest {
    /// The request.
    pub request: String,
    /// The device.
    #[serde(flatten)]
    pub device: DeviceView,
    /// Its server.
    pub server: Option<ServerView>,
}
