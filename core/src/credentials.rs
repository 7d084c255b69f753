//! User names, passwords, certificates and keys for one MQTT server. In: maps of names to bytes,
//! from `discoveryProperties` and from a directory. Out: what to present to the server.
//! Nothing here can be printed by accident: secrets show as `***`, also in errors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::details::Server;

/// The longest user name or password that MQTT can carry, in bytes (MQTT 5.0, 3.1.3.5).
const MAX_LENGTH: usize = 65_535;

/// Bytes that are never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for the one place that sends them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What to present to a server.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// User name.
    pub username: Option<String>,
    /// Password; only with a user name.
    pub password: Option<Secret>,
    /// Certificates of the authorities to trust, PEM; none: those of the system.
    pub ca_cert: Option<Vec<u8>>,
    /// The client's certificate chain, PEM; only with a key.
    pub client_cert: Option<Vec<u8>>,
    /// The client's private key, PEM; only with a certificate.
    pub client_key: Option<Secret>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |there: bool| if there { "***" } else { "none" };
        f.debug_struct("Credentials")
            .field("username", &hidden(self.username.is_some()))
            .field("password", &hidden(self.password.is_some()))
            .field("ca_cert", &self.ca_cert.as_ref().map(Vec::len))
            .field("client_cert", &self.client_cert.as_ref().map(Vec::len))
            .field("client_key", &hidden(self.client_key.is_some()))
            .finish()
    }
}

/// Names with their values, as they come from a Secret.
pub type Values = BTreeMap<String, Vec<u8>>;

/// Where credentials may come from; the first source that has any of a pair gives both of it.
#[derive(Clone, Default)]
pub struct Sources<'a> {
    /// `discoveryProperties`, or the environment of a monitoring broker.
    pub properties: Option<&'a Values>,
    /// The files of `--credentials-dir`.
    pub files: Option<&'a Values>,
    /// The hosts to which plain names of the files may be sent.
    pub hosts: Hosts,
    /// Whether the names of the earlier MQTT handler count (`mqtt_broker_username`, …).
    pub legacy: bool,
}

impl fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |values: Option<&Values>| values.map(|v| v.keys().cloned().collect::<Vec<_>>());
        f.debug_struct("Sources")
            .field("properties", &names(self.properties))
            .field("files", &names(self.files))
            .field("hosts", &self.hosts)
            .field("legacy", &self.legacy)
            .finish()
    }
}

/// `--credentials-hosts`: a Configuration must not be able to send credentials elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Any host; for the monitoring broker, whose servers its operator chose.
    Any,
    /// These hosts, in lower case.
    Only(BTreeSet<String>),
}

