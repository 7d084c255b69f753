//! Metadata of what is made. In: names and labels. Out: JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::{InstanceView, ObjectRef};
use crate::plan::Blueprint;

/// The group and version of Configurations and Instances.
const AKRI: &str = "akri.sh/v0";

/// Metadata of an object.
pub(crate) struct Meta<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) labels: &'a [(&'static str, &'a str)],
    pub(crate) annotations: &'a [(&'static str, &'a str)],
    /// An owner reference; claims have none, garbage collection must not take them.
    pub(crate) owner: Option<Value>,
}

impl Meta<'_> {
    pub(crate) fn json(&self) -> Value {
        let map = |pairs: &[(&'static str, &str)]| -> Map<String, Value> {
            let owned = |(name, value): &(&'static str, &str)| ((*name).to_owned(), json!(value));
            pairs.iter().map(owned).collect()
        };
        let mut meta = Map::new();
        meta.insert("namespace".to_owned(), json!(self.namespace));
        meta.insert("name".to_owned(), json!(self.name));
        meta.insert("labels".to_owned(), Value::Object(map(self.labels)));
        if !self.annotations.is_empty() {
            let annotations = Value::Object(map(self.annotations));
            meta.insert("annotations".to_owned(), annotations);
        }
        if let Some(owner) = &self.owner {
            meta.insert("ownerReferences".to_owned(), json!([owner]));
        }
        Value::Object(meta)
    }
}

/// The reference of what an Instance owns.
pub(crate) fn owned_by_instance(instance: &InstanceView) -> Value {
    owner("Instance", &instance.name, &instance.uid)
}

/// The reference of what a Configuration owns.
pub(crate) fn owned_by_configuration(blueprint: &Blueprint) -> Value {
    owner("Configuration", &blueprint.key.name, &blueprint.uid)
}

fn owner(kind: &str, name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": AKRI, "kind": kind, "name": name, "uid": uid,
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// One incarnation of an object of a namespace.
pub(crate) fn object(
    namespace: &std::sync::Arc<str>,
    name: &std::sync::Arc<str>,
    uid: &std::sync::Arc<str>,
) -> ObjectRef {
    ObjectRef {
        namespace: namespace.clone(),
        name: name.clone(),
        uid: uid.clone(),
    }
}

/// Labels as typed objects have them.
pub(crate) fn owned(pairs: &[(&'static str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
