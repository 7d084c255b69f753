//! Looks at one key after the other: views go to a plan, its actions to the executor. In: keys of the
//! queue. Out: what the plan wanted, or a key that is tried again later. Decides nothing itself.

use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::clock::Now;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::discover::Discovery;
use crate::execute::Executor;
use crate::metrics::Metrics;
use crate::model::{ClaimView, ConfigurationKey, InstanceKey, InstanceView, JobView, PodView};
use crate::plan::{self, About, Action, BATCH, ConfigurationInput, InstanceInput, Notice, Reason};
use crate::queue::Done;
use crate::realm::Realm;
use crate::requests::Problem;
use crate::world::{Key, Store, World};

/// Looks at keys.
pub struct Reconciler {
    /// What all share.
    pub realm: Arc<Realm>,
    /// What handlers find.
    pub discovery: Arc<Discovery>,
    /// Carries plans out.
    pub executor: Executor,
    /// Counts.
    pub metrics: Metrics,
    /// Told when a Configuration was looked at, as what it asks for may have changed.
    pub demand: Notify,
    /// `AKRI_MQTT_CLUSTER`
    pub cluster: Arc<str>,
}

/// What one plan wants, of whichever kind it is.
#[derive(Default)]
struct Wanted {
    actions: Vec<Action>,
    /// Whether there is more to do.
    more: bool,
    next: Option<Duration>,
    wake: Vec<InstanceKey>,
    /// Whose status this may change.
    configuration: Option<ConfigurationKey>,
    /// To whom failures are told.
    about: Option<About>,
}

impl Reconciler {
    /// Looks at keys for ever.
    pub async fn work(self: Arc<Self>) {
        loop {
            let key = self.realm.queue.next().await;
            let started = Instant::now();
            let done = self.turn(&key).await;
            self.realm.queue.done(&key, done);
            self.metrics.reconciled(started.elapsed());
        }
    }

    async fn turn(&self, key: &Key) -> Done {
        let mut wanted = match key {
            Key::Configuration(key) => self.plan_configuration(key),
            Key::Instance(key) => self.plan_instance(key),
        };
        // What is said is not work, and never so much that nothing else is done.
        let said = |action: &&Action| matches!(action, Action::Say(_));
        let says = wanted.actions.iter().filter(said).count();
        let more = wanted.more || wanted.actions.len() > BATCH + says;
        wanted.actions.truncate(BATCH + says);
        let work = wanted.actions.len().saturating_sub(says);
        let next = wanted.next.map(|after| Instant::now() + after);
        let problems = self.executor.all(wanted.actions).await;
        // One that is refused does not keep the others waiting.
        let refused = problems.iter().filter(|(_, problem)| problem.is_lasting());
        let refused = refused.count();
        let goes_on = more && (problems.len() < work || problems.len() == refused);
        let behind = match key {
            Key::Configuration(key) => self.realm.memory().pass(key, refused, more),
            Key::Instance(_) => false,
        };
        for instance in wanted.wake {
            self.realm.queue.add(&Key::Instance(instance));
        }
        if let Key::Instance(instance) = key {
            self.note_trouble(instance, &problems);
        }
        if let Some(configuration) = &wanted.configuration {
            self.realm.statuses.add(configuration);
        }
        for (_, problem) in &problems {
            self.metrics.failed(problem);
        }
        self.tell(wanted.about.as_ref(), &problems);
        let interrupted = |(_, problem): &(String, Problem)| problem.is_interruption();
        if goes_on {
            Done::More
        } else if behind || problems.iter().any(|problem| !interrupted(problem)) {
            Done::Failed(next)
        } else if !problems.is_empty() {
            Done::Interrupted(next)
        } else {
            Done::Settled(next)
        }
    }

    fn plan_configuration(&self, key: &ConfigurationKey) -> Wanted {
        self.demand.notify_one();
        let finding = self.discovery.finding(key);
        let world = self.realm.world();
        let known = world.configurations.get(&key.namespace, &key.name);
        let about = known.map(|known| About::Configuration(key.clone(), Arc::clone(&known.uid)));
        let blueprint = match known.map(|known| &known.view.read) {
            Some(Ok(blueprint)) => Some(blueprint),
            Some(Err(error)) => return unreadable(about, error),
            None => None,
        };
        let instances: Vec<&InstanceView> = world
            .instances_of(key)
            .map(|instance| &instance.view)
            .collect();
        let service = plan::service_name(&key.name);
        let service = world.services.get(&key.namespace, &service);
        let input = ConfigurationInput {
            key,
            blueprint: blueprint.map(Arc::as_ref),
            finding: finding.as_ref(),
            instances: &instances,
            service: service.map(|service| &service.view),
            pods: world.pods_of_ours(key),
        };
        let plan = plan::instances(&mut self.realm.memory(), &input, now());
        Wanted {
            actions: plan.actions,
            more: plan.more,
            next: plan.next,
            wake: Vec::new(),
            configuration: blueprint.map(|_| key.clone()),
            about,
        }
    }

