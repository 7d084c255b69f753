//! What it takes to run a discovery handler inside this process, for `up`, `demo` and `discover`.
//! In: Configurations and where credentials are. Out: requests, a directory for sockets, a handler's settings.

use std::collections::BTreeSet;
use std::path::PathBuf;

use akri_mqtt_discovery_handler::Config;
use akri_mqtt_runtime::UsageError;
use anyhow::Context as _;
use tempfile::TempDir;

use crate::agent::Request;
use crate::args::CredentialSources;
use crate::configuration::{Configuration, HANDLER};
use crate::credentials;

/// What to ask the handler for, in the order of the Configurations.
///
/// # Errors
/// Credentials that cannot be found: exit code 2.
pub fn requests(
    configurations: &[Configuration],
    sources: &CredentialSources,
) -> Result<Vec<Request>, UsageError> {
    configurations
        .iter()
        .map(|configuration| {
            Ok(Request {
                handler: HANDLER.to_owned(),
                details: configuration.details_text.clone(),
                properties: credentials::collect(configuration, sources, std::env::vars())?,
            })
        })
        .collect()
}

/// A directory for sockets that is the user's alone; its path is short, as those of sockets have to be.
///
/// # Errors
/// It cannot be made.
pub fn socket_directory() -> anyhow::Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("akri-mqtt-").tempdir();
    directory.context("cannot make a temporary directory for sockets")
}

/// A handler that is served by [`crate::agent::Agent`] in the same process.
pub fn handler_config(sockets: PathBuf, sources: &CredentialSources) -> Config {
    Config {
        credentials_dir: sources.credentials_dir.clone(),
        credentials_hosts: hosts(sources),
        ..Config::in_process(sockets)
    }
}

/// The hosts that files without a server in their names may be sent to, in lower case.
pub fn hosts(sources: &CredentialSources) -> BTreeSet<String> {
    let hosts = sources.credentials_hosts.iter();
    hosts.map(|host| host.trim().to_ascii_lowercase()).collect()
}
