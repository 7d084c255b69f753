//! What one session publishes: what its requests have to say, and its role as a Sparkplug Host Application.
//! In: messages of requests, and what happens to the session. Out: PUBLISH packets, a bounded number at a time.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use akri_mqtt_core::details::QoS;
use akri_mqtt_core::identity::ServerName;
use akri_mqtt_core::presence::Outgoing;
use akri_mqtt_session::{Connected, Handle, Message, Publish, Subscription};
use tokio::task::JoinSet;
use tracing::warn;

use crate::host::HostRole;

/// How long the last words of a Host Application may hold up its end.
const FAREWELL: Duration = Duration::from_secs(1);
/// Messages that are on their way to the server at most.
const IN_FLIGHT: usize = 64;

/// Requests ask Edge Nodes each for itself, once in 30 s; together they must not ask more often. A little less, because what a
/// request says takes its time to get here.
const ONCE_IN: Duration = Duration::from_millis(29_900);
/// Topics that are remembered for that.
const REMEMBERED: usize = 10_000;

/// See the module.
pub struct Voice {
    server: ServerName,
    handle: Handle,
    host: Option<HostRole>,
    /// Each ends with whether it was a birth; all end with the session.
    in_flight: JoinSet<bool>,
    birth: Birth,
    /// Where something was said lately, and when.
    lately: HashSet<String>,
    by_time: VecDeque<(Instant, String)>,
}

/// How far the birth of a Host Application is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Birth {
    Quiet,
    InFlight,
    /// It was denied while it was on its way, so it is published once more.
    Denied,
}

impl Voice {
    /// Of a session, which was started as this Host Application, if it is one.
    #[must_use]
    pub fn new(server: ServerName, handle: Handle, host: Option<HostRole>) -> Self {
        Self {
            server,
            handle,
            host,
            in_flight: JoinSet::new(),
            birth: Birth::Quiet,
            lately: HashSet::new(),
            by_time: VecDeque::new(),
        }
    }

    /// What it has to hear.
    #[must_use]
    pub fn subscription(&self) -> Option<Subscription> {
        self.host.as_ref().map(HostRole::subscription)
    }

    /// Whether it can say something more now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.in_flight.len() < IN_FLIGHT
    }

    /// Says something for a request, unless another one has just said it.
    pub fn say(&mut self, Outgoing { topic, payload }: Outgoing, now: Instant) {
        let is_old = |at: Instant| now.saturating_duration_since(at) >= ONCE_IN;
        while let Some((_, topic)) = self.by_time.pop_front_if(|(at, _)| is_old(*at)) {
            self.lately.remove(&topic);
        }
        if self.lately.contains(&topic) {
            return;
        }
        if self.lately.len() < REMEMBERED {
            self.lately.insert(topic.clone());
            self.by_time.push_back((now, topic.clone()));
        }
        self.publish(Publish::new(topic, payload, QoS::AtMostOnce), false);
    }

    /// Goes on with what is under way; ends when something of it did, never if nothing is. Cancel safe.
    pub async fn go_on(&mut self) {
        match self.in_flight.join_next().await {
            Some(Ok(true)) => {
                let again = self.birth == Birth::Denied;
                self.birth = Birth::Quiet;
                if again && let Some(birth) = self.host.as_ref().and_then(HostRole::birth) {
                    self.be_born(birth);
                }
            }
            Some(Ok(false) | Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    /// A connection was accepted.
    pub fn connected(&mut self, connected: &Connected) {
        if let Some(host) = &mut self.host {
            host.connected(connected.will.as_ref());
        }
    }

    /// Everything is subscribed on it.
    pub fn subscribed(&mut self) {
        if let Some(birth) = self.host.as_mut().and_then(HostRole::subscribed) {
            self.be_born(birth);
        }
    }

    /// A message came.
    pub fn hear(&mut self, message: &Message) {
        let host = self.host.as_ref();
        if let Some(birth) = host.and_then(|host| host.answer(&message.topic, &message.payload)) {
            self.be_born(birth);
        }
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        if let Some(host) = &mut self.host {
            host.disconnected();
        }
    }

    /// Says the last words of a Host Application.
    pub async fn end(&self) {
        if let Some(death) = self.host.as_ref().and_then(HostRole::death) {
            // Without an answer in time the connection ends all the same.
            let _ = tokio::time::timeout(FAREWELL, self.handle.publish(death)).await;
        }
    }

    fn be_born(&mut self, birth: Publish) {
        if self.birth == Birth::Quiet {
            self.birth = Birth::InFlight;
            self.publish(birth, true);
        } else {
            self.birth = Birth::Denied;
        }
    }

    fn publish(&mut self, publish: Publish, is_birth: bool) {
        let (handle, server) = (self.handle.clone(), self.server.clone());
        self.in_flight.spawn(async move {
            let topic = publish.topic.clone();
            if let Err(error) = handle.publish(publish).await {
                warn!(%server, topic, %error, "a message was not published");
            }
            is_birth
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use akri_mqtt_core::credentials::Credentials;
    use akri_mqtt_core::details::Details;
    use tokio::sync::watch;

    use super::*;
    use crate::session_options::options;
    use crate::session_state::FileState;
    use crate::state_dir::StateDir;

    #[tokio::test]
    async fn an_edge_node_is_asked_once_in_30_s_however_many_requests_ask() {
        let yaml = "servers: [{name: s, urls: [tcp://127.0.0.1:1]}]\ntopics: ['r/{device}/x']\n";
        let details = Details::parse(yaml).unwrap();
        let server = details.servers[0].clone();
        let state = FileState::load("id", &StateDir::in_memory());
        let options = options(&server, &details.mqtt, "id".to_owned());
        let (_credentials, watched) = watch::channel(Credentials::default());
        let memory = Arc::<FileState>::clone(&state);
        let (handle, _events) = akri_mqtt_session::start(options, watched, memory, Vec::new());
        let mut voice = Voice::new(server.name, handle, None);
        let start = Instant::now();
        let mut said = |topic: &str, seconds| {
            let before = voice.in_flight.len();
            let (topic, payload) = (topic.to_owned(), Vec::new());
            voice.say(
                Outgoing { topic, payload },
                start + Duration::from_secs(seconds),
            );
            voice.in_flight.len() - before
        };
        let (one, other) = ("spBv1.0/g/NCMD/a", "spBv1.0/g/NCMD/b");
        assert_eq!((said(one, 0), said(one, 20), said(other, 20)), (1, 0, 1));
        assert_eq!((said(one, 30), said(other, 49), said(one, 59)), (1, 0, 0));
        assert!(voice.by_time.len() <= 2);
    }
}
