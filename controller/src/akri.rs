//! Finds out whether Akri is in the cluster, by its pods: two that act on the same Instances would
//! delete each other's work. In: a watch of the pods with Akri's labels, in every namespace. Out:
//! why nothing may be written, or nothing when there is no Akri.
//!
//! A pod counts until it is gone, whatever its phase: a terminating Agent still acts, and an
//! evicted one comes back. It fails safe: before the first list Akri is taken to be there, and while
//! the watch is broken the last answer stands.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_runtime::Tasks;
use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch_objects};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use akri_mqtt_cluster::watch_words;

/// The label by which Akri's pods are found.
const LABEL: &str = "app.kubernetes.io/name";
/// What Akri's chart calls the two programs that write.
const SELECTOR: &str = "app.kubernetes.io/name in (akri-agent, akri-controller)";
/// How long no pod of Akri must be seen: a rolling update on one node deletes the old pod first.
const GONE_AFTER: Duration = Duration::from_secs(10);
/// What is said before the first list.
const UNKNOWN: &str = "it is not known yet whether Akri is in the cluster";

/// Why nothing may be written; none when Akri is not in the cluster.
pub type Hindrance = Option<Arc<str>>;

/// Watches for Akri until the shutdown.
#[must_use]
pub fn start(client: kube::Client, tasks: &Tasks) -> watch::Receiver<Hindrance> {
    let pods: Api<PartialObjectMeta<Pod>> = Api::all(client);
    let config = watcher::Config::default().labels(SELECTOR);
    let events = watch_objects(pods, config).default_backoff();
    let (answer, receiver) = watch::channel(Some(UNKNOWN.into()));
    let shutdown = tasks.shutdown().clone();
    tasks.critical("watch for Akri", async move {
        tokio::select! {
            () = shutdown.triggered() => {}
            () = follow(events, answer) => {}
        }
        Ok(())
    });
    receiver
}

/// Akri's pods, with the value of the label.
type Pods = BTreeMap<(String, String), String>;

#[derive(Default)]
struct Seen {
    /// None before the first complete list.
    pods: Option<Pods>,
    /// A list that is being read.
    list: Pods,
    /// When the last pod went.
    empty_since: Option<Instant>,
}

impl Seen {
    fn on_event(&mut self, event: Event<PartialObjectMeta<Pod>>, now: Instant) {
        match event {
            Event::Init => self.list.clear(),
            Event::InitApply(pod) => drop(insert(&mut self.list, &pod)),
            Event::InitDone => {
                let had = self.pods.replace(std::mem::take(&mut self.list));
                self.note_empty(had.is_some_and(|pods| !pods.is_empty()), now);
            }
            Event::Apply(pod) => {
                if let Some(pods) = &mut self.pods {
                    insert(pods, &pod);
                    self.empty_since = None;
                }
            }
            Event::Delete(pod) => {
                if let Some(pods) = &mut self.pods {
                    let went = pods.remove(&key(&pod)).is_some();
                    self.note_empty(went, now);
                }
            }
        }
    }

    /// Starts to wait when the last pod goes.
    fn note_empty(&mut self, had_some: bool, now: Instant) {
        let empty = self.pods.as_ref().is_some_and(BTreeMap::is_empty);
        if !empty {
            self.empty_since = None;
        } else if had_some {
            self.empty_since = Some(now);
        }
    }

    /// When the answer changes by itself.
    fn next(&self) -> Option<Instant> {
        self.empty_since?.checked_add(GONE_AFTER)
    }

    /// The answer at `now`; none while nothing is known.
    fn answer(&mut self, now: Instant) -> Option<Hindrance> {
        let pods = self.pods.as_ref()?;
        if let Some(((namespace, name), program)) = pods.first_key_value() {
            return Some(Some(
                format!("Akri is in the cluster: pod {namespace}/{name} ({program}) exists").into(),
            ));
        }
        if self.next().is_some_and(|at| now < at) {
            return Some(Some("Akri has just left the cluster".into()));
        }
        self.empty_since = None;
        Some(None)
    }
}

fn key(pod: &PartialObjectMeta<Pod>) -> (String, String) {
    (
        pod.metadata.namespace.clone().unwrap_or_default(),
        pod.metadata.name.clone().unwrap_or_default(),
    )
}

fn insert(pods: &mut Pods, pod: &PartialObjectMeta<Pod>) -> Option<String> {
    let labels = pod.metadata.labels.as_ref();
    let program = labels.and_then(|labels| labels.get(LABEL)).cloned();
    pods.insert(key(pod), program.unwrap_or_default())
}

async fn follow<S>(events: S, answer: watch::Sender<Hindrance>)
where
    S: Stream<Item = watcher::Result<Event<PartialObjectMeta<Pod>>>>,
{
    let mut events = pin!(events);
    let mut seen = Seen::default();
    let mut broken = false;
    loop {
        let next = seen.next();
        let wait = async move {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            event = events.next() => match event {
                Some(Ok(event)) => {
                    broken = false;
                    seen.on_event(event, Instant::now());
                }
                Some(Err(error)) => {
                    let error = watch_words(&error);
                    if !std::mem::replace(&mut broken, true) {
                        tracing::warn!(%error, "Akri's pods cannot be watched; the last answer stands");
                    }
                    if seen.pods.is_none() {
                        let why = format!("it cannot be seen whether Akri is in the cluster: {error}");
                        publish(&answer, Some(why.into()));
                    }
                }
                None => return,
            }
        }
        if let Some(now) = seen.answer(Instant::now()) {
            publish(&answer, now);
        }
    }
}

