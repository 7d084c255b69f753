//! Views of what the cluster has. In: an object's metadata and the facts of its status that count.
//! Out: what a plan compares. What follows from it is decided in `plan`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use akri_mqtt_crds::InstanceSpec;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::names;

/// Properties of a device as one text: they are compared often and read when a pod is made.
#[derive(Clone, PartialEq, Eq)]
pub struct PropertyText(Arc<str>);

impl PropertyText {
    /// Packs names and values, which must be sorted by name.
    pub fn pack<'a>(sorted: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = String::new();
        for (name, value) in sorted {
            // Lengths in front make every text stand for one list only.
            text.push_str(&format!("{}:{}:{name}{value}", name.len(), value.len()));
        }
        Self(text.into())
    }

    /// Packs a map.
    #[must_use]
    pub fn of(map: &BTreeMap<String, String>) -> Self {
        Self::pack(
            map.iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        )
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest: &str = &self.0;
        std::iter::from_fn(move || {
            let (name, after) = rest.split_once(':')?;
            let (value, after) = after.split_once(':')?;
            let (name, after) = after.split_at_checked(name.parse().ok()?)?;
            let (value, after) = after.split_at_checked(value.parse().ok()?)?;
            rest = after;
            Some((name, value))
        })
    }

    /// The packed form, for digests.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PropertyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// An Instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceView {
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// Whether this controller made it (its label says so); else Akri or someone else did.
    pub ours: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The uid of the Configuration that owns it.
    pub owner: Option<Arc<str>>,
    /// `spec.configurationName`
    pub configuration: Arc<str>,
    /// `spec.capacity`
    pub capacity: u32,
    /// `spec.brokerProperties`
    pub properties: PropertyText,
    /// The id of its device; Akri's Instances do not have it.
    pub device: Option<Arc<str>>,
    /// The handler that listed the device.
    pub handler: Option<Arc<str>>,
    /// Mounts and device nodes of the device, as JSON.
    pub attachments: Option<Arc<str>>,
    /// Digest of the job template that has run for it.
    pub job: Option<Arc<str>>,
    /// Whether labels, `shared` and `cdiName` are as this controller writes them.
    pub regular: bool,
}

impl InstanceView {
    /// Looks at an Instance; `None` for one without name or uid, which no API server sends.
    #[must_use]
    pub fn new(meta: &ObjectMeta, spec: &InstanceSpec) -> Option<Self> {
        let name: Arc<str> = meta.name.as_deref()?.into();
        let expected = names::cdi_name(&spec.configuration_name, &name);
        let labels = names::instance_labels(&spec.configuration_name, &name);
        let labelled = labels
            .iter()
            .all(|(key, value)| label(meta, key) == Some(value));
        Some(Self {
            uid: meta.uid.as_deref()?.into(),
            ours: is_ours(meta),
            deleting: meta.deletion_timestamp.is_some(),
            owner: owner(meta, "Configuration"),
            configuration: spec.configuration_name.as_str().into(),
            capacity: spec.capacity,
            properties: PropertyText::of(&spec.broker_properties),
            device: annotation(meta, names::DEVICE_ID),
            handler: annotation(meta, names::HANDLER),
            attachments: annotation(meta, names::ATTACHMENTS),
            job: annotation(meta, names::JOB),
            regular: labelled && spec.shared && spec.cdi_name == expected,
            name,
        })
    }
}

/// The phase of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not all of its containers run yet.
    Pending,
    /// Bound to a node, its containers started.
    Running,
    /// All containers have ended well.
    Succeeded,
    /// All containers have ended, not all of them well; evicted pods too.
    Failed,
    /// Its node does not answer.
    Unknown,
}

impl Phase {
    /// Reads `status.phase`.
    #[must_use]
    pub fn read(phase: Option<&str>) -> Self {
        match phase {
            Some("Running") => Self::Running,
            Some("Succeeded") => Self::Succeeded,
            Some("Failed") => Self::Failed,
            Some("Unknown") => Self::Unknown,
            _ => Self::Pending,
        }
    }
}

/// What counts of a pod's spec and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// `spec.nodeName`
    pub node: Option<Arc<str>>,
    /// `status.phase`
    pub phase: Phase,
    /// Whether its condition `Ready` is true.
    pub ready: bool,
    /// Whether it is or was, by the time at which that condition has changed.
    pub served: bool,
    /// Why it is not ready or has failed, in a few words: `status.reason` and `status.message`
    /// (`Evicted: The node was low on …`), else the waiting reason of a container
    /// (`CrashLoopBackOff`), else the message of the condition `PodScheduled` when that is false.
    pub reason: Option<Box<str>>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Its name, `<instance>-<n>` if it is one of ours.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// Whether this controller made it.
    pub ours: bool,
    /// The uid of the Instance that owns it.
    pub owner: Option<Arc<str>>,
    /// Digest of what it was made from.
    pub template: Option<Box<str>>,
    /// Whether it was made in the place of one that served.
    pub replacement: bool,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Its `deletionTimestamp`.
    pub deleted_at: Option<Timestamp>,
    /// What counts of the rest.
    pub facts: PodFacts,
}

impl PodView {
    /// Looks at a pod; `None` for one without name or uid.
    #[must_use]
    pub fn new(meta: &ObjectMeta, facts: PodFacts) -> Option<Self> {
        Some(Self {
            name: meta.name.as_deref()?.into(),
            uid: meta.uid.as_deref()?.into(),
            ours: is_ours(meta),
            owner: owner(meta, "Instance"),
            template: annotation(meta, names::TEMPLATE),
            replacement: annotation::<Box<str>>(meta, names::REPLACEMENT).is_some(),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            deleted_at: meta.deletion_timestamp.as_ref().map(|time| time.0),
            facts,
        })
    }

