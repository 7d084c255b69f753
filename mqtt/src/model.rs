//! Stand-ins for the types of `akri-mqtt-core` until that crate publishes them; same names and fields.

use std::{fmt, sync::Arc};

/// Name of a logical server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName(pub Arc<str>);

/// One logical MQTT server: a list of members in order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// Its members.
    pub urls: Vec<ServerUrl>,
    /// What happens when a member fails.
    pub failover: Failover,
}

/// Address of one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerUrl {
    /// Transport.
    pub scheme: Scheme,
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path, for WebSocket.
    pub path: String,
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Tcp => "tcp",
            Scheme::Tls => "ssl",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}{}", self.host, self.port, self.path)
        } else {
            write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
        }
    }
}

/// Transport of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// What happens when a member fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failover {
    /// Go back to the first when it is back.
    Ordered,
    /// Stay where it is.
    RoundRobin,
}

/// Which protocol versions to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VersionChoice {
    /// 5, then 3.1.1.
    Auto,
    /// Only 5.
    V5,
    /// Only 3.1.1.
    V311,
}

/// Quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QoS {
    /// 0.
    AtMostOnce,
    /// 1.
    AtLeastOnce,
    /// 2.
    ExactlyOnce,
}

/// A value that never shows in Debug.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What to show to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// PEM.
    pub ca_cert: Option<Vec<u8>>,
    /// PEM.
    pub client_cert: Option<Vec<u8>>,
    /// PEM.
    pub client_key: Option<Secret>,
}
