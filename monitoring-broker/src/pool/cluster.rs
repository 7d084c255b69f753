//! Joins a pool in the API server. In: a Configuration's name, a client. Out: a member of its pool, however long
//! that takes; meanwhile readiness says in words what is missing.

use std::time::Duration;

use akri_mqtt_cluster::{InNamespace, words};
use akri_mqtt_core::pool::{Member, ShardCount};
use akri_mqtt_crds::Configuration;
use akri_mqtt_runtime::{Condition, Tasks, usage};
use kube::api::Api;
use kube::{Client, ResourceExt as _};

use super::leases::{LeaseError, LeasePool, Names, Own, Pod, SHARDS};
use super::peer::Peer;

/// Between two attempts.
const RETRY: Duration = Duration::from_secs(1);

/// The pool of a Configuration.
pub struct Cluster {
    client: Client,
    namespace: String,
    names: Names,
    /// Where the Configuration says nothing.
    shards: ShardCount,
}

/// Why there is no pool yet.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error("there is no Configuration {0} in the namespace {1}")]
    Configuration(String, String),
    #[error("the Configuration {0}: {1}")]
    Api(String, String),
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

impl Cluster {
    /// The pool of a Configuration in a namespace.
    ///
    /// # Errors
    /// A name that no Configuration has.
    pub fn new(
        client: Client,
        namespace: &str,
        configuration: &str,
        shards: ShardCount,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            client,
            namespace: namespace.to_owned(),
            names: Names::new(configuration).map_err(usage)?,
            shards,
        })
    }

    /// Becomes a member, and waits until it is one.
    ///
    /// # Errors
    /// When the members disagree, or the name cannot be a member's.
    pub async fn join(
        self,
        (me, says): (&Member, Peer),
        ready: &Condition,
        tasks: &Tasks,
    ) -> anyhow::Result<LeasePool<InNamespace>> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let pod = set("POD_NAME").zip(set("POD_UID"));
        let own = Own {
            member: me.clone(),
            says,
            pod: pod.map(|(name, uid)| Pod { name, uid }),
        };
        let mut said = String::new();
        loop {
            let problem = match self.attempt(&own, tasks).await? {
                Ok(pool) => {
                    self.joined(&pool, ready).await?;
                    return Ok(pool);
                }
                Err(missing) => missing.to_string(),
            };
            if problem != said {
                tracing::warn!(problem, "the pool cannot be joined yet; trying again");
                ready.not_ready(problem.clone());
                said = problem;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn attempt(
        &self,
        own: &Own,
        tasks: &Tasks,
    ) -> anyhow::Result<Result<LeasePool<InNamespace>, Missing>> {
        let shards = match self.shards().await {
            Ok(Some(text)) => text.parse().map_err(|error| {
                let name = self.names.configuration();
                usage(format!(
                    "the Configuration {name}: annotation {SHARDS}: found {text:?}; {error}"
                ))
            })?,
            Ok(None) => self.shards,
            Err(missing) => return Ok(Err(missing)),
        };
        let leases = InNamespace::new(self.client.clone(), &self.namespace);
        match LeasePool::join(leases, self.names.clone(), own.clone(), shards, tasks).await {
            Ok(pool) => Ok(Ok(pool)),
            Err(error @ LeaseError::Api { .. }) => Ok(Err(error.into())),
            Err(error) => Err(usage(format!("--pool: {error}")).into()),
        }
    }

    /// What the Configuration says about their number.
    async fn shards(&self) -> Result<Option<String>, Missing> {
        let api = Api::<Configuration>::namespaced(self.client.clone(), &self.namespace);
        let name = self.names.configuration();
        match api.get_metadata_opt(name).await {
            Ok(Some(found)) => Ok(found.annotations().get(SHARDS).cloned()),
            Ok(None) => Err(Missing::Configuration(
                name.to_owned(),
                self.namespace.clone(),
            )),
            Err(error) => Err(Missing::Api(name.to_owned(), words(&error))),
        }
    }

    async fn joined(
        &self,
        pool: &LeasePool<InNamespace>,
        ready: &Condition,
    ) -> Result<(), LeaseError> {
        let mut look = tokio::time::interval(RETRY);
        loop {
            tokio::select! {
                joined = pool.joined() => return joined,
                _ = look.tick() => {
                    let faults = pool.faults();
                    ready.not_ready(faults.unwrap_or_else(|| "not a member yet".to_owned()));
                }
            }
        }
    }
}
