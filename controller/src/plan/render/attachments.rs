//! Directories and device nodes that a handler wants a device's pods to have. In: the device. Out: a
//! text that its Instance remembers, and from that volumes of its pods.
//!
//! They become hostPath volumes. A device node can be opened only by a privileged container; the
//! kubelet's device plugins, which know better, are what agentless mode does without.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::pod::{array, containers};
use crate::discover::FoundDevice;

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attachment {
    container_path: String,
    host_path: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    read_only: bool,
}

/// What an Instance remembers; `None` where there is nothing to remember.
pub(crate) fn pack(device: &FoundDevice) -> Option<Arc<str>> {
    if device.mounts.is_empty() && device.device_specs.is_empty() {
        return None;
    }
    let mounts = device.mounts.iter().map(|mount| Attachment {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.clone(),
        read_only: mount.read_only,
    });
    let nodes = device.device_specs.iter().map(|node| Attachment {
        container_path: node.container_path.clone(),
        host_path: node.host_path.clone(),
        read_only: !node.permissions.contains('w'),
    });
    let all: Vec<Attachment> = mounts.chain(nodes).collect();
    serde_json::to_string(&all).ok().map(Into::into)
}

/// Gives a pod's containers what its Instance remembers.
pub(crate) fn attach(spec: &mut Map<String, Value>, packed: &str) {
    let attachments: Vec<Attachment> = serde_json::from_str(packed).unwrap_or_default();
    let mut mounts = Vec::new();
    for (n, attachment) in attachments.iter().enumerate() {
        let name = format!("akri-device-{n}");
        let path = &attachment.container_path;
        mounts.push(if attachment.read_only {
            json!({"name": name, "mountPath": path, "readOnly": true})
        } else {
            json!({"name": name, "mountPath": path})
        });
        let volume = json!({"name": name, "hostPath": {"path": attachment.host_path}});
        if let Some(volumes) = array(spec, "volumes") {
            volumes.push(volume);
        }
    }
    for container in containers(spec) {
        if let Some(there) = array(container, "volumeMounts") {
            there.extend(mounts.iter().cloned());
        }
    }
}
