//! What a monitor does for a member of a pool: sessions that belong to a shard and move between processes.
//! In: a shard's scope and devices. Out: sessions under the shard's client ids. Who may have them is `pool`'s.

use std::path::Path;

use akri_mqtt_core::details::{MqttRules, SessionKey};
use akri_mqtt_core::pool::Shard;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_runtime::{Condition, UsageError, usage};
use akri_mqtt_session::Credentials;
use futures_util::future::{FutureExt as _, join_all};
use tokio::sync::watch;

use super::{Monitor, MonitorError};
use crate::access::{self, AccessArgs};
use crate::api::union::{Others, PeerTls};
use crate::ingest::Scope;
use crate::session_options::options_text;

impl Monitor {
    /// Whether it is a member of its pool, as a part of its readiness. Until [`Monitor::join`] its API has no answers.
    pub(crate) fn membership(&self) -> Condition {
        self.service.expect_pool();
        self.health.condition("pool", "not a member yet")
    }

    /// Whether the devices of its list are watched, as a part of its readiness.
    pub(crate) fn listing(&self) -> Condition {
        self.health
            .condition("devices-file", "its devices are not watched yet")
    }

    /// Whether the Instances of its pool are seen, as a part of its readiness.
    pub(crate) fn instances(&self) -> Condition {
        self.health.condition("instances", "not listed yet")
    }

    /// What this process shows and trusts when it talks to other members.
    pub(crate) fn peer_tls(
        &self,
        access: &AccessArgs,
        authorities: Option<&Path>,
    ) -> Result<PeerTls, UsageError> {
        let files = access.files().tls;
        let metrics = self.access.metrics();
        access::peers(files.as_ref(), authorities, &self.tasks, metrics)
            .map_err(|error| usage(format!("the certificates of members: {error}")))
    }

    /// From now on its API answers for all members.
    pub(crate) fn join(&self, others: Others) {
        self.service.join(others.clone());
        let shutdown = self.tasks.shutdown().clone();
        self.tasks.spawn("others", others.follow(shutdown));
    }

    /// The name of this process among others.
    pub async fn instance(&self) -> String {
        self.ids.lock().await.instance().to_owned()
    }

    /// What the sessions of a pool's shard are called by. Without a cluster's id the pool's own stands for it.
    pub async fn scope(&self, pool: &str, shard: Shard) -> Scope {
        self.ids.lock().await.scope(pool, shard)
    }

    /// As [`Monitor::add_all`], in the sessions of a pool's shard.
    ///
    /// # Errors
    /// When the store or the data directory fails.
    pub async fn add_to_shard(
        &self,
        scope: &Scope,
        devices: Vec<(DeviceSpec, watch::Receiver<Credentials>)>,
    ) -> Result<(), MonitorError> {
        self.add_in(Some(scope), devices).await
    }

    /// The client id of a session, and the name of its memory.
    pub(super) async fn client_id(
        &self,
        scope: Option<&Scope>,
        prefix: &str,
        key: &SessionKey,
        rules: &str,
    ) -> Result<(String, String), MonitorError> {
        let mut ids = self.ids.lock().await;
        let Some(scope) = scope else {
            let id = ids.make(prefix, key, rules)?;
            return Ok((id.clone(), id));
        };
        let is_default = rules == options_text(&MqttRules::default());
        let options = Some(rules).filter(|_| !is_default);
        Ok(ids.of_shard(scope, prefix, key, options))
    }

    /// Ends the sessions of a pool's shard so that another member goes on with them: nothing is unsubscribed.
    /// Returns once what they had acknowledged is stored, and nothing of them is left in this process. Soon after it is
    /// `urgent` their connections are closed, whatever the store does.
    pub async fn hand_over(
        &self,
        scope: &Scope,
        urgent: impl Future<Output = ()> + Send + 'static,
    ) {
        let urgent = urgent.boxed().shared();
        let leaving = self.sessions.lock().await.take(&scope.instance, &urgent);
        join_all(leaving).await;
    }

    /// Another member had the shard since this one did: what is remembered of its sessions holds no more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_shard(&self, scope: &Scope) -> Result<(), MonitorError> {
        let text = format!("-{}-", scope.instance);
        Ok(self.service.store.forget_packet_ids(text).await?)
    }
}
