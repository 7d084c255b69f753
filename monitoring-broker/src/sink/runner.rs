//! The loop of one sink: read, send, remember how far; try again after a failure, for ever. In: the store.
//! Out: batches to the target, the position, metrics, and a log line when something changes.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use akri_mqtt_runtime::Shutdown;
use jiff::Timestamp;
use tokio::sync::watch;

use super::Target;
use super::failure::{Failure, Pauses, Reason};
use super::feed::Feed;
use super::metrics::OneSink;
use super::options::SinkOptions;
use crate::api::Service;
use crate::api::service::{MessageView, age_ms};

/// The position is saved so often; a crash sends again what was sent since.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// A failure that goes on is logged so often.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// How often the lag is looked at while nothing is sent.
const OBSERVE_EVERY: Duration = Duration::from_secs(1);
/// A server may ask for no longer pause.
const MOST_WAIT: Duration = Duration::from_secs(3_600);

/// See the module.
pub struct Runner {
    options: SinkOptions,
    service: Service,
    target: Target,
    feed: Feed,
    metrics: OneSink,
    committed: watch::Receiver<u64>,
    /// Messages that were taken from the feed and are not sent yet.
    pending: Vec<MessageView>,
    /// How many of them are tried at once: halved when they are refused, to find the one that is.
    at_once: usize,
    /// Everything up to it is done.
    done: u64,
    saved: (u64, Instant),
    pauses: Pauses,
    failing: Option<(Reason, Instant)>,
    /// Refusals that were logged.
    refusals: BTreeSet<String>,
}

/// How far a sink is behind.
struct Lag {
    metrics: OneSink,
    committed: watch::Receiver<u64>,
    done: u64,
    oldest: Option<Timestamp>,
}

impl Lag {
    fn observe(&self) {
        let lag = self.committed.borrow().saturating_sub(self.done);
        let lag = i64::try_from(lag).unwrap_or(i64::MAX);
        self.metrics.lag_messages.set(lag);
        let age = self.oldest.map_or(0, |oldest| age_ms(oldest) / 1_000);
        self.metrics.lag_seconds.set(age);
    }

    /// Goes on while a batch is on its way.
    async fn watch(self) -> Infallible {
        loop {
            tokio::time::sleep(OBSERVE_EVERY).await;
            self.observe();
        }
    }
}

/// Texts of refusals that are remembered, so that each is logged once.
const MOST_REFUSALS: usize = 32;

impl Runner {
    /// A sink that has done everything up to a sequence.
    pub fn new(options: SinkOptions, service: Service, metrics: OneSink, after: u64) -> Self {
        Self {
            target: Target::new(options.kind.clone(), service.store.id()),
            feed: Feed::new(service.clone(), after),
            committed: service.store.committed(),
            at_once: options.batch,
            done: after,
            saved: (after, Instant::now()),
            pauses: Pauses::default(),
            failing: None,
            refusals: BTreeSet::new(),
            pending: Vec::new(),
            options,
            service,
            metrics,
        }
    }

    /// Runs until `drain` after the shutdown, or until then everything is sent.
    pub async fn run(mut self, shutdown: Shutdown, drain: Duration) {
        let late = async {
            shutdown.triggered().await;
            tokio::time::sleep(drain).await;
        };
        let is_late = tokio::select! {
            () = self.work(&shutdown) => false,
            () = late => true,
        };
        if is_late {
            let left = self.committed.borrow().saturating_sub(self.done);
            let sink = &self.options.name;
            tracing::warn!(
                sink,
                left,
                "sink stops with messages to be sent after the next start"
            );
        }
    }

    async fn work(&mut self, shutdown: &Shutdown) {
        loop {
            if let Err(error) = self.feed.fill(self.options.batch).await {
                self.pause(&Failure::new(Reason::Store, error)).await;
                continue;
            }
            self.observe();
            self.save();
            if self.feed.len() == 0 && self.pending.is_empty() {
                if shutdown.is_triggered() {
                    return;
                }
                self.wait_for_messages(shutdown).await;
                continue;
            }
            let step = if self.feed.gap_first().is_some() && self.pending.is_empty() {
                self.tell_gap().await
            } else {
                self.send().await
            };
            match step {
                Ok(()) => self.worked(),
                Err(failure) => self.pause(&failure).await,
            }
        }
    }

