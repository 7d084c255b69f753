//! Collects the credentials of a Configuration's servers. In: its `discoveryProperties`, the environment, files.
//! Out: properties for `Discover`, and for each server what its monitors present.
//! Which name is for which server is up to the core crate.

use std::collections::BTreeMap;

use akri_mqtt_core::credentials::{CredentialError, Credentials};
use akri_mqtt_core::details::Server;
use akri_mqtt_core::identity::ServerName;
use akri_mqtt_discovery_handler::credentials as handler;
use akri_mqtt_proto::akri::ByteData;
use akri_mqtt_runtime::exit::UsageError;
use tokio::sync::watch;
use tracing::warn;

use crate::agent::Properties;
use crate::args::CredentialSources;
use crate::configuration::Configuration;
use crate::properties;
use crate::roster::Template;

/// The names that are taken from the environment; each also with `_<SERVER_NAME>`.
const NAMES: [&str; 5] = [
    "MQTT_USERNAME",
    "MQTT_PASSWORD",
    "MQTT_CA_CERT",
    "MQTT_CLIENT_CERT",
    "MQTT_CLIENT_KEY",
];

/// The discovery properties of a Configuration, and under them those of the environment.
///
/// # Errors
/// A reference to a Secret that leads nowhere: exit code 2.
pub fn collect(
    configuration: &Configuration,
    sources: &CredentialSources,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Properties, UsageError> {
    let secrets = sources.secrets_dir.as_deref();
    let mut properties = properties::resolve(&configuration.discovery_properties, secrets)?;
    for (name, value) in environment {
        let wanted = NAMES.iter().any(|known| {
            let rest = name.strip_prefix(known);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        });
        if wanted && !value.is_empty() {
            let value = value.into_bytes();
            properties.0.entry(name).or_insert(value);
        }
    }
    Ok(properties)
}

/// What the monitors of one Configuration have to choose from.
struct Values {
    properties: handler::Properties,
    legacy: bool,
}

/// A server of a Configuration, and what is presented to it.
struct Account {
    server: Server,
    credentials: watch::Sender<Credentials>,
}

/// What monitors present to their servers: the same as the discovery handler, or what `brokerProperties` say.
pub struct Accounts {
    files: handler::Files,
    values: Vec<Values>,
    /// By Configuration and server, so as many as there are of these.
    accounts: BTreeMap<(usize, ServerName), Account>,
}

impl Accounts {
    /// Those of Configurations with these templates and discovery properties, with files underneath.
    pub fn new(templates: &[Template], properties: &[Properties], files: handler::Files) -> Self {
        let values = templates
            .iter()
            .zip(properties)
            .map(|(template, properties)| {
                let own = template.properties.iter();
                let own = own.map(|(name, value)| (name, value.clone().into_bytes()));
                let all = properties
                    .0
                    .iter()
                    .map(|(name, value)| (name, value.clone()));
                let all = all.chain(own).map(|(name, value)| {
                    let vec = Some(value.into());
                    (name.clone(), ByteData { vec })
                });
                Values {
                    properties: handler::Properties::of(&all.collect()),
                    legacy: template.legacy,
                }
            });
        Self {
            files,
            values: values.collect(),
            accounts: BTreeMap::new(),
        }
    }

    /// What to present to a server of a Configuration, now and whenever a file changes.
    ///
    /// # Errors
    /// Half of a pair, or a value that MQTT cannot carry.
    pub fn of(
        &mut self,
        configuration: usize,
        server: &Server,
    ) -> Result<watch::Receiver<Credentials>, CredentialError> {
        let key = (configuration, server.name.clone());
        if let Some(account) = self.accounts.get(&key) {
            return Ok(account.credentials.subscribe());
        }
        let (credentials, receiver) = watch::channel(self.resolve(configuration, server)?);
        let server = server.clone();
        self.accounts.insert(
            key,
            Account {
                server,
                credentials,
            },
        );
        Ok(receiver)
    }

    /// Waits until a file has changed, and passes the change on.
    pub async fn follow_files(&mut self) {
        self.files.changed().await;
        for ((configuration, name), account) in &self.accounts {
            let Some(values) = self.values.get(*configuration) else {
                continue;
            };
            let (properties, legacy) = (&values.properties, values.legacy);
            let usable = self
                .files
                .resolve_usable(&account.server, properties, legacy);
            match usable {
                Ok(now) => {
                    account.credentials.send_if_modified(|before| {
                        let differs = *before != now;
                        *before = now;
                        differs
                    });
                }
                Err(error) => {
                    warn!(server = %name, %error, "changed credentials cannot be used; the old ones stay");
                }
            }
        }
    }

    fn resolve(
        &self,
        configuration: usize,
        server: &Server,
    ) -> Result<Credentials, CredentialError> {
        match self.values.get(configuration) {
            Some(values) => self
                .files
                .resolve(server, &values.properties, values.legacy),
            None => Ok(Credentials::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use akri_mqtt_core::details::Details;

    use super::*;

    fn template(name: &str, value: &str) -> Template {
        Template {
            properties: [(name.to_owned(), value.to_owned())].into(),
            ..Template::default()
        }
    }

    fn discovered(user: &str) -> Properties {
        let user = ("MQTT_USERNAME".to_owned(), user.as_bytes().to_vec());
        Properties([user].into())
    }

    #[test]
    fn a_monitor_presents_what_the_handler_does_unless_broker_properties_say_otherwise() {
        let details = Details::parse("serverUrls: [tcp://h:1]\ntopics: [a]\n").unwrap();
        let server = &details.servers[0];
        let templates = [template("SITE", "north"), template("MQTT_USERNAME", "pod")];
        let properties = [discovered("handler"), discovered("handler")];
        let mut accounts = Accounts::new(&templates, &properties, handler::Files::none());
        let user = |accounts: &mut Accounts, index| {
            accounts
                .of(index, server)
                .unwrap()
                .borrow()
                .username
                .clone()
        };
        assert_eq!(user(&mut accounts, 0).as_deref(), Some("handler"));
        assert_eq!(user(&mut accounts, 1).as_deref(), Some("pod"));
        assert_eq!(accounts.accounts.len(), 2);
    }
}
