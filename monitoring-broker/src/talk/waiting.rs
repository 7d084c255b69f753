//! Commands that wait for a response, by correlation data. In: responses. Out: each to its command, once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::command::Response;

/// Correlation data of ours.
pub(super) type Correlation = [u8; 16];

/// See the module. Bounded by the commands that may be under way.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<Correlation, oneshot::Sender<Response>>>);

/// A command's place; dropped, a response is late.
pub(super) struct Expected<'a> {
    waiting: &'a Waiting,
    correlation: Correlation,
    response: oneshot::Receiver<Response>,
}

impl Waiting {
    pub(super) fn expect(&self, correlation: Correlation) -> Expected<'_> {
        let (sender, response) = oneshot::channel();
        self.lock().insert(correlation, sender);
        Expected {
            waiting: self,
            correlation,
            response,
        }
    }

    /// False if nobody waits for it.
    pub(super) fn answer(&self, correlation: &[u8], response: Response) -> bool {
        let sender = self.lock().remove(correlation);
        sender.is_some_and(|sender| sender.send(response).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Correlation, oneshot::Sender<Response>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expected<'_> {
    pub(super) fn correlation(&self) -> &Correlation {
        &self.correlation
    }

    /// The response. Cancel safe.
    pub(super) async fn response(&mut self) -> Response {
        match (&mut self.response).await {
            Ok(response) => response,
            // The sender is in the map for as long as this is, so this does not happen.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.correlation);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jiff::Timestamp;

    use super::*;
    use crate::store::Properties;

    fn response(payload: &'static str) -> Response {
        Response {
            topic: "akri-mqtt/responses/x".to_owned(),
            payload: Bytes::from_static(payload.as_bytes()),
            qos: 1,
            duplicate: false,
            properties: Properties::default(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn response_goes_to_its_command_once_and_late_ones_to_nobody() {
        let waiting = Waiting::default();
        let mut first = waiting.expect([1; 16]);
        let second = waiting.expect([2; 16]);
        assert!(!waiting.answer(b"foreign", response("no")));
        assert!(waiting.answer(&[1; 16], response("yes")));
        assert!(!waiting.answer(&[1; 16], response("again")));
        assert_eq!(first.response().await.payload, "yes");
        drop(second);
        assert!(!waiting.answer(&[2; 16], response("late")));
        drop(first);
        assert!(waiting.lock().is_empty());
    }
}
