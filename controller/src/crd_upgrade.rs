//! Brings the definitions of Configuration and Instance up to date when agentless mode begins. In:
//! the definitions of this build, those in the cluster. Out: what was applied, and what the API
//! server serves. Not called while Akri is in the cluster or with `--manage-crds=false`.
//!
//! Helm installs `crds/` once and never again, so somebody has to. A definition that Akri's chart
//! has installed carries no mark of it, and once Akri's pods are gone nobody else looks after it;
//! ours adds a status and leaves the fields of Akri as they are, so it is upgraded too, and Akri
//! still works with it when it comes back. What is newer than this build is left alone.

use std::time::Duration;

use akri_mqtt_crds::REVISION_ANNOTATION;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::names::MANAGER;
use akri_mqtt_cluster::{is_forbidden, words};

/// How long a definition may take until it is served.
const SERVED_WITHIN: Duration = Duration::from_secs(30);
/// How often the API server is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Group and version of both resources.
const API: &str = "akri.sh/v0";

/// What the API server serves of `akri.sh/v0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Configurations.
    pub configurations: bool,
    /// Instances.
    pub instances: bool,
    /// The status of Configurations, which Akri's definition lacks.
    pub status: bool,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The definitions that were applied.
    pub applied: Vec<String>,
    /// Why others were left as they are, in words; not those that are up to date.
    pub left: Vec<String>,
    /// What is served now.
    pub served: Served,
}

/// Why agentless mode cannot begin yet.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// The API server cannot be asked.
    #[error("cannot ask the API server for {what}: {reason}")]
    Unreachable {
        /// What was asked for.
        what: String,
        /// Why not.
        reason: String,
    },
    /// A definition that is refused.
    #[error("the API server refuses the definition {name}: {reason}")]
    Refused {
        /// The definition.
        name: String,
        /// Why.
        reason: String,
    },
    /// The resources are not there, and this process could not change that.
    #[error(
        "the resources of {API} are not served{0}; apply them: kubectl apply --server-side -f charts/akri-mqtt/crds"
    )]
    Missing(String),
}

/// Applies what is missing or out of date and waits until both resources are served. A right that
/// is missing is reported and tolerated when they are served anyway.
///
/// # Errors
/// The API server is out of reach or refuses a definition, or the resources are not served. To be
/// tried again later.
pub async fn run(client: &Client) -> Result<Report, CrdError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut applied = Vec::new();
    let mut left = Vec::new();
    for (_, definition) in akri_mqtt_crds::definitions() {
        let name = definition.metadata.name.clone().unwrap_or_default();
        match bring_up_to_date(&api, &name, &definition).await? {
            Outcome::UpToDate => {}
            Outcome::Applied => applied.push(name),
            Outcome::Left(reason) => left.push(format!("{name}: {reason}")),
        }
    }
    for reason in &left {
        tracing::warn!(%reason, "a definition is left as it is");
    }
    if !applied.is_empty() {
        tracing::info!(definitions = applied.join(", "), "definitions applied");
    }
    let served = wait_until_served(client, &left).await?;
    Ok(Report {
        applied,
        left,
        served,
    })
}

/// What the API server serves. Needs no right beyond those that everybody has.
///
/// # Errors
/// The API server is out of reach.
pub async fn served(client: &Client) -> Result<Served, CrdError> {
    let resources = match client.list_api_group_resources(API).await {
        Ok(list) => list.resources,
        Err(kube::Error::Api(status)) if status.is_not_found() => Vec::new(),
        Err(error) => {
            return Err(CrdError::Unreachable {
                what: API.to_owned(),
                reason: words(&error),
            });
        }
    };
    let has = |name: &str| resources.iter().any(|resource| resource.name == name);
    Ok(Served {
        configurations: has("configurations"),
        instances: has("instances"),
        status: has("configurations/status"),
    })
}

enum Outcome {
    UpToDate,
    Applied,
    Left(String),
}

async fn bring_up_to_date(
    api: &Api<CustomResourceDefinition>,
    name: &str,
    definition: &CustomResourceDefinition,
) -> Result<Outcome, CrdError> {
    let refused = |reason: String| CrdError::Refused {
        name: name.to_owned(),
        reason,
    };
    let unreachable = |error: &kube::Error| CrdError::Unreachable {
        what: format!("the definition {name}"),
        reason: words(error),
    };
    let live = match api.get_opt(name).await {
        Ok(live) => live,
        Err(error) if is_forbidden(&error) => return Ok(Outcome::Left(words(&error))),
        Err(error) => return Err(unreachable(&error)),
    };
    let value = |definition| {
        serde_json::to_value(definition)
            .map_err(|error: serde_json::Error| refused(error.to_string()))
    };
    let mut ours = value(definition)?;
    if let Some(fields) = ours.as_object_mut() {
        fields.remove("status");
    }
    if let Some(live) = live {
        match judge(&ours, &value(&live)?) {
            Verdict::UpToDate => return Ok(Outcome::UpToDate),
            Verdict::Newer(reason) => return Ok(Outcome::Left(reason)),
            Verdict::Outdated => {}
        }
    }
    let parameters = PatchParams::apply(MANAGER).force();
    match api.patch(name, &parameters, &Patch::Apply(&ours)).await {
        Ok(_) => Ok(Outcome::Applied),
        Err(error) if is_forbidden(&error) => Ok(Outcome::Left(words(&error))),
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => {
            Err(refused(words(&kube::Error::Api(status))))
        }
        Err(error) => Err(unreachable(&error)),
    }
}

