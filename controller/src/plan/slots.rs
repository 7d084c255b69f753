//! The pods of an Instance that is there: `<instance>-<n>` for every n under its capacity.
//! In: pods, nodes, the template, time. Out: what to make and to delete.
//!
//! A pod that is missing is made; one that has ended is deleted and made again. Back-off: 10 s, doubled
//! each time, up to 5 min; a pod that someone deleted comes back at once the first time. A pod that
//! lived for 10 min starts afresh. What happens inside of a pod is the kubelet's matter.

use std::collections::BTreeSet;
use std::time::Duration;

use akri_mqtt_core::clock::Now;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::action::{Action, Reason};
use super::blueprint::{Blueprint, Template};
use super::digest::{Digester, is_outdated};
use super::memory::{InstanceMemory, Slot};
use super::naming::{self, Use};
use super::nodes::Fate;
use super::render::environment::Environment;
use super::render::meta::{Meta, owned_by_instance};
use super::render::pod::{broker_spec, spread};
use super::words::{lasting, shown};
use super::workloads::Desk;
use crate::model::{InstanceView, Phase, PodView};
use crate::names;

const FIRST_BACK_OFF: Duration = Duration::from_secs(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);
/// A pod that lived this long has not failed at once.
const LONG_LIFE: SignedDuration = SignedDuration::from_mins(10);

/// What the pods of an Instance are made from.
pub(super) struct Making<'a> {
    pub(super) blueprint: &'a Blueprint,
    pub(super) instance: &'a InstanceView,
    pub(super) template: &'a Template,
    pub(super) environment: &'a Environment<'a>,
    pub(super) digest: String,
}

impl<'a> Making<'a> {
    pub(super) fn new(
        (blueprint, instance): (&'a Blueprint, &'a InstanceView),
        template: &'a Template,
        environment: &'a Environment<'a>,
    ) -> Self {
        let data = blueprint.settings.data.as_ref().map(|_| "claim");
        let digest = Digester::new("broker")
            .text(&template.digest)
            .text(instance.properties.as_str())
            .maybe(instance.attachments.as_deref())
            .maybe(data)
            .finish();
        Self {
            blueprint,
            instance,
            template,
            environment,
            digest,
        }
    }

    /// Whether a pod was made from something else.
    fn is_outdated(&self, pod: &PodView) -> bool {
        !self.blueprint.settings.data_unclear && is_outdated(pod.template.as_deref(), &self.digest)
    }

    fn pod(&self, namespace: &str, name: &str, replacement: bool) -> Value {
        let (configuration, instance) = (&self.blueprint.key.name, self.instance);
        let claim = self.blueprint.settings.data.as_ref().map(|_| name);
        let mut spec = broker_spec(
            &self.template.spec,
            &self.environment.variables(),
            instance.attachments.as_deref(),
            claim,
        );
        spread(&mut spec, configuration, &instance.name);
        let template = (names::TEMPLATE, &*self.digest);
        let both = [template, (names::REPLACEMENT, "true")];
        let one = [template];
        let meta = Meta {
            namespace,
            name,
            labels: &names::instance_labels(configuration, &instance.name),
            annotations: if replacement { &both } else { &one },
            owner: Some(owned_by_instance(instance)),
        };
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta.json(), "spec": spec})
    }
}

/// How the pod of a number is.
#[derive(Clone, Copy)]
enum State<'a> {
    /// There is none, or one that is in the way.
    Missing,
    /// It is being deleted.
    Leaving,
    /// It is there; it may have ended.
    There(&'a PodView),
}

/// Sums of an Instance's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PodSum {
    pub(super) wanted: u32,
    pub(super) ready: u32,
    pub(super) trouble: Option<String>,
    /// Whether one that was replaced while it served does not serve again yet.
    pub(super) busy: bool,
    /// The pod that is the next to be replaced, and whether it serves.
    pub(super) next: Option<(u32, bool)>,
}

