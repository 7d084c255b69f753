//! What one Instance has: pods, Job, Service, claims. In: Configuration, Instance, what is there, time.
//! Out: what to make and to delete. Which Instances there are is left to `roster`.
//!
//! An Instance is deleted before what it has. So whenever the controller is stopped, either the Instance
//! is there and nothing has happened to its pods, or it is not, and they are deleted here or by garbage
//! collection; pods that went first would be made again by a controller that starts in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::clock::Now;

use super::action::{About, Action, Notice, Reason};
use super::blueprint::Blueprint;
use super::claims;
use super::jobs::{self, JobSum};
use super::memory::{InstanceMemory, Memory, Presence, Said};
use super::naming;
use super::nodes::{self, Fate};
use super::render::environment::Environment;
use super::render::meta::{object, owned_by_instance};
use super::rollout::Rollout;
use super::services::Case;
use super::settings::Settings;
use super::slots::{self, Making, PodSum};
use super::words::{counted, listed};
use crate::model::{
    ClaimView, ConfigurationKey, InstanceKey, InstanceView, JobView, NodeView, PodView, ServiceView,
};
use crate::names;

/// What a plan of an Instance looks at. Pods, Jobs, Services and claims are those with the label
/// `akri.sh/instance` of its name.
#[derive(Clone, Copy, Debug)]
pub struct InstanceInput<'a> {
    /// Which Instance.
    pub key: &'a InstanceKey,
    /// The name of its Configuration: of `spec.configurationName`, or of its objects' label
    /// `akri.sh/configuration` when there is no Instance.
    pub configuration: &'a str,
    /// What its Configuration says; `None` when there is none (any more).
    pub blueprint: Option<&'a Blueprint>,
    /// The Instance; `None` when there is none (any more).
    pub instance: Option<&'a InstanceView>,
    /// How many Instances of ours its Configuration has.
    pub siblings: usize,
    /// Its pods.
    pub pods: &'a [&'a PodView],
    /// Its Jobs.
    pub jobs: &'a [&'a JobView],
    /// Its Service.
    pub service: Option<&'a ServiceView>,
    /// Its claims.
    pub claims: &'a [&'a ClaimView],
    /// All nodes.
    pub nodes: &'a BTreeMap<Arc<str>, NodeView>,
    /// `AKRI_MQTT_CLUSTER`: what tells this cluster's client ids from those of another one.
    pub cluster: &'a str,
}

/// What to do about an Instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkloadsPlan {
    /// In this order.
    pub actions: Vec<Action>,
    /// When to plan again although nothing has changed.
    pub next: Option<Duration>,
    /// Instances of the same Configuration to plan now: it is their turn in a rollout.
    pub wake: Vec<InstanceKey>,
}

/// Decides what becomes of an Instance's pods, Job, Service and claims.
pub fn workloads(memory: &mut Memory, input: &InstanceInput<'_>, now: Now) -> WorkloadsPlan {
    let key = ConfigurationKey {
        namespace: Arc::clone(&input.key.namespace),
        name: input.configuration.into(),
    };
    let mut own = memory.instances.remove(input.key).unwrap_or_default();
    let mut desk = Desk::new(input, now, std::mem::take(&mut own.said));
    let alive = input.instance.filter(|view| view.ours && !view.deleting);
    let presence = own.absence.look(alive.is_some(), now.mono);
    let mut sum = Sum::default();
    let served = input.blueprint.filter(|blueprint| !blueprint.deleting);
    match (alive, presence) {
        (Some(instance), _) => {
            // Without its Configuration it is about to be deleted.
            let of = served.filter(|of| instance.owner.as_deref() == Some(&*of.uid));
            if let Some(blueprint) = of {
                let whole = memory.configurations.entry(key.clone()).or_default();
                sum = tend(
                    &mut desk,
                    &mut own,
                    (blueprint, instance),
                    &mut whole.rollout,
                );
                desk.tell_rollout(&mut whole.said, blueprint);
            }
        }
        (None, Presence::Unknown(left)) if input.instance.is_none() => desk.again(left),
        _ => clear(&mut desk, &mut own),
    }
    if let Some(whole) = memory.configurations.get_mut(&key) {
        if alive.is_none() {
            whole.rollout.forget(&input.key.name);
        }
        for name in whole.rollout.wake(input.siblings) {
            let namespace = Arc::clone(&input.key.namespace);
            desk.plan.wake.push(InstanceKey { namespace, name });
        }
    }
    own.said = std::mem::take(&mut desk.said);
    own.sum = sum;
    let kept = alive.is_some() || input.instance.is_some() || desk.has_any();
    memory.keep(&key, input.key, own, kept);
    desk.plan
}

