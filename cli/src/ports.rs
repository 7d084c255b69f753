//! Binds the addresses that are served. In: what the user asked for. Out: bound listeners.
//! An address that was asked for and is taken is an error; a default that is taken gives way to a free port, and that is said.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use akri_mqtt_runtime::exit::UsageError;
use anyhow::Context as _;
use tokio::net::TcpListener;

/// The default port of the HTTP API.
pub const HTTP: u16 = 8080;
/// The default port of the gRPC API.
pub const GRPC: u16 = 50051;

/// A bound listener.
pub struct Bound {
    /// The listener.
    pub listener: TcpListener,
    /// Its address.
    pub address: SocketAddr,
    /// Set when the default port was taken: a sentence about it.
    pub note: Option<String>,
}

/// Binds `wanted`, or the default port on the loopback address, or any free port there. `flag` names the option in messages.
///
/// # Errors
/// The wanted address cannot be bound; exit code 2, since nothing has been started yet.
pub async fn bind(
    wanted: Option<SocketAddr>,
    default_port: u16,
    flag: &str,
) -> anyhow::Result<Bound> {
    let address = wanted.unwrap_or(loopback(default_port));
    match TcpListener::bind(address).await {
        Ok(listener) => bound(listener, None),
        Err(error) if wanted.is_none() && error.kind() == io::ErrorKind::AddrInUse => {
            let listener = TcpListener::bind(loopback(0))
                .await
                .context("no free port on 127.0.0.1")?;
            let free = listener.local_addr()?;
            let note =
                format!("{address} is taken, so {free} is used instead; {flag} chooses another");
            bound(listener, Some(note))
        }
        Err(error) => {
            Err(UsageError::new(format!("cannot listen on {address} ({flag}): {error}")).into())
        }
    }
}

fn bound(listener: TcpListener, note: Option<String>) -> anyhow::Result<Bound> {
    let address = listener.local_addr()?;
    Ok(Bound {
        listener,
        address,
        note,
    })
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_was_asked_for_and_is_taken_is_an_error() {
        let taken = TcpListener::bind(loopback(0)).await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(Some(address), HTTP, "--http").await.err().unwrap();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert!(error.to_string().contains("--http"), "{error}");
    }

    #[tokio::test]
    async fn a_default_that_is_taken_gives_way_and_that_is_said() {
        let taken = TcpListener::bind(loopback(0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let bound = bind(None, port, "--http").await.unwrap();
        assert_ne!(bound.address.port(), port);
        assert!(bound.note.unwrap().contains(&port.to_string()));
    }
}
