//! How each kind gets from what a watch has read into the world, and whom it concerns there.
//! In: objects as they came. Out: observed views and keys.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;

use super::seen::{
    ClaimSeen, ConfigurationSeen, InstanceSeen, JobSeen, NodeSeen, PodSeen, ServiceSeen,
};
use super::store::{Observed, Store};
use super::{ConfigurationView, Key, World, configuration_key, owner, version};
use crate::model::{
    ClaimView, ConfigurationKey, InstanceView, JobView, NodeView, PodView, ServiceView,
};
use crate::names;
use crate::plan::Blueprint;

/// A kind of object of which the world keeps views.
pub trait Seen:
    Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static
{
    /// What is kept of it.
    type View: PartialEq + Clone + Send;

    /// Where it is kept.
    fn store(world: &mut World) -> &mut Store<Self::View>;

    /// What is kept of this one; `None` for one that no API server sends, without name or uid.
    fn read(self) -> Option<Observed<Self::View>>;

    /// Whom a change of it concerns.
    fn keys(world: &World, object: &Observed<Self::View>) -> Vec<Key>;

    /// Keeps indices; returns whom else this concerns.
    fn added(_world: &mut World, _object: &Observed<Self::View>) -> Option<Key> {
        None
    }

    /// Keeps indices; returns whom else this concerns.
    fn removed(_world: &mut World, _object: &Observed<Self::View>) -> Option<Key> {
        None
    }
}

/// The world as a store of views of one kind, for whom the kind is a parameter.
pub type Stores<S> = Store<<S as Seen>::View>;

fn observed<V>(meta: &ObjectMeta, ids: [Arc<str>; 2], view: V) -> Observed<V> {
    let [name, uid] = ids;
    let label = |name: &str| {
        let value = meta.labels.as_ref()?.get(name)?;
        Some(Arc::<str>::from(value.as_str()))
    };
    let instance = label(names::INSTANCE);
    Observed {
        namespace: meta.namespace.as_deref().unwrap_or_default().into(),
        name,
        uid,
        version: version(meta),
        configuration: label(names::CONFIGURATION),
        instance,
        view,
    }
}

fn configuration((namespace, name): (&Arc<str>, &Arc<str>)) -> Key {
    Key::Configuration(ConfigurationKey {
        namespace: Arc::clone(namespace),
        name: Arc::clone(name),
    })
}

fn ids(meta: &ObjectMeta) -> Option<[Arc<str>; 2]> {
    Some([meta.name.as_deref()?.into(), meta.uid.as_deref()?.into()])
}

impl Seen for ConfigurationSeen {
    type View = ConfigurationView;

    fn store(world: &mut World) -> &mut Store<ConfigurationView> {
        &mut world.configurations
    }

    fn read(self) -> Option<Observed<ConfigurationView>> {
        let (meta, read) = self.into_configuration();
        let view = match read {
            Ok(configuration) => ConfigurationView {
                read: Ok(Arc::new(Blueprint::new(&configuration)?)),
                asked: Some(Arc::new(configuration.spec.discovery_handler)),
                status: configuration.status,
            },
            Err(error) => ConfigurationView {
                read: Err(error.into()),
                asked: None,
                status: None,
            },
        };
        Some(observed(&meta, ids(&meta)?, view))
    }

    fn keys(world: &World, object: &Observed<ConfigurationView>) -> Vec<Key> {
        let key = configuration_key(object);
        let instances = world
            .instances_of(&key)
            .flat_map(|instance| world.of_instance(instance));
        let mut keys: Vec<Key> = instances
            .filter(|key| matches!(key, Key::Instance(_)))
            .collect();
        keys.insert(0, Key::Configuration(key));
        keys
    }
}

impl Seen for InstanceSeen {
    type View = InstanceView;

    fn store(world: &mut World) -> &mut Store<InstanceView> {
        &mut world.instances
    }

    fn read(mut self) -> Option<Observed<InstanceView>> {
        let spec = self.spec()?;
        let view = InstanceView::new(&self.metadata, &spec)?;
        let ids = [Arc::clone(&view.name), Arc::clone(&view.uid)];
        Some(observed(&self.metadata, ids, view))
    }

    fn keys(world: &World, object: &Observed<InstanceView>) -> Vec<Key> {
        world.of_instance(object).into()
    }