/// Sees to what an Instance has that is there.
fn tend(
    desk: &mut Desk<'_>,
    memory: &mut InstanceMemory,
    (blueprint, instance): (&Blueprint, &InstanceView),
    rollout: &mut Rollout,
) -> Sum {
    let suffix = naming::suffix(desk.input.configuration, &instance.name);
    let environment = Environment {
        instance: &instance.name,
        cluster: desk.input.cluster,
        suffix: &suffix,
        properties: instance.properties.iter().collect(),
    };
    desk.tell_left_out(&environment);
    let needed = blueprint.pod.as_ref().map_or(0, |_| instance.capacity);
    let wait = claims::decide(desk, Some(&blueprint.settings), needed);
    let pods = match &blueprint.pod {
        Some(template) => {
            let making = Making::new((blueprint, instance), template, &environment);
            slots::decide(desk, memory, &making, &wait)
        }
        None => {
            for pod in desk.input.pods {
                desk.remove_pod(memory, pod);
            }
            PodSum::default()
        }
    };
    rollout.note(&instance.name, pods.busy);
    if let Some((n, serves)) = pods.next
        && (!serves || rollout.permit(&instance.name, desk.input.siblings))
    {
        slots::replace(desk, memory, n, serves);
        desk.replaces = serves;
    }
    let job = jobs::decide(desk, blueprint, instance, &environment);
    service(desk, blueprint, instance);
    Sum::of(pods, job)
}

fn service(desk: &mut Desk<'_>, blueprint: &Blueprint, instance: &InstanceView) {
    let Some(about) = desk.about.clone() else {
        return;
    };
    let its_own = |pod: &&PodView| pod.ours && pod.owner.as_ref() == Some(&instance.uid);
    let case = Case {
        about: &about,
        namespace: &desk.input.key.namespace,
        name: &naming::service(&instance.name),
        labels: &names::instance_labels(desk.input.configuration, &instance.name),
        selector: (names::INSTANCE, &instance.name),
        owner: owned_by_instance(instance),
        owner_uid: &instance.uid,
        template: blueprint.instance_service.as_ref(),
        exists: desk.input.service,
        pods: desk.input.pods.iter().copied().any(|pod| its_own(&pod)),
        stays: instance.capacity > 0,
    };
    case.decide(&mut desk.said, &mut desk.plan.actions);
}

/// Deletes what an Instance had that is gone.
fn clear(desk: &mut Desk<'_>, memory: &mut InstanceMemory) {
    for pod in desk.input.pods {
        desk.remove_pod(memory, pod);
    }
    for job in desk.input.jobs.iter().filter(|job| job.ours) {
        desk.delete_job(job);
    }
    if let Some(service) = desk
        .input
        .service
        .filter(|there| there.ours && !there.deleting)
    {
        let service = object(&desk.input.key.namespace, &service.name, &service.uid);
        desk.plan.actions.push(Action::DeleteService(service));
    }
    let settings = desk.input.blueprint.map(|blueprint| &blueprint.settings);
    claims::decide(desk, settings, 0);
}

/// What an Instance adds to its Configuration's status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) wanted: u32,
    pub(super) ready: u32,
    pub(super) trouble: Option<Box<str>>,
}

impl Sum {
    fn of(pods: PodSum, job: JobSum) -> Self {
        Self {
            wanted: pods.wanted.saturating_add(job.wanted.into()),
            ready: pods.ready.saturating_add(job.complete.into()),
            trouble: pods.trouble.or(job.trouble).map(Into::into),
        }
    }
}

/// A plan in the making.
pub(super) struct Desk<'a> {
    pub(super) input: &'a InstanceInput<'a>,
    pub(super) now: Now,
    pub(super) plan: WorkloadsPlan,
    said: Said,
    /// The Instance, while there is one.
    about: Option<About>,
    loss_after: Duration,
    /// Whether a pod that serves is replaced.
    replaces: bool,
}

