//! MQTT servers and their URLs. In: text such as `ssl://mqtt.example.com:8883`. Out: scheme, host
//! and port, checked. Opens nothing and resolves nothing. No error repeats a secret.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::identity::ServerName;

/// The longest host name (RFC 1035, 2.3.4).
const MAX_HOST: usize = 253;
/// The longest path of a WebSocket URL.
const MAX_PATH: usize = 1024;

/// How the connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Plain TCP.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Scheme {
    /// As it stands in a canonical URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "ssl",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// The port that is meant where none is written.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Tcp => 1883,
            Self::Tls => 8883,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }

    /// Whether it is encrypted.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" | "mqtt" => Some(Self::Tcp),
            "ssl" | "tls" | "mqtts" => Some(Self::Tls),
            "ws" => Some(Self::Ws),
            "wss" => Some(Self::Wss),
            _ => None,
        }
    }
}

/// Where one member of a logical MQTT server listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerUrl {
    /// How to connect.
    pub scheme: Scheme,
    /// Host name in lower case, or an address; IPv6 without brackets.
    pub host: String,
    /// TCP port, not 0.
    pub port: u16,
    /// With `ws` and `wss` the path, which starts with `/`; else empty.
    pub path: String,
}

/// Why a text is no URL of an MQTT server. No message repeats what could be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum UrlError {
    #[error(
        "a URL has the form `<scheme>://<host>:<port>` with tcp, mqtt, ssl, tls, mqtts, ws or wss"
    )]
    NoScheme,
    #[error(
        "the scheme `{0}` is unknown; allowed are tcp, mqtt (1883), ssl, tls, mqtts (8883), ws (80), wss (443)"
    )]
    UnknownScheme(String),
    #[error(
        "a URL must not contain credentials; put them into the discoveryProperties MQTT_USERNAME and MQTT_PASSWORD, \
         best from a Secret, or into --credentials-dir"
    )]
    Credentials,
    #[error("there is no host; write `<scheme>://<host>:<port>`")]
    NoHost,
    #[error(
        "the host `{0}` is neither a DNS name nor an IPv4 address, nor an IPv6 address in brackets"
    )]
    Host(String),
    #[error("an IPv6 address stands in brackets, as in `tcp://[::1]:1883`")]
    Ipv6,
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error("`{0}` URLs have no path; only ws and wss do")]
    Path(&'static str),
    #[error("a path has up to {MAX_PATH} printable ASCII characters")]
    BadPath,
    #[error(
        "a URL must have no `?` or `#` part; user names and tokens go into the discoveryProperties"
    )]
    Query,
}

impl ServerUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, without any part that could be secret.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.contains('@') {
            return Err(UrlError::Credentials);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::NoScheme)?;
        let scheme =
            Scheme::parse(scheme).ok_or_else(|| UrlError::UnknownScheme(shortened(scheme)))?;
        if rest.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = split_port(authority)?;
        let port = match port {
            None => scheme.default_port(),
            Some(port) => parse_port(port)?,
        };
        let path = match scheme {
            Scheme::Ws | Scheme::Wss => parse_path(path)?,
            Scheme::Tcp | Scheme::Tls if matches!(path, "" | "/") => String::new(),
            Scheme::Tcp | Scheme::Tls => return Err(UrlError::Path(scheme.as_str())),
        };
        Ok(Self {
            scheme,
            host,
            port,
            path,
        })
    }
}

fn split_port(authority: &str) -> Result<(String, Option<&str>), UrlError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(UrlError::Ipv6)?;
        let address: Ipv6Addr = host.parse().map_err(|_| UrlError::Host(shortened(host)))?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((address.to_string(), Some(port))),
            None if rest.is_empty() => Ok((address.to_string(), None)),
            None => Err(UrlError::Port),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => return Err(UrlError::Ipv6),
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    Ok((parse_host(host)?, port))
}

fn parse_host(host: &str) -> Result<String, UrlError> {
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    let looks_like_ipv4 = name.chars().all(|c| c.is_ascii_digit() || c == '.');
    let good = host.len() <= MAX_HOST
        && name.split('.').all(label)
        && (!looks_like_ipv4 || name.parse::<Ipv4Addr>().is_ok());
    if good {
        Ok(host.to_ascii_lowercase())
    } else {
        Err(UrlError::Host(shortened(host)))
    }
}

fn parse_port(port: &str) -> Result<u16, UrlError> {
    let digits = !port.is_empty() && port.len() <= 5 && port.chars().all(|c| c.is_ascii_digit());
    // What stands there could be a password whose `@` was forgotten, so it is not repeated.
    match port.parse::<u16>() {
        Ok(number) if digits && number > 0 => Ok(number),
        _ => Err(UrlError::Port),
    }
}

fn parse_path(path: &str) -> Result<String, UrlError> {
    if path.is_empty() {
        return Ok("/".to_owned());
    }
    let good = path.len() <= MAX_PATH
        && path
            .chars()
            .all(|c| c.is_ascii_graphic() && !matches!(c, ',' | '"'));
    if good {
        Ok(path.to_owned())
    } else {
        Err(UrlError::BadPath)
    }
}

/// The beginning of what was found.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_str();
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}{}", self.host, self.port, self.path)
        } else {
            write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
        }
    }
}

/// What to do when the preferred member of a failover list is back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Failover {
    /// Go back to it.
    #[default]
    Ordered,
    /// Stay where the session is.
    RoundRobin,
}

impl Failover {
    /// As the Configuration writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::RoundRobin => "roundRobin",
        }
    }
}

/// One logical MQTT server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Part of every device's id.
    pub name: ServerName,
    /// Its members in order of preference; at least one.
    pub urls: Vec<ServerUrl>,
    /// How to choose among them.
    pub failover: Failover,
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
