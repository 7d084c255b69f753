//! What a member of a pool says of itself. In: flags and addresses. Out: where the others reach it and which store
//! it has. How that gets to the others is the pool's.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use akri_mqtt_core::pool::Member;
use serde::{Deserialize, Serialize};

/// The longest name of a host (RFC 1035, 2.3.4).
const MOST_HOST: usize = 253;

/// The members that live. Of one that has not said yet how it is reached, or cannot be understood, there is no more
/// than its name: shards fall to it all the same.
pub type Live = BTreeMap<Member, Option<Peer>>;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Of its gRPC port.
    pub address: Address,
    /// The id of its store.
    pub store: String,
}

/// Host and port by which a member is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// A name or an IP address, without brackets.
    host: String,
    port: u16,
}

/// It is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("allowed: HOST:PORT, such as pool-0.pool:50051, 10.0.0.3:50051 or [fd00::3]:50051")]
pub struct NoAddress;

impl Address {
    /// The host, as a certificate names it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What a process that listens there says: that, unless it is every address; then `pod_ip` with the port.
    #[must_use]
    pub fn of(listens: SocketAddr, pod_ip: Option<&str>) -> Option<Self> {
        let ip = match listens.ip() {
            ip if !ip.is_unspecified() => ip,
            _ => pod_ip?.parse().ok()?,
        };
        Some(Self {
            host: ip.to_string(),
            port: listens.port(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(NoAddress)?;
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let is_host = match bare {
            Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
                (1..=MOST_HOST).contains(&host.len()) && host.chars().all(plain)
            }
        };
        let port = port.parse().ok().filter(|port| *port > 0 && is_host);
        Ok(Self {
            host: bare.unwrap_or(host).to_owned(),
            port: port.ok_or(NoAddress)?,
        })
    }
}

impl TryFrom<String> for Address {
    type Error = NoAddress;

    fn try_from(text: String) -> Result<Self, NoAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, host) in [
            ("pool-0.pool:50051", "pool-0.pool"),
            ("10.0.0.3:1", "10.0.0.3"),
            ("[fd00::3]:50051", "fd00::3"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(
                (address.host(), address.to_string()),
                (host, text.to_owned())
            );
        }
        for text in [
            "",
            "a",
            ":1",
            "a:0",
            "a:",
            "a:65536",
            "fd00::3:1",
            "[a]:1",
            "a/b:1",
            "a b:1",
            "u@a:1",
        ] {
            assert_eq!(text.parse::<Address>(), Err(NoAddress), "{text}");
        }
    }

    #[test]
    fn a_process_that_listens_everywhere_is_reached_by_the_address_of_its_pod() {
        let of =
            |listens: &str, ip| Address::of(listens.parse().unwrap(), ip).map(|a| a.to_string());
        assert_eq!(
            of("127.0.0.1:7", Some("10.0.0.3")).as_deref(),
            Some("127.0.0.1:7")
        );
        assert_eq!(
            of("0.0.0.0:7", Some("10.0.0.3")).as_deref(),
            Some("10.0.0.3:7")
        );
        assert_eq!(
            of("[::]:7", Some("fd00::3")).as_deref(),
            Some("[fd00::3]:7")
        );
        assert_eq!(of("0.0.0.0:7", None), None);
        assert_eq!(of("0.0.0.0:7", Some("")), None);
    }
}