impl<'a> Desk<'a> {
    fn new(input: &'a InstanceInput<'a>, now: Now, said: Said) -> Self {
        let settings = input.blueprint.map(|blueprint| &blueprint.settings);
        let default = Settings::default().node_loss_after;
        let about = input
            .instance
            .map(|view| About::Instance(input.key.clone(), Arc::clone(&view.uid)));
        Self {
            input,
            now,
            plan: WorkloadsPlan::default(),
            said,
            about,
            loss_after: settings.map_or(default, |settings| settings.node_loss_after),
            replaces: false,
        }
    }

    pub(super) fn again(&mut self, after: Duration) {
        self.plan.next = Some(self.plan.next.map_or(after, |known| known.min(after)));
    }

    /// Says how something is, if that is news.
    pub(super) fn say(&mut self, reason: Reason, subject: &str, words: String) {
        if let Some(about) = &self.about {
            let notice = Notice::new(about, reason, words);
            self.said.say(&mut self.plan.actions, subject, notice);
        }
    }

    /// Says that something has happened.
    pub(super) fn tell(&mut self, reason: Reason, words: String) {
        if let Some(about) = &self.about {
            let notice = Notice::new(about, reason, words);
            self.plan.actions.push(Action::Say(notice));
        }
    }

    /// How the node of a pod is; `unseen` remembers since when it is not among the nodes.
    pub(super) fn fate(&mut self, pod: &PodView, unseen: &mut Option<std::time::Instant>) -> Fate {
        let node = pod.facts.node.as_deref();
        let fate = nodes::fate(self.input.nodes, node, unseen, (self.loss_after, self.now));
        if let Fate::Fine(Some(left)) = fate {
            self.again(left);
        }
        fate
    }

    pub(super) fn delete_pod(&mut self, pod: &PodView, grace: Option<u32>) {
        let pod = object(&self.input.key.namespace, &pod.name, &pod.uid);
        self.plan.actions.push(Action::DeletePod { pod, grace });
    }

    /// Deletes a pod that is not wanted, and does not wait for a node that is lost.
    pub(super) fn remove_pod(&mut self, memory: &mut InstanceMemory, pod: &PodView) {
        if !pod.ours {
            let words = format!("pod `{}` exists and is not ours", pod.name);
            self.say(Reason::NameTaken, &pod.name, words);
            return;
        }
        let mut unseen = None;
        let slot = pod.slot(&self.input.key.name).map(|n| memory.slot(n));
        let fate = match slot {
            Some(slot) => {
                slot.deleted = true;
                self.fate(pod, &mut slot.unseen)
            }
            None => self.fate(pod, &mut unseen),
        };
        match fate {
            Fate::Lost(_) => self.delete_pod(pod, Some(0)),
            Fate::Fine(_) if pod.deleted_at.is_none() => self.delete_pod(pod, None),
            Fate::Fine(_) => {}
        }
    }

    pub(super) fn delete_job(&mut self, job: &JobView) {
        if !job.deleting {
            let job = object(&self.input.key.namespace, &job.name, &job.uid);
            self.plan.actions.push(Action::DeleteJob(job));
        }
    }

    fn tell_left_out(&mut self, environment: &Environment<'_>) {
        let left_out = environment.left_out();
        if left_out.is_empty() {
            self.said.forget(Reason::InvalidSetting, "");
            return;
        }
        let words = format!(
            "{} left out, since no environment variable may have its name: {}",
            counted(left_out.len(), "property"),
            listed(left_out.into_iter())
        );
        self.say(Reason::InvalidSetting, "", words);
    }

    /// Says once for each template that it replaces pods.
    fn tell_rollout(&mut self, said: &mut Said, blueprint: &Blueprint) {
        let digest = blueprint.pod.as_ref().map(|template| &template.digest);
        let Some(digest) = digest.filter(|_| self.replaces) else {
            return;
        };
        if said.is_news(Reason::Rollout, "", digest) {
            let limit = Rollout::limit(self.input.siblings);
            let words = format!(
                "pods are replaced, since what they are made from has changed; up to {} at a time wait for theirs to be ready",
                counted(limit, "device")
            );
            let about = About::Configuration(blueprint.key.clone(), Arc::clone(&blueprint.uid));
            let notice = Notice::new(&about, Reason::Rollout, words);
            self.plan.actions.push(Action::Say(notice));
        }
    }

    /// Whether anything of ours is left.
    fn has_any(&self) -> bool {
        let input = self.input;
        input.pods.iter().any(|pod| pod.ours)
            || input.jobs.iter().any(|job| job.ours)
            || input.claims.iter().any(|claim| claim.ours)
            || input.service.is_some_and(|service| service.ours)
    }
}
