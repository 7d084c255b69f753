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
use tokio::time::{sleep, timeout};

use crate::words::watch_words;

/// Objects of a page: what a page takes is what a list takes of memory.
const PAGE: u32 = 200;
/// Between two attempts, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

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
    wait: Duration,
}

impl<K, B: Fn() -> Events<K>, R: FnMut(Option<String>)> Follower<K, B, R> {
    async fn next(&mut self) -> Event<K> {
        loop {
            let next = self.events.next();
            let next = match self.quiet {
                Some(quiet) => match timeout(quiet, next).await {
                    Ok(next) => next,
                    Err(_) => {
                        tracing::debug!(?quiet, "nothing was heard of a watch; listing anew");
                        None
                    }
                },
                None => next.await,
            };
            match next {
                Some(Ok(event)) => {
                    // That a list begins does not say yet that it can be made.
                    if !matches!(event, Event::Init) {
                        self.wait = RETRY.0;
                        self.tell(None);
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
