//! The Job of an Instance. In: the template, the Jobs that there are. Out: what to make and to delete.
//!
//! It runs once for each Instance. An annotation of the Instance says that it has, so neither its end, its
//! deletion nor its `ttlSecondsAfterFinished` makes it run again. An edit of `brokerJobSpec` does: the
//! Job of the old spec is deleted and one of the new is made, with the generation of the Configuration
//! in its name. Edits of anything else, `brokerProperties` too, wait for the next device.

use serde_json::json;

use super::action::{Action, Reason};
use super::blueprint::{Blueprint, Template};
use super::digest::is_outdated;
use super::naming::{self, Use};
use super::render::environment::Environment;
use super::render::meta::{Meta, object, owned_by_instance};
use super::render::pod::job_spec;
use super::workloads::Desk;
use crate::model::{InstanceView, JobState, JobView};
use crate::names;

/// How an Instance's Job is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct JobSum {
    pub(super) wanted: bool,
    pub(super) complete: bool,
    pub(super) trouble: Option<String>,
}

/// Sees to the Job of an Instance that is there.
pub(super) fn decide(
    desk: &mut Desk<'_>,
    blueprint: &Blueprint,
    instance: &InstanceView,
    environment: &Environment<'_>,
) -> JobSum {
    let mut current: Option<&JobView> = None;
    for job in desk.input.jobs.iter().filter(|job| job.ours) {
        let its_own = job.owner.as_deref() == Some(&*instance.uid);
        let template = blueprint.job.as_ref().filter(|_| its_own);
        match template {
            Some(template) if !is_outdated(job.template.as_deref(), &template.digest) => {
                current = Some(job);
            }
            _ => desk.delete_job(job),
        }
    }
    let Some(template) = &blueprint.job else {
        return JobSum::default();
    };
    let has_run = !is_outdated(instance.job.as_deref(), &template.digest);
    if !has_run {
        match current {
            Some(_) => desk.plan.actions.push(Action::AnnotateInstance {
                instance: object(&desk.input.key.namespace, &instance.name, &instance.uid),
                name: names::JOB,
                value: template.digest.clone(),
            }),
            None => create(desk, blueprint, instance, (template, environment)),
        }
    }
    let state = current.map(|job| job.state);
    JobSum {
        wanted: true,
        complete: state.map_or(has_run, |state| state == JobState::Complete),
        trouble: match state {
            Some(JobState::Failed) => current.map(|job| format!("job {} has failed", job.name)),
            _ => None,
        },
    }
}

fn create(
    desk: &mut Desk<'_>,
    blueprint: &Blueprint,
    instance: &InstanceView,
    (template, environment): (&Template, &Environment<'_>),
) {
    let name = naming::job(&instance.name, blueprint.generation);
    if let Err(why) = naming::check(&name, Use::Object) {
        desk.say(Reason::InvalidName, &name, why);
        return;
    }
    if desk.input.jobs.iter().any(|job| *job.name == *name) {
        // It is being deleted, or someone else's.
        return;
    }
    let labels = names::instance_labels(desk.input.configuration, &instance.name);
    let meta = Meta {
        namespace: &desk.input.key.namespace,
        name: &name,
        labels: &labels,
        annotations: &[(names::TEMPLATE, &template.digest)],
        owner: Some(owned_by_instance(instance)),
    };
    // Its pods are the Job's to look after, so they do not say that they are ours.
    let [configuration, of_instance, ..] = labels;
    let spec = job_spec(
        &template.spec,
        &environment.variables(),
        instance.attachments.as_deref(),
        &[configuration, of_instance],
    );
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": meta.json(), "spec": spec,
    });
    desk.plan.actions.push(Action::CreateJob(Box::new(job)));
    desk.say(Reason::JobStarted, "", format!("job {name} is started"));
}
