//! `GET /v1/status`: who leads, whether anything keeps this process from writing, what it sees and
//! what it does. In: HTTP. Out: JSON, sorted. Nothing here changes anything.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::watch;

use crate::handlers::Handlers;
use crate::metrics::CurrentRealm;
use crate::model::ConfigurationKey;
use crate::realm::Realm;
use crate::world::{ConfigurationView, Observed, WatchReport};

/// What the answers are made from.
#[derive(Clone)]
pub struct Admin {
    /// The name of this process in the Lease.
    pub identity: Arc<str>,
    /// Whether it leads.
    pub leading: watch::Receiver<bool>,
    /// Who leads.
    pub holder: watch::Receiver<Option<Arc<str>>>,
    /// What keeps it from writing.
    pub hindrance: watch::Receiver<Option<Arc<str>>>,
    /// The registered handlers.
    pub handlers: Handlers,
    /// How watches fare.
    pub report: WatchReport,
    /// The present reign.
    pub realm: CurrentRealm,
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    identity: String,
    leading: bool,
    leader: Option<String>,
    /// Why nothing is written although this process may lead.
    suspended: Option<String>,
    /// What is wrong with the watches.
    watches: Vec<String>,
    /// Keys that are to be looked at now, and all that are known for what is to come.
    queue: QueueStatus,
    handlers: Vec<HandlerStatus>,
    configurations: Vec<ConfigurationStatus>,
}

#[derive(Debug, Default, Serialize)]
struct QueueStatus {
    ready: usize,
    known: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HandlerStatus {
    name: String,
    endpoints: Vec<String>,
    /// One of this name was refused because its devices are those of one node.
    refused_not_shared: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigurationStatus {
    namespace: String,
    name: String,
    handler: Option<String>,
    devices: Option<u32>,
    instances: usize,
    pods: usize,
    brokers_ready: Option<u32>,
    /// Why it cannot be read.
    error: Option<String>,
    /// What its conditions say.
    conditions: Vec<ConditionStatus>,
}

#[derive(Debug, Serialize)]
struct ConditionStatus {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

/// The routes, to be merged with those of every process.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .with_state(admin)
}

async fn status(State(admin): State<Admin>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(admin.status())).into_response()
}

impl Admin {
    fn status(&self) -> Status {
        let realm = self.realm.get();
        Status {
            identity: self.identity.to_string(),
            leading: *self.leading.borrow(),
            leader: self.holder.borrow().as_deref().map(str::to_owned),
            suspended: self.hindrance.borrow().as_deref().map(str::to_owned),
            watches: self.report.problems(),
            queue: realm.as_deref().map(queue).unwrap_or_default(),
            handlers: self.handlers(),
            configurations: realm.as_deref().map(configurations).unwrap_or_default(),
        }
    }

    fn handlers(&self) -> Vec<HandlerStatus> {
        let book = Arc::clone(&self.handlers.watch().borrow());
        let handlers = book.iter().map(|(name, known)| HandlerStatus {
            name: name.to_string(),
            endpoints: known.endpoints.keys().map(ToString::to_string).collect(),
            refused_not_shared: known.not_shared,
        });
        handlers.collect()
    }
}

fn queue(realm: &Realm) -> QueueStatus {
    QueueStatus {
        ready: realm.queue.ready(),
        known: realm.queue.len(),
    }
}

fn configurations(realm: &Realm) -> Vec<ConfigurationStatus> {
    let world = realm.world();
    let rows = world.configurations.iter().map(|known| {
        let key = ConfigurationKey {
            namespace: Arc::clone(&known.namespace),
            name: Arc::clone(&known.name),
        };
        let instances = world.instances_of(&key).count();
        row(known, instances, world.pods_of_ours(&key))
    });
    rows.collect()
}

fn row(known: &Observed<ConfigurationView>, instances: usize, pods: usize) -> ConfigurationStatus {
    let status = known.view.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice());
    ConfigurationStatus {
        namespace: known.namespace.to_string(),
        name: known.name.to_string(),
        handler: known.view.asked.as_ref().map(|asked| asked.name.clone()),
        devices: status.and_then(|status| status.devices),
        instances,
        pods,
        brokers_ready: status.map(|status| status.brokers_ready),
        error: known.view.read.as_ref().err().map(ToString::to_string),
        conditions: conditions
            .unwrap_or_default()
            .iter()
            .map(|condition| ConditionStatus {
                r#type: condition.type_.clone(),
                status: condition.status.clone(),
                reason: condition.reason.clone(),
                message: condition.message.clone(),
            })
            .collect(),
    }
}
