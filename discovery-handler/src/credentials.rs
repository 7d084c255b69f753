//! Where the credentials of a session come from, and when they change.
//! In: `discoveryProperties` and the files of `--credentials-dir`. Out: what to present to a server.
//! Which names count, and which wins, is decided by `core::credentials`; when files have changed, by
//! `runtime::mounted`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use akri_mqtt_core::credentials::{CredentialError, Credentials, Hosts, Sources, Values};
use akri_mqtt_core::details::Server;
use akri_mqtt_proto::akri::ByteData;
use akri_mqtt_runtime::Shutdown;
use akri_mqtt_runtime::mounted::{self, Mounted};
use akri_mqtt_session::check_credentials;
use tokio::sync::watch;

/// What the names of credentials start with.
const PREFIX: &str = "MQTT_";
/// What the names of the earlier MQTT handler start with.
const LEGACY_PREFIX: &str = "mqtt_broker_";
/// What the names start with of credentials that say who it is and are no secret.
const USER: [&str; 4] = [
    "MQTT_USERNAME",
    "MQTT_CLIENT_CERT",
    "mqtt_broker_username",
    "mqtt_broker_certificate",
];
/// The property with which a caller says how large a response it takes.
pub const MAX_RESPONSE: &str = "AKRI_MQTT_MAX_RESPONSE";

fn is_credential(name: &str) -> bool {
    name.starts_with(PREFIX) || name.starts_with(LEGACY_PREFIX)
}

/// The credential part of a request's `discoveryProperties`. Never shown.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Properties(Arc<Values>);

impl Properties {
    /// Keeps what may be a credential.
    #[must_use]
    pub fn of(properties: &BTreeMap<String, ByteData>) -> Self {
        let values = properties
            .iter()
            .filter(|(name, _)| is_credential(name))
            .map(|(name, data)| (name.clone(), data.vec.clone().unwrap_or_default().to_vec()))
            .collect();
        Self(Arc::new(values))
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let values = self.0.iter();
        values.map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// Those that say who it is: what stays when a password changes.
    pub fn user(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter()
            .filter(|(name, _)| USER.iter().any(|known| name.starts_with(known)))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The files of `--credentials-dir`, read again and again.
#[derive(Clone)]
pub struct Files {
    hosts: Hosts,
    mounted: watch::Receiver<Mounted>,
}

impl Files {
    /// No directory.
    #[must_use]
    pub fn none() -> Self {
        Self {
            hosts: Hosts::default(),
            mounted: watch::channel(Mounted::default()).1,
        }
    }

    /// Reads the directory now, and gives the task that keeps on reading it.
    pub fn watch(
        directory: PathBuf,
        hosts: BTreeSet<String>,
        shutdown: Shutdown,
    ) -> (Self, impl Future<Output = anyhow::Result<()>> + Send) {
        let (mounted, reading) = mounted::watch(directory, is_credential, shutdown);
        let hosts = Hosts::Only(hosts);
        (Self { hosts, mounted }, reading)
    }

    /// What to present to a server, from these files and a request's properties.
    ///
    /// # Errors
    /// Half of a pair, or a value that MQTT cannot carry.
    pub fn resolve(
        &self,
        server: &Server,
        properties: &Properties,
        legacy: bool,
    ) -> Result<Credentials, CredentialError> {
        let files = self.contents();
        let sources = Sources {
            properties: Some(&properties.0),
            files: Some(&files),
            hosts: self.hosts.clone(),
            legacy,
        };
        Credentials::resolve(server, &sources)
    }

    /// What to present from now on, where something that works would make room for it: a certificate that was cut must
    /// not end a connection that is good.
    ///
    /// # Errors
    /// As [`Files::resolve`], and a certificate or key that cannot be used.
    pub fn resolve_usable(
        &self,
        server: &Server,
        properties: &Properties,
        legacy: bool,
    ) -> Result<Credentials, String> {
        let resolved = self.resolve(server, properties, legacy);
        let credentials = resolved.map_err(|error| error.to_string())?;
        check_credentials(&credentials).map_err(|error| error.to_string())?;
        Ok(credentials)
    }

    /// Names in the files for this server, although `--credentials-hosts` does not list its hosts.
    #[must_use]
    pub fn unlisted(&self, server: &Server) -> Vec<String> {
        let files = self.contents();
        let sources = Sources {
            files: Some(&files),
            hosts: self.hosts.clone(),
            ..Sources::default()
        };
        sources.unlisted(server)
    }

    /// How many files there are, or why they cannot be read now; then what was read before holds.
    ///
    /// # Errors
    /// See above; without a secret.
    pub fn readable(&self) -> Result<usize, String> {
        let now = self.mounted.borrow();
        match &now.trouble {
            None => Ok(now.contents.len()),
            Some(trouble) => Err(trouble.clone()),
        }
    }

    fn contents(&self) -> Arc<Values> {
        Arc::clone(&self.mounted.borrow().contents)
    }

    /// Waits until a file has changed, or can be read again or no more.
    pub async fn changed(&mut self) {
        if self.mounted.changed().await.is_err() {
            // Without a directory nothing ever changes.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_credentials_are_kept_and_no_value_is_shown() {
        let data = |text: &str| ByteData {
            vec: Some(text.as_bytes().to_vec().into()),
        };
        let properties = Properties::of(&BTreeMap::from([
            ("MQTT_PASSWORD".to_owned(), data("s3cret")),
            ("OTHER".to_owned(), data("x")),
            (MAX_RESPONSE.to_owned(), data("1")),
        ]));
        assert_eq!(format!("{properties:?}"), r#"{"MQTT_PASSWORD"}"#);
    }
}
