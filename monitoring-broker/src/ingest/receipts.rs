//! Acknowledgements that wait for the commit of their messages. In: the right to acknowledge each message that goes into
//! the store. Out: those of a batch to the session together, so that the server gets them in one piece.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use akri_mqtt_session::{Ack, Handle};
use prometheus_client::metrics::gauge::Gauge;

use crate::store::{Committed, Receipt};

/// Of one session. As many wait as it lets be in flight.
pub(super) struct Receipts {
    handle: Arc<Handle>,
    pending: Gauge,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// In the order of their numbers, in which the store commits them.
    acks: VecDeque<(u64, Ack)>,
}

impl Receipts {
    pub(super) fn new(handle: Arc<Handle>, pending: Gauge) -> Self {
        Self {
            handle,
            pending,
            waiting: Mutex::default(),
        }
    }

    /// What goes into the store with the message of this acknowledgement.
    pub(super) fn of(self: &Arc<Self>, ack: Ack) -> Receipt {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let number = waiting.next;
        waiting.next += 1;
        waiting.acks.push_back((number, ack));
        self.pending.inc();
        Receipt {
            to: Arc::<Self>::clone(self),
            number,
        }
    }
}

impl Committed for Receipts {
    fn committed(&self, numbers: &[u64]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut acks = Vec::with_capacity(numbers.len());
        for number in numbers {
            let found = waiting.acks.binary_search_by_key(number, |(own, _)| *own);
            let ack = found.ok().and_then(|index| waiting.acks.remove(index));
            acks.extend(ack.map(|(_, ack)| ack));
        }
        drop(waiting);
        self.pending
            .dec_by(i64::try_from(acks.len()).unwrap_or_default());
        self.handle.acknowledge_all(acks);
    }
}
