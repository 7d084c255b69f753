//! `akri-mqtt up`: the devices of Configurations on their real MQTT servers. In: files, addresses, a data directory.
//! Out: served data, and a line for each device that comes or goes. The engine does the work, here it is set up.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use akri_mqtt_monitoring_broker::sink::SinkUrls;
use akri_mqtt_monitoring_broker::talk::TalkOptions;
use akri_mqtt_runtime::Shutdown;
use akri_mqtt_runtime::exit::UsageError;

use crate::args::Up;
use crate::browser;
use crate::configuration;
use crate::engine::{Engine, Setup};
use crate::ports::{self, Bound};
use crate::report::{Reporter, Style};

/// Runs it until it is told to stop.
///
/// # Errors
/// Wrong Configurations, addresses or directories (exit code 2), or a part of the process failed.
pub async fn run(arguments: &Up, shutdown: &Shutdown) -> anyhow::Result<()> {
    let (configurations, notes) = configuration::runnable(&arguments.files)?;
    let sinks =
        SinkUrls::parse_all(&arguments.sink).map_err(|error| UsageError::new(error.to_string()))?;
    let data_dir = data_dir(arguments.data_dir.clone())?;
    let _lock = lock(&data_dir)?;
    let http = ports::bind(arguments.http, ports::HTTP, "--http").await?;
    let grpc = ports::bind(arguments.grpc, ports::GRPC, "--grpc").await?;
    for note in notes.iter().chain(&http.note).chain(&grpc.note) {
        eprintln!("note: {note}");
    }
    let address = http.address;
    let is_encrypted = arguments.access.tls_cert.is_some();
    let places = serving(&http, &grpc, &data_dir, is_encrypted);
    let setup = Setup {
        configurations: &configurations,
        credentials: &arguments.credentials,
        data_dir: &data_dir,
        sinks,
        http: http.listener,
        grpc: grpc.listener,
        access: arguments.access.files(),
        talk: TalkOptions {
            allow_publish: arguments.allow_publish.clone(),
            announce: arguments.announce_topic.clone(),
        },
    };
    let mut engine = Engine::start(setup).await?;
    eprintln!("{places}");
    if arguments.open {
        browser::open(address);
    }
    let mut reporter = Reporter::new(if arguments.json {
        Style::Json
    } else {
        Style::Lines { messages: false }
    });
    let result = engine.run(&mut reporter, &mut None, None, shutdown).await;
    result.and(engine.stop().await)
}

fn serving(http: &Bound, grpc: &Bound, data_dir: &Path, is_encrypted: bool) -> String {
    let http = http.address;
    let scheme = if is_encrypted { "https" } else { "http" };
    format!(
        "Dashboard {scheme}://{http}/\nHTTP API  {scheme}://{http}/v1/devices\ngRPC API  grpc://{}  (akri_mqtt.monitoring.v1.Monitoring)\nData      {}",
        grpc.address,
        data_dir.display()
    )
}

/// The directory that was given, else the one for a user's data (XDG Base Directory Specification).
fn data_dir(given: Option<PathBuf>) -> Result<PathBuf, UsageError> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let data_home = || {
        std::env::var_os("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let directory = given
        .or_else(|| data_home().or_else(home).map(|base| base.join("akri-mqtt")))
        .ok_or_else(|| UsageError::new("neither XDG_DATA_HOME nor HOME is set: give --data-dir"))?;
    std::fs::create_dir_all(&directory).map_err(|error| {
        UsageError::new(format!(
            "cannot make {} (--data-dir): {error}",
            directory.display()
        ))
    })?;
    Ok(directory)
}

/// Held while the process runs: two of them on one store would damage each other's sessions.
fn lock(directory: &Path) -> Result<File, UsageError> {
    let path = directory.join("lock");
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            ErrorKind::WouldBlock => {
                "another akri-mqtt uses this directory; give this one a --data-dir of its own"
                    .to_owned()
            }
            _ => error.to_string(),
        };
        UsageError::new(format!("cannot lock {}: {hint}", path.display()))
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    file.try_lock().map_err(|error| failed(error.into()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_used_by_one_process_only() {
        let directory = tempfile::tempdir().unwrap();
        let first = lock(directory.path()).unwrap();
        let second = lock(directory.path()).unwrap_err();
        assert!(second.to_string().contains("--data-dir"), "{second}");
        drop(first);
        lock(directory.path()).unwrap();
    }
}
