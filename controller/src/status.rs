//! Keeps the status of Configurations. In: Configurations whose status may have changed. Out: a patch
//! where it has, for each at most one a second. A definition without the subresource, such as Akri's,
//! is asked again after an hour. What the status says is decided in `plan`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::discover::Discovery;
use crate::metrics::Metrics;
use crate::model::ConfigurationKey;
use crate::plan::{self, StatusInput};
use crate::queue::Done;
use crate::realm::Realm;
use crate::reconciler::now;
use crate::requests::{Kind, Object, Problem, Writer};
use crate::world::ConfigurationSeen;

/// Between two patches of one status.
const PACE: Duration = Duration::from_secs(1);
/// After the beginning of a reign: what handlers say is not known at once, and what was known stands.
const SETTLES: Duration = Duration::from_secs(5);
/// Between two attempts at a subresource that there is not.
const WITHOUT: Duration = Duration::from_secs(3600);

/// Writes statuses.
pub struct StatusKeeper {
    /// What all share.
    pub realm: Arc<Realm>,
    /// What handlers find.
    pub discovery: Arc<Discovery>,
    /// Sends patches.
    pub writer: Writer,
    /// Counts.
    pub metrics: Metrics,
    /// Until when no patch is tried.
    pub without_until: Option<Instant>,
    /// The Configuration whose status was not found last.
    pub not_found: Option<(Arc<str>, Arc<str>)>,
    /// When the reign began.
    pub began: Instant,
}

impl StatusKeeper {
    /// Writes for ever.
    pub async fn work(mut self) {
        loop {
            let key = self.realm.statuses.next().await;
            let done = self.turn(&key).await;
            self.realm.statuses.done(&key, done);
        }
    }

    async fn turn(&mut self, key: &ConfigurationKey) -> Done {
        if let Some(until) = self.without_until {
            if Instant::now() < until {
                return Done::Rest(until);
            }
            self.without_until = None;
        }
        let settled = self.began + SETTLES;
        if Instant::now() < settled && self.was_written(key) {
            return Done::Settled(Some(settled));
        }
        let Some(body) = self.patch(key) else {
            return Done::Settled(None);
        };
        let object = Object {
            kind: Kind::Configuration,
            namespace: Arc::clone(&key.namespace),
            name: Arc::clone(&key.name),
        };
        let answer = self
            .writer
            .merge::<ConfigurationSeen>(&object, Some("status"), &body)
            .await;
        match answer {
            Ok(answer) => {
                self.not_found = None;
                self.realm.learn(answer);
                Done::Rest(Instant::now() + PACE)
            }
            Err(Problem::NotFound(_)) => self.not_found(&object).await,
            Err(problem) if problem.is_interruption() => {
                self.metrics.failed(&problem);
                tracing::debug!(configuration = %key, %problem, "status was not written yet");
                Done::Interrupted(None)
            }
            Err(problem) => {
                self.metrics.failed(&problem);
                tracing::warn!(configuration = %key, %problem, "status was not written");
                Done::Failed(None)
            }
        }
    }

    fn was_written(&self, key: &ConfigurationKey) -> bool {
        let world = self.realm.world();
        let known = world.configurations.get(&key.namespace, &key.name);
        known.is_some_and(|known| known.view.status.is_some())
    }

    /// What is to be written, unless it is there already.
    fn patch(&self, key: &ConfigurationKey) -> Option<Value> {
        let finding = self.discovery.finding(key);
        let world = self.realm.world();
        let known = world.configurations.get(&key.namespace, &key.name)?;
        let blueprint = known.view.read.as_ref().ok()?;
        let previous = known.view.status.as_ref();
        let input = StatusInput {
            blueprint,
            finding: finding.as_ref(),
            instances: world.instances_of_ours(key),
            previous,
        };
        let status = plan::status(&self.realm.memory(), &input, now());
        if previous == Some(&status) {
            return None;
        }
        let mut status = serde_json::to_value(&status).ok()?;
        let fields = status.as_object_mut()?;
        for optional in ["observedGeneration", "devices"] {
            // A merge takes away only what is said to be null.
            fields.entry(optional).or_insert(Value::Null);
        }
        Some(json!({"status": status}))
    }

    /// Either the Configuration is gone, or its definition has no status.
    async fn not_found(&mut self, object: &Object) -> Done {
        let there = self.writer.get::<ConfigurationSeen>(object).await;
        let name = (Arc::clone(&object.namespace), Arc::clone(&object.name));
        let again = self.not_found.replace(name.clone()) == Some(name);
        if there.is_ok() && !again {
            // It may have been made anew in between.
            return Done::Interrupted(None);
        }
        if there.is_ok() {
            let until = Instant::now() + WITHOUT;
            tracing::info!("Configurations have no status in this cluster: it is not written");
            self.without_until = Some(until);
            return Done::Rest(until);
        }
        Done::Settled(None)
    }
}