    fn added(world: &mut World, object: &Observed<InstanceView>) -> Option<Key> {
        let of = (&object.namespace, &object.view.configuration);
        world.member(of, |members| {
            members.names.insert(Arc::clone(&object.name));
            members.ours = members
                .ours
                .saturating_add(usize::from(counts(&object.view)));
        });
        None
    }

    fn removed(world: &mut World, object: &Observed<InstanceView>) -> Option<Key> {
        let of = (&object.namespace, &object.view.configuration);
        world.member(of, |members| {
            members.names.remove(&object.name);
            members.ours = members
                .ours
                .saturating_sub(usize::from(counts(&object.view)));
        });
        None
    }
}

/// One that is being deleted may be so for ever, and nothing waits for it.
fn counts(view: &InstanceView) -> bool {
    view.ours && !view.deleting
}

impl Seen for PodSeen {
    type View = PodView;

    fn store(world: &mut World) -> &mut Store<PodView> {
        &mut world.pods
    }

    fn read(self) -> Option<Observed<PodView>> {
        let view = PodView::new(&self.metadata, self.facts())?;
        let ids = [Arc::clone(&view.name), Arc::clone(&view.uid)];
        Some(observed(&self.metadata, ids, view))
    }

    fn keys(_: &World, object: &Observed<PodView>) -> Vec<Key> {
        owner(object).into_iter().collect()
    }

    fn added(world: &mut World, object: &Observed<PodView>) -> Option<Key> {
        let of = (&object.namespace, object.configuration.as_ref()?);
        let pods = world.member(of, |members| {
            members.pods = members.pods.saturating_add(usize::from(object.view.ours));
            members.pods
        });
        // The first one and the last one decide about the Configuration's Service.
        (pods == 1).then(|| configuration(of))
    }

    fn removed(world: &mut World, object: &Observed<PodView>) -> Option<Key> {
        let of = (&object.namespace, object.configuration.as_ref()?);
        let pods = world.member(of, |members| {
            members.pods = members.pods.saturating_sub(usize::from(object.view.ours));
            members.pods
        });
        (pods == 0).then(|| configuration(of))
    }
}

impl Seen for JobSeen {
    type View = JobView;

    fn store(world: &mut World) -> &mut Store<JobView> {
        &mut world.jobs
    }

    fn read(self) -> Option<Observed<JobView>> {
        let view = JobView::new(&self.metadata, self.state())?;
        let ids = [Arc::clone(&view.name), Arc::clone(&view.uid)];
        Some(observed(&self.metadata, ids, view))
    }

    fn keys(_: &World, object: &Observed<JobView>) -> Vec<Key> {
        owner(object).into_iter().collect()
    }
}

impl Seen for ServiceSeen {
    type View = ServiceView;

    fn store(world: &mut World) -> &mut Store<ServiceView> {
        &mut world.services
    }

    fn read(self) -> Option<Observed<ServiceView>> {
        let view = ServiceView::new(&self.metadata)?;
        let ids = [Arc::clone(&view.name), Arc::clone(&view.uid)];
        Some(observed(&self.metadata, ids, view))
    }

    fn keys(_: &World, object: &Observed<ServiceView>) -> Vec<Key> {
        owner(object).into_iter().collect()
    }
}

impl Seen for ClaimSeen {
    type View = ClaimView;

    fn store(world: &mut World) -> &mut Store<ClaimView> {
        &mut world.claims
    }

    fn read(self) -> Option<Observed<ClaimView>> {
        let view = ClaimView::new(&self.metadata)?;
        let ids = [Arc::clone(&view.name), Arc::clone(&view.uid)];
        Some(observed(&self.metadata, ids, view))
    }

    fn keys(_: &World, object: &Observed<ClaimView>) -> Vec<Key> {
        owner(object).into_iter().collect()
    }
}

impl Seen for NodeSeen {
    type View = NodeView;

    fn store(world: &mut World) -> &mut Store<NodeView> {
        &mut world.nodes
    }

    fn read(self) -> Option<Observed<NodeView>> {
        Some(observed(&self.metadata, ids(&self.metadata)?, self.view()))
    }

    fn keys(world: &World, object: &Observed<NodeView>) -> Vec<Key> {
        world.on_node(&object.name)
    }

    fn added(world: &mut World, object: &Observed<NodeView>) -> Option<Key> {
        let name = Arc::clone(&object.name);
        world.node_views.insert(name, object.view);
        None
    }

    fn removed(world: &mut World, object: &Observed<NodeView>) -> Option<Key> {
        world.node_views.remove(&object.name);
        None
    }
}
