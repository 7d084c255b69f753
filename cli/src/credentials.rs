//! Collects the credentials of a Configuration's servers. In: its `discoveryProperties`, the environment, files.
//! Out: the properties for `Discover`. Which name is for which server is up to the core crate.

use akri_mqtt_runtime::exit::UsageError;

use crate::agent::Properties;
use crate::args::CredentialSources;
use crate::configuration::Configuration;
use crate::properties;

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
            properties
                .0
                .entry(name)
                .or_insert_with(|| value.into_bytes());
        }
    }
    Ok(properties)
}
