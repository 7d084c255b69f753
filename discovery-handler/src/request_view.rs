//! What a request says about itself: to people, to `/readyz`, to metrics.
//! In: its state. Out: views, sorted, without a secret. It changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use akri_mqtt_core::clock::Now;
use akri_mqtt_core::details::Details;
use akri_mqtt_core::identity::{DeviceId, InstanceHash, ServerName};
use akri_mqtt_core::presence::{Explanation, Ignored, Irregular, Presence, Reason, State};
use jiff::Timestamp;

use crate::naming::{DetailsDigest, RequestLabel};
use crate::pool::SessionInfo;
use crate::publisher::{Publisher, Shortage};
use crate::view::{DeviceView, RequestView, ServerView};

/// Servers of a request whose troubles `/readyz` spells out.
const TROUBLES: usize = 4;

/// Which devices a view shows.
#[derive(Clone, Debug)]
pub enum Scope {
    /// These.
    Devices(Arc<[DeviceId]>),
    /// None: only the request and its servers.
    Servers,
}

/// Numbers for metrics.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// Devices by state.
    pub devices: Vec<(State, u64)>,
    /// Changes of state by new state and reason.
    pub transitions: Vec<(State, Reason, u64)>,
    /// Messages without effect.
    pub ignored: Vec<(Ignored, u64)>,
    /// Messages with another number than was expected.
    pub irregular: Vec<(Irregular, u64)>,
    /// Requests for a rebirth that a session took, and those that none could take.
    pub rebirths: (u64, u64),
    /// Devices that flap.
    pub flapping: u64,
    /// Present devices that the lists leave out, and how far they are from naming all.
    pub shortage: Shortage,
    /// Newcomers that `maxDevices` refuses.
    pub refused: u64,
}

/// The state of a request at one moment.
pub struct Facts<'a> {
    /// Its name.
    pub label: &'a RequestLabel,
    /// Digest of what was sent.
    pub digest: &'a DetailsDigest,
    /// What it looks for.
    pub details: &'a Details,
    /// Its devices.
    pub presence: &'a Presence,
    /// Its sessions.
    pub sessions: &'a BTreeMap<ServerName, SessionInfo>,
    /// Its lists.
    pub publisher: &'a Publisher,
    /// Messages that no session could take.
    pub unsaid: u64,
    /// Open streams.
    pub streams: usize,
    /// Whether there is a list.
    pub listed: bool,
    /// Whether it began with a roster.
    pub restored: bool,
}

