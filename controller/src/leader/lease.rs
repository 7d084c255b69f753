//! The Lease in the API server. In: a name, records. Out: the Lease as it stands, or that somebody
//! else was faster.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::PostParams;

use super::election::Record;
use crate::api_error::words;

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

/// Where the Lease is kept.
pub trait Leases: Send + Sync + 'static {
    /// The Lease, if there is one.
    fn read(&self) -> impl Future<Output = Result<Option<Lease>, Failure>> + Send;

    /// Makes the Lease, or replaces the version that it names.
    fn write(&self, lease: Lease) -> impl Future<Output = Result<Lease, Failure>> + Send;
}

/// The Lease of this name in the cluster.
#[derive(Clone, Debug)]
pub struct InCluster {
    api: Api<Lease>,
    name: String,
}

impl InCluster {
    /// The Lease `name` in `namespace`.
    #[must_use]
    pub fn new(client: kube::Client, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
        }
    }
}

impl Leases for InCluster {
    async fn read(&self) -> Result<Option<Lease>, Failure> {
        self.api.get_opt(&self.name).await.map_err(failure)
    }

    async fn write(&self, mut lease: Lease) -> Result<Lease, Failure> {
        let parameters = PostParams::default();
        lease.metadata.name = Some(self.name.clone());
        if lease.metadata.resource_version.is_some() {
            let replaced = self.api.replace(&self.name, &parameters, &lease).await;
            replaced.map_err(failure)
        } else {
            let made = self.api.create(&parameters, &lease).await;
            made.map_err(failure)
        }
    }
}

fn failure(error: kube::Error) -> Failure {
    match &error {
        kube::Error::Api(status)
            if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
        {
            Failure::Conflict
        }
        _ => Failure::Other(words(&error)),
    }
}

/// What a Lease says to the election.
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
