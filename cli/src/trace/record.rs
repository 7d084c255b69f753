//! `akri-mqtt record`. In: a Configuration. Out: a trace of what its sessions see. Runs the real discovery handler, as
//! `discover` does, and listens in; writing is left to `write`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::details::Details;
use akri_mqtt_core::trace::Header;
use akri_mqtt_discovery_handler::naming::DetailsDigest;
use akri_mqtt_discovery_handler::tap::Tap;
use akri_mqtt_discovery_handler::view::PresenceView;
use akri_mqtt_discovery_handler::{Config, Handler};
use akri_mqtt_runtime::{Shutdown, UsageError, version};
use anyhow::Context as _;
use jiff::Timestamp;

use super::args::Record;
use super::one;
use super::write::{Counts, Recorder, create};
use crate::agent::Agent;
use crate::configuration::Configuration;
use crate::in_process::{handler_config, requests, socket_directory};

/// Runs it.
///
/// # Errors
/// A wrong Configuration or a file that exists (exit code 2), a file that cannot be written, or no server that could be
/// reached.
pub async fn run(arguments: &Record, shutdown: &Shutdown) -> anyhow::Result<()> {
    let configuration = one(&arguments.files)?;
    let details = configuration
        .details
        .clone()
        .context("the Configuration has no details")?;
    let asked = requests(std::slice::from_ref(&configuration), &arguments.credentials)?;
    let name = arguments.trace.display();
    let file =
        create(&arguments.trace).map_err(|error| UsageError::new(format!("{name}: {error}")))?;
    let header = header(arguments, &configuration, &details);
    let recorder = Recorder::new(file, (&header, details), arguments.max_size, rand::random());
    let Some(recorder) = unless_gone(recorder).with_context(|| name.to_string())? else {
        return Ok(());
    };

    let (tap, heard) = Tap::new();
    let mut writing = tokio::task::spawn_blocking(move || recorder.run(heard));
    let sockets = socket_directory()?;
    let stop = Shutdown::new();
    let (agent, mut lists) = Agent::start(sockets.path(), asked, stop.token())?;
    let config = Config {
        transient: true,
        tap,
        ..handler_config(sockets.path().to_owned(), &arguments.credentials)
    };
    let handler = Handler::start(config, stop.clone()).await?;
    eprintln!("recording to {name} …");
    let mut written = None;
    tokio::select! {
        () = shutdown.triggered() => {}
        () = stop.triggered() => {}
        () = passes(arguments.duration) => {}
        result = &mut writing => written = Some(result),
        () = async { while lists.recv().await.is_some() {} } => {}
    }
    let servers = handler.presence().servers().await;
    handler.close().await?;
    agent.join().await;
    let written = match written {
        Some(written) => written,
        None => writing.await,
    };
    let Some(counts) = unless_gone(written?).with_context(|| name.to_string())? else {
        return Ok(());
    };
    tell(&counts, &name.to_string());
    tell_servers(&servers);
    anyhow::ensure!(counts.connects > 0, "no server could be reached");
    Ok(())
}

/// What was written, unless the reader of a trace on standard output has gone.
fn unless_gone<T>(written: io::Result<T>) -> io::Result<Option<T>> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        written => written.map(Some),
    }
}

fn header(arguments: &Record, configuration: &Configuration, details: &Arc<Details>) -> Header {
    let mut servers: Vec<_> = details.servers.iter().map(|s| s.name.clone()).collect();
    servers.sort();
    Header {
        time: Timestamp::now(),
        program: version::long(),
        details: DetailsDigest::of(&configuration.details_text).to_string(),
        payloads: arguments.payloads.into(),
        servers,
    }
}

async fn passes(duration: Duration) {
    if duration.is_zero() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(duration).await;
}

fn tell(counts: &Counts, name: &str) {
    let Counts {
        lines,
        messages,
        bytes,
        is_full,
        ..
    } = counts;
    if *is_full {
        eprintln!("note: the trace has as many bytes as --max-size allows, so recording has ended");
    }
    eprintln!("recorded {messages} messages in {name}: {lines} lines, {bytes} bytes");
}

/// Says which servers are away.
fn tell_servers(view: &PresenceView) {
    let servers = view.requests.iter().flat_map(|request| &request.servers);
    for server in servers.filter(|server| !server.connected) {
        let error = server.last_error.as_deref().unwrap_or("not connected");
        eprintln!("server {}: {error}", server.name);
    }
}