    fn plan_instance(&self, key: &InstanceKey) -> Wanted {
        let world = self.realm.world();
        let known = world.instances.get(&key.namespace, &key.name);
        let parts = Parts::of(&world, key);
        let Some(configuration) = known
            .map(|known| Arc::clone(&known.view.configuration))
            .or_else(|| parts.configuration.clone())
        else {
            // It is gone, and so is all that it had.
            let siblings = |of: &ConfigurationKey| world.instances_of_ours(of);
            return Wanted {
                wake: self.realm.memory().forget(key, siblings),
                ..Wanted::default()
            };
        };
        let configuration = ConfigurationKey {
            namespace: Arc::clone(&key.namespace),
            name: configuration,
        };
        let owner = world
            .configurations
            .get(&configuration.namespace, &configuration.name);
        let blueprint = match owner.map(|owner| &owner.view.read) {
            Some(Ok(blueprint)) => Some(blueprint),
            // What cannot be read says nothing about what is to go.
            Some(Err(_)) if known.is_some() => return Wanted::default(),
            Some(Err(_)) | None => None,
        };
        let service = plan::service_name(&key.name);
        let service = world.services.get(&key.namespace, &service);
        let input = InstanceInput {
            key,
            configuration: &configuration.name,
            blueprint: blueprint.map(Arc::as_ref),
            instance: known.map(|known| &known.view),
            siblings: world.instances_of_ours(&configuration),
            pods: &parts.pods,
            jobs: &parts.jobs,
            service: service.map(|service| &service.view),
            claims: &parts.claims,
            nodes: world.node_views(),
            cluster: &self.cluster,
        };
        let plan = plan::workloads(&mut self.realm.memory(), &input, now());
        Wanted {
            actions: plan.actions,
            more: false,
            next: plan.next,
            wake: plan.wake,
            configuration: owner.map(|_| configuration),
            about: known.map(|known| About::Instance(key.clone(), Arc::clone(&known.uid))),
        }
    }

    fn note_trouble(&self, instance: &InstanceKey, problems: &[(String, Problem)]) {
        let lasting = problems
            .iter()
            .find(|(_, problem)| problem.is_lasting())
            .map(|(action, problem)| format!("{action}: {problem}"));
        self.realm.memory().report(instance, lasting.as_deref());
    }

    /// What lasts until somebody does something about it becomes an Event: the first of it.
    fn tell(&self, about: Option<&About>, problems: &[(String, Problem)]) {
        let lasting = problems.iter().find(|(_, problem)| problem.is_lasting());
        let (Some(about), Some((action, problem))) = (about, lasting) else {
            return;
        };
        let reason = match problem {
            Problem::NameTaken => Reason::NameTaken,
            _ => Reason::ActionRefused,
        };
        self.executor.speaker.say(Notice {
            about: about.clone(),
            reason,
            words: format!("{action}: {problem}"),
        });
    }
}

fn unreadable(about: Option<About>, error: &str) -> Wanted {
    let notice = about.map(|about| Notice {
        about,
        reason: Reason::InvalidSetting,
        words: format!("spec: {error}; nothing changes until it can be read"),
    });
    Wanted {
        actions: notice.into_iter().map(Action::Say).collect(),
        ..Wanted::default()
    }
}

/// What says that it belongs to an Instance.
#[derive(Default)]
struct Parts<'a> {
    pods: Vec<&'a PodView>,
    jobs: Vec<&'a JobView>,
    claims: Vec<&'a ClaimView>,
    /// The Configuration that they name.
    configuration: Option<Arc<str>>,
}

impl<'a> Parts<'a> {
    fn of(world: &'a World, key: &InstanceKey) -> Self {
        let prefix = format!("{}-", key.name);
        let mut parts = Self::default();
        let mut configuration = None;
        parts.pods = views(&world.pods, key, &prefix, &mut configuration);
        parts.jobs = views(&world.jobs, key, &prefix, &mut configuration);
        parts.claims = views(&world.claims, key, &prefix, &mut configuration);
        views(&world.services, key, &prefix, &mut configuration);
        parts.configuration = configuration;
        parts
    }
}

fn views<'a, V>(
    store: &'a Store<V>,
    key: &InstanceKey,
    prefix: &str,
    configuration: &mut Option<Arc<str>>,
) -> Vec<&'a V> {
    let mut found = Vec::new();
    for object in store.starting_with(&key.namespace, prefix) {
        if object.instance.as_ref() == Some(&key.name) {
            *configuration = configuration
                .take()
                .or_else(|| object.configuration.clone());
            found.push(&object.view);
        }
    }
    found
}

/// Both clocks.
#[must_use]
pub fn now() -> Now {
    Now {
        mono: std::time::Instant::now(),
        wall: Timestamp::now(),
    }
}
