//! What the cluster has, as far as decisions need it. In: what watches list and report, and answers
//! to our own writes, so that nothing is done twice while a watch lags behind. Out: views, and the
//! keys that a change concerns. Decides nothing, writes nothing.

mod seen;
mod store;
mod views;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use akri_mqtt_crds::{ConfigurationStatus, DiscoveryHandlerInfo};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use seen::{
    ClaimSeen, ConfigurationSeen, InstanceSeen, JobSeen, NodeSeen, PodSeen, ServiceSeen,
};
pub use store::{Observed, Scope, Store};
pub use views::{Seen, Stores};
pub use watching::{WatchReport, Watches, watch_all};

use crate::model::{
    ClaimView, ConfigurationKey, InstanceKey, InstanceView, JobView, NodeView, PodView, ServiceView,
};
use crate::plan::Blueprint;

/// What is looked at as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A Configuration: its Instances, its Service.
    Configuration(ConfigurationKey),
    /// An Instance: its pods, Job, Service and claims.
    Instance(InstanceKey),
}

impl Key {
    /// The namespace of what it names.
    #[must_use]
    pub fn namespace(&self) -> &Arc<str> {
        match self {
            Self::Configuration(key) => &key.namespace,
            Self::Instance(key) => &key.namespace,
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Configuration(key) => write!(f, "Configuration {key}"),
            Self::Instance(key) => write!(f, "Instance {key}"),
        }
    }
}

/// A Configuration as it was observed.
#[derive(Clone, Debug)]
pub struct ConfigurationView {
    /// What it says, or why it cannot be read.
    pub read: Result<Arc<Blueprint>, Arc<str>>,
    /// What its handler is asked for; `None` when it cannot be read.
    pub asked: Option<Arc<DiscoveryHandlerInfo>>,
    /// What was said about it last.
    pub status: Option<ConfigurationStatus>,
}

impl PartialEq for ConfigurationView {
    /// A new status alone is no change: we wrote it.
    fn eq(&self, other: &Self) -> bool {
        self.read == other.read && self.asked == other.asked
    }
}

/// What names a Configuration as its own, whether it is there or not.
#[derive(Clone, Debug, Default)]
struct Members {
    /// Names of its Instances.
    names: BTreeSet<Arc<str>>,
    /// How many of them are ours and not being deleted.
    ours: usize,
    /// How many pods of ours have its label.
    pods: usize,
}

/// The world. Everything in it is bounded by what the cluster has.
#[derive(Debug, Default)]
pub struct World {
    /// Configurations.
    pub configurations: Store<ConfigurationView>,
    /// Instances.
    pub instances: Store<InstanceView>,
    /// Pods.
    pub pods: Store<PodView>,
    /// Jobs.
    pub jobs: Store<JobView>,
    /// Services.
    pub services: Store<ServiceView>,
    /// PersistentVolumeClaims.
    pub claims: Store<ClaimView>,
    /// Nodes.
    pub nodes: Store<NodeView>,
    /// The nodes once more, as plans want them.
    node_views: BTreeMap<Arc<str>, NodeView>,
    /// What belongs to each Configuration.
    members: BTreeMap<ConfigurationKey, Members>,
}

impl World {
    /// The Instances that name this Configuration, sorted by name.
    pub fn instances_of(
        &self,
        configuration: &ConfigurationKey,
    ) -> impl Iterator<Item = &Observed<InstanceView>> {
        let members = self.members.get(configuration);
        let names = members.into_iter().flat_map(|members| &members.names);
        let namespace = Arc::clone(&configuration.namespace);
        names.filter_map(move |name| self.instances.get(&namespace, name))
    }

    /// How many Instances of ours name this Configuration and are not being deleted.
    #[must_use]
    pub fn instances_of_ours(&self, configuration: &ConfigurationKey) -> usize {
        let members = self.members.get(configuration);
        members.map_or(0, |members| members.ours)
    }

    /// How many pods of ours have the label of this Configuration.
    #[must_use]
    pub fn pods_of_ours(&self, configuration: &ConfigurationKey) -> usize {
        let members = self.members.get(configuration);
        members.map_or(0, |members| members.pods)
    }

    /// All nodes by name.
    #[must_use]
    pub fn node_views(&self) -> &BTreeMap<Arc<str>, NodeView> {
        &self.node_views
    }

    fn member<T>(
        &mut self,
        (namespace, name): (&Arc<str>, &Arc<str>),
        change: impl FnOnce(&mut Members) -> T,
    ) -> T {
        let key = ConfigurationKey {
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
        };
        let members = self.members.entry(key.clone()).or_default();
        let changed = change(members);
        if members.names.is_empty() && members.pods == 0 {
            self.members.remove(&key);
        }
        changed
    }

