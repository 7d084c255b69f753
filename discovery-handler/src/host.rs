//! A session that is a Sparkplug Host Application: what it states about itself on which connection.
//! In: connections, subscriptions and messages of the session. Out: options, and messages to publish.
//! What is stated is `core::sparkplug`'s; running the session is left to `shared`.

use std::time::Duration;

use akri_mqtt_core::details::QoS;
use akri_mqtt_core::sparkplug::{Host, State};
use akri_mqtt_session::{Options, Publish, Subscription, Will, WillPayload};
use jiff::Timestamp;

/// The role of one session.
#[derive(Debug)]
pub struct HostRole {
    host: Host,
    /// What the Last Will of this connection says.
    death: Option<State>,
    /// Whether the birth was published on this connection.
    is_born: bool,
}

impl HostRole {
    /// The Host Application of this id.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            host: Host::new(id),
            death: None,
            is_born: false,
        }
    }

    /// A session that the server forgets at its end, with the death as its Last Will.
    pub fn set(&self, options: &mut Options) {
        options.session_expiry = Duration::ZERO;
        let make = || State::death(millis()).payload().into();
        options.will = Some(Will {
            topic: self.host.topic().to_owned(),
            payload: make(),
            qos: QoS::AtLeastOnce,
            retain: true,
            delay: Duration::ZERO,
            expiry: None,
        });
        options.will_payload = Some(WillPayload::new(make));
    }

    /// What it subscribes beside what is wanted: others may state something in its name.
    #[must_use]
    pub fn subscription(&self) -> Subscription {
        Subscription::new(self.host.topic(), QoS::AtLeastOnce)
    }

    /// The server has accepted a connection with this Last Will.
    pub fn connected(&mut self, will: Option<&Will>) {
        self.death = will.and_then(|will| State::parse(&will.payload));
        self.is_born = false;
    }

    /// Everything is subscribed: its birth, if it was not published on this connection.
    pub fn subscribed(&mut self) -> Option<Publish> {
        if std::mem::replace(&mut self.is_born, true) {
            return None;
        }
        self.birth()
    }

    /// Its birth once more, if this message denies it.
    #[must_use]
    pub fn answer(&self, topic: &str, payload: &[u8]) -> Option<Publish> {
        let denied = self.is_born && self.host.is_denied_by(topic, payload);
        denied.then(|| self.birth()).flatten()
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.is_born = false;
    }

    /// Its death, to be published before it goes; none if it was not born.
    #[must_use]
    pub fn death(&self) -> Option<Publish> {
        self.is_born.then(|| self.publish(State::death(millis())))
    }

    /// Its birth on this connection.
    #[must_use]
    pub fn birth(&self) -> Option<Publish> {
        // A server that refuses the Last Will would never tell of our death, so it is not told of a birth.
        Some(self.publish(self.death?.birth()))
    }

    fn publish(&self, state: State) -> Publish {
        Publish::new(self.host.topic(), state.payload(), QoS::AtLeastOnce).retained()
    }
}

fn millis() -> i64 {
    Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use akri_mqtt_core::details::{Failover, Server, ServerUrl};
    use akri_mqtt_core::identity::ServerName;

    use super::*;

    fn options() -> Options {
        let server = Server {
            name: ServerName::parse("a").unwrap(),
            urls: vec![ServerUrl::parse("tcp://a").unwrap()],
            failover: Failover::Ordered,
        };
        Options::new(server, "id")
    }

    fn text(publish: &Publish) -> &str {
        assert!(publish.retain && publish.qos == QoS::AtLeastOnce);
        assert_eq!(publish.topic, "spBv1.0/STATE/plant");
        std::str::from_utf8(&publish.payload).unwrap()
    }

    #[test]
    fn tck_id_operational_behavior_host_application_connect_will_is_retained_with_qos_1_in_a_clean_session()
     {
        let mut options = options();
        HostRole::new("plant").set(&mut options);
        let will = options.will.unwrap();
        assert!(will.retain && will.qos == QoS::AtLeastOnce);
        assert_eq!(will.topic, "spBv1.0/STATE/plant");
        assert!(options.session_expiry.is_zero());
        let state = State::parse(&will.payload).unwrap();
        assert!(!state.online && state.timestamp > 1_700_000_000_000);
    }

    #[test]
    fn tck_id_message_flow_phid_sparkplug_state_publish_comes_once_after_the_subscriptions() {
        let mut options = options();
        let mut role = HostRole::new("plant");
        role.set(&mut options);
        let mut will = options.will.unwrap();
        will.payload = r#"{"online":false,"timestamp":5}"#.into();
        let denial = r#"{"online":false,"timestamp":9}"#.as_bytes();
        role.connected(Some(&will));
        assert_eq!(role.answer("spBv1.0/STATE/plant", denial), None);
        assert_eq!(role.death(), None);
        let birth = role.subscribed().unwrap();
        assert_eq!(text(&birth), r#"{"online":true,"timestamp":5}"#);
        assert_eq!(role.subscribed(), None);
        assert_eq!(
            role.answer("spBv1.0/STATE/plant", denial),
            Some(birth.clone())
        );
        assert_eq!(role.answer("spBv1.0/STATE/plant", &birth.payload), None);
        let death = role.death().unwrap();
        assert!(!State::parse(text(&death).as_bytes()).unwrap().online);
        role.disconnected();
        assert_eq!(role.death(), None);
        role.connected(None);
        assert_eq!(
            role.subscribed(),
            None,
            "without a Last Will there is no birth"
        );
    }
}
