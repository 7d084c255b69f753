//! What a member's tasks share: whether it is a member now, what it holds, what was seen. In: the time, outcomes
//! of requests. Out: the same answer for everybody who asks at the same time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use akri_mqtt_core::pool::Shard;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Own;
use super::names::Identity;
use super::view::View;
use crate::pool::peer::Live;

/// Whether this process is a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not yet, or not any more: its Lease was not renewed in time.
    Outside,
    /// It may act until then.
    Member(Identity, Instant),
    /// It never will be again.
    Expelled(String),
}

/// How far it is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It takes what falls to it.
    In,
    /// It gives everything back.
    Leaving,
    /// It has given everything back.
    Left,
}

/// See the module.
#[derive(Debug)]
pub struct Shared {
    state: Mutex<State>,
    /// Somebody may have to act: for the pool.
    pub changed: Notify,
    /// Nothing is held any more: for the one who renews.
    pub idle: Notify,
    pub stage: watch::Sender<Stage>,
}

#[derive(Debug)]
pub struct State {
    pub view: View,
    pub standing: Standing,
    /// What sessions of this process stand behind; none while it is being claimed.
    pub held: BTreeMap<Shard, Option<Lease>>,
    /// What is wrong, by what it happens to.
    faults: BTreeMap<&'static str, String>,
}

impl State {
    /// Under which name it may act now.
    pub fn identity(&self) -> Option<&Identity> {
        match &self.standing {
            Standing::Member(identity, until) if Instant::now() < *until => Some(identity),
            _ => None,
        }
    }
}

impl Shared {
    pub fn new(view: View) -> Self {
        Self {
            state: Mutex::new(State {
                view,
                standing: Standing::Outside,
                held: BTreeMap::new(),
                faults: BTreeMap::new(),
            }),
            changed: Notify::new(),
            idle: Notify::new(),
            stage: watch::channel(Stage::In).0,
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        // One value is replaced at a time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Its name if it may act now.
    pub fn identity(&self) -> Option<Identity> {
        self.lock().identity().cloned()
    }

    /// Notes what is wrong with something, or that nothing is; news are logged.
    pub fn report(&self, what: &'static str, problem: Option<String>) {
        let mut state = self.lock();
        match problem {
            Some(problem) if state.faults.get(what) == Some(&problem) => {}
            Some(problem) => {
                tracing::warn!(what, problem, "the API server does not do it; trying again");
                state.faults.insert(what, problem);
            }
            None => {
                if state.faults.remove(what).is_some() {
                    tracing::info!(what, "the API server does it again");
                }
            }
        }
    }

    /// All that is wrong, in words.
    pub fn faults(&self) -> Option<String> {
        let state = self.lock();
        let faults = state.faults.iter();
        let faults: Vec<_> = faults
            .map(|(what, problem)| format!("{what}: {problem}"))
            .collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    /// It is no member any more, and will not be again.
    pub fn expel(&self, reason: String) {
        self.lock().standing = Standing::Expelled(reason);
        self.changed.notify_one();
    }

    /// Gives the place of a shard back that is neither held nor being claimed any more.
    pub fn forget(&self, shard: Shard) {
        let is_idle = {
            let mut state = self.lock();
            state.held.remove(&shard);
            state.held.is_empty()
        };
        if is_idle {
            self.idle.notify_one();
        }
    }

    /// The members that live, this one too if it is one that stays.
    pub fn live(&self, own: &Own) -> Live {
        let state = self.lock();
        let mut live = state.view.live();
        if state.identity().is_some() && self.stage() == Stage::In {
            live.insert(own.member.clone(), Some(own.says.clone()));
        } else {
            live.remove(&own.member);
        }
        live
    }
}
