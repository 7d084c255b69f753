//! Watches that never end. In: a kind of objects. Out: their list, then each change; after whatever went wrong
//! the same again, after a pause. What was known stands meanwhile, with whoever knows it.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use kube::Resource;
use kube::api::Api;
use kube::runtime::watcher::{self, Config, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

use crate::words::watch_words;

/// Objects of a page: what a page takes is what a list takes of memory.
const PAGE: u32 = 200;
/// Between two attempts, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// After an error that nothing has followed for so long, a watch that had its list works again: what it sees is not
/// told until something changes. Longer than the client waits for a connection (30 s), which would be the next error.
const CALM: Duration = Duration::from_secs(35);

/// How long nothing may be heard before everything is listed anew; none: the client notices a connection that
/// has died within some minutes.
pub type Quiet = Option<Duration>;

/// Follows the objects. `report` is told what is wrong, each time that it is something else, and none when it works.
pub fn follow<K>(
    api: Api<K>,
    config: Config,
    quiet: Quiet,
    report: impl FnMut(Option<String>) + Send + 'static,
) -> BoxStream<'static, Event<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let begin =
        move || -> Events<K> { Box::pin(watcher(api.clone(), config.clone().page_size(PAGE))) };
    let state = Follower {
        events: begin(),
        begin,
        quiet,
        report,
        reported: None,
        is_listed: false,
        wait: RETRY.0,
    };
    stream::unfold(state, |mut state| async move {
        let event = state.next().await;
        Some((event, state))
    })
    .boxed()
}

type Events<K> = Pin<Box<dyn stream::Stream<Item = watcher::Result<Event<K>>> + Send>>;

struct Follower<K, B, R> {
    events: Events<K>,
    begin: B,
    quiet: Quiet,
    report: R,
    reported: Option<Option<String>>,
    /// Whether the last list that began was complete.
    is_listed: bool,
    wait: Duration,
}

impl<K, B: Fn() -> Events<K>, R: FnMut(Option<String>)> Follower<K, B, R> {
    async fn next(&mut self) -> Event<K> {
        loop {
            match self.heard().await {
                Some(Ok(event)) => {
                    match event {
                        // That a list begins does not say yet that it can be made.
                        Event::Init => self.is_listed = false,
                        Event::InitDone => {
                            self.is_listed = true;
                            self.works();
                        }
                        Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => self.works(),
                    }
                    return event;
                }
                Some(Err(error)) => {
                    if !is_expired(&error) {
                        self.tell(Some(watch_words(&error)));
                    }
                    sleep(self.wait.mul_f64(0.75 + rand::random::<f64>() / 2.0)).await;
                    self.wait = self.wait.saturating_mul(2).min(RETRY.1);
                }
                None => self.events = (self.begin)(),
            }
        }
    }
}

impl<K, B, R: FnMut(Option<String>)> Follower<K, B, R> {
    /// What comes next; none if the watch has ended, or nothing was heard for too long.
    async fn heard(&mut self) -> Option<watcher::Result<Event<K>>> {
        let begun = Instant::now();
        let quiet = self.quiet.map(|quiet| begun + quiet);
        loop {
            let is_failing = matches!(self.reported, Some(Some(_))) && self.is_listed;
            let calm = is_failing.then(|| begun + CALM);
            let Some(until) = calm.into_iter().chain(quiet).min() else {
                return self.events.next().await;
            };
            match timeout_at(until, self.events.next()).await {
                Ok(next) => return next,
                Err(_) if quiet == Some(until) => {
                    let quiet = self.quiet;
                    tracing::debug!(?quiet, "nothing was heard of a watch; listing anew");
                    return None;
                }
                Err(_) => self.works(),
            }
        }
    }

    fn works(&mut self) {
        self.wait = RETRY.0;
        self.tell(None);
    }

    fn tell(&mut self, problem: Option<String>) {
        if self.reported.as_ref() != Some(&problem) {
            self.reported = Some(problem.clone());
            (self.report)(problem);
        }
    }
}

/// Whether the server has only forgotten where the watch stood, as it does now and then.
fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(status) if status.code == 410)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use k8s_openapi::api::coordination::v1::Lease;
    use tokio::time::timeout;

    use super::*;

    type Told = Arc<Mutex<Vec<Option<String>>>>;

    /// Follows what a watch says, which then is silent for ever.
    fn follower(says: Vec<watcher::Result<Event<Lease>>>) -> (impl Future, Told) {
        let told = Told::default();
        let kept = Arc::clone(&told);
        let silent = || -> Events<Lease> { Box::pin(stream::pending()) };
        let mut follower = Follower {
            events: Box::pin(stream::iter(says).chain(stream::pending())),
            begin: silent,
            quiet: None,
            report: move |problem| kept.lock().unwrap().push(problem),
            reported: None,
            is_listed: false,
            wait: RETRY.0,
        };
        let followed = async move {
            loop {
                follower.next().await;
            }
        };
        (timeout(CALM * 3, followed), told)
    }

    fn broken() -> watcher::Result<Event<Lease>> {
        Err(watcher::Error::NoResourceVersion)
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_resumed_where_nothing_changes_counts_as_working_again() {
        let (followed, told) = follower(vec![Ok(Event::Init), Ok(Event::InitDone), broken()]);
        let _ = followed.await;
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].is_none() && told[1].is_some() && told[2].is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_hangs_does_not_count_as_working() {
        let list = || vec![Ok(Event::Init), broken()];
        let (followed, told) = follower(list());
        let _ = followed.await;
        assert!(matches!(told.lock().unwrap()[..], [Some(_)]));
        let mut again = vec![Ok(Event::Init), Ok(Event::InitDone)];
        again.extend(list());
        let (followed, told) = follower(again);
        let _ = followed.await;
        assert!(matches!(told.lock().unwrap()[..], [None, Some(_)]));
    }
}