    /// The `n` of `<instance>-<n>`.
    #[must_use]
    pub fn slot(&self, instance: &str) -> Option<u32> {
        slot(&self.name, instance)
    }

    /// Whether it has ended and will not run again.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.facts.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Whether it serves.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.facts.ready && self.deleted_at.is_none() && !self.is_finished()
    }
}

/// How far a Job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It runs or waits.
    Active,
    /// Its condition `Complete` is true.
    Complete,
    /// Its condition `Failed` is true.
    Failed,
}

/// A Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// Whether this controller made it.
    pub ours: bool,
    /// The uid of the Instance that owns it.
    pub owner: Option<Arc<str>>,
    /// Digest of what it was made from.
    pub template: Option<Box<str>>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// How far it is.
    pub state: JobState,
}

impl JobView {
    /// Looks at a Job; `None` for one without name or uid.
    #[must_use]
    pub fn new(meta: &ObjectMeta, state: JobState) -> Option<Self> {
        Some(Self {
            name: meta.name.as_deref()?.into(),
            uid: meta.uid.as_deref()?.into(),
            ours: is_ours(meta),
            owner: owner(meta, "Instance"),
            template: annotation(meta, names::TEMPLATE),
            deleting: meta.deletion_timestamp.is_some(),
            state,
        })
    }
}

/// A Service, of an Instance or of a Configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// Whether this controller made it.
    pub ours: bool,
    /// The uid of the Instance or Configuration that owns it.
    pub owner: Option<Arc<str>>,
    /// Digest of what it was made from.
    pub template: Option<Box<str>>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl ServiceView {
    /// Looks at a Service; `None` for one without name or uid.
    #[must_use]
    pub fn new(meta: &ObjectMeta) -> Option<Self> {
        Some(Self {
            name: meta.name.as_deref()?.into(),
            uid: meta.uid.as_deref()?.into(),
            ours: is_ours(meta),
            owner: owner(meta, "Instance").or_else(|| owner(meta, "Configuration")),
            template: annotation(meta, names::TEMPLATE),
            deleting: meta.deletion_timestamp.is_some(),
        })
    }
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimView {
    /// Its name, that of its pod.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// Whether this controller made it.
    pub ours: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Since when its device is gone, as its annotation says.
    pub gone_since: Option<Timestamp>,
    /// How long it outlives its device, as its annotation says; for when the Configuration is gone too.
    pub retention: Option<Box<str>>,
}

impl ClaimView {
    /// Looks at a claim; `None` for one without name or uid.
    #[must_use]
    pub fn new(meta: &ObjectMeta) -> Option<Self> {
        let gone: Option<Box<str>> = annotation(meta, names::GONE_SINCE);
        Some(Self {
            name: meta.name.as_deref()?.into(),
            uid: meta.uid.as_deref()?.into(),
            ours: is_ours(meta),
            deleting: meta.deletion_timestamp.is_some(),
            gone_since: gone.and_then(|text| text.parse().ok()),
            retention: annotation(meta, names::DATA_RETENTION),
        })
    }

    /// The `n` of `<instance>-<n>`.
    #[must_use]
    pub fn slot(&self, instance: &str) -> Option<u32> {
        slot(&self.name, instance)
    }
}

/// A node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Since when its kubelet does not answer (condition `Ready` is `Unknown`: its last
    /// transition); a kubelet that says `False` itself is reachable.
    pub unreachable_since: Option<Timestamp>,
    /// Whether it has the taint `node.kubernetes.io/out-of-service`.
    pub out_of_service: bool,
}

/// The `n` of `<instance>-<n>`, as this controller writes it.
fn slot(name: &str, instance: &str) -> Option<u32> {
    let digits = name.strip_prefix(instance)?.strip_prefix('-')?;
    let n: u32 = digits.parse().ok()?;
    (n.to_string() == digits).then_some(n)
}

fn is_ours(meta: &ObjectMeta) -> bool {
    label(meta, names::MANAGED_BY) == Some(names::MANAGER)
}

fn label<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(name).map(String::as_str)
}

fn annotation<T: for<'a> From<&'a str>>(meta: &ObjectMeta, name: &str) -> Option<T> {
    let value = meta.annotations.as_ref()?.get(name)?;
    Some(value.as_str().into())
}

/// The uid of the owner of this kind in Akri's group.
fn owner(meta: &ObjectMeta, kind: &str) -> Option<Arc<str>> {
    let owners = meta.owner_references.as_ref()?;
    let found = owners
        .iter()
        .find(|owner| owner.kind == kind && owner.api_version.starts_with("akri.sh/"))?;
    Some(found.uid.as_str().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_back_as_they_were_packed() {
        let map: BTreeMap<String, String> = [("A", "1:2"), ("B", ""), ("C", "é:\"{}")]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let packed = PropertyText::of(&map);
        let back: Vec<(&str, &str)> = packed.iter().collect();
        assert_eq!(back, [("A", "1:2"), ("B", ""), ("C", "é:\"{}")]);
    }

    #[test]
    fn the_number_of_a_pod_is_read_as_it_is_written() {
        assert_eq!(slot("c-35ced2-0", "c-35ced2"), Some(0));
        assert_eq!(slot("c-35ced2-17", "c-35ced2"), Some(17));
        assert_eq!(slot("c-35ced2-01", "c-35ced2"), None);
        assert_eq!(slot("c-35ced2-x", "c-35ced2"), None);
        assert_eq!(slot("c-35ced2-", "c-35ced2"), None);
        assert_eq!(slot("d-35ced2-0", "c-35ced2"), None);
    }
}
