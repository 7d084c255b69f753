//! Holds a Configuration against the types of Akri and Kubernetes, as Akri's webhook does. In: a document. Out: faults.
//! The comparison itself is in `structure`.

use std::sync::LazyLock;

use akri_mqtt_core::yaml::{Kind, Node};
use akri_mqtt_crds::ConfigurationSpec;
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::{PodSpec, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::structure::{Checker, Found, describe, unknown};

/// The schemas that Akri's webhook and Kubernetes check with.
struct Schemas {
    spec: Value,
    metadata: Value,
    parts: [(&'static [&'static str], Value); 4],
}

static SCHEMAS: LazyLock<Schemas> = LazyLock::new(|| {
    let service = schemars::schema_for!(ServiceSpec).to_value();
    Schemas {
        spec: schemars::schema_for!(ConfigurationSpec).to_value(),
        metadata: schemars::schema_for!(ObjectMeta).to_value(),
        parts: [
            (
                &["brokerSpec", "brokerPodSpec"],
                schemars::schema_for!(PodSpec).to_value(),
            ),
            (
                &["brokerSpec", "brokerJobSpec"],
                schemars::schema_for!(JobSpec).to_value(),
            ),
            (&["instanceServiceSpec"], service.clone()),
            (&["configurationServiceSpec"], service),
        ],
    }
});

/// Everything about a Configuration that its document alone tells, but for what stands in its texts.
pub fn check(document: &Node, found: &mut Vec<Found>) {
    const FIELDS: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];
    let schemas = &*SCHEMAS;
    let Kind::Mapping(entries) = &document.kind else {
        return;
    };
    for entry in entries
        .iter()
        .filter(|entry| !FIELDS.contains(&entry.key.as_str()))
    {
        let message = unknown(&entry.key, &entry.key, FIELDS.to_vec());
        found.push(Found {
            at: entry.at,
            message,
        });
    }
    for (key, wanted) in [("apiVersion", "akri.sh/v0"), ("kind", "Configuration")] {
        match document.get(key) {
            Some(node) if node.text() == Some(wanted) => {}
            Some(node) => found.push(Found {
                at: node.at,
                message: format!("{key}: found {}, allowed is {wanted}", describe(node)),
            }),
            None => found.push(Found {
                at: document.at,
                message: format!("{key}: missing; it is {wanted}"),
            }),
        }
    }
    if let Some(metadata) = document.get("metadata") {
        Checker::new(&schemas.metadata, found).check(metadata, "metadata");
    }
    let Some(spec) = document.get("spec") else {
        let message = "spec: missing".to_owned();
        found.push(Found {
            at: document.at,
            message,
        });
        return;
    };
    Checker::new(&schemas.spec, found).check(spec, "spec");
    for (keys, schema) in &schemas.parts {
        let node = keys.iter().try_fold(spec, |node, key| node.get(key));
        if let Some(node) = node.filter(|node| matches!(node.kind, Kind::Mapping(_))) {
            Checker::new(schema, found).check(node, &format!("spec.{}", keys.join(".")));
        }
    }
}
