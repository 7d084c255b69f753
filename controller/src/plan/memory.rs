//! What is remembered between two plans. In: what plans note. Out: the same, later.
//! It is bounded by what the cluster has, and a process that starts with an empty one decides alike,
//! but for back-off that begins anew and words that are said once more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::action::{About, Action, Notice, Reason};
use super::assign::Refused;
use super::rollout::Rollout;
use super::workloads::Sum;
use crate::model::{ConfigurationKey, InstanceKey};

/// What plans remember.
#[derive(Debug, Default)]
pub struct Memory {
    pub(super) configurations: HashMap<ConfigurationKey, ConfigurationMemory>,
    pub(super) instances: HashMap<InstanceKey, InstanceMemory>,
}

impl Memory {
    /// Notes why actions of an Instance fail, such as a pod that is refused; `None` when they do not.
    /// The status says it.
    pub fn report(&mut self, instance: &InstanceKey, trouble: Option<&str>) {
        if let Some(memory) = self.instances.get_mut(instance) {
            memory.reported = trouble.map(Into::into);
            let configuration = memory.configuration.clone();
            let troubled = memory.trouble().is_some();
            if let Some(whole) = configuration.and_then(|key| self.configurations.get_mut(&key)) {
                whole.note_trouble(&instance.name, troubled);
            }
        }
    }

    /// Forgets an Instance of which nothing is left, so that it needs no plan any more. Returns those
    /// of its Configuration whose turn in a rollout has come; `siblings` says how many that has.
    pub fn forget(
        &mut self,
        instance: &InstanceKey,
        siblings: impl Fn(&ConfigurationKey) -> usize,
    ) -> Vec<InstanceKey> {
        let Some(memory) = self.instances.remove(instance) else {
            return Vec::new();
        };
        let mut woken = Vec::new();
        let whole = memory.configuration.as_ref();
        if let Some(whole) = whole.and_then(|key| self.configurations.get_mut(key)) {
            let (wanted, ready) = memory.counted;
            whole.wanted = whole.wanted.saturating_sub(wanted);
            whole.ready = whole.ready.saturating_sub(ready);
            whole.troubled.remove(&instance.name);
            whole.rollout.forget(&instance.name);
            woken = whole
                .rollout
                .wake(memory.configuration.as_ref().map_or(0, siblings));
        }
        let namespace = &instance.namespace;
        let key = |name| InstanceKey {
            namespace: Arc::clone(namespace),
            name,
        };
        woken.into_iter().map(key).collect()
    }

    /// Notes how many Instances of a plan were refused: the next one begins behind them, unless there are
    /// no more. Returns whether any of the whole list were.
    pub fn pass(&mut self, configuration: &ConfigurationKey, refused: usize, more: bool) -> bool {
        let Some(whole) = self.configurations.get_mut(configuration) else {
            return false;
        };
        if more {
            whole.passed = whole.passed.saturating_add(refused);
            return false;
        }
        std::mem::take(&mut whole.passed) > 0
    }

    /// Takes back what is remembered of an Instance, and adds it up.
    pub(super) fn keep(
        &mut self,
        configuration: &ConfigurationKey,
        instance: &InstanceKey,
        mut memory: InstanceMemory,
        kept: bool,
    ) {
        if let Some(whole) = self.configurations.get_mut(configuration) {
            let (wanted, ready) = memory.counted;
            whole.wanted = whole
                .wanted
                .saturating_sub(wanted)
                .saturating_add(memory.sum.wanted);
            whole.ready = whole
                .ready
                .saturating_sub(ready)
                .saturating_add(memory.sum.ready);
            memory.counted = (memory.sum.wanted, memory.sum.ready);
            whole.note_trouble(&instance.name, kept && memory.trouble().is_some());
        } else {
            // Its sums went with it.
            memory.counted = (0, 0);
        }
        if kept {
            memory.configuration = Some(configuration.clone());
            self.instances.insert(instance.clone(), memory);
        }
    }
}

impl ConfigurationMemory {
    fn note_trouble(&mut self, instance: &Arc<str>, troubled: bool) {
        if troubled {
            self.troubled.insert(Arc::clone(instance));
        } else {
            self.troubled.remove(instance);
        }
    }
}

impl InstanceMemory {
    /// Why its pods or its Job are not as they should be.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.reported.as_deref().or(self.sum.trouble.as_deref())
    }

    /// What is remembered of a pod, made if nothing is.
    pub(super) fn slot(&mut self, n: u32) -> &mut Slot {
        self.slots.entry(n).or_default()
    }
}

