//! `akri-mqtt migrate`: cleans up between Akri and agentless mode. In: a cluster. Out: what was left behind and, with `--apply`,
//! the objects without it. What belongs to whom is decided in `plan`.
//!
//! From Akri: its Agents' finalizers go, which nobody else removes, and Instances that it left are listed. To Akri: the status of
//! Configurations goes, because Akri's webhook refuses every write of an object that has one.

mod plan;
mod report;

use std::collections::BTreeSet;
use std::fmt::Debug;

use akri_mqtt_crds::{Configuration, Instance};
use akri_mqtt_runtime::Shutdown;
use anyhow::{Context as _, bail};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::config::KubeConfigOptions;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Config, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::args::{Migrate, MigrateTo};
use crate::output;
use report::{Action, Done, Entry, Report};

/// Objects of one list request.
const PAGE: u32 = 500;
/// Akri's programs, as its chart labels them.
const AKRI: &str = "app.kubernetes.io/name in (akri-agent, akri-controller)";

/// Runs it.
///
/// # Errors
/// No access to the cluster, Akri is there, or something could not be changed.
pub async fn run(arguments: &Migrate, shutdown: &Shutdown) -> anyhow::Result<()> {
    tokio::select! {
        () = shutdown.triggered() => bail!("interrupted"),
        result = migrate(arguments) => result,
    }
}

async fn migrate(arguments: &Migrate) -> anyhow::Result<()> {
    let client = client(arguments.context.clone()).await?;
    let cleaner = Cleaner { client, arguments };
    let mut report = match arguments.to {
        MigrateTo::Agentless => cleaner.leave_akri().await?,
        MigrateTo::Akri => cleaner.to_akri().await?,
    };
    report.found.sort();
    let text = if arguments.json {
        report.json()?
    } else {
        report.text()
    };
    output::write(&text)?;
    match report.failures() {
        0 => Ok(()),
        1 => bail!("1 object could not be changed"),
        many => bail!("{many} objects could not be changed"),
    }
}

async fn client(context: Option<String>) -> anyhow::Result<Client> {
    let config = match context {
        None => Config::infer().await.context("no cluster is configured")?,
        Some(context) => {
            let options = KubeConfigOptions {
                context: Some(context),
                ..KubeConfigOptions::default()
            };
            Config::from_kubeconfig(&options)
                .await
                .context("this context cannot be used")?
        }
    };
    Ok(Client::try_from(config)?)
}

struct Cleaner<'a> {
    client: Client,
    arguments: &'a Migrate,
}

