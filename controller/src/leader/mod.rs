//! Leader election by a Lease (`coordination.k8s.io/v1`). In: a name, the cluster. Out: whether this
//! process leads, and who does. Who must not act without it asks [`Leadership::leading`]; the
//! decisions are in [`election`].

pub mod election;

use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_cluster::{Failure, InNamespace, Leases, Record, lease};
use akri_mqtt_runtime::Tasks;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use election::{Election, Move, Timing};

/// A request that hangs is given up early enough for another one before the deadline.
const REQUEST_WITHIN: Duration = Duration::from_secs(4);
/// How soon a leader reads the Lease that somebody has touched.
const AFTER_CONFLICT: Duration = Duration::from_millis(100);
/// The Lease is given back within the time that a pod has to stop.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// Where the Lease is, and who asks for it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// The name of this pod; something random is added, so that a restarted container is another
    /// candidate.
    pub pod: String,
}

/// This process's part in the election.
#[derive(Debug)]
pub struct Leadership {
    identity: Arc<str>,
    leading: watch::Receiver<bool>,
    holder: watch::Receiver<Option<Arc<str>>>,
    stop: CancellationToken,
    stopped: watch::Receiver<()>,
    /// Of one who leads alone, so that its watchers see no end.
    _alone: Option<Senders>,
}

type Senders = (watch::Sender<bool>, watch::Sender<Option<Arc<str>>>);

impl Leadership {
    /// Takes part in the election until [`Leadership::release`].
    #[must_use]
    pub fn start(settings: &Settings, client: kube::Client, tasks: &Tasks) -> Self {
        let leases = InNamespace::new(client, &settings.namespace);
        let identity = format!("{}_{:08x}", settings.pod, rand::random::<u32>());
        let name = settings.name.clone();
        Self::join((leases, name), identity.into(), Timing::default(), tasks)
    }

    /// Leads without asking anybody: `--leader-elect=false`.
    #[must_use]
    pub fn alone(pod: &str) -> Self {
        let identity: Arc<str> = pod.into();
        let (leading, is_leading) = watch::channel(true);
        let (holder, held_by) = watch::channel(Some(Arc::clone(&identity)));
        Self {
            leading: is_leading,
            holder: held_by,
            stop: CancellationToken::new(),
            stopped: watch::channel(()).1,
            identity,
            _alone: Some((leading, holder)),
        }
    }

    /// Takes part with any store of Leases, in which the Lease has this name.
    #[must_use]
    pub fn join<L: Leases>(
        (leases, name): (L, String),
        identity: Arc<str>,
        timing: Timing,
        tasks: &Tasks,
    ) -> Self {
        let (leading, is_leading) = watch::channel(false);
        let (holder, held_by) = watch::channel(None);
        let (running, stopped) = watch::channel(());
        let stop = CancellationToken::new();
        let candidate = Candidate {
            leases,
            name,
            timing,
            election: Election::new(Arc::clone(&identity), timing),
            identity: Arc::clone(&identity),
            last: None,
            failing: false,
            leading,
            holder,
        };
        let asked_to_stop = stop.clone();
        tasks.critical("leader election", async move {
            candidate.run(asked_to_stop).await;
            drop(running);
            Ok(())
        });
        Self {
            identity,
            leading: is_leading,
            holder: held_by,
            stop,
            stopped,
            _alone: None,
        }
    }

    /// The name under which this process stands in the Lease.
    #[must_use]
    pub fn identity(&self) -> &Arc<str> {
        &self.identity
    }

    /// Whether this process leads. It becomes false 5 s before anybody else can lead.
    #[must_use]
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// Who leads, as far as is known.
    #[must_use]
    pub fn holder(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.holder.clone()
    }

