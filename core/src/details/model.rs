//! What discoveryDetails say, as types: presence, MQTT and limits, with their defaults.
//! In: nothing. Out: values that the readers fill in and everything else relies on.

use std::time::Duration;

use crate::topic::TopicPattern;

/// Quality of service (MQTT 5.0, 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    /// 0
    AtMostOnce,
    /// 1
    #[default]
    AtLeastOnce,
    /// 2
    ExactlyOnce,
}

impl QoS {
    /// 0, 1 or 2.
    #[must_use]
    pub fn level(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }
}

/// Which version of MQTT to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VersionChoice {
    /// 5, and 3.1.1 if the server does not know it.
    #[default]
    Auto,
    /// 5.0
    V5,
    /// 3.1.1
    V311,
}

impl VersionChoice {
    /// As the Configuration writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::V5 => "5",
            Self::V311 => "3.1.1",
        }
    }
}

/// `presence.retained`: does a retained data message show that a device is there?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RetainedData {
    /// No.
    #[default]
    Ignore,
    /// It makes the device unconfirmed.
    Trust,
}

/// `presence.serverLost`: what happens to the devices of a server that stays away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServerLost {
    /// They stay.
    #[default]
    Keep,
    /// They are withdrawn after this long.
    After(Duration),
}

/// One rule about a status topic, such as the topic of Last Wills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// Where devices announce themselves.
    pub topic: TopicPattern,
    /// Payloads that say `online`; ASCII case is ignored.
    pub online: Vec<String>,
    /// Payloads that say `offline`; ASCII case is ignored.
    pub offline: Vec<String>,
    /// Where in a JSON payload the word stands (RFC 6901).
    pub json_pointer: Option<String>,
    /// Whether the server would have replaced a retained `online` by the will.
    pub retained_will: bool,
}

impl Availability {
    /// A rule with the default words.
    #[must_use]
    pub fn new(topic: TopicPattern) -> Self {
        Self {
            topic,
            online: Self::default_online(),
            offline: Self::default_offline(),
            json_pointer: None,
            retained_will: true,
        }
    }

    /// online, true, 1, ready, alive
    #[must_use]
    pub fn default_online() -> Vec<String> {
        ["online", "true", "1", "ready", "alive"]
            .map(str::to_owned)
            .to_vec()
    }

    /// offline, false, 0, lost, disconnected, dead
    #[must_use]
    pub fn default_offline() -> Vec<String> {
        ["offline", "false", "0", "lost", "disconnected", "dead"]
            .map(str::to_owned)
            .to_vec()
    }
}

/// `presence`: when a device counts as there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceRules {
    /// Status topics.
    pub availability: Vec<Availability>,
    /// Silence after which a device leaves; `None`: silence means nothing.
    pub offline_after: Option<Duration>,
    /// How long a device is leaving before it is offline.
    pub offline_delay: Duration,
    /// How long after an MQTT outage nobody is believed to be gone.
    pub reconnect_grace: Duration,
    /// What a retained data message shows.
    pub retained: RetainedData,
    /// What the loss of the server means.
    pub server_lost: ServerLost,
}

impl PresenceRules {
    /// `offlineAfter` where nothing announces presence.
    pub const DEFAULT_OFFLINE_AFTER: Duration = Duration::from_secs(300);
}

impl Default for PresenceRules {
    /// The rules of a Configuration in which nothing announces presence.
    fn default() -> Self {
        Self {
            availability: Vec::new(),
            offline_after: Some(Self::DEFAULT_OFFLINE_AFTER),
            offline_delay: Duration::from_secs(10),
            reconnect_grace: Duration::from_secs(120),
            retained: RetainedData::default(),
            server_lost: ServerLost::default(),
        }
    }
}

/// `mqtt`: how to speak with the servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MqttRules {
    /// The version of MQTT.
    pub version: VersionChoice,
    /// Of the subscriptions.
    pub qos: QoS,
    /// 5 s to 1 h, whole seconds.
    pub keep_alive: Duration,
    /// Whole seconds; zero: clean sessions.
    pub session_expiry: Duration,
    /// What client ids start with.
    pub client_id_prefix: String,
    /// In bytes; larger messages are counted and skipped.
    pub max_packet_size: u32,
    /// Whether any certificate will do.
    pub insecure_skip_verify: bool,
}

impl Default for MqttRules {
    fn default() -> Self {
        Self {
            version: VersionChoice::default(),
            qos: QoS::default(),
            keep_alive: Duration::from_secs(60),
            session_expiry: Duration::from_secs(3600),
            client_id_prefix: "akri-mqtt".to_owned(),
            max_packet_size: 1 << 20,
            insecure_skip_verify: false,
        }
    }
}

/// `limits`: how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Further devices are not published.
    pub max_devices: usize,
    /// Part of every id, after a `#`; empty: nothing is added.
    pub id_salt: String,
    /// How long changes are collected into one response.
    pub publish_interval: Duration,
    /// How large one response may be, in bytes.
    pub max_response_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_devices: 5000,
            id_salt: String::new(),
            publish_interval: Duration::from_millis(250),
            max_response_bytes: 3 << 20,
        }
    }
}
