//! `akri-mqtt discover`: a dry run. In: Configurations. Out: the devices that they find, with names, environment and evidence.
//! Runs the real discovery handler over its gRPC socket, one per Configuration, with sessions that leave nothing behind.

pub mod report;

use std::collections::BTreeMap;

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_discovery_handler::view::{DeviceView, RequestView};
use akri_mqtt_discovery_handler::{Config, Handler};
use akri_mqtt_proto::akri;
use akri_mqtt_runtime::Shutdown;
use anyhow::Context as _;
use futures_util::future::try_join_all;
use tokio::sync::mpsc;

use crate::agent::{Agent, List, Request};
use crate::args::Discover;
use crate::configuration::{self, Configuration};
use crate::in_process::{handler_config, requests, socket_directory};
use crate::output;
use crate::roster::{Template, wanted};

/// Runs it.
///
/// # Errors
/// Wrong Configurations (exit code 2), or no server that could be reached.
pub async fn run(arguments: &Discover, shutdown: &Shutdown) -> anyhow::Result<()> {
    let (configurations, notes) = configuration::runnable(&arguments.files)?;
    let requests = requests(&configurations, &arguments.credentials)?;
    for note in &notes {
        eprintln!("note: {note}");
    }
    eprintln!("listening for {:?} …", arguments.listen_for);
    let runs = configurations.iter().zip(requests);
    let found =
        try_join_all(runs.map(|(c, request)| discover(arguments, c, request, shutdown))).await?;
    let report = report::Report {
        configurations: found,
    };
    output::write(&report::render(&report, arguments.output)?)?;
    let servers = || report.configurations.iter().flat_map(|c| &c.servers);
    for server in servers() {
        if let Some(error) = &server.error {
            eprintln!("server {}: {error}", server.name);
        }
    }
    anyhow::ensure!(
        servers().any(|server| server.connected),
        "no server could be reached"
    );
    Ok(())
}

async fn discover(
    arguments: &Discover,
    configuration: &Configuration,
    request: Request,
    shutdown: &Shutdown,
) -> anyhow::Result<report::Configuration> {
    let sockets = socket_directory()?;
    let stop = Shutdown::new();
    let (agent, mut lists) = Agent::start(sockets.path(), vec![request], stop.token())?;
    let config = Config {
        transient: true,
        ..handler_config(sockets.path().to_owned(), &arguments.credentials)
    };
    let handler = Handler::start(config, stop.clone()).await?;
    let mut devices = Vec::new();
    tokio::select! {
        () = shutdown.triggered() => {}
        () = stop.triggered() => {}
        () = tokio::time::sleep(arguments.listen_for) => {}
        () = keep_latest(&mut lists, &mut devices) => {}
    }
    let view = handler.presence().all().await;
    handler.close().await?;
    agent.join().await;
    let view = view.requests.into_iter().next();
    let view = view.context("the discovery handler took no request")?;
    for device in &view.devices {
        if let Some(reason) = &device.left_out {
            eprintln!(
                "note: {} is there, but not in the list: {reason}",
                device.explanation.device
            );
        }
    }
    Ok(findings(configuration, devices, view))
}

async fn keep_latest(lists: &mut mpsc::Receiver<List>, devices: &mut Vec<akri::Device>) {
    while let Some(list) = lists.recv().await {
        *devices = list.devices;
    }
}

/// What the handler sent to its Agent, and next to it what it knows about each device.
fn findings(
    configuration: &Configuration,
    devices: Vec<akri::Device>,
    view: RequestView,
) -> report::Configuration {
    let known: BTreeMap<String, DeviceView> = view
        .devices
        .into_iter()
        .map(|device| (device.explanation.device.clone(), device))
        .collect();
    let wanted = wanted(&[Template::of(configuration)], &[devices]);
    let device = |(id, wanted): (DeviceId, crate::roster::Wanted)| {
        let seen = known.get(id.as_str());
        report::Device {
            id: id.to_string(),
            instance: wanted.instance,
            state: seen
                .map_or("unknown", |seen| seen.explanation.state.as_str())
                .to_owned(),
            evidence: seen
                .map(|seen| seen.explanation.explanation.clone())
                .unwrap_or_default(),
            environment: wanted.properties,
        }
    };
    report::Configuration {
        name: configuration.name.clone(),
        servers: view
            .servers
            .into_iter()
            .map(|server| report::Server {
                error: (!server.connected).then_some(server.last_error).flatten(),
                name: server.name,
                connected: server.connected,
            })
            .collect(),
        devices: wanted.into_iter().map(device).collect(),
    }
}
