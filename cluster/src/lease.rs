//! Leases in the API server (`coordination.k8s.io/v1`). In: names, records. Out: the Lease as it stands, or that
//! somebody else was faster. Who may hold one is the callers'.

use std::future::Future;
use std::time::Duration;

use futures_util::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::watcher::{Config, Event};

use crate::follow::{Quiet, follow};
use crate::observed::Record;
use crate::words::words;

/// Why a request did not go through.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The Lease has changed since it was read, or was made by somebody else.
    #[error("the Lease has changed")]
    Conflict,
    /// The API server did not answer in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Where Leases are kept.
pub trait Leases: Send + Sync + 'static {
    /// The Lease, if there is one.
    fn read(&self, name: &str) -> impl Future<Output = Result<Option<Lease>, Failure>> + Send;

    /// Makes the Lease, or replaces the version that it names.
    fn write(
        &self,
        name: &str,
        lease: Lease,
    ) -> impl Future<Output = Result<Lease, Failure>> + Send;
}

/// Leases that several processes share.
pub trait SharedLeases: Leases + Clone {
    /// Deletes the Lease in the version that it names. One that is gone is no failure.
    fn delete(&self, name: &str, lease: &Lease)
    -> impl Future<Output = Result<(), Failure>> + Send;

    /// Those with a label, now and ever after; see [`follow`].
    fn follow(
        &self,
        label: &str,
        quiet: Quiet,
        report: impl FnMut(Option<String>) + Send + 'static,
    ) -> BoxStream<'static, Event<Lease>>;
}

/// The Leases of a namespace.
#[derive(Clone, Debug)]
pub struct InNamespace {
    api: Api<Lease>,
}

impl InNamespace {
    /// Those of this one.
    #[must_use]
    pub fn new(client: kube::Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
        }
    }
}

impl Leases for InNamespace {
    async fn read(&self, name: &str) -> Result<Option<Lease>, Failure> {
        let read = self.api.get_opt(name).await;
        read.map_err(|error| Failure::Other(words(&error)))
    }

    async fn write(&self, name: &str, mut lease: Lease) -> Result<Lease, Failure> {
        let parameters = PostParams::default();
        lease.metadata.name = Some(name.to_owned());
        if lease.metadata.resource_version.is_some() {
            let replaced = self.api.replace(name, &parameters, &lease).await;
            replaced.map_err(|error| changed(&error, is_not_found(&error)))
        } else {
            // Not found is its namespace.
            let made = self.api.create(&parameters, &lease).await;
            made.map_err(|error| changed(&error, false))
        }
    }
}

impl SharedLeases for InNamespace {
    async fn delete(&self, name: &str, lease: &Lease) -> Result<(), Failure> {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: lease.metadata.uid.clone(),
                resource_version: lease.metadata.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        match self.api.delete(name, &parameters).await {
            Err(error) if !is_not_found(&error) => Err(changed(&error, false)),
            _ => Ok(()),
        }
    }

    fn follow(
        &self,
        label: &str,
        quiet: Quiet,
        report: impl FnMut(Option<String>) + Send + 'static,
    ) -> BoxStream<'static, Event<Lease>> {
        let config = Config::default().labels(label);
        follow(self.api.clone(), config, quiet, report)
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

fn changed(error: &kube::Error, gone: bool) -> Failure {
    match error {
        kube::Error::Api(status) if status.is_conflict() || status.is_already_exists() => {
            Failure::Conflict
        }
        _ if gone => Failure::Conflict,
        _ => Failure::Other(words(error)),
    }
}

/// What a Lease says.
#[must_use]
pub fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec
            .holder_identity
            .filter(|holder| !holder.is_empty())
            .map(Into::into),
        lease: spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
        renewed: spec.renew_time.map(|time| time.0),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

/// A Lease that says `record`, in place of `before`.
#[must_use]
pub fn lease(before: Option<&Lease>, record: &Record) -> Lease {
    let mut lease = before.cloned().unwrap_or_default();
    // The server keeps these itself.
    lease.metadata.managed_fields = None;
    let old = lease.spec.take().unwrap_or_default();
    let same = old.holder_identity.as_deref() == record.holder.as_deref();
    let now = record.renewed.map(MicroTime);
    lease.spec = Some(LeaseSpec {
        acquire_time: if same { old.acquire_time } else { now.clone() },
        holder_identity: record.holder.as_deref().map(str::to_owned),
        lease_duration_seconds: record
            .lease
            .and_then(|lease| i32::try_from(lease.as_secs()).ok()),
        lease_transitions: Some(record.transitions),
        renew_time: now,
        ..old
    });
    lease
}

/// To the microsecond, as the server keeps it: else a Lease that was written would not compare
/// equal when it is read.
#[must_use]
pub fn microseconds(now: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_lease() {
        let record = Record {
            holder: Some("a".into()),
            lease: Some(Duration::from_secs(15)),
            renewed: Some(Timestamp::from_microsecond(1_700_000_000_123_456).unwrap()),
            transitions: 7,
        };
        let text = serde_json::to_string(&lease(None, &record)).unwrap();
        assert_eq!(super::record(&serde_json::from_str(&text).unwrap()), record);
    }

    #[test]
    fn a_lease_of_a_chart_without_a_spec_is_free() {
        let lease: Lease = serde_json::from_str(
            r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"x"}}"#,
        )
        .unwrap();
        assert_eq!(record(&lease), Record::default());
    }

    #[test]
    fn labels_of_a_chart_and_the_time_of_acquisition_are_kept_by_a_renewal() {
        let at = |second| Timestamp::from_second(second).ok();
        let mut held = Record {
            holder: Some("a".into()),
            renewed: at(1),
            ..Record::default()
        };
        let mut first = lease(None, &held);
        first.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        held.renewed = at(2);
        let second = lease(Some(&first), &held);
        assert_eq!(second.metadata.labels, first.metadata.labels);
        let spec = second.spec.unwrap();
        assert_eq!(spec.acquire_time, at(1).map(MicroTime));
        assert_eq!(spec.renew_time, at(2).map(MicroTime));
    }
}