    /// Gives the Lease back, so that a successor leads at its next look, within a second. To be
    /// called at the shutdown, when the last write of this process is over: until then the Lease is
    /// renewed.
    pub async fn release(mut self) {
        self.stop.cancel();
        // The sender is dropped when the task has ended.
        while self.stopped.changed().await.is_ok() {}
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Candidate<L> {
    leases: L,
    /// Of the Lease.
    name: String,
    timing: Timing,
    election: Election,
    identity: Arc<str>,
    /// The Lease as it was last seen; none after a conflict or a failure.
    last: Option<Lease>,
    failing: bool,
    leading: watch::Sender<bool>,
    holder: watch::Sender<Option<Arc<str>>>,
}

impl<L: Leases> Candidate<L> {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let begun = Instant::now();
            let led = self.election.leads(begun.into_std());
            let until = self.election.deadline();
            let mut every = tokio::select! {
                () = stop.cancelled() => break,
                () = deadline(until), if led => Duration::ZERO,
                outcome = timeout(REQUEST_WITHIN, self.look()) => {
                    self.ended(outcome.unwrap_or(Err(Failure::Late(REQUEST_WITHIN))))
                }
            };
            self.publish();
            let leads = *self.leading.borrow();
            if !leads {
                every = self.timing.look;
            }
            let until = self.election.deadline();
            tokio::select! {
                () = stop.cancelled() => break,
                () = deadline(until), if leads => self.publish(),
                () = tokio::time::sleep_until(begun + every) => {}
            }
        }
        self.release().await;
    }

    /// One look at the Lease, and a claim if it is ours or free. A holder whose Lease nobody has
    /// touched since its last claim writes without reading.
    async fn look(&mut self) -> Result<Option<Lease>, Failure> {
        let current = match self.last.take() {
            Some(last) if lease::record(&last).holder.as_ref() == Some(&self.identity) => {
                Some(last)
            }
            _ => self.leases.read(&self.name).await?,
        };
        let record = current.as_ref().map(lease::record).unwrap_or_default();
        let begun = Instant::now().into_std();
        let Move::Claim { transitions } = self.election.on_read(record, begun) else {
            return Ok(current);
        };
        let claim = Record {
            holder: Some(Arc::clone(&self.identity)),
            lease: Some(self.timing.lease),
            renewed: Some(lease::microseconds(Timestamp::now())),
            transitions,
        };
        let claimed = lease::lease(current.as_ref(), &claim);
        let written = self.leases.write(&self.name, claimed).await?;
        self.election.on_claimed(claim, begun);
        Ok(Some(written))
    }

    /// Notes how a look ended, and says when a leader is to look again.
    fn ended(&mut self, outcome: Result<Option<Lease>, Failure>) -> Duration {
        match outcome {
            Ok(lease) => {
                self.last = lease;
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the Lease is within reach again");
                }
                self.timing.renew
            }
            // Somebody has touched the Lease; it has to be read to know who.
            Err(Failure::Conflict) => AFTER_CONFLICT,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "the Lease cannot be read or written; retrying");
                }
                self.timing.renew
            }
        }
    }

    fn publish(&self) {
        let leads = self.election.leads(Instant::now().into_std());
        if self
            .leading
            .send_if_modified(|was| std::mem::replace(was, leads) != leads)
        {
            if leads {
                tracing::info!(identity = %self.identity, "leading");
            } else {
                tracing::warn!(identity = %self.identity, "no longer leading");
            }
        }
        let holder = self.election.holder().cloned();
        self.holder.send_if_modified(|was| {
            let changed = *was != holder;
            *was = holder;
            changed
        });
    }

    async fn release(mut self) {
        let led = self.election.leads(Instant::now().into_std());
        self.election.resign();
        self.publish();
        if !led {
            return;
        }
        let given_back = async {
            let current = self.leases.read(&self.name).await?;
            let Some(current) = current else {
                return Ok(());
            };
            let before = lease::record(&current);
            if before.holder.as_ref() != Some(&self.identity) {
                return Ok(());
            }
            let free = Record {
                holder: None,
                lease: Some(Duration::from_secs(1)),
                renewed: Some(lease::microseconds(Timestamp::now())),
                transitions: before.transitions,
            };
            let free = lease::lease(Some(&current), &free);
            self.leases.write(&self.name, free).await.map(drop)
        };
        match timeout(RELEASE_WITHIN, given_back).await {
            Ok(Ok(())) => tracing::info!("the Lease is given back"),
            Ok(Err(error)) => tracing::warn!(%error, "the Lease could not be given back"),
            Err(_) => tracing::warn!("the Lease could not be given back in time"),
        }
    }
}

/// Waits for the moment, or for ever.
async fn deadline(at: Option<std::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
