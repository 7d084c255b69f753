//! Akri's resources of `akri.sh/v0`, field for field as Akri ships them: Configuration and Instance.
//! In: nothing. Out: Rust types, and the CustomResourceDefinitions that `cargo xtask generate`
//! writes to `crds/manifests/`. Talks to no cluster; what the fields do is up to their users.

mod configuration;
mod instance;
mod raw;

pub use configuration::{
    BrokerSpec, Configuration, ConfigurationSpec, DiscoveryHandlerInfo, DiscoveryProperty,
    KeySelector, PropertySource,
};
pub use instance::{Instance, InstanceSpec};
pub use raw::RawSpec;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// The definitions of this crate with the names of their files in `crds/manifests/`, sorted.
#[must_use]
pub fn definitions() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![
        ("akri-configuration-crd.yaml", Configuration::crd()),
        ("akri-instance-crd.yaml", Instance::crd()),
    ]
}