    /// All keys of a namespace: what is there, and what something that is there belongs to.
    #[must_use]
    pub fn keys_in(&self, scope: &Scope) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        for object in self.configurations.within(scope) {
            keys.insert(Key::Configuration(configuration_key(object)));
        }
        for object in self.instances.within(scope) {
            keys.extend(self.of_instance(object));
        }
        keys.extend(self.pods.within(scope).filter_map(owner));
        keys.extend(self.jobs.within(scope).filter_map(owner));
        keys.extend(self.services.within(scope).filter_map(owner));
        keys.extend(self.claims.within(scope).filter_map(owner));
        keys
    }

    /// A list begins.
    pub fn begin<S: Seen>(&mut self, scope: &Scope) {
        S::store(self).begin(scope);
    }

    /// A list has ended. Returns the keys that what it lacks concerns.
    pub fn end<S: Seen>(&mut self, scope: &Scope) -> Vec<Key> {
        let gone = S::store(self).end(scope);
        let mut keys = Vec::new();
        for object in &gone {
            keys.extend(S::keys(self, object));
            keys.extend(S::removed(self, object));
        }
        keys
    }

    /// An object was listed, reported or answered. Returns the keys that its change concerns.
    pub fn put<S: Seen>(&mut self, mut object: Observed<S::View>) -> Vec<Key> {
        self.share(&mut object);
        let before = S::store(self).get(&object.namespace, &object.name).cloned();
        if !S::store(self).put(object.clone()) {
            return Vec::new();
        }
        let mut keys = Vec::new();
        if let Some(before) = &before {
            keys.extend(S::keys(self, before));
            keys.extend(S::removed(self, before));
        }
        keys.extend(S::added(self, &object));
        keys.extend(S::keys(self, &object));
        keys
    }

    /// An object is gone. Returns the keys that this concerns.
    pub fn remove<S: Seen>(
        &mut self,
        namespace: &str,
        name: &str,
        version: (&str, u64),
    ) -> Vec<Key> {
        let Some(object) = S::store(self).remove(namespace, name, version) else {
            return Vec::new();
        };
        let mut keys = S::keys(self, &object);
        keys.extend(S::removed(self, &object));
        keys
    }

    /// An object was reported as gone, whatever else it says.
    pub fn forget<S: Seen>(&mut self, meta: &ObjectMeta) -> Vec<Key> {
        let (Some(name), Some(uid)) = (&meta.name, &meta.uid) else {
            return Vec::new();
        };
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        self.remove::<S>(namespace, name, (uid, version(meta)))
    }

    /// An object was listed of which nothing else can be read: what is known of it stands.
    pub fn stays<S: Seen>(&mut self, meta: &ObjectMeta) {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        S::store(self).mark(&namespace.into(), &name.into());
    }

    /// Thousands of pods say the same names: each name is kept once.
    fn share<V>(&self, object: &mut Observed<V>) {
        if let Some(instance) = &mut object.instance
            && let Some(known) = self.instances.get(&object.namespace, instance)
        {
            *instance = Arc::clone(&known.name);
        }
        if let Some(configuration) = &mut object.configuration
            && let Some(known) = self.configurations.get(&object.namespace, configuration)
        {
            *configuration = Arc::clone(&known.name);
        }
    }

    /// The keys that a node's change concerns: those of the pods that are bound to it.
    fn on_node(&self, node: &str) -> Vec<Key> {
        self.pods
            .iter()
            .filter(|pod| pod.view.facts.node.as_deref() == Some(node))
            .filter_map(owner)
            .collect()
    }

    fn of_instance(&self, object: &Observed<InstanceView>) -> [Key; 2] {
        [
            Key::Instance(InstanceKey {
                namespace: Arc::clone(&object.namespace),
                name: Arc::clone(&object.name),
            }),
            Key::Configuration(ConfigurationKey {
                namespace: Arc::clone(&object.namespace),
                name: Arc::clone(&object.view.configuration),
            }),
        ]
    }
}

fn configuration_key<V>(object: &Observed<V>) -> ConfigurationKey {
    ConfigurationKey {
        namespace: Arc::clone(&object.namespace),
        name: Arc::clone(&object.name),
    }
}

/// Its `resourceVersion` as a number, 0 where it is none.
fn version(meta: &ObjectMeta) -> u64 {
    let version = meta.resource_version.as_deref();
    version
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

/// The key of what an object says that it belongs to.
fn owner<V>(object: &Observed<V>) -> Option<Key> {
    let namespace = Arc::clone(&object.namespace);
    if let Some(name) = &object.instance {
        let name = Arc::clone(name);
        return Some(Key::Instance(InstanceKey { namespace, name }));
    }
    let name = Arc::clone(object.configuration.as_ref()?);
    Some(Key::Configuration(ConfigurationKey { namespace, name }))
}
