//! One Discover stream: what its caller is sent, and when.
//! In: the lists of a request, by `watch`. Out: responses. It never ends but by shutdown or when the
//! caller goes away: Akri's Agent deletes all Instances, and so all pods, when its last stream ends.
//! Which devices are listed is decided by `admission`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use akri_mqtt_proto::akri::DiscoverResponse;
use akri_mqtt_runtime::Shutdown;
use futures_util::stream::{self, Stream};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

use crate::admission::Entry;

/// Repetitions that may be due for one stream; further ones would say the same.
const MAX_REPEATS: usize = 16;
/// Repetitions closer than this are one.
const REPEAT_SPACING: Duration = Duration::from_secs(1);

/// The list of a request at one moment.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// The devices, sorted by id.
    pub devices: Vec<Arc<Entry>>,
    /// Bytes of the response.
    pub bytes: usize,
    /// Counts the times that a device came back soon after it had been withdrawn.
    pub comebacks: u64,
    /// Of the admission that made it.
    pub revision: u64,
}

impl List {
    fn response(&self) -> DiscoverResponse {
        let devices = self
            .devices
            .iter()
            .map(|entry| entry.device.clone())
            .collect();
        DiscoverResponse { devices }
    }
}

/// The latest list; `None` until there is one to send.
pub type Lists = watch::Receiver<Option<Arc<List>>>;

/// Counts what all streams of the process have sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// Responses.
    pub responses: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
}

/// Counts an open stream for as long as it lives.
#[derive(Debug)]
pub struct OpenStream {
    counts: Vec<watch::Sender<usize>>,
}

impl OpenStream {
    /// Adds one to each of the counts until this is dropped.
    #[must_use]
    pub fn count(counts: Vec<watch::Sender<usize>>) -> Self {
        for count in &counts {
            count.send_modify(|open| *open += 1);
        }
        Self { counts }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        for count in &self.counts {
            count.send_modify(|open| *open = open.saturating_sub(1));
        }
    }
}

struct State {
    lists: Lists,
    shutdown: Shutdown,
    sent: Arc<Sent>,
    /// After a list is sent for the first time, and after each comeback, the same list again.
    repeat_after: [Duration; 2],
    repeats: VecDeque<Instant>,
    first_sent: bool,
    comebacks: u64,
    _open: OpenStream,
}

/// The responses of one Discover call.
pub fn responses(
    lists: Lists,
    repeat_after: [Duration; 2],
    sent: Arc<Sent>,
    open: OpenStream,
    shutdown: Shutdown,
) -> impl Stream<Item = Result<DiscoverResponse, Status>> + Send {
    let mut lists = lists;
    // What is there already is sent at once.
    lists.mark_changed();
    let state = State {
        lists,
        shutdown,
        sent,
        repeat_after,
        repeats: VecDeque::new(),
        first_sent: false,
        comebacks: 0,
        _open: open,
    };
    stream::unfold(state, |mut state| async move {
        let list = state.next().await?;
        state.sent.responses.fetch_add(1, Ordering::Relaxed);
        let bytes = u64::try_from(list.bytes).unwrap_or(u64::MAX);
        state.sent.bytes.fetch_add(bytes, Ordering::Relaxed);
        Some((Ok(list.response()), state))
    })
}

impl State {
    /// The next list to send; `None` at shutdown.
    async fn next(&mut self) -> Option<Arc<List>> {
        loop {
            let repeat_at = self.repeats.front().copied();
            tokio::select! {
                biased;
                () = self.shutdown.triggered() => return None,
                changed = self.lists.changed() => match changed {
                    Ok(()) => {}
                    // The request's task has died. The stream stays open: the process stops for it, and says why.
                    Err(_) => {
                        self.shutdown.triggered().await;
                        return None;
                    }
                },
                () = sleep_until(repeat_at) => {
                    self.repeats.pop_front();
                }
            }
            let list = self.lists.borrow_and_update().clone();
            if let Some(list) = list {
                self.plan_repeats(&list);
                return Some(list);
            }
        }
    }

