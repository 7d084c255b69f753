//! Pods, Jobs, Services and claims of an Instance. In: the Configuration's template, what the Instance
//! says, names. Out: complete objects.

use serde_json::{Map, Value, json};

use super::attachments::attach;
use super::environment::inject;
use crate::names;

/// Where a monitoring broker keeps its data.
const DATA_DIRECTORY: &str = "/var/lib/akri-mqtt";
/// The volume that a claim takes the place of.
const DATA: &str = "data";
/// How long a pod stays on a node that is lost, before the cluster evicts it.
const TOLERATED_SECONDS: u32 = 30;
/// The resource that Akri's examples ask for; the Agent would fill in the Instance.
const PLACEHOLDER: &str = "{{PLACEHOLDER}}";

/// Turns the template of a broker pod into its spec.
pub(crate) fn broker_spec(
    template: &Map<String, Value>,
    variables: &[Value],
    attachments: Option<&str>,
    claim: Option<&str>,
) -> Map<String, Value> {
    let mut spec = pod_spec(template, variables, attachments);
    tolerate(&mut spec);
    if let Some(claim) = claim {
        claim_data(&mut spec, claim);
    }
    spec
}

/// What pods and pods of Jobs have in common.
fn pod_spec(
    template: &Map<String, Value>,
    variables: &[Value],
    attachments: Option<&str>,
) -> Map<String, Value> {
    let mut spec = template.clone();
    for container in containers(&mut spec) {
        inject(container, variables);
        drop_placeholders(container);
    }
    if let Some(packed) = attachments {
        attach(&mut spec, packed);
    }
    spec
}

/// Turns the template of a Job into its spec; its pods get the labels.
pub(crate) fn job_spec(
    template: &Map<String, Value>,
    variables: &[Value],
    attachments: Option<&str>,
    labels: &[(&'static str, &str)],
) -> Map<String, Value> {
    let mut spec = template.clone();
    let Some(pod) = object(&mut spec, "template") else {
        return spec;
    };
    if let Some(Value::Object(of_pod)) = pod.get("spec") {
        let of_pod = pod_spec(of_pod, variables, attachments);
        pod.insert("spec".to_owned(), Value::Object(of_pod));
    }
    let there = object(pod, "metadata").and_then(|meta| object(meta, "labels"));
    if let Some(there) = there {
        for (name, value) in labels {
            there.insert((*name).to_owned(), json!(value));
        }
    }
    spec
}

/// Spreads pods over nodes, softly: those of one Instance first, then those of the Configuration; unless
/// the template says how.
pub(crate) fn spread(spec: &mut Map<String, Value>, configuration: &str, instance: &str) {
    let affinity = spec.get("affinity").and_then(|a| a.get("podAntiAffinity"));
    let own = spec
        .get("topologySpreadConstraints")
        .is_some_and(|own| !own.is_null());
    if own || affinity.is_some_and(|own| !own.is_null()) {
        return;
    }
    // Two constraints with one topology key are refused, so that one of the two is an affinity.
    let constraints = json!([{
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {names::CONFIGURATION: configuration}},
    }]);
    spec.insert("topologySpreadConstraints".to_owned(), constraints);
    let apart = json!({"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {names::INSTANCE: instance}},
        },
    }]});
    let affinity = spec.entry("affinity").or_insert_with(|| json!({}));
    match affinity {
        Value::Object(affinity) => {
            affinity.insert("podAntiAffinity".to_owned(), apart);
        }
        other => *other = json!({"podAntiAffinity": apart}),
    }
}

/// A claim for a pod.
pub(crate) fn claim_spec(size: &str, class: Option<&str>) -> Value {
    let resources = json!({"requests": {"storage": size}});
    match class {
        Some(class) => json!({
            "accessModes": ["ReadWriteOnce"], "resources": resources, "storageClassName": class,
        }),
        None => json!({"accessModes": ["ReadWriteOnce"], "resources": resources}),
    }
}

fn tolerate(spec: &mut Map<String, Value>) {
    let Some(own) = array(spec, "tolerations") else {
        return;
    };
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        if !own.iter().any(|toleration| tolerates(toleration, key)) {
            own.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATED_SECONDS,
            }));
        }
    }
}

/// Whether a toleration says something about eviction because of this taint.
fn tolerates(toleration: &Value, key: &str) -> bool {
    let text = |field: &str| {
        toleration
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let effect = matches!(text("effect"), "" | "NoExecute");
    let every_key = text("key").is_empty() && text("operator") == "Exists";
    effect && (text("key") == key || every_key)
}

fn drop_placeholders(container: &mut Map<String, Value>) {
    let Some(Value::Object(resources)) = container.get_mut("resources") else {
        return;
    };
    for kind in ["limits", "requests"] {
        if let Some(Value::Object(amounts)) = resources.get_mut(kind) {
            amounts.remove(PLACEHOLDER);
        }
    }
}

/// Puts a claim in the place of the data volume: the volume `data`, else the one that a container
/// mounts at the data directory, else a new one in the first container.
fn claim_data(spec: &mut Map<String, Value>, claim: &str) {
    let named = array(spec, "volumes")
        .is_some_and(|volumes| volumes.iter().any(|volume| volume["name"] == DATA));
    let mounted = containers(spec).find_map(mount_at_data);
    let name = match mounted {
        _ if named => DATA.to_owned(),
        Some(name) => name,
        None => DATA.to_owned(),
    };
    if let Some(volumes) = array(spec, "volumes") {
        volumes.retain(|volume| volume["name"] != name.as_str());
        volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": claim}}));
    }
    let is_mounted = containers(spec).any(|container| {
        let mounts = container.get("volumeMounts").and_then(Value::as_array);
        mounts.is_some_and(|mounts| mounts.iter().any(|mount| mount["name"] == name.as_str()))
    });
    if is_mounted {
        return;
    }
    let first = array(spec, "containers").and_then(|all| all.first_mut());
    if let Some(Value::Object(first)) = first
        && let Some(mounts) = array(first, "volumeMounts")
    {
        mounts.retain(|mount| mount["mountPath"] != DATA_DIRECTORY);
        mounts.push(json!({"name": name, "mountPath": DATA_DIRECTORY}));
    }
}

fn mount_at_data(container: &mut Map<String, Value>) -> Option<String> {
    let mounts = container.get("volumeMounts")?.as_array()?;
    let mount = mounts.iter().find(|m| m["mountPath"] == DATA_DIRECTORY)?;
    mount.get("name")?.as_str().map(str::to_owned)
}

/// Containers and init containers.
pub(super) fn containers(
    spec: &mut Map<String, Value>,
) -> impl Iterator<Item = &mut Map<String, Value>> {
    let lists = spec
        .iter_mut()
        .filter(|(name, _)| matches!(name.as_str(), "containers" | "initContainers"));
    lists
        .filter_map(|(_, list)| list.as_array_mut())
        .flatten()
        .filter_map(Value::as_object_mut)
}

/// A list within an object, made if it is missing; `None` where something else has its name, which
/// the API server will refuse in its own words.
pub(super) fn array<'a>(
    object: &'a mut Map<String, Value>,
    name: &str,
) -> Option<&'a mut Vec<Value>> {
    let value = object.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut()
}

/// An object within an object, likewise.
fn object<'a>(
    parent: &'a mut Map<String, Value>,
    name: &str,
) -> Option<&'a mut Map<String, Value>> {
    let value = parent.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}
