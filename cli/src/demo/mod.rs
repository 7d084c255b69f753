//! `akri-mqtt demo`: everything in one process, with nothing to prepare. In: a number of devices and a time.
//! Out: a table, lines or JSON about what happens, and a summary.
//! It is `up` on an MQTT server of its own with simulated devices; the engine is the same.

mod devices;
mod plan;
mod server;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_monitoring_broker::access::AccessFiles;
use akri_mqtt_monitoring_broker::talk::TalkOptions;
use akri_mqtt_runtime::Shutdown;
use akri_mqtt_runtime::exit::UsageError;
use anyhow::Context as _;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::args::Demo;
use crate::configuration::{self, Source};
use crate::engine::{Engine, Setup};
use crate::report::{Reporter, Style, Table, count};
use crate::{browser, feed, output, ports};
use server::Server;

/// Runs it.
///
/// # Errors
/// An address that was asked for is taken (exit code 2), or a part of the process failed.
pub async fn run(arguments: &Demo, shutdown: &Shutdown) -> anyhow::Result<()> {
    if arguments.print_configuration {
        output::write(&plan::configuration(arguments.mqtt))?;
        return Ok(());
    }
    let http = ports::bind(arguments.http, ports::HTTP, "--http").await?;
    let grpc = ports::bind(None, 0, "--grpc").await?;
    let server = Server::start(arguments.mqtt)
        .await
        .map_err(|error| UsageError::new(format!("{error:#}")))?;
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let source = Source {
        name: Arc::from("demo"),
        text: plan::configuration(server.address()),
    };
    let configurations = configuration::load(&source).configurations;
    let duration = Some(arguments.duration).filter(|duration| !duration.is_zero());
    let devices = plan::devices(arguments.devices, duration);
    let crashing = devices.first().map_or("none", |device| &device.name);
    let mut header = vec![
        format!("Dashboard    http://{}/", http.address),
        format!(
            "MQTT server  mqtt://{}  with {}; {crashing} is going to crash",
            server.address(),
            count(arguments.devices, "simulated device"),
        ),
        format!("HTTP API     http://{}/v1/devices", http.address),
    ];
    header.extend(http.note.clone());
    header.push(ending(duration));
    let (address, api) = (http.address, grpc.address);
    let setup = Setup {
        configurations: &configurations,
        credentials: &crate::args::CredentialSources::default(),
        data_dir: directory.path(),
        sinks: Vec::new(),
        http: http.listener,
        grpc: grpc.listener,
        access: AccessFiles::default(),
        talk: TalkOptions::default(),
    };
    let mut engine = Engine::start(setup).await?;
    if arguments.open {
        browser::open(address);
    }
    let mut messages = Some(feed::follow(api));
    let mut reporter = Reporter::new(style(arguments, header));
    let stop = shutdown.child().token();
    let simulated = devices::start(devices, server.address(), &stop);
    let until = duration.map(|duration| Instant::now() + duration);
    let running = engine.run(&mut reporter, &mut messages, until, shutdown);
    let result = running.await;
    let told = reporter.finish(Timestamp::now());
    let stopped = engine.stop().await;
    stop.cancel();
    simulated.join_all().await;
    server.stop().await;
    told?;
    result.and(stopped)
}

fn ending(duration: Option<Duration>) -> String {
    match duration {
        Some(duration) => {
            format!("Ends after {duration:?} or with Ctrl-C; --duration 0 goes on.")
        }
        None => "Runs until Ctrl-C.".to_owned(),
    }
}

/// The addresses go into the table, or else to standard error, so that standard output holds nothing but events.
fn style(arguments: &Demo, header: Vec<String>) -> Style {
    if !arguments.json && std::io::stdout().is_terminal() {
        return Style::Table(Box::new(Table::new(header)));
    }
    for line in &header {
        eprintln!("{line}");
    }
    if arguments.json {
        Style::Json
    } else {
        Style::Lines { messages: true }
    }
}
