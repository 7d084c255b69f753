//! A cluster in memory that plans are carried out on, and the tests that use it.

mod devices;
mod executed;
mod histories;
mod holds;
mod others;
mod pods;
mod rendering;
mod rollouts;
mod speed;
mod statuses;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use akri_mqtt_core::clock::Now;
use akri_mqtt_crds::{Configuration, Instance};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::*;
use crate::discover::{
    Devices, DiscoveryState, Finding, FoundDevice, LeftOut, ServerReport, ServersReport,
};
use crate::model::*;
use crate::names;

pub(super) const NAMESPACE: &str = "plant";

/// An object that is not an Instance.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) json: Value,
    pub(super) deleting: bool,
}

/// A pod.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) json: Value,
    pub(super) facts: PodFacts,
    pub(super) deleted_at: Option<jiff::Timestamp>,
}

/// A cluster with one Configuration `c`, in one namespace.
pub(super) struct Cluster {
    pub(super) now: Now,
    pub(super) memory: Memory,
    pub(super) configuration: Option<Configuration>,
    pub(super) finding: Option<Finding>,
    pub(super) instances: BTreeMap<String, Instance>,
    pub(super) pods: BTreeMap<String, Pod>,
    pub(super) jobs: BTreeMap<String, (Object, JobState)>,
    pub(super) services: BTreeMap<String, Object>,
    pub(super) claims: BTreeMap<String, Object>,
    pub(super) nodes: BTreeMap<Arc<str>, NodeView>,
    /// What was carried out since it was last taken.
    pub(super) log: Vec<String>,
    /// Notices, without those that `log` has.
    pub(super) said: Vec<Notice>,
    pub(super) next: Option<Duration>,
    /// Keys are planned in the opposite order.
    pub(super) reversed: bool,
    woken: BTreeSet<String>,
    uids: u32,
}

impl Cluster {
    /// With a Configuration whose spec has these fields beside the handler.
    pub(super) fn new(spec: Value) -> Self {
        let mut cluster = Self {
            now: Now {
                mono: Instant::now(),
                wall: "2026-01-02T03:04:05Z".parse().unwrap(),
            },
            memory: Memory::default(),
            configuration: None,
            finding: None,
            instances: BTreeMap::new(),
            pods: BTreeMap::new(),
            jobs: BTreeMap::new(),
            services: BTreeMap::new(),
            claims: BTreeMap::new(),
            nodes: [("n1".into(), NodeView::default())].into(),
            log: Vec::new(),
            said: Vec::new(),
            next: None,
            reversed: false,
            woken: BTreeSet::new(),
            uids: 0,
        };
        cluster.configure("c", spec);
        cluster
    }

    /// One container, one pod for each device.
    pub(super) fn with_pods() -> Self {
        Self::new(json!({"brokerSpec": {"brokerPodSpec": pod_spec("one")}}))
    }

    /// Makes the Configuration, or another one.
    pub(super) fn configure(&mut self, name: &str, spec: Value) {
        let mut whole = json!({"discoveryHandler": {"name": "mqtt"}});
        for (field, value) in spec.as_object().unwrap() {
            whole[field] = value.clone();
        }
        let mut configuration = Configuration::new(name, serde_json::from_value(whole).unwrap());
        configuration.metadata.namespace = Some(NAMESPACE.to_owned());
        configuration.metadata.uid = Some(self.uid());
        configuration.metadata.generation = Some(1);
        self.configuration = Some(configuration);
    }

