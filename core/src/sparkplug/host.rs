//! The role of a Sparkplug Host Application (Eclipse Sparkplug 3.0, 4.4 and 5.13): what it states about itself. In: its
//! id, times, and the STATE messages of its topic. Out: Last Will, birth and death. Its MQTT session is left to others.

use serde::{Deserialize, Serialize};

use super::topic;

/// A Host Application on one MQTT server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    topic: String,
}

/// What a Host Application states: retained, and with QoS 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Whether it is there.
    pub online: bool,
    /// In milliseconds since 1970: when it connected, or went.
    pub timestamp: i64,
}

impl State {
    /// Its Last Will for a connection that is made at this time, and the death that it states when it goes.
    #[must_use]
    pub fn death(millis: i64) -> Self {
        Self {
            online: false,
            timestamp: millis,
        }
    }

    /// The birth on the connection that was made with this Last Will: of the same time.
    #[must_use]
    pub fn birth(self) -> Self {
        Self {
            online: true,
            ..self
        }
    }

    /// Reads what was stated; none if it is something else.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }

    /// As JSON.
    #[must_use]
    pub fn payload(self) -> String {
        format!(
            "{{\"online\":{},\"timestamp\":{}}}",
            self.online, self.timestamp
        )
    }
}

impl Host {
    /// The Host Application of this id.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            topic: topic::state_of(id),
        }
    }

    /// Where it states what it is.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Whether this message says that it is not there, so that it must state its birth again.
    #[must_use]
    pub fn is_denied_by(&self, topic: &str, payload: &[u8]) -> bool {
        topic == self.topic && State::parse(payload).is_some_and(|state| !state.online)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tck_id_host_topic_phid_birth_payload_timestamp_is_that_of_the_last_will() {
        let will = State::death(1_700_000_000_123);
        assert_eq!(
            will.payload(),
            r#"{"online":false,"timestamp":1700000000123}"#
        );
        let birth = State::parse(will.payload().as_bytes()).unwrap().birth();
        assert_eq!(
            birth.payload(),
            r#"{"online":true,"timestamp":1700000000123}"#
        );
    }

    #[test]
    fn tck_id_message_flow_hid_sparkplug_state_message_delivered_only_its_own_death_denies_it() {
        let host = Host::new("plant-host");
        assert_eq!(host.topic(), "spBv1.0/STATE/plant-host");
        let death = State::death(1).payload();
        assert!(host.is_denied_by(host.topic(), death.as_bytes()));
        let others = [
            (host.topic(), State::death(1).birth().payload()),
            (host.topic(), "OFFLINE".to_owned()),
            (host.topic(), "{\"online\":false".to_owned()),
            ("spBv1.0/STATE/other", death),
        ];
        for (topic, payload) in others {
            assert!(!host.is_denied_by(topic, payload.as_bytes()), "{payload}");
        }
    }
}
