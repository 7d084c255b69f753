//! An Instance as it should be. In: Configuration, device, name. Out: whether the one that is there
//! is like that, and the object to apply.

use std::sync::Arc;

use akri_mqtt_crds::{Instance, InstanceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::attachments;
use super::meta::owned;
use crate::discover::FoundDevice;
use crate::model::InstanceView;
use crate::names;
use crate::plan::Blueprint;

/// What an Instance is made from.
pub(crate) struct Wanted<'a> {
    /// The id of its device.
    pub(crate) device: &'a str,
    /// The handler that listed it.
    pub(crate) handler: &'a str,
    /// Properties of the device, with the Configuration's over them; sorted by name.
    pub(crate) properties: Vec<(&'a str, &'a str)>,
    /// Mounts and device nodes, as JSON.
    pub(crate) attachments: Option<Arc<str>>,
}

impl<'a> Wanted<'a> {
    /// For a device that is listed.
    pub(crate) fn listed(blueprint: &'a Blueprint, device: &'a FoundDevice) -> Self {
        Self {
            device: &device.id,
            handler: &blueprint.handler,
            properties: overlaid(device.properties.iter(), blueprint),
            attachments: attachments::pack(device),
        }
    }

    /// For one that is kept without being listed: what was known of it, with the Configuration's
    /// properties over it. One that the Configuration has given up stays until the device is listed.
    pub(crate) fn kept(blueprint: &'a Blueprint, view: &'a InstanceView) -> Option<Self> {
        Some(Self {
            device: view.device.as_deref()?,
            handler: view.handler.as_deref().unwrap_or(&blueprint.handler),
            properties: overlaid(view.properties.iter(), blueprint),
            attachments: view.attachments.clone(),
        })
    }

    /// Whether an Instance is like that.
    pub(crate) fn is(&self, blueprint: &Blueprint, view: &InstanceView) -> bool {
        view.ours
            && view.regular
            && view.owner.as_deref() == Some(&*blueprint.uid)
            && view.capacity == blueprint.capacity
            && view.device.as_deref() == Some(self.device)
            && view.handler.as_deref() == Some(self.handler)
            && view.attachments == self.attachments
            && view.properties.iter().eq(self.properties.iter().copied())
    }

    /// The object.
    pub(crate) fn object(&self, blueprint: &Blueprint, name: &str) -> Box<Instance> {
        let configuration = &*blueprint.key.name;
        let properties = self.properties.iter();
        let mut instance = Instance::new(
            name,
            InstanceSpec {
                configuration_name: configuration.to_owned(),
                cdi_name: names::cdi_name(configuration, name),
                capacity: blueprint.capacity,
                broker_properties: properties
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
                shared: true,
                nodes: Default::default(),
                device_usage: Default::default(),
            },
        );
        let mut annotations = owned(&[
            (names::DEVICE_ID, self.device),
            (names::HANDLER, self.handler),
        ]);
        if let Some(attachments) = &self.attachments {
            annotations.insert(names::ATTACHMENTS.to_owned(), (**attachments).to_owned());
        }
        let meta = &mut instance.metadata;
        meta.namespace = Some((*blueprint.key.namespace).to_owned());
        meta.labels = Some(owned(&names::instance_labels(configuration, name)));
        meta.annotations = Some(annotations);
        meta.owner_references = Some(vec![OwnerReference {
            api_version: "akri.sh/v0".to_owned(),
            kind: "Configuration".to_owned(),
            name: configuration.to_owned(),
            uid: (*blueprint.uid).to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]);
        Box::new(instance)
    }
}

/// The properties of a device with the Configuration's over them, sorted by name.
fn overlaid<'a>(
    properties: impl Iterator<Item = (&'a str, &'a str)>,
    blueprint: &'a Blueprint,
) -> Vec<(&'a str, &'a str)> {
    let over = &blueprint.properties;
    let mut all: Vec<(&str, &str)> = properties
        .filter(|(name, _)| !over.contains_key(*name))
        .collect();
    if !over.is_empty() {
        all.extend(
            over.iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        all.sort_unstable();
    }
    all
}