    /// Edits the Configuration's spec.
    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut akri_mqtt_crds::ConfigurationSpec)) {
        let configuration = self.configuration.as_mut().unwrap();
        edit(&mut configuration.spec);
        let generation = configuration.metadata.generation.unwrap();
        configuration.metadata.generation = Some(generation + 1);
    }

    pub(super) fn set_image(&mut self, image: &str) {
        let spec = pod_spec(image);
        self.edit(|configuration| {
            let broker = configuration.broker_spec.as_mut().unwrap();
            broker.broker_pod_spec = Some(serde_json::from_value(spec).unwrap());
        });
    }

    pub(super) fn annotate(&mut self, name: &str, value: &str) {
        let meta = &mut self.configuration.as_mut().unwrap().metadata;
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(name.to_owned(), value.to_owned());
    }

    /// A list of the current stream.
    pub(super) fn list(&mut self, ids: &[&str]) {
        let devices = ids.iter().map(|id| device(id));
        let devices: Devices = devices.map(|device| (device.id.clone(), device)).collect();
        let finding = self.finding.get_or_insert_with(finding);
        finding.state = DiscoveryState::Open;
        finding.stream = finding.stream.max(1);
        finding.devices = Some(Arc::new(devices));
    }

    /// The first list of another stream.
    pub(super) fn list_anew(&mut self, ids: &[&str]) {
        self.finding.get_or_insert_with(finding).stream += 1;
        self.list(ids);
    }

    /// What the handler's admin port says.
    pub(super) fn servers(&mut self, servers: Vec<ServerReport>, offline_after: Option<Duration>) {
        let report = Arc::new(ServersReport {
            servers,
            offline_after,
        });
        self.finding.get_or_insert_with(finding).servers = Some(report);
    }

    /// The controller starts again, and has not heard of its handlers.
    pub(super) fn restart(&mut self) {
        self.memory = Memory::default();
        if let Some(finding) = &mut self.finding {
            finding.devices = None;
            finding.state = DiscoveryState::NoHandler;
        }
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
    }

    fn uid(&mut self) -> String {
        self.uids += 1;
        format!("uid-{}", self.uids)
    }

    pub(super) fn blueprint(&self) -> Option<Blueprint> {
        self.configuration.as_ref().and_then(Blueprint::new)
    }

    /// One plan of every key, carried out. Returns how many writes there were.
    pub(super) fn round(&mut self) -> usize {
        self.next = None;
        let mut writes = 0;
        let mut keys: Vec<String> = self.keys().into_iter().collect();
        if self.reversed {
            keys.reverse();
            writes += self.plan_configuration();
        }
        for key in keys {
            writes += self.plan_instance(&key);
        }
        if !self.reversed {
            writes += self.plan_configuration();
        }
        while let Some(key) = self.woken.pop_first() {
            writes += self.plan_instance(&key);
        }
        writes
    }

    pub(super) fn plan_configuration(&mut self) -> usize {
        let blueprint = self.blueprint();
        let views = self.instance_views();
        let views: Vec<&InstanceView> = views.iter().collect();
        let service = self.services.get("c-svc").map(service_view);
        let plan = instances(
            &mut self.memory,
            &ConfigurationInput {
                key: &key(),
                blueprint: blueprint.as_ref(),
                finding: self.finding.as_ref(),
                instances: &views,
                service: service.as_ref(),
                pods: self.pods.len(),
            },
            self.now,
        );
        self.again(plan.next);
        self.execute(plan.actions)
    }

    pub(super) fn plan_instance(&mut self, name: &str) -> usize {
        let blueprint = self.blueprint();
        let instance = self.instances.get(name).map(instance_view);
        let of = |object: &Value| object["metadata"]["labels"][names::INSTANCE] == *name;
        let pods: Vec<PodView> = self
            .pods
            .values()
            .filter(|pod| of(&pod.json))
            .map(pod_view)
            .collect();
        let jobs: Vec<JobView> = self
            .jobs
            .values()
            .filter(|(job, _)| of(&job.json))
            .map(job_view)
            .collect();
        let claims: Vec<ClaimView> = self
            .claims
            .values()
            .filter(|claim| of(&claim.json))
            .map(claim_view)
            .collect();
        let service = self.services.get(&format!("{name}-svc")).map(service_view);
        let plan = workloads(
            &mut self.memory,
            &InstanceInput {
                key: &InstanceKey {
                    namespace: NAMESPACE.into(),
                    name: name.into(),
                },
                configuration: "c",
                blueprint: blueprint.as_ref(),
                instance: instance.as_ref(),
                siblings: self.instances.len(),
                pods: &pods.iter().collect::<Vec<_>>(),
                jobs: &jobs.iter().collect::<Vec<_>>(),
                service: service.as_ref(),
                claims: &claims.iter().collect::<Vec<_>>(),
                nodes: &self.nodes,
                cluster: "0a1b2c3d",
            },
            self.now,
        );
        self.again(plan.next);
        self.woken
            .extend(plan.wake.iter().map(|key| key.name.to_string()));
        self.execute(plan.actions)
    }

    fn again(&mut self, after: Option<Duration>) {
        if let Some(after) = after {
            assert!(!after.is_zero(), "asks to be planned at once");
            self.next = Some(self.next.map_or(after, |known| known.min(after)));
        }
    }

    fn keys(&self) -> BTreeSet<String> {
        let label = |json: &Value| {
            json["metadata"]["labels"][names::INSTANCE]
                .as_str()
                .map(str::to_owned)
        };
        let mut keys: BTreeSet<String> = self.instances.keys().cloned().collect();
        // Events of what is gone come once more.
        keys.extend(self.memory.instances.keys().map(|key| key.name.to_string()));
        keys.extend(self.pods.values().filter_map(|pod| label(&pod.json)));
        keys.extend(self.jobs.values().filter_map(|(job, _)| label(&job.json)));
        keys.extend(
            self.services
                .values()
                .filter_map(|service| label(&service.json)),
        );
        keys.extend(self.claims.values().filter_map(|claim| label(&claim.json)));
        keys
    }

    pub(super) fn instance_views(&self) -> Vec<InstanceView> {
        self.instances.values().map(instance_view).collect()
    }

    /// Plans and lets the cluster work until nothing happens any more, without time passing.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000 {
            let writes = self.round();
            let changed = self.kubelet();
            if writes == 0 && !changed {
                return;
            }
        }
        panic!(
            "does not settle: {:#?}",
            self.log.iter().rev().take(20).collect::<Vec<_>>()
        );
    }

    /// What was done since, without what was said.
    pub(super) fn done(&mut self) -> Vec<String> {
        self.said.clear();
        let log = std::mem::take(&mut self.log);
        log.into_iter()
            .filter(|line| !line.starts_with("say "))
            .collect()
    }

    /// What was said since.
    pub(super) fn words(&mut self) -> Vec<String> {
        self.log.retain(|line| !line.starts_with("say "));
        let said = std::mem::take(&mut self.said);
        said.into_iter()
            .map(|notice| format!("{}: {}", notice.reason.as_str(), notice.words))
            .collect()
    }

    pub(super) fn names(&self) -> (Vec<&str>, Vec<&str>) {
        (
            self.instances.keys().map(String::as_str).collect(),
            self.pods.keys().map(String::as_str).collect(),
        )
    }
}