    /// Waits for something to send; then for more of it.
    async fn wait_for_messages(&mut self, shutdown: &Shutdown) {
        let unsaved = self.saved.0 < self.done;
        let observe = tokio::time::sleep(OBSERVE_EVERY);
        tokio::select! {
            () = shutdown.triggered() => return,
            () = observe, if unsaved => return,
            changed = self.committed.changed() => if changed.is_err() {
                // The store has ended; so does the process.
                shutdown.triggered().await;
                return;
            },
        }
        let full = self
            .done
            .saturating_add(u64::try_from(self.options.batch).unwrap_or(u64::MAX));
        let filled = async {
            while *self.committed.borrow_and_update() < full {
                if self.committed.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = shutdown.triggered() => {}
            () = tokio::time::sleep(self.options.linger) => {}
            () = filled => {}
        }
    }

    async fn tell_gap(&mut self) -> Result<(), Failure> {
        let Some(gap) = self.feed.gap_first().cloned() else {
            return Ok(());
        };
        let told = tokio::time::timeout(self.options.timeout, self.target.tell(&gap));
        match told.await {
            Ok(Err(failure)) if !failure.is_refusal() => return Err(failure),
            Err(_) => return Err(self.timeout()),
            Ok(_) => {}
        }
        let sink = &self.options.name;
        let (from, to, messages) = (gap.from, gap.to, gap.messages());
        tracing::warn!(
            sink,
            from,
            to,
            messages,
            reason = gap.reason,
            "sink misses messages"
        );
        self.metrics.lost.inc_by(messages);
        self.feed.pop_gap();
        self.advance(gap.to);
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Failure> {
        if self.pending.is_empty() {
            self.pending = self.feed.take(self.options.batch, self.options.batch_bytes);
        }
        let count = self.at_once.min(self.pending.len());
        let Some(part) = self.pending.get(..count) else {
            return Ok(());
        };
        let started = Instant::now();
        let watching = self.lag().watch();
        let sent = tokio::time::timeout(self.options.timeout, self.target.send(part));
        let sent = tokio::select! {
            sent = sent => sent,
            never = watching => match never {},
        };
        match sent {
            Ok(Ok(())) => {
                let seconds = started.elapsed().as_secs_f64();
                self.metrics.batch_seconds.observe(seconds);
                self.metrics.sent.inc_by(u64::try_from(count).unwrap_or(0));
                self.at_once = self.at_once.saturating_mul(2).min(self.options.batch);
                self.finish(count);
                Ok(())
            }
            Ok(Err(failure)) if failure.is_refusal() => {
                self.target.reset();
                self.refused(count, &failure);
                Ok(())
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(self.timeout()),
        }
    }

    /// Messages are refused for good: the one that is to blame is looked for by halves, and left out.
    fn refused(&mut self, count: usize, failure: &Failure) {
        self.metrics.failed(failure.reason);
        if count > 1 {
            self.at_once = count / 2;
            return;
        }
        self.metrics.refused.inc();
        if self.refusals.len() < MOST_REFUSALS && self.refusals.insert(failure.text.clone()) {
            let sequence = self
                .pending
                .first()
                .map_or(0, |first| first.stored.sequence);
            let (sink, error) = (&self.options.name, &failure.text);
            tracing::warn!(
                sink,
                sequence,
                error,
                "sink refuses a message, it is left out"
            );
        }
        self.finish(1);
    }

    /// The first messages are done.
    fn finish(&mut self, count: usize) {
        let last = self.pending.drain(..count).next_back();
        if let Some(last) = last {
            self.advance(last.stored.sequence);
        }
    }

    fn advance(&mut self, sequence: u64) {
        self.done = sequence;
        self.service.store.advance(&self.options.name, sequence);
    }

    /// Saves the position now and then. The store saves it also when it closes, and when it deletes.
    fn save(&mut self) {
        let (sequence, time) = self.saved;
        if sequence < self.done && time.elapsed() >= SAVE_EVERY && self.service.store.save_cursors()
        {
            self.saved = (self.done, Instant::now());
        }
    }

    fn observe(&self) {
        self.lag().observe();
    }

    fn lag(&self) -> Lag {
        let oldest = self.pending.first().or_else(|| self.feed.first_message());
        Lag {
            metrics: self.metrics.clone(),
            committed: self.committed.clone(),
            done: self.done,
            oldest: oldest.map(|message| message.received_at),
        }
    }

    fn timeout(&self) -> Failure {
        let limit = self.options.timeout;
        Failure::new(Reason::Timeout, format!("no answer within {limit:?}"))
    }

    fn worked(&mut self) {
        self.pauses.reset();
        if let Some((_, since)) = self.failing.take() {
            let (sink, after) = (&self.options.name, since.elapsed());
            tracing::info!(sink, ?after, "sink works again");
        }
    }

    /// Counts and logs a failure, and waits before the next attempt.
    async fn pause(&mut self, failure: &Failure) {
        self.target.reset();
        self.metrics.failed(failure.reason);
        let is_news = match self.failing {
            Some((reason, logged)) => reason != failure.reason || logged.elapsed() >= LOG_EVERY,
            None => true,
        };
        if is_news {
            let (sink, reason, error) = (&self.options.name, failure.reason, &failure.text);
            tracing::warn!(sink, %reason, error, "sink fails and will try again");
            self.failing = Some((failure.reason, Instant::now()));
        }
        let pause = self.pauses.next(rand::random::<f64>());
        let until = Instant::now() + failure.wait.unwrap_or(pause).clamp(pause, MOST_WAIT);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.observe();
            self.save();
            tokio::time::sleep(left.min(OBSERVE_EVERY)).await;
        }
    }
}
