//! What a plan consists of. In: nothing. Out: actions, each one request to the API server or one Event.
//! How they are carried out is up to `execute`.

use std::sync::Arc;

use akri_mqtt_crds::Instance;
use serde_json::Value;

use crate::model::{ConfigurationKey, InstanceKey, ObjectRef};

/// One step. Whatever has a uid is about that incarnation only: a deletion has it as precondition,
/// and a replacement or an annotation fails when another object has taken the name.
/// Objects are complete, with `apiVersion`, `kind`, name and namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Server-side apply, forced; it makes the Instance where there is none.
    ApplyInstance(Box<Instance>),
    /// Merge patch of one annotation of an Instance.
    AnnotateInstance {
        /// Which one.
        instance: ObjectRef,
        /// The annotation.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// Deletes an Instance.
    DeleteInstance(ObjectRef),
    /// Makes a pod (POST); if the name is taken, look again.
    CreatePod(Box<Value>),
    /// Deletes a pod.
    DeletePod {
        /// Which one.
        pod: ObjectRef,
        /// `gracePeriodSeconds`; `None` leaves it to the pod, `Some(0)` does not wait for its node.
        grace: Option<u32>,
    },
    /// Makes a Job (POST).
    CreateJob(Box<Value>),
    /// Deletes a Job and, in the background, its pods.
    DeleteJob(ObjectRef),
    /// Makes a Service (POST).
    CreateService(Box<Value>),
    /// Gives a Service a new spec (PUT over the current one, whose metadata beside labels,
    /// annotations and owners of the new one stays). Addresses that the new spec leaves out are carried
    /// over, since an older API server refuses it without them.
    ReplaceService {
        /// Which one.
        service: ObjectRef,
        /// The new Service.
        object: Box<Value>,
    },
    /// Deletes a Service.
    DeleteService(ObjectRef),
    /// Makes a PersistentVolumeClaim (POST).
    CreateClaim(Box<Value>),
    /// Merge patch of annotations of a claim; `None` takes one away.
    AnnotateClaim {
        /// Which one.
        claim: ObjectRef,
        /// Names and values.
        annotations: Vec<(&'static str, Option<String>)>,
    },
    /// Deletes a claim.
    DeleteClaim(ObjectRef),
    /// Becomes an Event.
    Say(Notice),
}

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A Configuration, with its uid.
    Configuration(ConfigurationKey, Arc<str>),
    /// An Instance, with its uid.
    Instance(InstanceKey, Arc<str>),
}

/// Something that a user asks "why?" about. It is said when it changes, not as long as it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whose Event it is.
    pub about: About,
    /// Its reason.
    pub reason: Reason,
    /// One sentence or two.
    pub words: String,
}

/// The reasons of Events, `CamelCase` as they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Devices were listed that had no Instance.
    DevicesFound,
    /// Devices are gone, their Instances are deleted.
    DevicesGone,
    /// Devices that are not listed keep their Instances for a while.
    DevicesHeld,
    /// An Instance of Akri is made anew as one of ours.
    TakenOver,
    /// A device or an object has a name that Kubernetes does not allow.
    InvalidName,
    /// Two devices have the same short name.
    NameCollision,
    /// An object that is not ours has a name that is needed.
    NameTaken,
    /// An annotation or a property is wrong, and something else is used or it is left out.
    InvalidSetting,
    /// Discovery does not work.
    DiscoveryFailed,
    /// Discovery works again.
    DiscoveryWorks,
    /// A pod has ended and is made again.
    PodEnded,
    /// A pod was deleted by someone else, again and again.
    PodDeleted,
    /// A pod's node is lost.
    NodeLost,
    /// A new template replaces pods.
    Rollout,
    /// A Job is made.
    JobStarted,
    /// A claim is deleted, its device has been gone for long.
    DataDeleted,
    /// The API server refuses what is to be made or deleted.
    ActionRefused,
    /// Akri is in the cluster: nothing is written.
    Suspended,
}

impl Reason {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DevicesFound => "DevicesFound",
            Self::DevicesGone => "DevicesGone",
            Self::DevicesHeld => "DevicesHeld",
            Self::TakenOver => "TakenOver",
            Self::InvalidName => "InvalidName",
            Self::NameCollision => "NameCollision",
            Self::NameTaken => "NameTaken",
            Self::InvalidSetting => "InvalidSetting",
            Self::DiscoveryFailed => "DiscoveryFailed",
            Self::DiscoveryWorks => "DiscoveryWorks",
            Self::PodEnded => "PodEnded",
            Self::PodDeleted => "PodDeleted",
            Self::NodeLost => "NodeLost",
            Self::Rollout => "Rollout",
            Self::JobStarted => "JobStarted",
            Self::DataDeleted => "DataDeleted",
            Self::ActionRefused => "ActionRefused",
            Self::Suspended => "Suspended",
        }
    }

    /// Whether its Event has the type `Warning`.
    #[must_use]
    pub fn is_warning(self) -> bool {
        !matches!(
            self,
            Self::DevicesFound
                | Self::DevicesGone
                | Self::DevicesHeld
                | Self::TakenOver
                | Self::DiscoveryWorks
                | Self::Rollout
                | Self::JobStarted
        )
    }
}