impl Cleaner<'_> {
    async fn leave_akri(&self) -> anyhow::Result<Report> {
        if let Some(pod) = self.pod_of_akri().await? {
            bail!(
                "Akri is in the cluster: pod {pod} exists. Uninstall Akri first; its finalizers are in use"
            );
        }
        let nodes: Api<PartialObjectMeta<Node>> = Api::all(self.client.clone());
        let nodes = list(&nodes)
            .await
            .map_err(|error| words("the nodes cannot be listed", &error))?;
        let nodes: BTreeSet<String> = nodes.iter().map(|node| node.name_any()).collect();
        let configurations: Vec<PartialObjectMeta<Configuration>> =
            self.all("Configurations").await?;
        let instances: Vec<Instance> = self.all("Instances").await?;
        let mut report = self.report("agentless", configurations.len(), instances.len());
        for configuration in configurations {
            let found = plan::finalizers(&configuration.metadata, &nodes);
            let mut entry = entry("Configuration", &configuration, found);
            if !entry.finalizers.is_empty() {
                entry.action = Action::RemoveFinalizers;
            }
            report.found.extend(self.treat(&configuration, entry).await);
        }
        for instance in instances {
            let found = plan::finalizers(&instance.metadata, &nodes);
            let mut entry = entry("Instance", &instance, found);
            entry.nodes = instance.spec.nodes.iter().cloned().collect();
            let of_akri = !entry.nodes.is_empty() || !entry.finalizers.is_empty();
            if of_akri && self.arguments.delete_instances {
                entry.action = Action::Delete;
            } else if !entry.finalizers.is_empty() {
                entry.action = Action::RemoveFinalizers;
            }
            report.found.extend(self.treat(&instance, entry).await);
        }
        Ok(report)
    }

    async fn to_akri(&self) -> anyhow::Result<Report> {
        let configurations: Vec<Configuration> = self.all("Configurations").await?;
        let mut report = self.report("akri", configurations.len(), 0);
        for configuration in configurations.into_iter().filter(|c| c.status.is_some()) {
            let mut entry = entry("Configuration", &configuration, plan::Finalizers::default());
            entry.action = Action::ClearStatus;
            report.found.extend(self.treat(&configuration, entry).await);
        }
        Ok(report)
    }

    fn report(&self, to: &'static str, configurations: usize, instances: usize) -> Report {
        Report {
            to,
            applied: self.arguments.apply,
            configurations,
            instances,
            found: Vec::new(),
        }
    }

    /// A pod of Akri's, in whatever namespace.
    async fn pod_of_akri(&self) -> anyhow::Result<Option<String>> {
        let pods: Api<PartialObjectMeta<Pod>> = Api::all(self.client.clone());
        let found = pods
            .list(&ListParams::default().labels(AKRI).limit(1))
            .await;
        let found = found
            .map_err(|error| words("it cannot be seen whether Akri is in the cluster", &error))?;
        let pod = found.items.first();
        Ok(pod.map(|pod| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())))
    }

    /// All objects of a kind in the namespaces that were asked for. A cluster that does not know the kind has none.
    async fn all<K>(&self, what: &str) -> anyhow::Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let apis: Vec<Api<K>> = match self.arguments.namespaces.as_slice() {
            [] => vec![Api::all(self.client.clone())],
            some => some
                .iter()
                .map(|namespace| Api::namespaced(self.client.clone(), namespace))
                .collect(),
        };
        let mut found = Vec::new();
        for api in apis {
            match list(&api).await {
                Ok(objects) => found.extend(objects),
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(words(&format!("{what} cannot be listed"), &error)),
            }
        }
        Ok(found)
    }

    /// Does to an object what its entry says, or notes that it would be done. An object without anything to say is left out.
    async fn treat<K>(&self, object: &K, mut entry: Entry) -> Option<Entry>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        if entry.action == Action::Keep {
            let worth_saying = !entry.unknown_finalizers.is_empty() || !entry.nodes.is_empty();
            return worth_saying.then_some(entry);
        }
        entry.result = Done::Planned;
        if self.arguments.apply {
            let api: Api<K> = Api::namespaced(self.client.clone(), &entry.namespace);
            entry.result = match change(&api, object, &entry).await {
                Ok(()) => Done::Yes,
                Err(error) => Done::Failed(said(&error)),
            };
        }
        Some(entry)
    }
}

async fn change<K>(api: &Api<K>, object: &K, entry: &Entry) -> kube::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let parameters = PatchParams::default();
    if entry.action == Action::ClearStatus {
        let patch = Patch::Merge(json!({"metadata": {"uid": object.meta().uid}, "status": null}));
        api.patch_status(&entry.name, &parameters, &patch).await?;
        return Ok(());
    }
    if entry.action == Action::Delete && !entry.deleting {
        let preconditions = Preconditions {
            uid: object.meta().uid.clone(),
            resource_version: None,
        };
        let parameters = DeleteParams::background().preconditions(preconditions);
        api.delete(&entry.name, &parameters).await?;
    }
    if !entry.finalizers.is_empty() {
        let operations = serde_json::from_value(plan::patch(object.meta(), &entry.finalizers));
        let operations = operations.map_err(kube::Error::SerdeError)?;
        api.patch(&entry.name, &parameters, &Patch::<()>::Json(operations))
            .await?;
    }
    Ok(())
}

fn entry<K: Resource<DynamicType = ()>>(
    kind: &'static str,
    object: &K,
    found: plan::Finalizers,
) -> Entry {
    let meta = object.meta();
    Entry {
        kind,
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        finalizers: found.stale,
        unknown_finalizers: found.unknown,
        nodes: Vec::new(),
        action: Action::Keep,
        result: Done::Nothing,
    }
}

/// A whole list, page by page.
async fn list<K>(api: &Api<K>) -> kube::Result<Vec<K>>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut parameters = ListParams::default().limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = api.list(&parameters).await?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(found),
        }
    }
}

fn words(what: &str, error: &kube::Error) -> anyhow::Error {
    anyhow::anyhow!("{what}: {}", said(error))
}

/// What the API server said; the client's own text repeats the whole answer.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 422 && status.message.contains("test") => {
            "it has changed meanwhile; run it again".to_owned()
        }
        kube::Error::Api(status) => status.message.clone(),
        other => format!("{:#}", anyhow::anyhow!(other.to_string())),
    }
}