impl Default for Hosts {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

impl Hosts {
    /// Whether every member of `server` is allowed.
    fn allow(&self, server: &Server) -> bool {
        match self {
            Self::Any => true,
            Self::Only(hosts) => server.urls.iter().all(|url| hosts.contains(&url.host)),
        }
    }
}

/// What is wrong with credentials. Names only, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CredentialError {
    #[error("{there} is set for server {server}, but {missing} is not; set both or neither")]
    HalfPair {
        server: String,
        there: &'static str,
        missing: &'static str,
    },
    #[error("{name} for server {server} is not UTF-8 text without null characters")]
    NotText { server: String, name: &'static str },
    #[error("{name} for server {server} is longer than {MAX_LENGTH} bytes")]
    TooLong { server: String, name: &'static str },
    #[error("{name} for server {server} is empty; give it a value or leave it out")]
    Empty { server: String, name: &'static str },
}

/// One credential: its name, and its name in the earlier MQTT handler.
#[derive(Clone, Copy)]
struct Name {
    plain: &'static str,
    legacy: &'static str,
}

const USERNAME: Name = Name {
    plain: "MQTT_USERNAME",
    legacy: "mqtt_broker_username",
};
const PASSWORD: Name = Name {
    plain: "MQTT_PASSWORD",
    legacy: "mqtt_broker_password",
};
const CA_CERT: Name = Name {
    plain: "MQTT_CA_CERT",
    legacy: "mqtt_broker_ca",
};
const CLIENT_CERT: Name = Name {
    plain: "MQTT_CLIENT_CERT",
    legacy: "mqtt_broker_certificate",
};
const CLIENT_KEY: Name = Name {
    plain: "MQTT_CLIENT_KEY",
    legacy: "mqtt_broker_key",
};

impl Credentials {
    /// The credentials for `server`: names with the server's suffix before plain ones, properties
    /// before files. One line break at the end of a user name or password is not part of it,
    /// because editors and `echo` leave one in files.
    ///
    /// # Errors
    /// Half of a pair, or a value that MQTT cannot carry.
    pub fn resolve(server: &Server, sources: &Sources<'_>) -> Result<Self, CredentialError> {
        let [username, password] = sources.group(server, [USERNAME, PASSWORD]);
        let [ca_cert] = sources.group(server, [CA_CERT]);
        let [client_cert, client_key] = sources.group(server, [CLIENT_CERT, CLIENT_KEY]);
        let check = Check(server);
        check.together((PASSWORD, password), (USERNAME, username))?;
        check.together((CLIENT_CERT, client_cert), (CLIENT_KEY, client_key))?;
        check.together((CLIENT_KEY, client_key), (CLIENT_CERT, client_cert))?;
        check.full(CA_CERT, ca_cert)?;
        check.full(CLIENT_CERT, client_cert)?;
        check.full(CLIENT_KEY, client_key)?;
        let username = check.text(USERNAME, check.sized(USERNAME, username)?)?;
        let password = check.sized(PASSWORD, password)?;
        // A Secret whose keys are there but empty means that nobody logs in.
        let anonymous = username.as_deref() == Some("") && password.is_none_or(<[u8]>::is_empty);
        Ok(Self {
            username: username.filter(|_| !anonymous),
            password: password.filter(|_| !anonymous).map(Secret::new),
            ca_cert: ca_cert.map(<[u8]>::to_vec),
            client_cert: client_cert.map(<[u8]>::to_vec),
            client_key: client_key.map(Secret::new),
        })
    }
}

/// The checks of one server's values.
struct Check<'s>(&'s Server);

impl Check<'_> {
    /// Where the first is, the second must be.
    fn together(
        &self,
        there: (Name, Option<&[u8]>),
        other: (Name, Option<&[u8]>),
    ) -> Result<(), CredentialError> {
        if there.1.is_none() || other.1.is_some() {
            return Ok(());
        }
        Err(CredentialError::HalfPair {
            server: self.0.name.to_string(),
            there: there.0.plain,
            missing: other.0.plain,
        })
    }

    fn full(&self, name: Name, value: Option<&[u8]>) -> Result<(), CredentialError> {
        if value.is_none_or(|v| !v.trim_ascii().is_empty()) {
            return Ok(());
        }
        let server = self.0.name.to_string();
        Err(CredentialError::Empty {
            server,
            name: name.plain,
        })
    }

    fn sized<'v>(
        &self,
        name: Name,
        value: Option<&'v [u8]>,
    ) -> Result<Option<&'v [u8]>, CredentialError> {
        let value = value.map(without_line_break);
        if value.is_none_or(|v| v.len() <= MAX_LENGTH) {
            return Ok(value);
        }
        let server = self.0.name.to_string();
        Err(CredentialError::TooLong {
            server,
            name: name.plain,
        })
    }

    fn text(&self, name: Name, value: Option<&[u8]>) -> Result<Option<String>, CredentialError> {
        match value.map(str::from_utf8) {
            None => Ok(None),
            Some(Ok(text)) if !text.contains('\0') => Ok(Some(text.to_owned())),
            Some(_) => {
                let server = self.0.name.to_string();
                Err(CredentialError::NotText {
                    server,
                    name: name.plain,
                })
            }
        }
    }
}

impl<'a> Sources<'a> {
    /// Names in the files that carry the suffix of `server`, although `hosts` does not list where it is.
    /// They are sent all the same; but whoever writes a Configuration chooses both name and host of a server.
    #[must_use]
    pub fn unlisted(&self, server: &Server) -> Vec<String> {
        let Some(files) = self.files.filter(|_| !self.hosts.allow(server)) else {
            return Vec::new();
        };
        [USERNAME, PASSWORD, CLIENT_CERT, CLIENT_KEY]
            .map(|name| suffixed(name, server))
            .into_iter()
            .filter(|name| files.contains_key(name))
            .collect()
    }

    /// The values of credentials that belong together, out of the first source that has any.
    fn group<const N: usize>(&self, server: &Server, names: [Name; N]) -> [Option<&'a [u8]>; N] {
        let of_properties = names.map(|name| {
            self.properties
                .and_then(|v| find(v, server, name, true, self.legacy))
        });
        if of_properties.iter().any(Option::is_some) {
            return of_properties;
        }
        let plain = self.hosts.allow(server);
        names.map(|name| {
            self.files
                .and_then(|v| find(v, server, name, plain, self.legacy))
        })
    }
}

fn suffixed(name: Name, server: &Server) -> String {
    format!("{}_{}", name.plain, server.name.env_suffix())
}

fn find<'a>(
    values: &'a Values,
    server: &Server,
    name: Name,
    plain: bool,
    legacy: bool,
) -> Option<&'a [u8]> {
    values
        .get(&suffixed(name, server))
        .or_else(|| values.get(name.plain).filter(|_| plain))
        .or_else(|| values.get(name.legacy).filter(|_| plain && legacy))
        .map(Vec::as_slice)
}

fn without_line_break(value: &[u8]) -> &[u8] {
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    value.strip_suffix(b"\r").unwrap_or(value)
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