pub(super) fn key() -> ConfigurationKey {
    ConfigurationKey {
        namespace: NAMESPACE.into(),
        name: "c".into(),
    }
}

pub(super) fn pod_spec(image: &str) -> Value {
    json!({"containers": [{"name": "monitor", "image": image}]})
}

pub(super) fn finding() -> Finding {
    Finding {
        state: DiscoveryState::Open,
        stream: 0,
        devices: None,
        left_out: LeftOut::default(),
        servers: None,
    }
}

pub(super) fn server(name: &str, error: Option<&str>) -> ServerReport {
    ServerReport {
        name: name.to_owned(),
        connected: error.is_none(),
        error: error.map(str::to_owned),
        refused_filters: Vec::new(),
    }
}

pub(super) fn device(id: &str) -> Arc<FoundDevice> {
    Arc::new(FoundDevice {
        id: id.into(),
        properties: [("MQTT_DEVICE_ID", id)].into_iter().collect(),
        mounts: Box::default(),
        device_specs: Box::default(),
    })
}

pub(super) fn instance_view(instance: &Instance) -> InstanceView {
    InstanceView::new(&instance.metadata, &instance.spec).unwrap()
}

fn meta(json: &Value) -> ObjectMeta {
    serde_json::from_value(json["metadata"].clone()).unwrap()
}

fn pod_view(pod: &Pod) -> PodView {
    let mut view = PodView::new(&meta(&pod.json), pod.facts.clone()).unwrap();
    view.deleted_at = pod.deleted_at;
    view
}

fn job_view((job, state): &(Object, JobState)) -> JobView {
    JobView::new(&meta(&job.json), *state).unwrap()
}

fn service_view(service: &Object) -> ServiceView {
    let mut view = ServiceView::new(&meta(&service.json)).unwrap();
    view.deleting = service.deleting;
    view
}

fn claim_view(claim: &Object) -> ClaimView {
    ClaimView::new(&meta(&claim.json)).unwrap()
}
