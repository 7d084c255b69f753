//! Where a process listens. In: the environment and an address. Out: a bound socket.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use crate::exit::UsageError;

/// Whether this process runs in a pod; the kubelet sets `KUBERNETES_SERVICE_HOST` in each.
#[must_use]
pub fn in_pod() -> bool {
    in_pod_by(std::env::var_os("KUBERNETES_SERVICE_HOST").as_deref())
}

/// The default address of a port: every interface in a pod, only loopback anywhere else.
#[must_use]
pub fn default_listen(port: u16) -> SocketAddr {
    listen_on(in_pod(), port)
}

/// Binds `address` for the flag `flag` (`"--admin"`), which the error names.
///
/// # Errors
/// When the address is taken, not of this machine, or not permitted.
pub async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, UsageError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| UsageError::new(format!("{flag}: cannot listen on {address}: {error}")))
}

fn in_pod_by(service_host: Option<&OsStr>) -> bool {
    service_host.is_some_and(|host| !host.is_empty())
}

fn listen_on(in_pod: bool, port: u16) -> SocketAddr {
    let ip = if in_pod {
        Ipv4Addr::UNSPECIFIED
    } else {
        Ipv4Addr::LOCALHOST
    };
    SocketAddr::new(IpAddr::V4(ip), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_known_by_its_service_host() {
        assert!(in_pod_by(Some(OsStr::new("10.96.0.1"))));
        assert!(!in_pod_by(Some(OsStr::new(""))));
        assert!(!in_pod_by(None));
    }

    #[test]
    fn only_a_pod_listens_on_every_interface() {
        assert_eq!(listen_on(false, 8081).to_string(), "127.0.0.1:8081");
        assert_eq!(listen_on(true, 8081).to_string(), "0.0.0.0:8081");
    }

    #[tokio::test]
    async fn taken_address_is_an_error_with_flag_and_address() {
        let first = bind("--admin", listen_on(false, 0)).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind("--admin", address).await.unwrap_err();
        let start = format!("--admin: cannot listen on {address}: ");
        assert!(error.to_string().starts_with(&start), "{error}");
        assert_eq!(crate::exit::code_of(&error.into()), crate::exit::USAGE);
    }
}
