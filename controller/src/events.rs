//! Events that people read with `kubectl describe`. In: notices. Out: Event objects, few enough that
//! nobody minds: at a limited rate, each thing once in ten minutes. What is left out is counted.
//! When something is worth saying is decided in `plan`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::limiter::Limiter;
use crate::names::MANAGER;
use crate::plan::{About, Notice};
use crate::requests::{Kind, Writer};

/// Notices that wait to be written; a thousand devices that fail at once need no thousand Events.
const WAITING: usize = 256;
/// Events a second, and how many at once.
const RATE: (u32, u32) = (5, 50);
/// What was said is not said again for so long.
const QUIET: Duration = Duration::from_secs(600);
/// Notices that are remembered in order not to be repeated.
const REMEMBERED: usize = 1_024;
/// Longest note that Kubernetes allows, in bytes.
const NOTE: usize = 1_024;

/// Takes notices; clones speak through the same mouth.
#[derive(Clone, Debug)]
pub struct Speaker {
    notices: mpsc::Sender<Notice>,
    dropped: Counter,
}

impl Speaker {
    /// A speaker, and the task that writes what it says until all its clones are gone.
    pub fn new(
        writer: Writer,
        identity: Arc<str>,
        dropped: Counter,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, notices) = mpsc::channel(WAITING);
        let speaker = Self {
            notices: sender,
            dropped: dropped.clone(),
        };
        let scribe = Scribe {
            writer,
            identity,
            dropped,
            limiter: Limiter::new(RATE.0, RATE.1),
            said: Said::default(),
        };
        (speaker, scribe.run(notices))
    }

    /// Says it, unless too much is to be said already.
    pub fn say(&self, notice: Notice) {
        if self.notices.try_send(notice).is_err() {
            self.dropped.inc();
        }
    }
}

struct Scribe {
    writer: Writer,
    identity: Arc<str>,
    dropped: Counter,
    limiter: Limiter,
    said: Said,
}

impl Scribe {
    async fn run(mut self, mut notices: mpsc::Receiver<Notice>) {
        while let Some(notice) = notices.recv().await {
            if !self.said.is_news(&notice, Instant::now()) {
                continue;
            }
            if !self.limiter.try_take() {
                self.dropped.inc();
                continue;
            }
            let (namespace, body) = event(&notice, &self.identity, Timestamp::now());
            let written = self
                .writer
                .create::<serde::de::IgnoredAny>(Kind::Event, &namespace, &body)
                .await;
            if let Err(problem) = written {
                self.dropped.inc();
                tracing::debug!(%problem, "Event was not written");
            }
        }
    }
}

/// What was said lately.
#[derive(Debug, Default)]
struct Said {
    at: HashMap<(Arc<str>, &'static str, String), Instant>,
    order: VecDeque<(Arc<str>, &'static str, String)>,
}

impl Said {
    fn is_news(&mut self, notice: &Notice, now: Instant) -> bool {
        let uid = match &notice.about {
            About::Configuration(_, uid) | About::Instance(_, uid) => Arc::clone(uid),
        };
        let key = (uid, notice.reason.as_str(), notice.words.clone());
        if let Some(at) = self.at.get_mut(&key) {
            let news = now.duration_since(*at) >= QUIET;
            if news {
                *at = now;
            }
            return news;
        }
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.at.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.at.insert(key, now);
        true
    }
}

/// The Event for a notice, and the namespace that it belongs to.
#[must_use]
pub fn event(notice: &Notice, identity: &str, now: Timestamp) -> (Arc<str>, Value) {
    let (kind, namespace, name, uid) = match &notice.about {
        About::Configuration(key, uid) => ("Configuration", &key.namespace, &key.name, uid),
        About::Instance(key, uid) => ("Instance", &key.namespace, &key.name, uid),
    };
    let warning = notice.reason.is_warning();
    let body = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": generate_name(name), "namespace": **namespace},
        "eventTime": format!("{now:.6}"),
        "reportingController": MANAGER,
        "reportingInstance": limited(identity, 128),
        "action": notice.reason.as_str(),
        "reason": notice.reason.as_str(),
        "type": if warning { "Warning" } else { "Normal" },
        "note": limited(&notice.words, NOTE),
        "regarding": {
            "apiVersion": "akri.sh/v0", "kind": kind,
            "namespace": **namespace, "name": **name, "uid": **uid,
        },
    });
    (Arc::clone(namespace), body)
}

/// Names of Events may have 253 characters, of which the API server takes five.
fn generate_name(name: &str) -> String {
    format!("{}-", limited(name, 240).trim_end_matches(['.', '-']))
}

/// At most so many bytes of a text.
fn limited(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InstanceKey;
    use crate::plan::Reason;

    fn notice(uid: &str, words: &str) -> Notice {
        let key = InstanceKey {
            namespace: "ns".into(),
            name: "c-35ced2".into(),
        };
        Notice {
            about: About::Instance(key, uid.into()),
            reason: Reason::NameTaken,
            words: words.to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn same_words_are_said_again_only_after_ten_minutes() {
        let mut said = Said::default();
        assert!(said.is_news(&notice("a", "x"), Instant::now()));
        assert!(!said.is_news(&notice("a", "x"), Instant::now()));
        assert!(said.is_news(&notice("a", "y"), Instant::now()));
        assert!(said.is_news(&notice("b", "x"), Instant::now()));
        tokio::time::advance(QUIET).await;
        assert!(said.is_news(&notice("a", "x"), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_of_what_was_said_is_bounded() {
        let mut said = Said::default();
        for index in 0..5_000 {
            assert!(said.is_news(&notice(&index.to_string(), "x"), Instant::now()));
        }
        assert_eq!(said.at.len(), REMEMBERED);
        assert_eq!(said.order.len(), REMEMBERED);
    }

    #[test]
    fn event_is_what_kubernetes_allows_however_long_the_words() {
        let words = "é".repeat(2_000);
        let now = "2026-01-02T03:04:05.123456789Z".parse().unwrap();
        let (namespace, body) = event(&notice("u", &words), "pod-0", now);
        assert_eq!(&*namespace, "ns");
        assert_eq!(body["note"].as_str().unwrap().len(), NOTE);
        assert_eq!(body["eventTime"], "2026-01-02T03:04:05.123456Z");
        assert_eq!(body["type"], "Warning");
        assert_eq!(body["regarding"]["name"], "c-35ced2");
        assert_eq!(body["metadata"]["generateName"], "c-35ced2-");
    }
}
