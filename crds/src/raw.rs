//! A part of a resource that is Kubernetes' business: kept as it is, checked when it is used.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A PodSpec, JobSpec or ServiceSpec as it was written. Fields that this build does not know stay,
/// so that a newer Kubernetes gets all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawSpec(pub Map<String, Value>);

impl JsonSchema for RawSpec {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("RawSpec")
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
        })
    }
}