/// Sees to the pods. `wait` has the numbers of those that wait for their claims.
pub(super) fn decide(
    desk: &mut Desk<'_>,
    memory: &mut InstanceMemory,
    making: &Making<'_>,
    wait: &BTreeSet<u32>,
) -> PodSum {
    let wanted = making.instance.capacity.min(super::MAX_CAPACITY);
    let mut pods: Vec<Option<&PodView>> = vec![None; usize::try_from(wanted).unwrap_or_default()];
    let mut blocked = wait.clone();
    for pod in desk.input.pods.iter().copied() {
        let number = pod.slot(&making.instance.name).filter(|n| *n < wanted);
        let its_own = pod.owner.as_deref() == Some(&*making.instance.uid);
        let place = number.and_then(|n| pods.get_mut(usize::try_from(n).ok()?));
        match place {
            Some(place) if pod.ours && its_own => *place = Some(pod),
            _ => {
                blocked.extend(number);
                desk.remove_pod(memory, pod);
            }
        }
    }
    let pods_there = desk.input.pods;
    memory.slots.retain(|n, _| {
        let there = |pod: &&PodView| pod.slot(&making.instance.name) == Some(*n);
        *n < wanted || pods_there.iter().copied().any(|pod| there(&pod))
    });
    let mut table = Table {
        desk,
        memory,
        making,
        states: Vec::with_capacity(pods.len()),
    };
    for (n, pod) in (0..wanted).zip(pods) {
        let state = table.look(n, pod, blocked.contains(&n));
        table.states.push((n, state));
    }
    table.sum()
}

/// Deletes the pod that is the next to be replaced.
pub(super) fn replace(desk: &mut Desk<'_>, memory: &mut InstanceMemory, n: u32, serves: bool) {
    let name = naming::pod(&desk.input.key.name, n);
    let found = desk.input.pods.iter().find(|pod| *pod.name == *name);
    let Some(pod) = found else {
        return;
    };
    desk.delete_pod(pod, None);
    let slot = memory.slot(n);
    slot.deleted = true;
    slot.failures = 0;
    slot.not_before = None;
    slot.replaced |= serves;
}