async fn wait_until_served(client: &Client, left: &[String]) -> Result<Served, CrdError> {
    let deadline = Instant::now() + SERVED_WITHIN;
    // What was not applied does not appear by waiting.
    let patient = left.is_empty();
    loop {
        let served = served(client).await?;
        if served.configurations && served.instances {
            return Ok(served);
        }
        if !patient || Instant::now() >= deadline {
            let reasons: String = left.iter().map(|reason| format!("; {reason}")).collect();
            return Err(CrdError::Missing(reasons));
        }
        sleep(ASK_EVERY).await;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    UpToDate,
    Outdated,
    Newer(String),
}

/// Compares the definition of this build with the one in the cluster.
fn judge(ours: &Value, live: &Value) -> Verdict {
    if let Some(version) = unknown_version(ours, live) {
        return Verdict::Newer(format!(
            "it has the version {version}, which this build does not know"
        ));
    }
    let (own, theirs) = (revision(ours), revision(live));
    if theirs > own {
        return Verdict::Newer(format!(
            "its revision {theirs} is newer than this build's {own}"
        ));
    }
    let spec = |definition: &Value| definition.get("spec").cloned().unwrap_or_default();
    if covers(&spec(live), &spec(ours), true) {
        Verdict::UpToDate
    } else {
        Verdict::Outdated
    }
}

fn revision(definition: &Value) -> u32 {
    definition
        .get("metadata")
        .and_then(|metadata| {
            metadata
                .get("annotations")?
                .get(REVISION_ANNOTATION)?
                .as_str()
        })
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

/// A version of the resource that our definition would remove.
fn unknown_version(ours: &Value, live: &Value) -> Option<String> {
    let names = |definition: &Value| -> Vec<String> {
        let versions = definition
            .pointer("/spec/versions")
            .and_then(Value::as_array);
        versions
            .into_iter()
            .flatten()
            .filter_map(|version| version.get("name")?.as_str().map(str::to_owned))
            .collect()
    };
    let own = names(ours);
    names(live).into_iter().find(|name| !own.contains(name))
}

/// Whether everything in `wanted` is in `live`; what the API server adds does not count, nor do
/// descriptions, which decide nothing. Below `properties` keys are names of fields, not words of
/// the schema.
fn covers(live: &Value, wanted: &Value, is_schema: bool) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted
            .iter()
            .filter(|(key, _)| !is_schema || !["description", "title"].contains(&key.as_str()))
            .all(|(key, value)| {
                let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
                let present = live.get(key).unwrap_or(&Value::Null);
                let below = !is_schema || key != "properties";
                (empty && present.is_null()) || covers(present, value, below)
            }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len()
                && live
                    .iter()
                    .zip(wanted)
                    .all(|(live, wanted)| covers(live, wanted, is_schema))
        }
        // The API server writes 0 where the schema says 0.0.
        (Value::Number(live), Value::Number(wanted)) => live.as_f64() == wanted.as_f64(),
        _ => live == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ours() -> Value {
        let (_, definition) = akri_mqtt_crds::definitions().remove(0);
        serde_json::to_value(definition).unwrap()
    }

    /// As the API server gives it back.
    fn stored() -> Value {
        let mut live = ours();
        live["spec"]["conversion"] = json!({"strategy": "None"});
        live["spec"]["names"]["listKind"] = json!("ConfigurationList");
        let schema = &mut live["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        schema["properties"]["spec"]["properties"]["capacity"]["minimum"] = json!(0);
        live["metadata"]["resourceVersion"] = json!("7");
        live["status"] = json!({"storedVersions": ["v0"]});
        live
    }

    #[test]
    fn what_this_build_has_applied_is_up_to_date() {
        assert_eq!(judge(&ours(), &stored()), Verdict::UpToDate);
    }

    #[test]
    fn other_descriptions_and_a_missing_mark_are_no_reason_to_write() {
        let mut live = stored();
        live["metadata"] = json!({"name": "configurations.akri.sh"});
        live["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = json!("old");
        assert_eq!(judge(&ours(), &live), Verdict::UpToDate);
    }

    #[test]
    fn akris_definition_without_status_is_outdated() {
        let mut live = stored();
        live["metadata"] = json!({"name": "configurations.akri.sh"});
        let version = live["spec"]["versions"][0].as_object_mut().unwrap();
        version.remove("subresources");
        assert_eq!(judge(&ours(), &live), Verdict::Outdated);
    }

    #[test]
    fn a_field_that_is_missing_or_changed_makes_it_outdated() {
        let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        let mut live = stored();
        let fields = live.pointer_mut(path).unwrap().as_object_mut().unwrap();
        fields.remove("brokerProperties");
        assert_eq!(judge(&ours(), &live), Verdict::Outdated);
        let mut live = stored();
        live.pointer_mut(path).unwrap()["capacity"]["type"] = json!("string");
        assert_eq!(judge(&ours(), &live), Verdict::Outdated);
    }

    #[test]
    fn what_a_later_version_has_applied_is_left_alone() {
        let mut live = stored();
        live["metadata"]["annotations"][REVISION_ANNOTATION] = json!("1000000");
        live["spec"]["versions"][0]["subresources"] = json!({});
        assert!(matches!(judge(&ours(), &live), Verdict::Newer(_)));
        let mut live = stored();
        let mut v1 = live["spec"]["versions"][0].clone();
        v1["name"] = json!("v1");
        live["spec"]["versions"].as_array_mut().unwrap().push(v1);
        assert_eq!(
            judge(&ours(), &live),
            Verdict::Newer("it has the version v1, which this build does not know".to_owned())
        );
    }
}
