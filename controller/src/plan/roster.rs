//! Holds the list of devices against the Instances of a Configuration.
//! In: Configuration, finding, Instances, time. Out: Instances to apply and to delete, the Service over
//! all of them, and words. Pods are left to `workloads`.
//!
//! Nothing is deleted before the first list. An Instance that is there when a stream begins is held:
//! it stays for `mqtt.akri.sh/hold` although the lists lack it, until one has it; then it goes when
//! one lacks it. That time counts while its MQTT server is connected, and a stream that begins anew
//! does not begin it anew. Instances of another handler, which the Configuration named before, are not held.
//! An edit of `discoveryDetails` begins a stream like any other: devices that it no longer means stay
//! for that time, since the first list cannot tell them from those that are only not seen yet.
//!
//! Akri's Instances of the same Configuration are made anew once their devices are listed (a server-side
//! apply could not take back the nodes and usages that the Agent wrote, and garbage collection takes
//! Akri's pods with the old Instance); they are held like ours.

mod told;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::clock::Now;

use super::action::{About, Action, Notice, Reason};
use super::assign::{Assignment, assign, belongs};
use super::blueprint::Blueprint;
use super::memory::{ConfigurationMemory, Memory, Presence};
use super::naming;
use super::render::instance::Wanted;
use super::render::meta::{object, owned_by_configuration};
use super::services::Case;
use super::words::{counted, listed};
use crate::discover::Finding;
use crate::model::{ConfigurationKey, InstanceView, ServiceView};
use crate::names;

/// How long an Instance is held at least, unless the Configuration says otherwise.
const HOLD: Duration = Duration::from_secs(300);

/// Actions of one plan that are carried out before it is made again: a Configuration with thousands
/// of new devices shall see in between that one has gone. More Instances than that are not written out
/// in one plan, because all of them at once would be most of what this process needs of memory.
pub const BATCH: usize = 128;

/// What a plan of a Configuration looks at.
#[derive(Clone, Copy, Debug)]
pub struct ConfigurationInput<'a> {
    /// Which Configuration.
    pub key: &'a ConfigurationKey,
    /// What it says; `None` when there is none (any more).
    pub blueprint: Option<&'a Blueprint>,
    /// What its handler finds.
    pub finding: Option<&'a Finding>,
    /// All Instances of its namespace whose `spec.configurationName` is its name, whoever made them.
    pub instances: &'a [&'a InstanceView],
    /// The Service `<configuration>-svc`, if it has our label or its own.
    pub service: Option<&'a ServiceView>,
    /// How many pods of ours have its label.
    pub pods: usize,
}

/// What to do about a Configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstancesPlan {
    /// In this order.
    pub actions: Vec<Action>,
    /// Whether there is more to do than the actions.
    pub more: bool,
    /// When to plan again although nothing has changed.
    pub next: Option<Duration>,
}

impl InstancesPlan {
    fn again(&mut self, after: Duration) {
        self.next = Some(self.next.map_or(after, |known| known.min(after)));
    }
}

/// Decides what becomes of a Configuration's Instances and of its Service.
pub fn instances(memory: &mut Memory, input: &ConfigurationInput<'_>, now: Now) -> InstancesPlan {
    let mut plan = InstancesPlan::default();
    let remembered = memory.configurations.entry(input.key.clone()).or_default();
    let presence = remembered.absence.look(input.blueprint.is_some(), now.mono);
    let empty = input.instances.iter().all(|view| !view.ours);
    if input.blueprint.is_none() && empty && input.service.is_none() {
        memory.configurations.remove(input.key);
        return plan;
    }
    match (input.blueprint, presence) {
        (Some(blueprint), _) if !blueprint.deleting => {
            let about = About::Configuration(input.key.clone(), Arc::clone(&blueprint.uid));
            let desk = Desk {
                input,
                blueprint,
                about,
                now,
                plan: &mut plan,
                needed: 0,
                memory: remembered,
            };
            desk.decide();
        }
        (None, Presence::Unknown(left)) => plan.again(left),
        _ => withdraw(input, &mut plan.actions),
    }
    // Of a long plan only the beginning may be carried out before it is made again: words are said
    // once, and what is gone shall not wait for what is new.
    plan.actions.sort_by_key(|action| match action {
        Action::Say(_) => 0,
        Action::DeleteInstance(_) => 1,
        _ => 2,
    });
    plan
}

