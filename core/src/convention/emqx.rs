//! Events of the server about its clients, `$SYS/brokers/<node>/clients/<clientid>/connected` and
//! `…/disconnected` (EMQX, RMQTT). In: events. Out: which of the named clients came and went. They
//! are not retained: who was connected before us is not told.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Context, Filters, Module, Said, Verdict};
use crate::details::ClientPattern;
use crate::presence::{Evidence, Ignored, Inbound, Tick};

#[derive(Debug)]
pub(super) struct Events {
    clients: Vec<ClientPattern>,
    own: String,
}

/// What of an event counts.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    clientid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
}

/// Reasons for the end of a connection whose client has another one already, of EMQX and of RMQTT. An
/// administrator's is `kicked` of EMQX and `ByAdminKick` of RMQTT.
const REPLACED: [&str; 4] = ["takenover", "takeovered", "discarded", "Kicked"];

pub(super) fn filters(clients: &[ClientPattern], device: Option<&str>) -> Filters {
    let levels: Vec<Cow<'_, str>> = match device {
        Some(client) => vec![client.into()],
        None => clients.iter().map(level).collect(),
    };
    let both = |client: &Cow<'_, str>| {
        ["connected", "disconnected"]
            .map(|event| format!("$SYS/brokers/+/clients/{client}/{event}"))
    };
    let announcing: Vec<String> = levels
        .iter()
        .filter(|level| *level != "#")
        .flat_map(both)
        .chain(
            levels
                .contains(&Cow::Borrowed("#"))
                .then(|| "$SYS/brokers/+/clients/#".to_owned()),
        )
        .collect();
    Filters::of(&announcing, &[])
}

/// The levels of topics for these client ids.
fn level(clients: &ClientPattern) -> Cow<'_, str> {
    match clients.as_str().strip_suffix('#') {
        None => clients.as_str().into(),
        // An id with a `/` has as many levels as it likes.
        Some(beginning) if beginning.contains('/') => "#".into(),
        Some(_) => "+".into(),
    }
}

impl Events {
    pub fn new(clients: &[ClientPattern], context: &Context) -> Self {
        Self {
            clients: clients.to_vec(),
            own: context.client_id_prefix.clone(),
        }
    }
}

impl Module for Events {
    fn read(&mut self, message: &Inbound<'_>, _now: Tick, said: &mut Vec<Said>) -> Verdict {
        let topic = message.topic.strip_prefix("$SYS/brokers/");
        let Some((client, event)) = topic
            .and_then(|rest| rest.split_once('/')?.1.strip_prefix("clients/"))
            .and_then(|rest| rest.rsplit_once('/'))
        else {
            return Verdict::NotMine;
        };
        let connected = match event {
            "connected" => true,
            "disconnected" => false,
            _ => return Verdict::NotMine,
        };
        if client.is_empty() {
            return Verdict::Ignored(Ignored::EmptyName);
        }
        if client.starts_with(&self.own) {
            return Verdict::Ignored(Ignored::Own);
        }
        if !self.clients.iter().any(|pattern| pattern.matches(client)) {
            return Verdict::Ignored(Ignored::NoRule);
        }
        let evidence = judge(message.payload, client, connected);
        said.push(Said::announced(client, evidence));
        Verdict::Taken
    }
}

fn judge(payload: &[u8], client: &str, connected: bool) -> Evidence {
    let Ok(event) = serde_json::from_slice::<Event<'_>>(payload) else {
        return Evidence::Unknown;
    };
    let other = event.clientid.is_some_and(|named| named != client);
    // RMQTT joins several of them.
    let replaced = event.reason.is_some_and(|reasons| {
        let mut reasons = reasons.split(',').map(str::trim);
        reasons.any(|reason| REPLACED.contains(&reason))
    });
    match (other, connected) {
        (true, _) => Evidence::Unknown,
        (false, true) => Evidence::Online,
        (false, false) if replaced => Evidence::Unknown,
        (false, false) => Evidence::Offline,
    }
}