struct Table<'a, 'b> {
    desk: &'b mut Desk<'a>,
    memory: &'b mut InstanceMemory,
    making: &'b Making<'b>,
    states: Vec<(u32, State<'a>)>,
}

impl<'a> Table<'a, '_> {
    fn look(&mut self, n: u32, pod: Option<&'a PodView>, blocked: bool) -> State<'a> {
        let slot = self.memory.slot(n);
        let vanished = slot.observe(pod, self.desk.now);
        let Some(pod) = pod else {
            self.tell_vanished(n, vanished);
            if !blocked {
                self.make(n);
            }
            return State::Missing;
        };
        if let Fate::Lost(why) = self.desk.fate(pod, &mut slot.unseen) {
            if !std::mem::replace(&mut slot.lost, true) {
                let words = format!(
                    "{why}: pod {} is deleted without waiting for it, and made again; it may still run there",
                    pod.name
                );
                self.desk.tell(Reason::NodeLost, words);
            }
            slot.deleted = true;
            self.desk.delete_pod(pod, Some(0));
            return State::Leaving;
        }
        self.tell_vanished(n, vanished);
        if pod.deleted_at.is_some() {
            return State::Leaving;
        }
        if pod.is_finished() {
            return self.ended(n, pod);
        }
        State::There(pod)
    }

    /// Makes a pod, if it is time.
    fn make(&mut self, n: u32) {
        let slot = self.memory.slot(n);
        let due = slot.not_before.unwrap_or(self.desk.now.mono);
        let left = due.saturating_duration_since(self.desk.now.mono);
        if !left.is_zero() {
            self.desk.again(left);
            return;
        }
        let replacement = slot.replaced;
        let name = naming::pod(&self.making.instance.name, n);
        if let Err(why) = naming::check(&name, Use::Object) {
            self.desk.say(Reason::InvalidName, &name, why);
            return;
        }
        let pod = self
            .making
            .pod(&self.desk.input.key.namespace, &name, replacement);
        self.desk
            .plan
            .actions
            .push(Action::CreatePod(Box::new(pod)));
    }

    /// Deletes a pod that has ended, when it may be made again; until then it can be looked at.
    fn ended(&mut self, n: u32, pod: &'a PodView) -> State<'a> {
        let now = self.desk.now;
        let slot = self.memory.slot(n);
        let due = match slot.not_before {
            Some(due) => due,
            None => {
                let wait = slot.fail(now, 0);
                let words = format!(
                    "pod {} has ended ({}); it is made again in {}",
                    pod.name,
                    reason(pod),
                    lasting(wait)
                );
                self.desk.tell(Reason::PodEnded, words);
                let due = now.mono.checked_add(wait).unwrap_or(now.mono);
                *self.memory.slot(n).not_before.insert(due)
            }
        };
        let left = due.saturating_duration_since(now.mono);
        if left.is_zero() {
            self.memory.slot(n).deleted = true;
            self.desk.delete_pod(pod, None);
            return State::Leaving;
        }
        self.desk.again(left);
        State::There(pod)
    }

    fn tell_vanished(&mut self, n: u32, wait: Option<Duration>) {
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            let name = naming::pod(&self.making.instance.name, n);
            let words = format!(
                "pod {name} was deleted by someone else again; it is made again in {}",
                lasting(wait)
            );
            self.desk.tell(Reason::PodDeleted, words);
        }
    }

    /// Counts, and looks for the pod to be replaced next: first one that does not serve anyway; one that
    /// serves only when all pods of the new template serve and none is missing.
    fn sum(&mut self) -> PodSum {
        let mut sum = PodSum::default();
        let mut settled = true;
        let (mut idle, mut serving) = (None, None);
        for (n, state) in &self.states {
            sum.wanted += 1;
            let slot = self.memory.slot(*n);
            let trouble = match state {
                State::Missing => {
                    settled = false;
                    sum.busy |= slot.replaced;
                    Some("is to be made".to_owned())
                }
                State::Leaving => {
                    settled = false;
                    sum.busy |= slot.replaced;
                    Some("is being deleted".to_owned())
                }
                State::There(pod) => {
                    let (outdated, ready) = (self.making.is_outdated(pod), pod.is_ready());
                    sum.ready += u32::from(ready);
                    match (outdated, ready) {
                        (true, false) => idle = idle.or(Some(*n)),
                        (true, true) => serving = serving.or(Some(*n)),
                        (false, true) => slot.replaced = false,
                        (false, false) => {
                            settled = false;
                            sum.busy |= slot.replaced;
                        }
                    }
                    (!ready).then(|| reason(pod))
                }
            };
            if let Some(trouble) = trouble.filter(|_| sum.trouble.is_none()) {
                let name = naming::pod(&self.making.instance.name, *n);
                sum.trouble = Some(format!("pod {name}: {trouble}"));
            }
        }
        let serving = serving.filter(|_| settled);
        sum.next = idle.map(|n| (n, false)).or(serving.map(|n| (n, true)));
        sum
    }
}

/// Why a pod does not serve.
fn reason(pod: &PodView) -> String {
    let phase = match pod.facts.phase {
        Phase::Pending => "pending",
        Phase::Running => "not ready",
        Phase::Succeeded => "succeeded",
        Phase::Failed => "failed",
        Phase::Unknown => "its node does not answer",
    };
    pod.facts.reason.as_deref().map_or(phase.to_owned(), shown)
}

impl Slot {
    /// Notes who is there. If a pod that was there has vanished and we had not deleted it, it returns how
    /// long to wait before it is made again.
    fn observe(&mut self, pod: Option<&PodView>, now: Now) -> Option<Duration> {
        let same = self.uid.as_deref() == pod.map(|pod| &*pod.uid);
        if same {
            return None;
        }
        let vanished = self.uid.is_some() && !self.deleted;
        let wait = vanished.then(|| self.fail(now, 1));
        if let Some(wait) = wait {
            self.not_before = now.mono.checked_add(wait);
        }
        self.uid = pod.map(|pod| pod.uid.clone());
        self.unseen = None;
        if let Some(pod) = pod {
            self.created = pod.created;
            self.deleted = false;
            self.lost = false;
            self.not_before = None;
            self.replaced = pod.replacement && !pod.facts.served;
        }
        wait
    }

    /// Counts a failure; the first `free` ones cost nothing.
    fn fail(&mut self, now: Now, free: u32) -> Duration {
        let lived = self.created.map(|created| now.wall.duration_since(created));
        if lived.is_some_and(|lived| lived >= LONG_LIFE) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        match self.failures.checked_sub(free + 1) {
            None => Duration::ZERO,
            Some(times) => {
                let factor = 1_u32.checked_shl(times.min(16)).unwrap_or(u32::MAX);
                FIRST_BACK_OFF.saturating_mul(factor).min(LONGEST_BACK_OFF)
            }
        }
    }
}
