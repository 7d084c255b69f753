//! Claims of an Instance, one for each of its pods. In: claims that there are, whether they are needed,
//! time. Out: what to make, to mark and to delete, and which pods may be made.
//!
//! No object owns a claim, so that it outlives its device. One that is not needed is marked with the
//! time, and deleted `mqtt.akri.sh/data-retention` later. Each has that duration with it, for the day
//! when the Configuration is gone too. A device that comes back finds its data again.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;

use super::action::{Action, Reason};
use super::naming;
use super::render::meta::{Meta, object};
use super::render::pod::claim_spec;
use super::settings::{DataVolume, Settings, duration};
use super::words::lasting;
use super::workloads::Desk;
use crate::model::ClaimView;
use crate::names;

/// Sees to the claims. `needed` is how many pods need one, if pods have claims at all. Returns the
/// numbers of pods that must wait for theirs.
pub(super) fn decide(
    desk: &mut Desk<'_>,
    settings: Option<&Settings>,
    needed: u32,
) -> BTreeSet<u32> {
    if settings.is_some_and(|settings| settings.data_unclear) {
        return (0..needed).collect();
    }
    let data = settings.and_then(|settings| settings.data.as_ref());
    let mut missing: BTreeSet<u32> = match data {
        Some(_) => (0..needed).collect(),
        None => BTreeSet::new(),
    };
    let mut wait = BTreeSet::new();
    for claim in desk.input.claims {
        let number = claim.slot(&desk.input.key.name);
        let wanted = number.filter(|n| missing.contains(n));
        if let Some(n) = wanted {
            missing.remove(&n);
            if claim.deleting || !claim.ours {
                wait.insert(n);
            }
        }
        if claim.deleting {
            continue;
        }
        match (claim.ours, wanted) {
            (true, Some(_)) => reclaim(desk, claim, settings),
            (true, None) => retire(desk, claim, settings),
            (false, Some(_)) => {
                let words = format!("claim `{}` exists and is not ours", claim.name);
                desk.say(Reason::NameTaken, &claim.name, words);
            }
            (false, None) => {}
        }
    }
    if let Some(data) = data {
        for n in missing {
            create(desk, n, data, settings);
            // The pod waits until it is known to be ours: a stranger's may have the name.
            wait.insert(n);
        }
    }
    wait
}

fn create(desk: &mut Desk<'_>, n: u32, data: &DataVolume, settings: Option<&Settings>) {
    let name = naming::pod(&desk.input.key.name, n);
    let retention = written(settings.map_or_else(default_retention, |of| of.retention));
    let meta = Meta {
        namespace: &desk.input.key.namespace,
        name: &name,
        labels: &names::instance_labels(desk.input.configuration, &desk.input.key.name),
        annotations: &[(names::DATA_RETENTION, &retention)],
        owner: None,
    };
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": meta.json(),
        "spec": claim_spec(&data.size, data.class.as_deref()),
    });
    desk.plan.actions.push(Action::CreateClaim(Box::new(claim)));
}

/// Takes the mark off a claim that is needed again, and keeps its retention up to date.
fn reclaim(desk: &mut Desk<'_>, claim: &ClaimView, settings: Option<&Settings>) {
    let retention = settings.map_or_else(default_retention, |of| of.retention);
    let known = claim.retention.as_deref().and_then(duration);
    let mut annotations = Vec::new();
    if claim.gone_since.is_some() {
        annotations.push((names::GONE_SINCE, None));
    }
    if known != Some(retention) {
        annotations.push((names::DATA_RETENTION, Some(written(retention))));
    }
    if !annotations.is_empty() {
        annotate(desk, claim, annotations);
    }
}

fn default_retention() -> Duration {
    Settings::default().retention
}

/// A duration as `duration` reads it.
fn written(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        lasting(duration)
    } else {
        format!("{}ms", duration.as_millis())
    }
}

/// Marks a claim that is not needed, and deletes it when its time has come.
fn retire(desk: &mut Desk<'_>, claim: &ClaimView, settings: Option<&Settings>) {
    let of_claim = claim.retention.as_deref().and_then(duration);
    let default = of_claim.unwrap_or_else(default_retention);
    let retention = settings.map_or(default, |settings| settings.retention);
    let Some(since) = claim
        .gone_since
        .or(retention.is_zero().then_some(desk.now.wall))
    else {
        let since = desk
            .now
            .wall
            .round(jiff::Unit::Second)
            .unwrap_or(desk.now.wall);
        let annotations = vec![
            (names::GONE_SINCE, Some(since.to_string())),
            (names::DATA_RETENTION, Some(written(retention))),
        ];
        annotate(desk, claim, annotations);
        desk.again(retention);
        return;
    };
    let gone_for = desk
        .now
        .wall
        .duration_since(since)
        .max(SignedDuration::ZERO);
    let left = retention.saturating_sub(gone_for.unsigned_abs());
    if left > Duration::ZERO {
        desk.again(left);
        return;
    }
    let reference = object(&desk.input.key.namespace, &claim.name, &claim.uid);
    desk.plan.actions.push(Action::DeleteClaim(reference));
    if desk.input.instance.is_some() {
        let words = format!(
            "claim `{}` is deleted: not needed for {}",
            claim.name,
            lasting(gone_for.unsigned_abs())
        );
        desk.say(Reason::DataDeleted, &claim.name, words);
    }
}

fn annotate(
    desk: &mut Desk<'_>,
    claim: &ClaimView,
    annotations: Vec<(&'static str, Option<String>)>,
) {
    let claim = object(&desk.input.key.namespace, &claim.name, &claim.uid);
    desk.plan
        .actions
        .push(Action::AnnotateClaim { claim, annotations });
}
