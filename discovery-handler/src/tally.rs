//! What requests count. In: requests that begin and end. Out: the numbers of those that run, and counts over all.
//! Requests that have ended stay in the counts, so that counters never fall.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::naming::RequestLabel;
use crate::request_view::Numbers;

/// What is counted over all requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes of state, by new state and reason.
    pub transitions: BTreeMap<(&'static str, &'static str), u64>,
    /// Messages without effect, by reason.
    pub ignored: BTreeMap<&'static str, u64>,
    /// Messages with another number than was expected, by what is wrong.
    pub irregular: BTreeMap<&'static str, u64>,
    /// Requests for a rebirth, by whether they were sent.
    pub rebirths: BTreeMap<&'static str, u64>,
}

impl Counts {
    fn add(&mut self, numbers: &Numbers) {
        for (to, reason, count) in &numbers.transitions {
            let key = (to.as_str(), reason.as_str());
            let sum = self.transitions.entry(key).or_default();
            *sum = sum.saturating_add(*count);
        }
        for (reason, count) in &numbers.ignored {
            let sum = self.ignored.entry(reason.as_str()).or_default();
            *sum = sum.saturating_add(*count);
        }
        for (what, count) in &numbers.irregular {
            let sum = self.irregular.entry(what.as_str()).or_default();
            *sum = sum.saturating_add(*count);
        }
        let (sent, lost) = numbers.rebirths;
        for (result, count) in [("sent", sent), ("lost", lost)] {
            let sum = self.rebirths.entry(result).or_default();
            *sum = sum.saturating_add(count);
        }
    }
}

#[derive(Default)]
struct Inner {
    next: u64,
    running: BTreeMap<u64, (RequestLabel, watch::Receiver<Numbers>)>,
    ended: Counts,
}

/// See the module; clones are handles to the same.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<Inner>>);

/// A request that is counted; once dropped, it counts as ended.
pub struct Counted {
    tally: Tally,
    number: u64,
}

impl Tally {
    /// Counts a request from now on.
    #[must_use]
    pub fn watch(&self, label: RequestLabel, numbers: watch::Receiver<Numbers>) -> Counted {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.running.insert(number, (label, numbers));
        drop(inner);
        let tally = self.clone();
        Counted { tally, number }
    }

    /// The numbers of each request that runs, and the counts over all, also those that have ended.
    #[must_use]
    pub fn read(&self) -> (Vec<(RequestLabel, Numbers)>, Counts) {
        let inner = self.lock();
        let (mut running, mut counts) = (Vec::new(), inner.ended.clone());
        for (label, numbers) in inner.running.values() {
            let numbers = numbers.borrow().clone();
            counts.add(&numbers);
            running.push((label.clone(), numbers));
        }
        (running, counts)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut inner = self.tally.lock();
        if let Some((_, numbers)) = inner.running.remove(&self.number) {
            inner.ended.add(&numbers.borrow());
        }
    }
}

#[cfg(test)]
mod tests {
    use akri_mqtt_core::details::Details;
    use akri_mqtt_core::presence::{Ignored, Reason, State};

    use super::*;

    fn label(topic: &str) -> RequestLabel {
        let details = format!("serverUrls: [tcp://a]\ntopics: [{topic}]");
        RequestLabel::of(&Details::parse(&details).unwrap())
    }

    fn numbers(count: u64) -> Numbers {
        Numbers {
            transitions: vec![(State::Online, Reason::Data, count)],
            ignored: vec![(Ignored::NoRule, count)],
            ..Numbers::default()
        }
    }

    #[test]
    fn counts_do_not_fall_when_a_request_ends() {
        let tally = Tally::default();
        let (sender, receiver) = watch::channel(numbers(2));
        let first = tally.watch(label("a"), receiver);
        let second = tally.watch(label("b"), watch::channel(numbers(3)).1);
        assert_eq!(tally.read().0.len(), 2);
        sender.send_replace(numbers(4));
        let before = tally.read().1;
        assert_eq!(before.ignored, BTreeMap::from([("no_rule", 7)]));
        drop(first);
        let (running, counts) = tally.read();
        assert_eq!((running.len(), counts), (1, before.clone()));
        drop(second);
        assert_eq!(tally.read().1, before);
    }
}
