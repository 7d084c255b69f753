//! Carries out what plans want. In: actions. Out: requests to the API server, and their answers in
//! the world before anything is planned again. Each action stands for itself: one that fails stops
//! no other. What a failure leads to is left to the reconciler.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use serde_json::{Map, Value, json};

use crate::events::Speaker;
use crate::model::ObjectRef;
use crate::names::{CONFIGURATION, INSTANCE, MANAGED_BY};
use crate::plan::Action;
use crate::realm::Realm;
use crate::requests::{Kind, Object, Problem, Writer};
use crate::world::{ClaimSeen, InstanceSeen, JobSeen, PodSeen, Seen, ServiceSeen};

/// Actions of one plan that are carried out at the same time. They share the limits of all plans.
const AT_ONCE: usize = 16;

/// Carries actions out.
#[derive(Clone, Debug)]
pub struct Executor {
    /// Sends requests.
    pub writer: Writer,
    /// Learns from answers.
    pub realm: Arc<Realm>,
    /// Says what is to be said.
    pub speaker: Speaker,
}

impl Executor {
    /// Carries out all of them, several at the same time. Returns what went wrong, in their order.
    pub async fn all(&self, actions: Vec<Action>) -> Vec<(String, Problem)> {
        stream::iter(actions)
            .map(|action| self.one(action))
            .buffered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    async fn one(&self, action: Action) -> Option<(String, Problem)> {
        let what = describe(&action);
        let problem = self.carry_out(action).await.err()?;
        tracing::debug!(action = what, %problem, "action failed");
        Some((what, problem))
    }

    async fn carry_out(&self, action: Action) -> Result<(), Problem> {
        match action {
            Action::ApplyInstance(instance) => self.apply_instance(&instance).await,
            Action::AnnotateInstance {
                instance,
                name,
                value,
            } => {
                let annotations = vec![(name, Some(value))];
                self.annotate::<InstanceSeen>(Kind::Instance, &instance, annotations)
                    .await
            }
            Action::DeleteInstance(instance) => {
                self.delete::<InstanceSeen>(Kind::Instance, &instance, None)
                    .await
            }
            Action::CreatePod(pod) => self.create::<PodSeen>(Kind::Pod, &pod).await,
            Action::DeletePod { pod, grace } => {
                self.delete::<PodSeen>(Kind::Pod, &pod, grace).await
            }
            Action::CreateJob(job) => self.create::<JobSeen>(Kind::Job, &job).await,
            Action::DeleteJob(job) => self.delete::<JobSeen>(Kind::Job, &job, None).await,
            Action::CreateService(service) => {
                match self.create::<ServiceSeen>(Kind::Service, &service).await {
                    Err(Problem::NameTaken) => Err(self.take_over_service(&service).await),
                    other => other,
                }
            }
            Action::ReplaceService { service, object } => {
                self.replace_service(&service, &object).await
            }
            Action::DeleteService(service) => {
                self.delete::<ServiceSeen>(Kind::Service, &service, None)
                    .await
            }
            Action::CreateClaim(claim) => self.create::<ClaimSeen>(Kind::Claim, &claim).await,
            Action::AnnotateClaim { claim, annotations } => {
                self.annotate::<ClaimSeen>(Kind::Claim, &claim, annotations)
                    .await
            }
            Action::DeleteClaim(claim) => self.delete::<ClaimSeen>(Kind::Claim, &claim, None).await,
            Action::Say(notice) => {
                self.speaker.say(notice);
                Ok(())
            }
        }
    }

    async fn apply_instance(&self, instance: &akri_mqtt_crds::Instance) -> Result<(), Problem> {
        let meta = &instance.metadata;
        let object = Object {
            kind: Kind::Instance,
            namespace: meta.namespace.as_deref().unwrap_or_default().into(),
            name: meta.name.as_deref().unwrap_or_default().into(),
        };
        let body = serde_json::to_value(instance)
            .map_err(|error| Problem::Unavailable(error.to_string()))?;
        let answer = self
            .writer
            .apply::<InstanceSeen>(&object, &body, true)
            .await?;
        self.realm.learn(answer);
        Ok(())
    }

    async fn create<S: Seen>(&self, kind: Kind, body: &Value) -> Result<(), Problem> {
        let object = named(kind, body);
        match self.writer.create::<S>(kind, &object.namespace, body).await {
            Ok(answer) => {
                self.realm.learn(answer);
                Ok(())
            }
            Err(Problem::AlreadyExists) => Err(self.look_again::<S>(&object, body).await),
            Err(problem) => Err(problem),
        }
    }

    /// A Service that Akri made for the same Configuration goes, so that ours can be made.
    async fn take_over_service(&self, body: &Value) -> Problem {
        let owner = |object: &Value| object.pointer("/metadata/ownerReferences/0/uid").cloned();
        let object = named(Kind::Service, body);
        let found: Value = match self.writer.get(&object).await {
            Ok(found) => found,
            Err(problem) => return problem,
        };
        let uid = found.pointer("/metadata/uid").and_then(Value::as_str);
        let Some(uid) = uid.filter(|_| owner(&found).is_some() && owner(&found) == owner(body))
        else {
            return Problem::NameTaken;
        };
        match self.writer.delete(&object, uid, None).await {
            Ok(_) => Problem::AlreadyExists,
            Err(problem) => problem,
        }
    }

    /// There is one already: ours, that we do not know of yet, or somebody else's.
    async fn look_again<S: Seen>(&self, object: &Object, body: &Value) -> Problem {
        match self.writer.get::<S>(object).await {
            Ok(found) if is_ours(&found, body) => {
                self.realm.learn(found);
                Problem::AlreadyExists
            }
            Ok(_) => Problem::NameTaken,
            // It is gone again: the next plan makes it.
            Err(Problem::NotFound(_)) => Problem::AlreadyExists,
            Err(problem) => problem,
        }
    }

    async fn annotate<S: Seen>(
        &self,
        kind: Kind,
        target: &ObjectRef,
        annotations: Vec<(&'static str, Option<String>)>,
    ) -> Result<(), Problem> {
        let annotations: Map<String, Value> = annotations
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let body = json!({"metadata": {"uid": *target.uid, "annotations": annotations}});
        let object = object(kind, target);
        match self.writer.merge::<S>(&object, None, &body).await {
            Ok(answer) => {
                self.realm.learn(answer);
                Ok(())
            }
            Err(Problem::NotFound(_)) => {
                self.realm.gone::<S>(target);
                Ok(())
            }
            Err(problem) => Err(problem),
        }
    }

    async fn replace_service(&self, target: &ObjectRef, new: &Value) -> Result<(), Problem> {
        let object = object(Kind::Service, target);
        let current: Value = match self.writer.get(&object).await {
            Err(Problem::NotFound(_)) => {
                self.realm.gone::<ServiceSeen>(target);
                return Ok(());
            }
            other => other?,
        };
        let body = replaced(current, new, &target.uid)?;
        let answer = self.writer.replace::<ServiceSeen>(&object, &body).await?;
        self.realm.learn(answer);
        Ok(())
    }

    async fn delete<S: Seen>(
        &self,
        kind: Kind,
        target: &ObjectRef,
        grace: Option<u32>,
    ) -> Result<(), Problem> {
        let object = object(kind, target);
        match self.writer.delete(&object, &target.uid, grace).await {
            Ok(answer) => {
                let going = answer.pointer("/metadata/deletionTimestamp").is_some();
                match serde_json::from_value::<S>(answer) {
                    // Its watch tells when it is gone.
                    Ok(answer) if going => self.realm.learn(answer),
                    _ => self.realm.gone::<S>(target),
                }
                Ok(())
            }
            Err(Problem::NotFound(_)) => {
                self.realm.gone::<S>(target);
                Ok(())
            }
            Err(problem) => Err(problem),
        }
    }
}

/// Whether it has the labels by which we know what it belongs to: one without them would be looked for
/// again and again.
fn is_ours<S: Seen>(found: &S, body: &Value) -> bool {
    let labels = found.meta().labels.as_ref();
    [MANAGED_BY, CONFIGURATION, INSTANCE]
        .into_iter()
        .all(|name| {
            let found = labels.and_then(|labels| labels.get(name));
            let wanted = body
                .pointer("/metadata/labels")
                .and_then(|labels| labels.get(name));
            found.map(String::as_str) == wanted.and_then(Value::as_str)
        })
}

fn object(kind: Kind, target: &ObjectRef) -> Object {
    Object {
        kind,
        namespace: Arc::clone(&target.namespace),
        name: Arc::clone(&target.name),
    }
}

fn named(kind: Kind, body: &Value) -> Object {
    let field = |pointer: &str| {
        let value = body.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default().into()
    };
    Object {
        kind,
        namespace: field("/metadata/namespace"),
        name: field("/metadata/name"),
    }
}

/// A Service with the new one's spec and owners, and with its labels and annotations over the current
/// ones. What others have written into the metadata stays.
fn replaced(mut current: Value, new: &Value, uid: &str) -> Result<Value, Problem> {
    let meta = current.get_mut("metadata").and_then(Value::as_object_mut);
    let meta = meta.ok_or_else(|| Problem::Unavailable("an answer without metadata".to_owned()))?;
    if meta.get("uid").and_then(Value::as_str) != Some(uid) {
        return Err(Problem::Conflict("another object has its name".to_owned()));
    }
    for part in ["labels", "annotations"] {
        let new = new.get("metadata").and_then(|meta| meta.get(part));
        let Some(new) = new.and_then(Value::as_object) else {
            continue;
        };
        let merged = meta.entry(part).or_insert_with(|| json!({}));
        if let Some(merged) = merged.as_object_mut() {
            merged.extend(new.clone());
        }
    }
    if let Some(owners) = new.pointer("/metadata/ownerReferences") {
        meta.insert("ownerReferences".to_owned(), owners.clone());
    }
    if let Some(fields) = current.as_object_mut() {
        let mut spec = new.get("spec").cloned().unwrap_or_default();
        keep_addresses(fields.get("spec"), &mut spec);
        fields.insert("spec".to_owned(), spec);
    }
    Ok(current)
}

/// A Service keeps its addresses: the API server refuses an update that leaves them out.
fn keep_addresses(current: Option<&Value>, new: &mut Value) {
    let (Some(current), Some(new)) = (current.and_then(Value::as_object), new.as_object_mut())
    else {
        return;
    };
    let external = new.get("type").and_then(Value::as_str) == Some("ExternalName");
    if external || new.contains_key("clusterIP") || new.contains_key("clusterIPs") {
        return;
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if let Some(value) = current.get(field)
            && !new.contains_key(field)
        {
            new.insert(field.to_owned(), value.clone());
        }
    }
}

fn describe(action: &Action) -> String {
    let (verb, kind, name) = match action {
        Action::ApplyInstance(instance) => {
            let name = instance.metadata.name.clone().unwrap_or_default();
            return format!("apply Instance {name}");
        }
        Action::AnnotateInstance { instance, .. } => ("annotate", "Instance", &instance.name),
        Action::DeleteInstance(target) => ("delete", "Instance", &target.name),
        Action::CreatePod(body) => return format!("create Pod {}", named(Kind::Pod, body).name),
        Action::DeletePod { pod, .. } => ("delete", "Pod", &pod.name),
        Action::CreateJob(body) => return format!("create Job {}", named(Kind::Job, body).name),
        Action::DeleteJob(target) => ("delete", "Job", &target.name),
        Action::CreateService(body) => {
            return format!("create Service {}", named(Kind::Service, body).name);
        }
        Action::ReplaceService { service, .. } => ("replace", "Service", &service.name),
        Action::DeleteService(target) => ("delete", "Service", &target.name),
        Action::CreateClaim(body) => {
            let name = named(Kind::Claim, body).name;
            return format!("create PersistentVolumeClaim {name}");
        }
        Action::AnnotateClaim { claim, .. } => ("annotate", "PersistentVolumeClaim", &claim.name),
        Action::DeleteClaim(target) => ("delete", "PersistentVolumeClaim", &target.name),
        Action::Say(_) => return "say".to_owned(),
    };
    format!("{verb} {kind} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_service_keeps_what_others_wrote_into_its_metadata() {
        let current = json!({
            "metadata": {
                "name": "s", "uid": "u", "resourceVersion": "7", "finalizers": ["lb/cleanup"],
                "labels": {"a": "old", "theirs": "x"},
            },
            "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 1}]},
            "status": {"loadBalancer": {}},
        });
        let new = json!({
            "metadata": {"name": "s", "labels": {"a": "new"}, "ownerReferences": [{"uid": "o"}]},
            "spec": {"ports": [{"port": 2}]},
        });
        let body = replaced(current.clone(), &new, "u").unwrap();
        assert_eq!(
            body,
            json!({
                "metadata": {
                    "name": "s", "uid": "u", "resourceVersion": "7", "finalizers": ["lb/cleanup"],
                    "labels": {"a": "new", "theirs": "x"}, "ownerReferences": [{"uid": "o"}],
                },
                "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 2}]},
                "status": {"loadBalancer": {}},
            })
        );
        let other = replaced(current, &new, "another");
        assert!(matches!(other, Err(Problem::Conflict(_))));
    }
}
