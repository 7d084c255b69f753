//! All devices of all requests as JSON, a part at a time: a million of them must neither keep a request from its
//! messages nor stand in memory as text.
//! In: what asks requests. Out: the pieces of one `PresenceView`, sorted. A device is shown as it is when its part is
//! made; one that appears meanwhile is left out.

use std::sync::Arc;
use std::vec;

use akri_mqtt_core::identity::DeviceId;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::request::Command;
use crate::request_view::Scope;
use crate::view::{DeviceView, RequestView};

/// Devices that a request explains before it goes on with its messages: some milliseconds.
const PART: usize = 500;
/// Ids that a request copies before it goes on with its messages.
const IDS: usize = 10_000;
/// The end of a request without devices.
const NO_DEVICES: &str = "[]}";

/// Asks one request.
#[derive(Clone)]
pub struct Asker(mpsc::Sender<Command>);

impl Asker {
    /// Asks the request that has the other end.
    #[must_use]
    pub fn new(commands: mpsc::Sender<Command>) -> Self {
        Self(commands)
    }

    /// What it knows; `None` if it has ended.
    pub async fn view(&self, scope: Scope) -> Option<RequestView> {
        self.ask(|reply| Command::Explain(scope, reply)).await
    }

    /// The devices that it knows, sorted.
    async fn ids(&self) -> Vec<DeviceId> {
        let (mut all, mut from) = (Vec::new(), Some(0));
        while let Some(begin) = from {
            let part = self.ask(|reply| Command::Ids(begin, IDS, reply)).await;
            let Some((mut ids, next)) = part else {
                break;
            };
            all.append(&mut ids);
            from = next;
        }
        let sorted = tokio::task::spawn_blocking(move || {
            all.sort_unstable();
            all.dedup();
            all
        });
        // It does not panic; at shutdown nobody waits for it.
        sorted.await.unwrap_or_default()
    }

    async fn devices(&self, ids: Arc<[DeviceId]>) -> Vec<DeviceView> {
        let view = self.view(Scope::Devices(ids)).await;
        view.map(|view| view.devices).unwrap_or_default()
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.0.send(question(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// The devices of one request that are still to be shown.
struct Rest {
    asker: Asker,
    ids: vec::IntoIter<DeviceId>,
}

impl Rest {
    async fn new(asker: Asker) -> Self {
        let ids = asker.ids().await.into_iter();
        Self { asker, ids }
    }

    /// The next ones; `None` at the end.
    async fn next(&mut self) -> Option<Vec<DeviceView>> {
        let part: Arc<[DeviceId]> = self.ids.by_ref().take(PART).collect();
        if part.is_empty() {
            return None;
        }
        Some(self.asker.devices(part).await)
    }
}

/// All devices of one request.
pub async fn devices(asker: Asker) -> Vec<DeviceView> {
    let (mut rest, mut all) = (Rest::new(asker).await, Vec::new());
    while let Some(mut devices) = rest.next().await {
        all.append(&mut devices);
    }
    all
}

/// A `PresenceView` in pieces.
pub struct Listing {
    instance: Option<String>,
    requests: vec::IntoIter<(RequestView, Asker)>,
    current: Option<Rest>,
    is_first_request: bool,
    is_first_device: bool,
    is_done: bool,
    _permit: OwnedSemaphorePermit,
}

impl Listing {
    /// What these requests know. The permit is given back at the end.
    #[must_use]
    pub fn new(
        instance: String,
        requests: Vec<(RequestView, Asker)>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            instance: Some(instance),
            requests: requests.into_iter(),
            current: None,
            is_first_request: true,
            is_first_device: true,
            is_done: false,
            _permit: permit,
        }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<String> {
        if let Some(instance) = self.instance.take() {
            return Some(format!("{{\"instance\":{},\"requests\":[", json(&instance)));
        }
        if let Some(rest) = &mut self.current {
            let Some(devices) = rest.next().await else {
                self.current = None;
                return Some("]}".to_owned());
            };
            return Some(self.part(&devices));
        }
        if let Some((view, asker)) = self.requests.next() {
            self.current = Some(Rest::new(asker).await);
            self.is_first_device = true;
            let comma = separator(&mut self.is_first_request);
            let text = json(&view);
            let head = text.strip_suffix(NO_DEVICES).unwrap_or(&text);
            return Some(format!("{comma}{head}["));
        }
        (!std::mem::replace(&mut self.is_done, true)).then(|| "]}".to_owned())
    }

    fn part(&mut self, devices: &[DeviceView]) -> String {
        let mut text = String::new();
        for device in devices {
            text.push_str(separator(&mut self.is_first_device));
            text.push_str(&json(device));
        }
        text
    }
}

fn separator(is_first: &mut bool) -> &'static str {
    if std::mem::replace(is_first, false) {
        ""
    } else {
        ","
    }
}

/// Views have no maps with keys that are no text, and so cannot fail.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_with_its_devices() {
        let view = RequestView {
            request: "1a2b3c4d".to_owned(),
            details: String::new(),
            streams: 0,
            listed: true,
            restored: false,
            offline_after: None,
            servers: Vec::new(),
            published: 0,
            left_out: 0,
            refused: 0,
            devices: Vec::new(),
        };
        assert!(json(&view).ends_with(&format!("\"devices\":{NO_DEVICES}")));
    }
}
