//! Decides when to reign: while this process leads and Akri is not in the cluster. In: leadership, and
//! what the watch for Akri says. Out: reigns, one after the other, and readiness that says why there
//! is none. A follower is ready: it could lead at any time.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_runtime::{Condition, Shutdown};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::ListParams;
use serde::de::IgnoredAny;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::crd_upgrade::{self, CrdError};
use crate::events::event;
use crate::model::ConfigurationKey;
use crate::plan::{About, Notice, Reason};
use crate::reign::Throne;
use crate::requests::{Kind, Writer, words};
use crate::world::{ConfigurationSeen, Seen as _};

/// Characters of the cluster's uid that tell it from others.
const CLUSTER_CHARS: usize = 8;
/// Between two attempts at what no reign can begin without, and between two reigns.
const RETRY: Duration = Duration::from_secs(2);
/// Configurations that are told that Akri is there; who has more finds it in some of them.
const TOLD: u32 = 20;
/// How long telling them may take.
const TELL_WITHIN: Duration = Duration::from_secs(5);

/// What decides about reigns.
pub struct Court {
    /// What they need.
    pub throne: Throne,
    /// Ready while Akri is not in the cluster.
    pub akri: Condition,
    /// `--manage-crds`
    pub manage_crds: bool,
    /// Whether this process leads.
    pub leading: watch::Receiver<bool>,
    /// Who leads.
    pub holder: watch::Receiver<Option<Arc<str>>>,
    /// What keeps it from writing.
    pub hindrance: watch::Receiver<Option<Arc<str>>>,
}

impl Court {
    /// Reigns when it is time to, until `shutdown`.
    pub async fn hold(&self, shutdown: &Shutdown) {
        tokio::select! {
            () = self.reigns(shutdown) => {}
            () = self.herald() => {}
        }
    }

    async fn reigns(&self, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.triggered() => return,
                () = self.may_reign() => {}
            }
            let end = CancellationToken::new();
            let mut reign = pin!(self.reign(&end));
            let asked_to_end = tokio::select! {
                () = &mut reign => false,
                () = self.must_end() => true,
                () = shutdown.triggered() => true,
            };
            if asked_to_end {
                end.cancel();
                reign.await;
            } else {
                tokio::select! {
                    () = shutdown.triggered() => {}
                    () = sleep(RETRY) => {}
                }
            }
        }
    }

    async fn reign(&self, end: &CancellationToken) {
        let prepared = async {
            if self.manage_crds {
                self.bring_definitions_up_to_date().await;
            }
            self.cluster().await
        };
        let cluster = tokio::select! {
            () = end.cancelled() => return,
            cluster = prepared => cluster,
        };
        self.throne.reign(&cluster, end).await;
    }

    async fn bring_definitions_up_to_date(&self) {
        loop {
            match crd_upgrade::run(&self.throne.client).await {
                Ok(_) => return,
                Err(error @ CrdError::Refused { .. }) => {
                    tracing::warn!(error = words(&error), "definition is left as it is");
                    return;
                }
                Err(error) => {
                    let reason = words(&error);
                    tracing::warn!(reason, "definitions cannot be brought up to date yet");
                    self.throne.synced.not_ready(reason);
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// What tells this cluster from others.
    async fn cluster(&self) -> Arc<str> {
        let namespaces: Api<Namespace> = Api::all(self.throne.client.clone());
        loop {
            match namespaces.get_metadata("kube-system").await {
                Ok(found) => {
                    let uid = found.metadata.uid.unwrap_or_default();
                    return uid.chars().take(CLUSTER_CHARS).collect::<String>().into();
                }
                Err(error) => {
                    let reason = words(&error);
                    tracing::warn!(reason, "the namespace kube-system cannot be read");
                    self.throne
                        .synced
                        .not_ready(format!("namespace kube-system: {reason}"));
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn may_reign(&self) {
        let (mut leading, mut hindrance) = (self.leading.clone(), self.hindrance.clone());
        loop {
            // Their senders live as long as the process; without them there is nothing to wait for.
            if leading.wait_for(|leads| *leads).await.is_err() {
                std::future::pending::<()>().await;
            }
            if hindrance.wait_for(Option::is_none).await.is_err() {
                std::future::pending::<()>().await;
            }
            if *leading.borrow() {
                return;
            }
        }
    }

    async fn must_end(&self) {
        let (mut leading, mut hindrance) = (self.leading.clone(), self.hindrance.clone());
        // An error means that nobody can say any more that this process may reign.
        tokio::select! {
            _ = leading.wait_for(|leads| !*leads) => {}
            _ = hindrance.wait_for(Option::is_some) => {}
        }
    }

    /// Says how things stand, whenever they change, for ever.
    async fn herald(&self) {
        let mut leading = self.leading.clone();
        let mut holder = self.holder.clone();
        let mut hindrance = self.hindrance.clone();
        // Before the first look at the cluster nothing is known.
        let unknown = hindrance.borrow().clone();
        let mut told: Option<Arc<str>> = None;
        loop {
            let leads = *leading.borrow_and_update();
            let leader = holder.borrow_and_update().clone();
            let hindered = hindrance.borrow_and_update().clone();
            let akri = hindered.clone().filter(|_| hindered != unknown);
            self.throne.metrics.set_leader(leads);
            self.throne.metrics.set_suspended(akri.is_some());
            match &hindered {
                Some(reason) => self.akri.not_ready(reason.to_string()),
                None => self.akri.ready("Akri is not in the cluster"),
            }
            if !leads {
                match leader.filter(|leader| *leader != self.throne.identity) {
                    Some(leader) => self.throne.synced.ready(format!("{leader} leads")),
                    None => self.throne.synced.not_ready("nobody leads"),
                }
            } else if leads && akri.is_some() {
                self.throne.synced.ready("suspended");
            }
            if leads && akri != told {
                if let Some(reason) = &akri {
                    tracing::warn!(%reason, "suspended, nothing is written");
                    let _ = timeout(TELL_WITHIN, self.tell(reason)).await;
                }
                told = akri;
            }
            let changed = tokio::select! {
                changed = leading.changed() => changed,
                changed = holder.changed() => changed,
                changed = hindrance.changed() => changed,
            };
            if changed.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Says it where a user looks: at the Configurations.
    async fn tell(&self, reason: &str) {
        let throne = &self.throne;
        let client = throne.client.clone();
        let limiter = Arc::clone(&throne.limiter);
        let writer = Writer::new(client.clone(), limiter, CancellationToken::new());
        let scopes: Vec<Api<ConfigurationSeen>> = match throne.namespaces.as_slice() {
            [] => vec![Api::all(client)],
            names => names
                .iter()
                .map(|name| Api::namespaced(client.clone(), name))
                .collect(),
        };
        for api in scopes {
            let list = api.list(&ListParams::default().limit(TOLD)).await;
            for seen in list.into_iter().flatten() {
                let Some(known) = seen.read() else { continue };
                let key = ConfigurationKey {
                    namespace: known.namespace,
                    name: known.name,
                };
                let notice = Notice {
                    about: About::Configuration(key, known.uid),
                    reason: Reason::Suspended,
                    words: reason.to_owned(),
                };
                let (namespace, body) = event(&notice, &throne.identity, Timestamp::now());
                let written = writer
                    .create::<IgnoredAny>(Kind::Event, &namespace, &body)
                    .await;
                if let Err(problem) = written {
                    tracing::debug!(%problem, "Event was not written");
                }
            }
        }
    }
}
