//! Readiness as named conditions, each with its reason. In: what the parts of a process say about
//! themselves. Out: one answer for `/readyz`. Liveness needs no state: a critical task that dies
//! takes the process with it (`tasks`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All conditions of a process; clones share them. Ready when every condition is.
#[derive(Clone, Debug, Default)]
pub struct Health {
    conditions: Arc<Mutex<BTreeMap<Cow<'static, str>, State>>>,
}

/// One condition; dropping the last handle leaves it as it is, [`Condition::remove`] takes it away.
#[derive(Clone, Debug)]
pub struct Condition {
    health: Health,
    name: Cow<'static, str>,
}

#[derive(Clone, Debug)]
struct State {
    ready: bool,
    reason: String,
}

/// The state of all conditions at one moment, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Whether every condition is ready.
    pub ready: bool,
    /// The conditions by name.
    pub conditions: Vec<ConditionReport>,
}

/// One condition in a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConditionReport {
    /// Its name, such as `store` or `subscribed`.
    pub name: String,
    /// Whether it holds.
    pub ready: bool,
    /// Why, in one sentence; never a secret.
    pub reason: String,
}

impl Health {
    /// Without a condition: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that is not ready yet, because of `reason`. The number of conditions is
    /// the caller's to bound; one name means one condition.
    pub fn condition(
        &self,
        name: impl Into<Cow<'static, str>>,
        reason: impl Into<String>,
    ) -> Condition {
        let condition = Condition {
            health: self.clone(),
            name: name.into(),
        };
        condition.not_ready(reason);
        condition
    }

    /// The state of all conditions now.
    #[must_use]
    pub fn report(&self) -> Report {
        let conditions: Vec<_> = self
            .lock()
            .iter()
            .map(|(name, state)| ConditionReport {
                name: name.clone().into_owned(),
                ready: state.ready,
                reason: state.reason.clone(),
            })
            .collect();
        Report {
            ready: conditions.iter().all(|condition| condition.ready),
            conditions,
        }
    }

    /// Whether every condition is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(|state| state.ready)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Cow<'static, str>, State>> {
        // A panic elsewhere cannot leave a half-written state: each write replaces one value.
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    /// The condition holds, because of `reason`.
    pub fn ready(&self, reason: impl Into<String>) {
        self.set(true, reason.into());
    }

    /// The condition does not hold, because of `reason`.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(false, reason.into());
    }

    /// Takes the condition away: it no longer counts.
    pub fn remove(self) {
        self.health.lock().remove(&self.name);
    }

    fn set(&self, ready: bool, reason: String) {
        let before = self.health.lock().insert(
            self.name.clone(),
            State {
                ready,
                reason: reason.clone(),
            },
        );
        if before.is_none_or(|state| state.ready != ready) {
            tracing::debug!(condition = %self.name, ready, reason, "readiness changed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_without_conditions_is_ready() {
        assert!(Health::new().is_ready());
    }

    #[test]
    fn one_unready_condition_makes_the_process_unready_and_says_why() {
        let health = Health::new();
        let store = health.condition("store", "not open yet");
        let agent = health.condition("agent", "not registered yet");
        store.ready("open");
        let report = health.report();
        assert!(!report.ready && !health.is_ready());
        let names: Vec<_> = report
            .conditions
            .iter()
            .map(|c| (c.name.as_str(), c.ready, c.reason.as_str()))
            .collect();
        assert_eq!(
            names,
            [
                ("agent", false, "not registered yet"),
                ("store", true, "open")
            ]
        );
        agent.ready("registered");
        assert!(health.is_ready());
        agent.not_ready("the Agent's socket is gone");
        assert!(!health.is_ready());
        agent.remove();
        assert!(health.is_ready());
    }
}