fn publish(answer: &watch::Sender<Hindrance>, now: Hindrance) {
    answer.send_if_modified(|was| {
        if *was == now {
            return false;
        }
        match &now {
            Some(reason) => tracing::warn!(%reason, "nothing is written"),
            None => tracing::info!("Akri is not in the cluster"),
        }
        *was = now;
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    type Item = watcher::Result<Event<PartialObjectMeta<Pod>>>;

    struct Fixture {
        events: mpsc::Sender<Item>,
        answer: watch::Receiver<Hindrance>,
    }

    fn fixture() -> Fixture {
        let (events, stream) = mpsc::channel(16);
        let (sender, answer) = watch::channel(Some(UNKNOWN.into()));
        tokio::spawn(follow(ReceiverStream::new(stream), sender));
        Fixture { events, answer }
    }

    impl Fixture {
        async fn send(&self, event: Event<PartialObjectMeta<Pod>>) {
            self.events.send(Ok(event)).await.unwrap();
        }

        async fn list(&self, names: &[&str]) {
            self.send(Event::Init).await;
            for name in names {
                self.send(Event::InitApply(pod(name))).await;
            }
            self.send(Event::InitDone).await;
        }

        async fn broken(&self) {
            let status = Status::failure("pods is forbidden", "Forbidden").boxed();
            let error = watcher::Error::InitialListFailed(kube::Error::Api(status));
            self.events.send(Err(error)).await.unwrap();
        }

        /// The answer when all that was sent has been worked through.
        async fn answer(&self) -> Option<String> {
            while self.events.capacity() < self.events.max_capacity() {
                tokio::task::yield_now().await;
            }
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            self.answer.borrow().as_deref().map(str::to_owned)
        }
    }

    fn pod(name: &str) -> PartialObjectMeta<Pod> {
        let mut pod = PartialObjectMeta::<Pod>::default();
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.namespace = Some("akri".to_owned());
        pod.metadata.labels = Some([(LABEL.to_owned(), "akri-agent".to_owned())].into());
        pod
    }

    #[tokio::test(start_paused = true)]
    async fn before_the_first_list_akri_is_taken_to_be_there() {
        let fixture = fixture();
        assert_eq!(fixture.answer().await.as_deref(), Some(UNKNOWN));
        fixture.send(Event::Init).await;
        assert_eq!(fixture.answer().await.as_deref(), Some(UNKNOWN));
        fixture.send(Event::InitDone).await;
        assert_eq!(fixture.answer().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_of_akri_is_named_and_counts_until_it_was_gone_for_a_while() {
        let fixture = fixture();
        fixture.list(&["agent-2"]).await;
        fixture.send(Event::Apply(pod("agent-1"))).await;
        assert_eq!(
            fixture.answer().await.as_deref(),
            Some("Akri is in the cluster: pod akri/agent-1 (akri-agent) exists")
        );
        fixture.send(Event::Delete(pod("agent-1"))).await;
        fixture.send(Event::Delete(pod("agent-2"))).await;
        assert!(fixture.answer().await.is_some());
        tokio::time::advance(GONE_AFTER / 2).await;
        assert!(fixture.answer().await.is_some());
        tokio::time::advance(GONE_AFTER).await;
        assert_eq!(fixture.answer().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_update_of_akri_that_deletes_its_pod_first_does_not_let_us_in() {
        let mut fixture = fixture();
        fixture.list(&["old"]).await;
        fixture.answer().await;
        for name in ["old", "new"] {
            fixture.send(Event::Delete(pod(name))).await;
            fixture.answer().await;
            tokio::time::advance(GONE_AFTER / 2).await;
            fixture.send(Event::Apply(pod("new"))).await;
            assert!(fixture.answer().await.is_some());
        }
        tokio::time::advance(GONE_AFTER * 2).await;
        assert!(fixture.answer().await.is_some());
        let none = fixture.answer.wait_for(Option::is_none);
        assert!(
            tokio::time::timeout(Duration::from_secs(60), none)
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_watch_is_broken_the_last_answer_stands() {
        for names in [&["agent"][..], &[]] {
            let fixture = fixture();
            fixture.list(names).await;
            let before = fixture.answer().await;
            fixture.broken().await;
            fixture.send(Event::Init).await;
            tokio::time::advance(GONE_AFTER * 2).await;
            assert_eq!(fixture.answer().await, before);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_right_to_list_pods_nothing_is_written_and_it_says_why() {
        let fixture = fixture();
        fixture.broken().await;
        let answer = fixture.answer().await.unwrap();
        assert!(answer.contains("pods is forbidden"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_after_a_gap_replaces_what_was_known() {
        let fixture = fixture();
        fixture.list(&["agent"]).await;
        fixture.list(&[]).await;
        assert!(fixture.answer().await.is_some(), "just left");
        tokio::time::advance(GONE_AFTER * 2).await;
        assert_eq!(fixture.answer().await, None);
        fixture.list(&["agent"]).await;
        assert!(fixture.answer().await.is_some());
    }
}