impl Facts<'_> {
    /// Numbers for metrics.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        let counters = self.presence.counters();
        Numbers {
            devices: counters.devices().collect(),
            transitions: counters.transitions().collect(),
            ignored: counters.ignored().collect(),
            irregular: counters.irregular().collect(),
            rebirths: (counters.rebirths.saturating_sub(self.unsaid), self.unsaid),
            flapping: counters.flapping,
            shortage: self.publisher.shortage(),
            refused: counters.refused,
        }
    }

    /// Whether its streams have a list, and what people should know.
    #[must_use]
    pub fn readiness(&self) -> (bool, String) {
        if !self.listed {
            let waiting = "waiting for the servers' retained announcements";
            let reason = format!("{waiting}{}", self.troubles());
            return (self.streams == 0, reason);
        }
        let mut reason = format!("{} devices", self.presence.published_count());
        reason.push_str(&self.shortages());
        // A server that is away is no reason to send nobody here: the lists stand.
        reason.push_str(&self.troubles());
        (true, reason)
    }

    /// Who is there and not listed, by how much that is too many, and what to do.
    fn shortages(&self) -> String {
        let mut text = String::new();
        if let Some((device, why)) = self.publisher.example() {
            let shortage = self.publisher.shortage();
            let left_out = shortage.left_out();
            text.push_str(&format!("; {left_out} not listed, such as {device}, {why}"));
            if shortage.waiting > 0 {
                let (limit, missing) = (shortage.limit, shortage.missing);
                text.push_str(&format!(
                    " (all would take about {missing} bytes more than {limit})"
                ));
            }
        }
        let counters = self.presence.counters();
        let refused = counters.refused;
        if refused > 0 {
            let limit = self.details.limits.max_devices;
            let overflow = counters.ignored().any(|(why, _)| why == Ignored::Full);
            let least = if overflow { "at least " } else { "" };
            text.push_str(&format!(
                "; {least}{refused} refused by limits.maxDevices {limit}: raise it, or share out the topics over several Configurations"
            ));
        }
        text
    }

    /// What is wrong with its servers, for people.
    fn troubles(&self) -> String {
        let sessions = self.sessions.iter();
        let mut troubles = sessions.filter_map(|(name, session)| trouble(name, session));
        let mut text: String = troubles.by_ref().take(TROUBLES).collect();
        match troubles.count() {
            0 => {}
            more => text.push_str(&format!("; and {more} servers more")),
        }
        text
    }

    /// Everything about itself, and about as many devices as are asked for.
    #[must_use]
    pub fn view(&self, scope: &Scope, now: Now) -> RequestView {
        let devices = match scope {
            Scope::Devices(devices) => devices.as_ref(),
            Scope::Servers => &[],
        };
        let devices = devices
            .iter()
            .filter_map(|id| Some(self.device(id, self.presence.explain(id, now)?)))
            .collect();
        RequestView {
            request: self.label.to_string(),
            details: self.digest.to_string(),
            streams: self.streams,
            listed: self.listed,
            restored: self.restored,
            offline_after: self
                .details
                .presence
                .offline_after
                .map(|after| after.as_secs_f64()),
            servers: self.servers(now),
            published: self.presence.published_count(),
            left_out: self.publisher.shortage().left_out(),
            refused: self.presence.counters().refused,
            devices,
        }
    }

    fn device(&self, id: &DeviceId, explanation: Explanation) -> DeviceView {
        let listed = self.presence.listing(id);
        let left_out = listed.and_then(|listed| self.publisher.left_out(id, listed.order));
        DeviceView {
            hash: InstanceHash::of(&explanation.device).to_string(),
            listed: explanation.published && left_out.is_none(),
            explanation,
            left_out,
        }
    }

    fn servers(&self, now: Now) -> Vec<ServerView> {
        let sessions = self.sessions.iter();
        sessions
            .map(|(name, session)| server(name, session, now))
            .collect()
    }
}

/// What is wrong with one server, if anything is.
fn trouble(name: &ServerName, session: &SessionInfo) -> Option<String> {
    let status = session.handle.status();
    let status = status.borrow();
    let mut text = String::new();
    if !status.connected {
        let why = status.last_error.as_ref().map(ToString::to_string);
        let why = why.unwrap_or_else(|| "no attempt has ended yet".to_owned());
        text.push_str(&format!("; {name} is not connected: {why}"));
    }
    if let Some((filter, why)) = status.refused.first() {
        let count = status.refused.len();
        text.push_str(&format!(
            "; {name} refuses {count} filters, such as {filter}: {why}"
        ));
    }
    if let Some(why) = &*session.account.borrow() {
        text.push_str(&format!(
            "; changed credentials for {name} are not used: {why}"
        ));
    }
    (!text.is_empty()).then_some(text)
}

fn server(name: &ServerName, session: &SessionInfo, now: Now) -> ServerView {
    let status = session.handle.status().borrow().clone();
    ServerView {
        name: name.to_string(),
        client_id: session.client_id.clone(),
        connected: status.connected,
        url: status.url.map(|url| url.to_string()),
        since: on_the_wall(status.since, now),
        last_error: status
            .last_error
            .filter(|_| !status.connected)
            .map(|error| error.to_string()),
        credentials_error: session.account.borrow().clone(),
        refused_filters: status.refused,
    }
}

fn on_the_wall(at: std::time::Instant, now: Now) -> Timestamp {
    let ago = now.mono.saturating_duration_since(at);
    now.wall.checked_sub(ago).unwrap_or(now.wall)
}