/// What is remembered of a Configuration.
#[derive(Debug, Default)]
pub(super) struct ConfigurationMemory {
    pub(super) absence: Absence,
    /// The stream whose lists are looked at.
    pub(super) stream: Option<u64>,
    /// The uid of the Configuration that it was for, and the handler.
    pub(super) listed_by: Option<(Arc<str>, Arc<str>)>,
    /// Instances that were there when a stream began and that none has listed since, with the time from
    /// which their hold counts.
    pub(super) held: BTreeMap<Arc<str>, Instant>,
    /// Servers that were not connected in the last plan: nothing of theirs can be listed.
    pub(super) away: BTreeSet<String>,
    /// Instances that were refused since the list was begun, and that plans begin behind.
    pub(super) passed: usize,
    /// Whether the last plan took Instances of Akri over.
    pub(super) taking_over: bool,
    /// The stream of which it was said that Instances are held.
    pub(super) told_held: Option<u64>,
    /// Since when discovery does not work.
    pub(super) bad_since: Option<Instant>,
    /// Devices whose Instances were to be made, and to be deleted, in the last plan.
    pub(super) coming: BTreeSet<Arc<str>>,
    pub(super) going: BTreeSet<Arc<str>>,
    pub(super) refused: Refused,
    pub(super) said: Said,
    pub(super) rollout: Rollout,
    /// Sums over all Instances.
    pub(super) wanted: u32,
    pub(super) ready: u32,
    /// Instances with pods that are not as they should be.
    pub(super) troubled: BTreeSet<Arc<str>>,
}

/// What is remembered of an Instance.
#[derive(Debug, Default)]
pub(super) struct InstanceMemory {
    configuration: Option<ConfigurationKey>,
    pub(super) absence: Absence,
    pub(super) slots: HashMap<u32, Slot>,
    pub(super) said: Said,
    /// What it adds to the status, and what it has added.
    pub(super) sum: Sum,
    counted: (u32, u32),
    pub(super) reported: Option<Box<str>>,
}

/// Whether something is missing because it was deleted, or only not seen yet.
#[derive(Debug, Default)]
pub(super) struct Absence {
    seen: bool,
    since: Option<Instant>,
}

/// What is remembered of the pod `<instance>-<n>`.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The pod that was seen last.
    pub(super) uid: Option<Arc<str>>,
    pub(super) created: Option<Timestamp>,
    /// Whether we have deleted it.
    pub(super) deleted: bool,
    /// How often it has ended or vanished without a long life in between.
    pub(super) failures: u32,
    /// When it may be made, or deleted to be made, again.
    pub(super) not_before: Option<Instant>,
    /// Since when its node is not among the nodes.
    pub(super) unseen: Option<Instant>,
    /// Whether it was said that its node is lost.
    pub(super) lost: bool,
    /// Whether it was made, or is to be made, in the place of one that served, and has not served yet.
    pub(super) replaced: bool,
}

/// What was said last about each subject, so that it is said once.
#[derive(Debug, Default)]
pub(super) struct Said(BTreeMap<(Reason, Box<str>), Box<str>>);

impl Said {
    /// Whether this is news about the subject.
    pub(super) fn is_news(&mut self, reason: Reason, subject: &str, words: &str) -> bool {
        let known = self.0.insert((reason, subject.into()), words.into());
        known.as_deref() != Some(words)
    }

    /// Says it if it is news.
    pub(super) fn say(&mut self, actions: &mut Vec<Action>, subject: &str, notice: Notice) {
        if self.is_news(notice.reason, subject, &notice.words) {
            actions.push(Action::Say(notice));
        }
    }

    /// Forgets what was said, so that it is news when it comes again. Whether anything was.
    pub(super) fn forget(&mut self, reason: Reason, subject: &str) -> bool {
        self.0.remove(&(reason, subject.into())).is_some()
    }
}

impl Notice {
    pub(super) fn new(about: &About, reason: Reason, words: String) -> Self {
        Self {
            about: about.clone(),
            reason,
            words,
        }
    }
}

/// What an absence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is there.
    Here,
    /// It may not be seen yet; ask again after this.
    Unknown(Duration),
    /// It is gone.
    Gone,
}

impl Absence {
    /// After a start one watch may show a pod before another one shows its Instance, so what was never
    /// seen is believed to be gone only after a moment.
    const PATIENCE: Duration = Duration::from_secs(2);

    pub(super) fn look(&mut self, here: bool, now: Instant) -> Presence {
        if here {
            *self = Self {
                seen: true,
                since: None,
            };
            return Presence::Here;
        }
        let since = *self.since.get_or_insert(now);
        let left = Self::PATIENCE.saturating_sub(now.saturating_duration_since(since));
        if self.seen || left.is_zero() {
            Presence::Gone
        } else {
            Presence::Unknown(left)
        }
    }
}
