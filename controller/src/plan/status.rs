//! The status of a Configuration. In: what plans know. Out: counts, and conditions with reasons in words.
//! Writing it is left to others.

use akri_mqtt_core::clock::Now;
use akri_mqtt_crds::{ConfigurationStatus, status as kind};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::assign::fits;
use super::blueprint::Blueprint;
use super::discovery::{Verdict, discovered, reachable};
use super::memory::{ConfigurationMemory, Memory};
use super::naming;
use super::words::{counted, shown};
use crate::discover::Finding;
use crate::model::InstanceKey;

/// What a status is made from.
#[derive(Clone, Copy, Debug)]
pub struct StatusInput<'a> {
    /// The Configuration.
    pub blueprint: &'a Blueprint,
    /// What its handler finds.
    pub finding: Option<&'a Finding>,
    /// How many Instances of ours it has.
    pub instances: usize,
    /// Its status now; times of conditions that do not change are taken from it.
    pub previous: Option<&'a ConfigurationStatus>,
}

/// The status as it should be. It equals `previous` as long as nothing has changed.
#[must_use]
pub fn status(memory: &Memory, input: &StatusInput<'_>, now: Now) -> ConfigurationStatus {
    let nothing = ConfigurationMemory::default();
    let of = memory.configurations.get(&input.blueprint.key);
    let of = of.unwrap_or(&nothing);
    let desk = Desk { memory, of, input };
    let mut verdicts = vec![
        (kind::DISCOVERED, desk.discovered()),
        (kind::SERVERS_REACHABLE, reachable(input.finding)),
        (kind::BROKERS_READY, desk.brokers()),
    ];
    verdicts.extend(desk.invalid().map(|invalid| (kind::INVALID_NAME, invalid)));
    let devices = input.finding.and_then(|finding| finding.devices.as_ref());
    ConfigurationStatus {
        observed_generation: Some(input.blueprint.generation),
        devices: devices.map(|devices| count(devices.len())),
        instances: count(input.instances),
        brokers: of.wanted,
        brokers_ready: of.ready,
        conditions: verdicts
            .into_iter()
            .map(|(kind, verdict)| condition(kind, verdict, input, now.wall))
            .collect(),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn condition(kind: &str, verdict: Verdict, input: &StatusInput<'_>, now: Timestamp) -> Condition {
    let status = match verdict.good {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let former = input.previous.and_then(|former| former.condition(kind));
    let since = former.filter(|former| former.status == status);
    let time = since.map_or_else(
        // The API server keeps whole seconds.
        || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
        |former| former.last_transition_time.clone(),
    );
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.to_owned(),
        message: verdict.words,
        observed_generation: Some(input.blueprint.generation),
        last_transition_time: time,
    }
}

struct Desk<'a> {
    memory: &'a Memory,
    of: &'a ConfigurationMemory,
    input: &'a StatusInput<'a>,
}

impl Desk<'_> {
    fn discovered(&self) -> Verdict {
        let mut verdict = discovered(self.input.blueprint, self.input.finding);
        for tally in [&self.of.refused.collided, &self.of.refused.taken] {
            if tally.count > 0 {
                let refused = counted(tally.count, "device");
                verdict.words += &format!("; {refused} refused: {}", tally.first);
            }
        }
        if verdict.good == Some(true) && !self.of.held.is_empty() {
            let held = counted(self.of.held.len(), "Instance");
            verdict.words += &format!("; {held} kept without being listed yet");
        }
        let faults = &self.input.blueprint.faults;
        if !faults.is_empty() {
            verdict.words += &format!("; {}", faults.join("; "));
        }
        verdict
    }

    fn brokers(&self) -> Verdict {
        let blueprint = self.input.blueprint;
        if let Some(pool) = &blueprint.settings.pool {
            let words = format!("the pool `{pool}` serves the devices");
            return Verdict::new(Some(true), "Pool", words);
        }
        if blueprint.pod.is_none() && blueprint.job.is_none() {
            return Verdict::new(Some(true), "NothingToRun", "there is no brokerSpec");
        }
        let (ready, wanted) = (self.of.ready, self.of.wanted);
        let trouble = self.of.troubled.first().and_then(|name| {
            let key = InstanceKey {
                namespace: blueprint.key.namespace.clone(),
                name: name.clone(),
            };
            self.memory.instances.get(&key)?.trouble()
        });
        let words = format!("{ready} of {wanted} ready");
        match trouble {
            None if ready >= wanted && wanted == 0 => {
                Verdict::new(Some(true), "NoDevices", "there are no devices")
            }
            None if ready >= wanted => Verdict::new(Some(true), "AllReady", words),
            None => Verdict::new(Some(false), "NotReady", words),
            Some(trouble) => {
                let words = format!("{words}; {}", shown(trouble));
                Verdict::new(Some(false), "NotReady", words)
            }
        }
    }

    /// Whether names cannot fit: those of any device, or those of some.
    fn invalid(&self) -> Option<Verdict> {
        let blueprint = self.input.blueprint;
        let tally = &self.of.refused.invalid;
        let words = if tally.count > 0 {
            let refused = counted(tally.count, "device");
            format!("{refused} refused: {}", tally.first)
        } else {
            fits(blueprint, &naming::example(&blueprint.key.name)).err()?
        };
        Some(Verdict::new(Some(true), "DoesNotFit", words))
    }
}