/// Deletes all that a Configuration had that is gone.
fn withdraw(input: &ConfigurationInput<'_>, actions: &mut Vec<Action>) {
    let ours = input.instances.iter().filter(|view| view.ours);
    for view in ours.filter(|view| !view.deleting) {
        actions.push(delete(input, view));
    }
    if let Some(service) = input.service.filter(|there| there.ours && !there.deleting) {
        let service = object(&input.key.namespace, &service.name, &service.uid);
        actions.push(Action::DeleteService(service));
    }
}

fn delete(input: &ConfigurationInput<'_>, view: &InstanceView) -> Action {
    Action::DeleteInstance(object(&input.key.namespace, &view.name, &view.uid))
}

struct Desk<'a, 'b> {
    input: &'b ConfigurationInput<'a>,
    blueprint: &'a Blueprint,
    about: About,
    now: Now,
    plan: &'b mut InstancesPlan,
    /// Instances that are to be written, by this plan or another.
    needed: usize,
    memory: &'b mut ConfigurationMemory,
}

impl<'a> Desk<'a, '_> {
    fn decide(mut self) {
        self.tell_faults();
        self.tell_discovery();
        let former = |view: &&&InstanceView| view.ours && !belongs(self.blueprint, view);
        for view in self.input.instances.iter().filter(former) {
            if !view.deleting {
                self.plan.actions.push(delete(self.input, view));
            }
        }
        let finding = self
            .input
            .finding
            .filter(|finding| !self.is_of_former(finding));
        let devices = finding.and_then(|finding| finding.devices.as_ref());
        match (finding, devices) {
            (Some(finding), Some(devices)) => {
                self.begin(finding.stream);
                let assignment = assign(self.blueprint, devices, self.input.instances);
                self.follow(assignment, finding);
            }
            _ => {
                if self
                    .input
                    .finding
                    .is_none_or(|finding| finding.devices.is_none())
                {
                    // The next list begins a stream, whatever its number.
                    self.memory.stream = None;
                }
                let all = self.input.instances.iter();
                for view in all.filter(|view| belongs(self.blueprint, view)) {
                    self.keep(view);
                }
            }
        }
        self.service();
    }

    /// Whether a list is still the one of the handler that the Configuration named before.
    fn is_of_former(&self, finding: &Finding) -> bool {
        let of = self.memory.listed_by.as_ref();
        of.is_some_and(|(uid, handler)| {
            *uid == self.blueprint.uid && *handler != self.blueprint.handler
        }) && self.memory.stream == Some(finding.stream)
    }

    /// Holds what is there when a stream begins.
    fn begin(&mut self, stream: u64) {
        if self.memory.stream == Some(stream) {
            return;
        }
        let all = self.input.instances.iter();
        let there = all.filter(|view| belongs(self.blueprint, view) && !view.deleting);
        self.memory.stream = Some(stream);
        let (uid, handler) = (&self.blueprint.uid, &self.blueprint.handler);
        self.memory.listed_by = Some((Arc::clone(uid), Arc::clone(handler)));
        let (before, now) = (&self.memory.held, self.now.mono);
        let since = |view: &InstanceView| before.get(&view.name).copied().unwrap_or(now);
        self.memory.held = there
            .map(|view| (Arc::clone(&view.name), since(view)))
            .collect();
    }

    /// Makes the Instances what the list says.
    fn follow(&mut self, found: Assignment<'a>, finding: &Finding) {
        for (device, view) in found.known {
            self.memory.held.remove(&view.name);
            let wanted = Wanted::listed(self.blueprint, device);
            if !view.deleting && !wanted.is(self.blueprint, view) {
                self.apply(&wanted, &view.name);
            }
        }
        for view in &found.akri {
            self.memory.held.remove(&view.name);
        }
        self.take_over(&found.akri);
        self.wait_for_servers(finding, &found.unlisted);
        self.leave(&found.unlisted, self.hold(finding));
        for (device, name) in &found.new {
            let wanted = Wanted::listed(self.blueprint, device);
            self.apply(&wanted, name);
        }
        self.tell_found(&found.new);
        self.tell_refused(found.refused);
    }

    fn apply(&mut self, wanted: &Wanted<'_>, name: &str) {
        self.needed += 1;
        if self.needed <= self.memory.passed {
            return;
        }
        if self.needed > self.memory.passed + BATCH {
            self.plan.more = true;
            return;
        }
        let instance = wanted.object(self.blueprint, name);
        self.plan.actions.push(Action::ApplyInstance(instance));
    }

    /// What is not listed but stays follows the Configuration as far as it can.
    fn keep(&mut self, view: &InstanceView) {
        if !view.ours || view.deleting {
            return;
        }
        if let Some(wanted) = Wanted::kept(self.blueprint, view)
            && !wanted.is(self.blueprint, view)
        {
            self.apply(&wanted, &view.name);
        }
    }

    fn take_over(&mut self, akri: &[&InstanceView]) {
        let there = akri.iter().filter(|view| !view.deleting);
        let there: Vec<&InstanceView> = there.copied().collect();
        for view in &there {
            self.plan.actions.push(delete(self.input, view));
        }
        // Once for all of them: a long plan is made again while they are fewer and fewer.
        if !there.is_empty() && !self.memory.taking_over {
            let words = format!(
                "{} of Akri made anew without nodes: {}",
                counted(there.len(), "Instance"),
                listed(there.iter().map(|view| &*view.name))
            );
            let notice = Notice::new(&self.about, Reason::TakenOver, words);
            self.plan.actions.push(Action::Say(notice));
        }
        self.memory.taking_over = !there.is_empty();
    }

    /// How long Instances are held.
    fn hold(&self, finding: &Finding) -> Duration {
        let report = finding.servers.as_ref();
        let silent = report.and_then(|report| report.offline_after);
        let default = silent.map_or(HOLD, |silent| silent.max(HOLD));
        self.blueprint.settings.hold.unwrap_or(default)
    }

    /// While a server is away its devices cannot be listed: their time counts from its return.
    fn wait_for_servers(&mut self, finding: &Finding, unlisted: &[&InstanceView]) {
        let servers = finding.servers.iter().flat_map(|report| &report.servers);
        let away: BTreeSet<String> = servers
            .filter(|server| !server.connected)
            .map(|server| server.name.clone())
            .collect();
        for view in unlisted {
            let server = view.device.as_deref().and_then(|id| id.split_once('/'));
            if let Some((server, _)) = server
                && (away.contains(server) || self.memory.away.contains(server))
                && let Some(since) = self.memory.held.get_mut(&view.name)
            {
                *since = self.now.mono;
            }
        }
        self.memory.away = away;
    }

    /// How much longer an Instance that is not listed is held.
    fn held_for(&self, view: &InstanceView, hold: Duration) -> Duration {
        let same = view
            .handler
            .as_ref()
            .is_none_or(|by| *by == self.blueprint.handler);
        let since = self.memory.held.get(&view.name).filter(|_| same);
        since.map_or(Duration::ZERO, |since| {
            hold.saturating_sub(self.now.mono.saturating_duration_since(*since))
        })
    }

    /// Deletes what is not listed, unless it is held.
    fn leave(&mut self, unlisted: &[&InstanceView], hold: Duration) {
        let mut longest = Duration::ZERO;
        let mut held: Vec<&str> = Vec::new();
        let mut gone: Vec<&InstanceView> = Vec::new();
        for view in unlisted {
            let left = self.held_for(view, hold);
            if !left.is_zero() {
                longest = longest.max(left);
                self.plan.again(left);
                held.push(&view.name);
                self.keep(view);
                continue;
            }
            self.memory.held.remove(&view.name);
            if !view.deleting {
                gone.push(view);
                self.plan.actions.push(delete(self.input, view));
            }
        }
        if !held.is_empty() {
            self.tell_held(&held, longest);
        }
        self.tell_gone(&gone);
    }

    fn service(&mut self) {
        let name = naming::service(&self.input.key.name);
        let mut all = self.input.instances.iter();
        let case = Case {
            about: &self.about,
            namespace: &self.input.key.namespace,
            name: &name,
            labels: &names::configuration_labels(&self.input.key.name),
            selector: (names::CONFIGURATION, &self.input.key.name),
            owner: owned_by_configuration(self.blueprint),
            owner_uid: &self.blueprint.uid,
            template: self.blueprint.configuration_service.as_ref(),
            exists: self.input.service,
            pods: self.input.pods > 0,
            stays: self.blueprint.capacity > 0
                && all.any(|view| view.ours && !view.deleting && belongs(self.blueprint, view)),
        };
        case.decide(&mut self.memory.said, &mut self.plan.actions);
    }
}
