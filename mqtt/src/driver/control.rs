//! What handles ask of a session, where asking must not block.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{Ack, Subscription};

/// Shared by the handles and the session. The list of acknowledgements is bounded by the messages that the
/// session handed out without having them back.
#[derive(Default)]
pub(crate) struct Control {
    asked: Mutex<Asked>,
    notify: Notify,
}

/// How a session is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Without our Last Will.
    Quietly,
    /// With it.
    WithWill,
}

/// What was asked since the last look.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) wanted: Option<Vec<Subscription>>,
    pub(super) acks: Vec<Ack>,
    pub(super) ping: bool,
    pub(super) stop: Option<Stop>,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self, wanted: Vec<Subscription>) {
        self.lock().wanted = Some(wanted);
        self.notify.notify_one();
    }

    pub(crate) fn acknowledge(&self, acks: impl IntoIterator<Item = Ack>) {
        self.lock().acks.extend(acks);
        self.notify.notify_one();
    }

    pub(crate) fn ping(&self) {
        self.lock().ping = true;
        self.notify.notify_one();
    }

    pub(crate) fn stop(&self, how: Stop) {
        self.lock().stop.get_or_insert(how);
        self.notify.notify_one();
    }

    /// Completes when something was asked. Cancel safe.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Takes what was asked; `stop` stays.
    pub(super) fn take(&self) -> Asked {
        let mut asked = self.lock();
        let stop = asked.stop;
        std::mem::replace(
            &mut *asked,
            Asked {
                stop,
                ..Asked::default()
            },
        )
    }
}
