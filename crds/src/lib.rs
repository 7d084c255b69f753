//! Akri's resources of `akri.sh/v0`, field for field as Akri ships them: Configuration and Instance,
//! and, for agentless mode, the status of a Configuration, which Akri's definition lacks.
//! In: nothing. Out: Rust types, and the CustomResourceDefinitions that `cargo xtask generate`
//! writes to `crds/manifests/`. Talks to no cluster; what the fields do is up to their users.

mod akri_webhook;
mod configuration;
mod instance;
mod raw;
pub mod status;

pub use akri_webhook::{RefusedByAkri, akri_webhook_accepts};

pub use configuration::{
    BrokerSpec, Configuration, ConfigurationSpec, DiscoveryHandlerInfo, DiscoveryProperty,
    KeySelector, PropertySource,
};
pub use instance::{Instance, InstanceSpec};
pub use raw::RawSpec;
pub use status::ConfigurationStatus;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// Annotation of the definitions: their [`REVISION`], so that an older controller leaves alone what a
/// newer one has applied.
pub const REVISION_ANNOTATION: &str = "mqtt.akri.sh/crd-revision";

/// Counts the changes of the definitions; a test fails when it is forgotten.
pub const REVISION: u32 = 1;

/// The definitions of this crate with the names of their files in `crds/manifests/`, sorted.
#[must_use]
pub fn definitions() -> Vec<(&'static str, CustomResourceDefinition)> {
    let mut definitions = vec![
        ("akri-configuration-crd.yaml", Configuration::crd()),
        ("akri-instance-crd.yaml", Instance::crd()),
    ];
    for (_, definition) in &mut definitions {
        let annotations = definition.metadata.annotations.get_or_insert_default();
        annotations.insert(REVISION_ANNOTATION.to_owned(), REVISION.to_string());
    }
    definitions
}
