//! Decides what Akri has left on an object. In: metadata, the names of the cluster's nodes. Out: finalizers to remove, those that
//! nobody can account for, and the patch that removes the former and nothing else.
//!
//! Akri's Agent puts its node's name on every Configuration and on every Instance that it serves, by server-side apply under the
//! name `<node>-fin`. Without Agents nobody takes it off again, and a deletion hangs.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

/// Finalizers of Kubernetes itself.
const OF_KUBERNETES: [&str; 2] = ["foregroundDeletion", "orphan"];

/// What is on one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finalizers {
    /// Left behind by Akri's Agents.
    pub stale: Vec<String>,
    /// No domain in it, as Akri's, but no node has this name and nothing tells who wrote it.
    pub unknown: Vec<String>,
    /// All others.
    pub kept: Vec<String>,
}

/// Sorts the finalizers of an object by who they belong to.
pub fn finalizers(meta: &ObjectMeta, nodes: &BTreeSet<String>) -> Finalizers {
    let mut found = Finalizers::default();
    for finalizer in meta.finalizers.iter().flatten() {
        let list = if finalizer.contains('/') || OF_KUBERNETES.contains(&finalizer.as_str()) {
            &mut found.kept
        } else if nodes.contains(finalizer) || applied_by_agent(meta, finalizer) {
            &mut found.stale
        } else {
            &mut found.unknown
        };
        list.push(finalizer.clone());
    }
    found
}

/// Whether the Agent of the node with this name has put the finalizer there.
fn applied_by_agent(meta: &ObjectMeta, finalizer: &str) -> bool {
    let managers = meta.managed_fields.iter().flatten();
    managers.into_iter().any(|entry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        entry.operation.as_deref() == Some("Apply")
            && manager.strip_suffix("-fin") == Some(finalizer)
    })
}

/// Removes `stale`, provided that the object is still the one that was looked at and has the same finalizers.
pub fn patch(meta: &ObjectMeta, stale: &[String]) -> Value {
    let before = meta.finalizers.clone().unwrap_or_default();
    let after: Vec<_> = before
        .iter()
        .filter(|finalizer| !stale.contains(finalizer))
        .collect();
    let change = if after.is_empty() {
        json!({"op": "remove", "path": "/metadata/finalizers"})
    } else {
        json!({"op": "replace", "path": "/metadata/finalizers", "value": after})
    };
    json!([
        {"op": "test", "path": "/metadata/uid", "value": meta.uid},
        {"op": "test", "path": "/metadata/finalizers", "value": before},
        change,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

    fn meta(finalizers: &[&str], managers: &[(&str, &str)]) -> ObjectMeta {
        let managed = managers
            .iter()
            .map(|(manager, operation)| ManagedFieldsEntry {
                manager: Some((*manager).to_owned()),
                operation: Some((*operation).to_owned()),
                ..ManagedFieldsEntry::default()
            });
        ObjectMeta {
            uid: Some("u".to_owned()),
            finalizers: Some(finalizers.iter().map(|text| (*text).to_owned()).collect()),
            managed_fields: Some(managed.collect()),
            ..ObjectMeta::default()
        }
    }

    fn nodes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_of_nodes_and_what_an_agent_of_a_lost_node_has_applied_are_stale() {
        let meta = meta(
            &[
                "node-1",
                "gone-2",
                "example.com/backup",
                "foregroundDeletion",
                "mine",
            ],
            &[
                ("gone-2-fin", "Apply"),
                ("mine-fin", "Update"),
                ("helm", "Update"),
            ],
        );
        let found = finalizers(&meta, &nodes(&["node-1", "node-9"]));
        assert_eq!(found.stale, ["node-1", "gone-2"]);
        assert_eq!(found.unknown, ["mine"]);
        assert_eq!(found.kept, ["example.com/backup", "foregroundDeletion"]);
    }

    #[test]
    fn an_object_without_finalizers_has_nothing_to_remove() {
        assert_eq!(
            finalizers(&ObjectMeta::default(), &nodes(&["node-1"])),
            Finalizers::default()
        );
    }

    #[test]
    fn a_node_with_a_name_like_a_domain_is_recognised() {
        let meta = meta(&["ip-10-0-0-1.eu-west-1.compute.internal"], &[]);
        let nodes = nodes(&["ip-10-0-0-1.eu-west-1.compute.internal"]);
        assert_eq!(finalizers(&meta, &nodes).stale.len(), 1);
    }

    #[test]
    fn the_patch_keeps_the_others_and_fails_if_the_object_has_changed() {
        let meta = meta(&["node-1", "example.com/backup"], &[]);
        let patch = patch(&meta, &["node-1".to_owned()]);
        assert_eq!(patch[0]["value"], "u");
        assert_eq!(patch[1]["value"], json!(["node-1", "example.com/backup"]));
        assert_eq!(
            patch[2],
            json!({"op": "replace", "path": "/metadata/finalizers", "value": ["example.com/backup"]})
        );
    }

    #[test]
    fn the_last_finalizer_takes_the_list_with_it() {
        let meta = meta(&["node-1"], &[]);
        assert_eq!(patch(&meta, &["node-1".to_owned()])[2]["op"], "remove");
    }
}
