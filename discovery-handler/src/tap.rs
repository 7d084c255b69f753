//! Lets somebody listen in: everything that requests are told about their servers, before they act on it.
//! In: what is observed. Out: the same, to a recorder. What is made of it is left to that.

use akri_mqtt_core::identity::ServerName;
use tokio::sync::mpsc;

use crate::observed::Observed;

/// Events that may wait for the recorder; then requests wait, and their sessions read no more.
const WAITING: usize = 1_024;

/// Where events go; by default nowhere.
#[derive(Clone, Debug, Default)]
pub struct Tap(Option<mpsc::Sender<(ServerName, Observed)>>);

impl Tap {
    /// A tap, and what comes out of it until the last request has ended.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<(ServerName, Observed)>) {
        let (to, from) = mpsc::channel(WAITING);
        (Self(Some(to)), from)
    }

    /// Passes an event on.
    pub async fn tell(&self, server: &ServerName, observed: &Observed) {
        if let Some(to) = &self.0 {
            // A recorder that has gone ends the process.
            let _ = to.send((server.clone(), observed.clone())).await;
        }
    }
}
