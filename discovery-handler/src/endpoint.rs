//! The listener of the Discover service: a Unix socket in the Agent's directory, or a network address.
//! In: where to listen. Out: a bound listener and the endpoint to register. Serving is left to `service`.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use akri_mqtt_proto::akri::register_discovery_handler_request::EndpointType;
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last of which is zero.
pub const MAX_SOCKET_PATH: usize = 107;
/// The Agent runs as root, an agentless controller in our pod with our group.
const SOCKET_MODE: u32 = 0o660;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A Unix socket in the handlers' directory.
    Unix,
    /// A network address, and the URL to register when it is not `http://<pod ip>:<port>`.
    Network {
        /// Address to bind.
        address: SocketAddr,
        /// URL that the Agent calls.
        advertise: Option<String>,
        /// `$POD_IP`: host of the URL when `advertise` is not given.
        pod_ip: Option<String>,
    },
}

/// Why there is no listener.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// The path does not fit into a socket address.
    #[error(
        "the socket path {path} has {length} bytes and may have {MAX_SOCKET_PATH}: choose a shorter --directory, --name or --instance"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its bytes.
        length: usize,
    },
    /// Another process answers on the socket.
    #[error("another process serves {path}: choose another --instance")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something else than a socket has the name.
    #[error("{path} is not a socket: remove it, or choose another --instance")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// No URL to register.
    #[error("--endpoint network with the listening address {address} needs $POD_IP or --advertise")]
    NothingToAdvertise {
        /// The address.
        address: SocketAddr,
    },
    /// The system refused.
    #[error("cannot listen on {what}")]
    Io {
        /// Path or address.
        what: String,
        /// What the system answered.
        source: io::Error,
    },
}

/// A bound listener.
#[derive(Debug)]
pub enum Bound {
    /// On a Unix socket, whose file goes when this is dropped.
    Unix(UnixListener, SocketFile),
    /// On a network address.
    Network(TcpListener, String),
}

/// A socket file of ours.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl SocketFile {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed with its directory.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Bound {
    /// Binds the socket `<name>-<instance>.sock`, or the network address.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub async fn bind(
        listen: &Listen,
        directory: &Path,
        name: &str,
        instance: &str,
    ) -> Result<Self, EndpointError> {
        match listen {
            Listen::Unix => {
                let path = directory.join(format!("{name}-{instance}.sock"));
                bind_unix(path).await
            }
            Listen::Network {
                address,
                advertise,
                pod_ip,
            } => {
                let (listener, local) = bind_network(*address).await?;
                let url = match (advertise, pod_ip) {
                    (Some(url), _) => url.clone(),
                    (None, Some(ip)) if ip.contains(':') => {
                        format!("http://[{ip}]:{}", local.port())
                    }
                    (None, Some(ip)) => format!("http://{ip}:{}", local.port()),
                    (None, None) if !local.ip().is_unspecified() => format!("http://{local}"),
                    (None, None) => {
                        return Err(EndpointError::NothingToAdvertise { address: local });
                    }
                };
                Ok(Self::Network(listener, url))
            }
        }
    }

    /// What to register: socket path or URL, and which of the two.
    #[must_use]
    pub fn endpoint(&self) -> (String, EndpointType) {
        match self {
            Self::Unix(_, file) => (file.0.display().to_string(), EndpointType::Uds),
            Self::Network(_, url) => (url.clone(), EndpointType::Network),
        }
    }
}

async fn bind_unix(path: PathBuf) -> Result<Bound, EndpointError> {
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(EndpointError::PathTooLong { path, length });
    }
    let failed = |source: io::Error| EndpointError::Io {
        what: path.display().to_string(),
        source,
    };
    remove_stale(&path).await?;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    let permissions = std::fs::Permissions::from_mode(SOCKET_MODE);
    std::fs::set_permissions(&path, permissions).map_err(failed)?;
    Ok(Bound::Unix(listener, SocketFile(path)))
}

/// Removes the socket that a killed process of our instance has left behind.
async fn remove_stale(path: &Path) -> Result<(), EndpointError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    let path = path.to_owned();
    if !metadata.file_type().is_socket() {
        return Err(EndpointError::NotASocket { path });
    }
    if UnixStream::connect(&path).await.is_ok() {
        return Err(EndpointError::InUse { path });
    }
    std::fs::remove_file(&path).map_err(|source| EndpointError::Io {
        what: path.display().to_string(),
        source,
    })
}

async fn bind_network(address: SocketAddr) -> Result<(TcpListener, SocketAddr), EndpointError> {
    let failed = |source: io::Error| EndpointError::Io {
        what: address.to_string(),
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_of_a_dead_process_is_replaced_and_one_of_a_living_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mqtt-n-0.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let bound = Bound::bind(&Listen::Unix, directory.path(), "mqtt", "n-0")
            .await
            .unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        let second = Bound::bind(&Listen::Unix, directory.path(), "mqtt", "n-0").await;
        assert!(matches!(second, Err(EndpointError::InUse { .. })));
        drop(bound);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_path_of_108_bytes_is_refused_with_its_length() {
        let directory = tempfile::tempdir().unwrap();
        let room = MAX_SOCKET_PATH - directory.path().as_os_str().len() - "/-0.sock".len();
        let fits = Bound::bind(&Listen::Unix, directory.path(), &"n".repeat(room), "0").await;
        assert!(fits.is_ok());
        let error = Bound::bind(&Listen::Unix, directory.path(), &"n".repeat(room + 1), "0").await;
        let error = error.unwrap_err();
        assert!(
            error.to_string().contains("has 108 bytes and may have 107"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_network_endpoint_is_registered_with_the_pods_address_and_the_real_port() {
        let listen = Listen::Network {
            address: "127.0.0.1:0".parse().unwrap(),
            advertise: None,
            pod_ip: Some("10.1.2.3".to_owned()),
        };
        let bound = Bound::bind(&listen, Path::new("/"), "mqtt", "0")
            .await
            .unwrap();
        let (url, kind) = bound.endpoint();
        assert!(
            url.starts_with("http://10.1.2.3:") && !url.ends_with(":0"),
            "{url}"
        );
        assert_eq!(kind, EndpointType::Network);
    }

    #[tokio::test]
    async fn why_the_system_refused_is_said_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = Bound::bind(&Listen::Unix, &file.path().join("d"), "mqtt", "n-0").await;
        let text = format!("{:#}", anyhow::Error::new(refused.unwrap_err()));
        assert!(text.starts_with("cannot listen on "), "{text}");
        assert_eq!(text.matches("os error").count(), 1, "{text}");
    }
}
