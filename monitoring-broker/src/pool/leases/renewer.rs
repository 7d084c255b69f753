//! Renews the Lease of this member. In: the API server's answers, and how far the member is on its way out. Out:
//! until when it may act.
//!
//! A member counts from the moment before it sent a renewal, everybody else from the moment after they saw it: its
//! own deadline passes first, and leaves it time to end its sessions.

use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_cluster::{Failure, Record, SharedLeases, lease};
use akri_mqtt_runtime::Shutdown;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::{Instant, sleep_until, timeout};

use super::names::{About, Identity, Names, is_held_by, now};
use super::shared::{Shared, Stage, Standing};
use super::{DEADLINE, LEASE, Own, RENEW, REQUEST, RETRY};

/// How soon a Lease is read that somebody has touched.
const AFTER_CONFLICT: Duration = Duration::from_millis(50);

pub struct Renewer<L> {
    leases: L,
    names: Names,
    own: Own,
    shared: Arc<Shared>,
    /// The Lease as it was last written; none after a conflict or a failure.
    last: Option<Lease>,
    identity: Identity,
    /// The names that this process had in its Lease; another one's ends its membership.
    was: Option<Identity>,
}

impl<L: SharedLeases> Renewer<L> {
    pub fn new(leases: L, names: Names, own: Own, shared: Arc<Shared>) -> Self {
        Self {
            leases,
            names,
            identity: Identity::new(&own.member),
            own,
            shared,
            last: None,
            was: None,
        }
    }

    /// Runs until the shutdown, or until the member has left.
    pub async fn run(mut self, stop: Shutdown) {
        let mut stage = self.shared.stage.subscribe();
        loop {
            let begun = Instant::now();
            self.lapse(begun);
            let is_member = matches!(self.shared.lock().standing, Standing::Member(..));
            let at = *stage.borrow_and_update();
            if at == Stage::Left {
                return self.delete().await;
            }
            if !is_member {
                if at == Stage::Leaving {
                    return;
                }
                // Sessions of a membership that has lapsed end before the next one begins.
                let is_idle = self.shared.lock().held.is_empty();
                if !is_idle {
                    tokio::select! {
                        biased;
                        _ = stage.changed() => {}
                        () = stop.triggered() => return,
                        () = self.shared.idle.notified() => {}
                    }
                    continue;
                }
            }
            let outcome = timeout(REQUEST, self.renew(at == Stage::Leaving, begun)).await;
            let Some(pause) = self.ended(outcome.unwrap_or(Err(Failure::Late(REQUEST)))) else {
                return;
            };
            tokio::select! {
                // A member that has left is stopped in the same moment, and is to delete its Lease.
                biased;
                _ = stage.changed() => {}
                () = stop.triggered() => return,
                () = sleep_until(Instant::now().max(begun + pause)) => {}
            }
        }
    }

    /// Notes that the time is over, if it is. The next membership has another name: who has seen this one silent
    /// for too long may have taken its shards.
    fn lapse(&mut self, now: Instant) {
        let mut state = self.shared.lock();
        if matches!(&state.standing, Standing::Member(_, until) if now >= *until) {
            state.standing = Standing::Outside;
            drop(state);
            tracing::warn!(
                "the Lease of this member was not renewed in time; its sessions end before others take its shards"
            );
            let next = Identity::new(&self.own.member);
            self.was = Some(std::mem::replace(&mut self.identity, next));
            self.shared.changed.notify_one();
        }
    }

    async fn renew(&mut self, is_leaving: bool, begun: Instant) -> Result<(), Failure> {
        let name = self.names.of(&About::Member(self.own.member.clone()));
        let current = match self.last.take() {
            Some(last) => Some(last),
            None => self.leases.read(&name).await?,
        };
        let before = current.as_ref().map(lease::record).unwrap_or_default();
        let is_known = |holder: &str| {
            let mut ours = [Some(&self.identity), self.was.as_ref()]
                .into_iter()
                .flatten();
            ours.any(|identity| identity.as_str() == holder)
        };
        if let Some(holder) = before.holder.as_deref()
            && !is_known(holder)
            && self.was.is_some()
        {
            let reason = format!(
                "another process is the member {} now ({holder}); give each an --instance of its own",
                self.own.member
            );
            self.shared.expel(reason);
            return Ok(());
        }
        let is_same = before.holder.as_deref() == Some(self.identity.as_str());
        let record = Record {
            holder: Some(self.identity.shared()),
            lease: Some(LEASE),
            renewed: Some(now()),
            transitions: before.transitions.saturating_add(i32::from(!is_same)),
        };
        let claim = self
            .names
            .member(current.as_ref(), &record, &self.own, is_leaving);
        self.last = Some(self.leases.write(&name, claim).await?);
        self.renewed(begun);
        Ok(())
    }

    /// An answer that comes after the deadline renews nothing: what was to end has begun to.
    fn renewed(&mut self, begun: Instant) {
        let mut state = self.shared.lock();
        let is_new = match &state.standing {
            Standing::Member(_, until) if Instant::now() >= *until => return,
            Standing::Member(..) => false,
            Standing::Outside => true,
            Standing::Expelled(_) => return,
        };
        state.standing = Standing::Member(self.identity.clone(), begun + DEADLINE);
        drop(state);
        if is_new {
            self.was = Some(self.identity.clone());
            tracing::info!(identity = self.identity.as_str(), "a member of the pool");
            self.shared.changed.notify_one();
        }
    }

    /// Says when to renew next; none: never again.
    fn ended(&mut self, outcome: Result<(), Failure>) -> Option<Duration> {
        const WHAT: &str = "renewal of its Lease";
        match outcome {
            Ok(()) => {
                self.shared.report(WHAT, None);
                let is_expelled = matches!(self.shared.lock().standing, Standing::Expelled(_));
                (!is_expelled).then_some(RENEW)
            }
            Err(Failure::Conflict) => Some(AFTER_CONFLICT),
            Err(error) => {
                self.shared.report(WHAT, Some(error.to_string()));
                Some(RETRY)
            }
        }
    }

    /// Nobody has to wait for a member that has left.
    async fn delete(mut self) {
        let name = self.names.of(&About::Member(self.own.member.clone()));
        let deleted = async {
            if let Some(last) = self.last.take() {
                match self.leases.delete(&name, &last).await {
                    Err(Failure::Conflict) => {}
                    deleted => return deleted,
                }
            }
            let current = self.leases.read(&name).await?;
            match current.filter(|lease| is_held_by(lease, &self.identity)) {
                Some(current) => self.leases.delete(&name, &current).await,
                None => Ok(()),
            }
        };
        match timeout(REQUEST, deleted).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the Lease of this member is left behind"),
            Err(_) => tracing::warn!("the Lease of this member could not be deleted in time"),
        }
    }
}