    fn plan_repeats(&mut self, list: &List) {
        if self.first_sent && self.comebacks == list.comebacks {
            return;
        }
        self.first_sent = true;
        self.comebacks = list.comebacks;
        let now = Instant::now();
        for after in self.repeat_after {
            let at = now + after;
            let near = |planned: &Instant| {
                planned.max(&at).duration_since(*planned.min(&at)) < REPEAT_SPACING.min(after)
            };
            if self.repeats.len() < MAX_REPEATS && !self.repeats.iter().any(near) {
                self.repeats.push_back(at);
            }
        }
        self.repeats.make_contiguous().sort();
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::pin::{Pin, pin};

    use akri_mqtt_core::identity::DeviceId;
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    const REPEAT: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(15)];

    fn list(names: &[&str], comebacks: u64) -> Option<Arc<List>> {
        let entry = |name: &&str| {
            let id = DeviceId::parse(&format!("s/{name}")).unwrap();
            Arc::new(Entry::new(&id, BTreeMap::new()))
        };
        let devices = names.iter().map(entry).collect();
        Some(Arc::new(List {
            devices,
            bytes: 0,
            comebacks,
            revision: 0,
        }))
    }

    fn start(
        lists: &watch::Sender<Option<Arc<List>>>,
        shutdown: &Shutdown,
    ) -> impl Stream<Item = Result<DiscoverResponse, Status>> + use<> {
        let open = OpenStream::count(vec![]);
        responses(
            lists.subscribe(),
            REPEAT,
            Arc::default(),
            open,
            shutdown.clone(),
        )
    }

    async fn next<S>(stream: &mut Pin<&mut S>) -> Vec<String>
    where
        S: Stream<Item = Result<DiscoverResponse, Status>>,
    {
        let response = stream.next().await.unwrap().unwrap();
        response
            .devices
            .into_iter()
            .map(|device| device.id)
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_list_is_sent_again_after_5_and_15_seconds_and_then_no_more() {
        let (lists, shutdown) = (watch::channel(list(&["a"], 0)).0, Shutdown::new());
        let mut stream = pin!(start(&lists, &shutdown));
        let begin = Instant::now();
        for after in [0, 5, 15] {
            assert_eq!(next(&mut stream).await, ["s/a"]);
            assert_eq!(begin.elapsed().as_secs(), after);
        }
        assert!(
            tokio::time::timeout(Duration::from_secs(3_600), stream.next())
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_comes_back_makes_the_list_go_out_again_after_5_and_15_seconds() {
        let (lists, shutdown) = (watch::channel(list(&["a"], 0)).0, Shutdown::new());
        let mut stream = pin!(start(&lists, &shutdown));
        for _ in 0..3 {
            next(&mut stream).await;
        }
        lists.send_replace(list(&[], 0));
        assert!(next(&mut stream).await.is_empty());
        lists.send_replace(list(&["a"], 1));
        let begin = Instant::now();
        for after in [0, 5, 15] {
            assert_eq!(next(&mut stream).await, ["s/a"]);
            assert_eq!(begin.elapsed().as_secs(), after);
        }
        assert!(stream.next().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_caller_gets_only_the_newest_list() {
        let (lists, shutdown) = (watch::channel(None).0, Shutdown::new());
        let mut stream = pin!(start(&lists, &shutdown));
        lists.send_replace(list(&["a"], 0));
        lists.send_replace(list(&["a", "b"], 0));
        assert_eq!(next(&mut stream).await, ["s/a", "s/b"]);
        assert!(stream.next().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_stream_outlives_the_task_that_makes_lists_and_ends_at_shutdown() {
        let (lists, shutdown) = (watch::channel(None).0, Shutdown::new());
        let mut stream = pin!(start(&lists, &shutdown));
        drop(lists);
        assert!(stream.next().now_or_never().is_none());
        shutdown.trigger();
        assert!(stream.next().await.is_none());
    }
}
