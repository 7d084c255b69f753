//! `akri-mqtt replay`. In: a trace and a Configuration. Out: each change that the trace leads to, with its reason, and
//! the devices that are there at the end. What is printed how is left to `report`.

use std::time::{Duration, Instant};

use akri_mqtt_core::details::Server;
use akri_mqtt_core::identity::ServerName;
use akri_mqtt_core::trace::{Entry, Header, Reader, Replay, What};
use akri_mqtt_discovery_handler::naming::DetailsDigest;
use akri_mqtt_runtime::{Shutdown, UsageError};
use anyhow::Context as _;

use super::args::{self, Speed};
use super::lines::{Line, Lines};
use super::one;
use super::report::Report;
use crate::configuration::Configuration;
use crate::output;

/// Runs it.
///
/// # Errors
/// A wrong Configuration or no trace (exit code 2), or a line that is wrong.
pub async fn run(arguments: &args::Replay, shutdown: &Shutdown) -> anyhow::Result<()> {
    let configuration = one(&arguments.files)?;
    let details = configuration
        .details
        .clone()
        .context("the Configuration has no details")?;
    let name = arguments.trace.display().to_string();
    let unusable = |error: &dyn std::fmt::Display| UsageError::new(format!("{name}: {error}"));
    let mut lines = Lines::open(&arguments.trace).map_err(|error| unusable(&error))?;
    let first = tokio::select! {
        () = shutdown.triggered() => return Ok(()),
        first = lines.next() => first.map_err(|error| unusable(&error))?,
    };
    let (reader, header) =
        Reader::new(first.map_or(b"", |line| line.bytes)).map_err(|fault| unusable(&fault))?;
    fits(&header, &configuration, &details.servers).map_err(|why| unusable(&why))?;
    let mut player = Player {
        name,
        reader,
        replay: Replay::new(details, header.time, Instant::now()),
        report: Report::new(&configuration, &header, arguments.json),
        pace: Pace {
            speed: arguments.speed,
            started: Instant::now(),
        },
    };
    tokio::select! {
        () = shutdown.triggered() => {}
        played = player.play(&mut lines, shutdown) => played?,
    }
    player.report.end(&player.replay)?;
    Ok(())
}

/// Whether a Configuration and a trace have something to do with each other.
fn fits(header: &Header, configuration: &Configuration, servers: &[Server]) -> Result<(), String> {
    let names = |names: &mut dyn Iterator<Item = &ServerName>| {
        let names: Vec<String> = names.map(ToString::to_string).collect();
        names.join(", ")
    };
    let knows = |name: &&ServerName| servers.iter().any(|server| server.name == **name);
    if !header.servers.iter().any(|name| knows(&name)) {
        return Err(format!(
            "the trace is of the servers {}, but Configuration {} has {}",
            names(&mut header.servers.iter()),
            configuration.name,
            names(&mut servers.iter().map(|server| &server.name)),
        ));
    }
    let unknown = names(&mut header.servers.iter().filter(|name| !knows(name)));
    if !unknown.is_empty() {
        eprintln!(
            "note: Configuration {} does not name {unknown}",
            configuration.name
        );
    }
    if DetailsDigest::of(&configuration.details_text).to_string() != header.details {
        eprintln!(
            "note: the trace was recorded with other discoveryDetails; what those did not subscribe is not in it"
        );
    }
    Ok(())
}

/// Plays one trace.
struct Player {
    name: String,
    reader: Reader,
    replay: Replay,
    report: Report,
    pace: Pace,
}

impl Player {
    /// Until the end of the trace, or of whoever reads what is printed.
    async fn play(&mut self, lines: &mut Lines, shutdown: &Shutdown) -> anyhow::Result<()> {
        // At full speed nearly nothing below waits, so the signal has to be asked for.
        while !shutdown.is_triggered() {
            let line = lines.next().await.with_context(|| self.name.clone())?;
            let Some(Line { bytes, is_whole }) = line else {
                break;
            };
            let Entry { at, what } = match self.reader.read(bytes) {
                Ok(entry) => entry,
                Err(fault) if !is_whole => {
                    eprintln!(
                        "note: {}: the last line is cut off ({fault}); it is passed over",
                        self.name
                    );
                    return Ok(());
                }
                Err(fault) => return Err(anyhow::anyhow!(fault).context(self.name.clone())),
            };
            if self.step(at, &what).await? == output::Reader::Gone {
                return Ok(());
            }
        }
        if !self.reader.has_ended() && !shutdown.is_triggered() {
            eprintln!(
                "note: {}: the recording was interrupted; what came after its last line is not known",
                self.name
            );
        }
        Ok(())
    }

    async fn step(&mut self, at: Duration, what: &What<'_>) -> anyhow::Result<output::Reader> {
        while let Some(due) = self.replay.next_timer(at) {
            self.pace.wait(due).await;
            let seen = self.replay.wake(due);
            if self.report.changes(&seen)? == output::Reader::Gone {
                return Ok(output::Reader::Gone);
            }
        }
        self.pace.wait(at).await;
        let seen = match what {
            What::Event(server, event) => {
                self.report.note(server, event);
                self.replay.take(at, server, event)
            }
            What::End => self.replay.wake(at),
        };
        Ok(self.report.changes(&seen)?)
    }
}

/// When a time of the trace comes.
#[derive(Clone, Copy)]
struct Pace {
    speed: Speed,
    started: Instant,
}

impl Pace {
    async fn wait(self, at: Duration) {
        let Speed::Times(times) = self.speed else {
            return;
        };
        let after = Duration::try_from_secs_f64(at.as_secs_f64() / times).ok();
        match after.and_then(|after| self.started.checked_add(after)) {
            Some(then) => tokio::time::sleep_until(then.into()).await,
            None => std::future::pending().await,
        }
    }
}
