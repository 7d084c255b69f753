//! What a Configuration says, read once for all of its plans. In: the Configuration. Out: the parts
//! that plans need, with digests. It is made anew when the Configuration changes, and only then.

use std::collections::BTreeMap;
use std::sync::Arc;

use akri_mqtt_crds::{Configuration, RawSpec};
use serde_json::{Map, Value};

use super::digest::Digester;
use super::settings::{Settings, settings};
use crate::model::ConfigurationKey;

/// Pods that one Instance may have; more than this is taken for a slip of the pen.
pub const MAX_CAPACITY: u32 = 1_000;

/// A Configuration as plans see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    /// Its name and namespace.
    pub key: ConfigurationKey,
    /// Its uid.
    pub uid: Arc<str>,
    /// `metadata.generation`
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// `spec.discoveryHandler.name`
    pub handler: Arc<str>,
    /// `spec.capacity`, at most [`MAX_CAPACITY`].
    pub capacity: u32,
    /// `spec.brokerProperties`
    pub properties: BTreeMap<String, String>,
    /// What its annotations say.
    pub settings: Settings,
    /// What is wrong with it, one sentence each.
    pub faults: Vec<String>,
    /// What pods are made from; `None` in a pool too.
    pub pod: Option<Template>,
    /// What Jobs are made from; `None` in a pool too.
    pub job: Option<Template>,
    /// What the Service of an Instance is made from; `None` without pods.
    pub instance_service: Option<Template>,
    /// What the Service over all Instances is made from; `None` without pods.
    pub configuration_service: Option<Template>,
}

/// A spec as the user wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// The spec.
    pub spec: Map<String, Value>,
    /// Its digest.
    pub digest: String,
}

impl Blueprint {
    /// Reads a Configuration; `None` for one without name, namespace or uid, which no API server sends.
    #[must_use]
    pub fn new(configuration: &Configuration) -> Option<Self> {
        let meta = &configuration.metadata;
        let spec = &configuration.spec;
        let (settings, mut faults) = settings(configuration);
        if spec.capacity > MAX_CAPACITY {
            faults.push(format!(
                "spec.capacity: found {}, allowed are up to {MAX_CAPACITY}; {MAX_CAPACITY} is used",
                spec.capacity
            ));
        }
        let brokers = spec
            .broker_spec
            .as_ref()
            .filter(|_| settings.pool.is_none());
        let pod = brokers.and_then(|brokers| template("pod", brokers.broker_pod_spec.as_ref()));
        let service = |raw: &Option<RawSpec>| {
            let raw = raw.as_ref().filter(|_| pod.is_some());
            template("service", raw)
        };
        Some(Self {
            key: ConfigurationKey {
                namespace: meta.namespace.as_deref()?.into(),
                name: meta.name.as_deref()?.into(),
            },
            uid: meta.uid.as_deref()?.into(),
            generation: meta.generation.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            handler: spec.discovery_handler.name.as_str().into(),
            capacity: spec.capacity.min(MAX_CAPACITY),
            properties: spec.broker_properties.clone(),
            instance_service: service(&spec.instance_service_spec),
            configuration_service: service(&spec.configuration_service_spec),
            job: brokers.and_then(|brokers| template("job", brokers.broker_job_spec.as_ref())),
            pod,
            settings,
            faults,
        })
    }
}

fn template(what: &str, raw: Option<&RawSpec>) -> Option<Template> {
    let spec = raw?.0.clone();
    let value = Value::Object(spec);
    let digest = Digester::new(what).json(&value).finish();
    match value {
        Value::Object(spec) => Some(Template { spec, digest }),
        _ => None,
    }
}
