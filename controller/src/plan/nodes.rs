//! Whether a pod's node is lost. In: the pod's node, nodes, time. Out: a sentence why it is, or when to
//! look again. What follows (the pod is deleted without waiting for its node) is decided by who asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akri_mqtt_core::clock::Now;
use jiff::SignedDuration;

use super::words::lasting;
use crate::model::NodeView;

/// A new node may be seen later than the first pod on it.
const UNSEEN_FOR: Duration = Duration::from_secs(5);

/// How a pod's node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing is wrong, or not yet: look again after this, if given.
    Fine(Option<Duration>),
    /// It is lost, because of this.
    Lost(String),
}

/// Looks at a node. `unseen` remembers since when it is not among the nodes.
pub(super) fn fate(
    nodes: &BTreeMap<Arc<str>, NodeView>,
    node: Option<&str>,
    unseen: &mut Option<Instant>,
    (loss_after, now): (Duration, Now),
) -> Fate {
    let Some(name) = node else {
        return Fate::Fine(None);
    };
    let Some(view) = nodes.get(name) else {
        let since = *unseen.get_or_insert(now.mono);
        let left = UNSEEN_FOR.saturating_sub(now.mono.saturating_duration_since(since));
        return if left.is_zero() {
            Fate::Lost(format!("node {name} is gone"))
        } else {
            Fate::Fine(Some(left))
        };
    };
    *unseen = None;
    if view.out_of_service {
        return Fate::Lost(format!("node {name} has the taint out-of-service"));
    }
    let Some(since) = view.unreachable_since else {
        return Fate::Fine(None);
    };
    let for_now = now
        .wall
        .duration_since(since)
        .max(SignedDuration::ZERO)
        .unsigned_abs();
    let left = loss_after.saturating_sub(for_now);
    // Where no other node is reached it is this side that is cut off, or there is nowhere to go.
    let mut others = nodes.iter().filter(|(other, _)| ***other != *name);
    let elsewhere = others.any(|(_, other)| other.unreachable_since.is_none());
    if left.is_zero() && !elsewhere {
        Fate::Fine(Some(loss_after.max(UNSEEN_FOR)))
    } else if left.is_zero() {
        Fate::Lost(format!(
            "node {name} has been unreachable for {}",
            lasting(for_now)
        ))
    } else {
        Fate::Fine(Some(left))
    }
}
