//! Conventions by which devices in the field announce themselves, with their options. In: nodes of
//! a Configuration or of a device's properties. Out: typed conventions, and their JSON.
//! What a convention does with messages is left to `presence`.

use serde::Serialize;

use crate::topic::{TopicError, TopicFilter};

/// A convention with its options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Convention {
    /// Home Assistant's MQTT discovery.
    HomeAssistant {
        /// Where discovery messages are published.
        prefix: String,
    },
    /// Zigbee2MQTT.
    Zigbee2mqtt {
        /// Its base topic.
        base: String,
    },
    /// Tasmota.
    Tasmota {},
    /// Shelly, both generations.
    Shelly {
        /// Filters for the `<prefix>` of the second generation.
        prefixes: Vec<TopicFilter>,
    },
    /// `ESPHome`.
    Esphome {
        /// Filters for the `<prefix>`.
        prefixes: Vec<TopicFilter>,
    },
    /// Homie 3, 4 and 5.
    Homie {
        /// The first level of all topics.
        domain: String,
    },
    /// Eclipse Sparkplug B.
    SparkplugB {
        /// Filters for the group: a name or `+`.
        groups: Vec<TopicFilter>,
        /// The id as a host application; none: it only listens.
        #[serde(skip_serializing_if = "Option::is_none")]
        host_id: Option<String>,
        /// Whether nodes that were heard without a birth are asked for one.
        rebirth: bool,
    },
    /// Events of the server itself about its clients (EMQX, RMQTT).
    EmqxEvents {
        /// Which client ids are devices.
        clients: Vec<ClientPattern>,
    },
}

impl Convention {
    /// All names, for messages.
    pub const NAMES: [&'static str; 8] = [
        "homeAssistant",
        "zigbee2mqtt",
        "tasmota",
        "shelly",
        "esphome",
        "homie",
        "sparkplugB",
        "emqxEvents",
    ];

    /// The id as a Sparkplug Host Application, if it has one.
    #[must_use]
    pub fn host_id(&self) -> Option<&str> {
        match self {
            Self::SparkplugB { host_id, .. } => host_id.as_deref(),
            _ => None,
        }
    }

    /// Its name, as a Configuration writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::HomeAssistant { .. } => "homeAssistant",
            Self::Zigbee2mqtt { .. } => "zigbee2mqtt",
            Self::Tasmota {} => "tasmota",
            Self::Shelly { .. } => "shelly",
            Self::Esphome { .. } => "esphome",
            Self::Homie { .. } => "homie",
            Self::SparkplugB { .. } => "sparkplugB",
            Self::EmqxEvents { .. } => "emqxEvents",
        }
    }
}

/// Which client ids are meant: an exact id, or what stands before a final `#`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct ClientPattern(String);

impl ClientPattern {
    /// Reads `robot-7` or `robot-#`.
    ///
    /// # Errors
    /// It is empty, too long, or has a `#` that is not the last character.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let body = text.strip_suffix('#').unwrap_or(text);
        if text.is_empty() {
            Err(TopicError::Empty)
        } else if text.len() > crate::topic::MAX_LENGTH {
            Err(TopicError::TooLong(text.len()))
        } else if text.contains('\0') {
            Err(TopicError::Null)
        } else if body.contains('#') {
            Err(TopicError::HashNotLast)
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// Whether this client id is meant.
    #[must_use]
    pub fn matches(&self, client_id: &str) -> bool {
        match self.0.strip_suffix('#') {
            Some(beginning) => client_id.starts_with(beginning),
            None => client_id == self.0,
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
