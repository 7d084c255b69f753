//! Akri's `Registration` service on a Unix socket in the handlers' directory.
//! In: calls of discovery handlers. Out: entries of `handlers`. It serves as long as the process
//! runs, leader or not.

use std::fs::{File, Metadata, Permissions, TryLockError};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use akri_mqtt_proto::akri::register_discovery_handler_request::EndpointType;
use akri_mqtt_proto::akri::registration_server::{Registration, RegistrationServer};
use akri_mqtt_proto::akri::{Empty, RegisterDiscoveryHandlerRequest};
use akri_mqtt_runtime::Shutdown;
use axum::http::Uri;
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::handlers::{Endpoint, Handlers};

/// File name of the socket; Akri's handlers know it.
pub const SOCKET: &str = "agent-registration.sock";
/// Held by the process that serves the socket.
const LOCK: &str = ".agent-registration.lock";
/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last of which is zero.
const MAX_SOCKET_PATH: usize = 107;
/// Bytes of a handler's name, as of a name in Kubernetes.
const MAX_NAME: usize = 253;
/// Bytes of a registration; it holds two short texts.
const MAX_MESSAGE: usize = 16 << 10;
/// Calls of one connection at a time.
const MAX_CALLS: usize = 8;
/// How long a call may take; it only writes into the book.
const CALL_WITHIN: Duration = Duration::from_secs(5);
/// How long calls may take to end at the shutdown.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// No directory.
    #[error(
        "--handlers-directory {path} is not there: it is the directory that the discovery handlers share with the controller"
    )]
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The path does not fit into a socket address.
    #[error(
        "the socket path {path} has {length} bytes and may have {MAX_SOCKET_PATH}: choose a shorter --handlers-directory"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its bytes.
        length: usize,
    },
    /// Another process serves it.
    #[error(
        "another process serves {path}: an Akri Agent, or another controller with the same --handlers-directory"
    )]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something else has its name.
    #[error("{path} is not a socket: remove it")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen on {path}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// The bound socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
    _lock: File,
}

/// The file of a socket of ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Only if nobody has put another one in its place.
        if self.identity == identity(&self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Socket {
    /// Binds `agent-registration.sock` in the directory, in place of what a dead process left there.
    ///
    /// # Errors
    /// No such directory, another server on the socket, a system that refuses.
    pub async fn bind(directory: &Path) -> Result<Self, SocketError> {
        // Handlers register absolute paths.
        let directory = &std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let path = directory.join(SOCKET);
        let length = path.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            return Err(SocketError::PathTooLong { path, length });
        }
        let Some(metadata) = std::fs::metadata(directory).ok().filter(Metadata::is_dir) else {
            let path = directory.to_owned();
            return Err(SocketError::NoDirectory { path });
        };
        let failed = |source: io::Error| SocketError::Io {
            path: path.clone(),
            source,
        };
        let lock = lock(directory).map_err(failed)?;
        let Some(lock) = lock else {
            return Err(SocketError::InUse { path });
        };
        remove_stale(&path).await?;
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let file = SocketFile {
            identity: identity(&path),
            path: path.clone(),
        };
        let mode = Permissions::from_mode(mode(metadata.permissions().mode()));
        std::fs::set_permissions(&path, mode).map_err(failed)?;
        Ok(Self {
            listener,
            file,
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

/// Who may write into the directory could replace the socket, and may connect to it; nobody else.
/// So a container of the same pod with another uid can register in an `emptyDir` (mode 0777, or the
/// pod's `fsGroup`), and other users of a machine cannot register in a directory of root's.
fn mode(directory: u32) -> u32 {
    let writers = directory & 0o222;
    0o600 | writers | writers << 1
}

/// `None`: another process has it.
fn lock(directory: &Path) -> io::Result<Option<File>> {
    let path = directory.join(LOCK);
    let file = File::open(&path).or_else(|_| {
        let mut options = File::options();
        options.create(true).append(true).open(&path)
    })?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

async fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |source: io::Error| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    let path = path.to_owned();
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(&path).await {
        // Nobody listens. Any other error may come from a server that lives.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(&path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(SocketError::InUse { path }),
    }
}

/// Serves until the shutdown.
///
/// # Errors
/// When the listener fails.
pub async fn serve(socket: Socket, handlers: Handlers, shutdown: Shutdown) -> anyhow::Result<()> {
    let Socket {
        listener,
        file,
        _lock,
    } = socket;
    let directory = file.path.parent().unwrap_or(Path::new("/")).to_owned();
    let service = RegistrationServer::new(Service {
        handlers,
        directory,
    })
    .max_decoding_message_size(MAX_MESSAGE);
    let over = shutdown.clone();
    let served = Server::builder()
        .concurrency_limit_per_connection(MAX_CALLS)
        .timeout(CALL_WITHIN)
        .add_service(service)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
            over.triggered().await;
        });
    let late = async {
        shutdown.triggered().await;
        tokio::time::sleep(DRAIN_WITHIN).await;
    };
    let result = tokio::select! {
        result = served => result.map_err(anyhow::Error::from),
        () = late => Ok(()),
    };
    drop(file);
    result
}

struct Service {
    handlers: Handlers,
    directory: PathBuf,
}

#[tonic::async_trait]
impl Registration for Service {
    async fn register_discovery_handler(
        &self,
        request: Request<RegisterDiscoveryHandlerRequest>,
    ) -> Result<Response<Empty>, Status> {
        let result = self.register(&request.into_inner());
        self.handlers.metrics().registration(result.is_ok());
        result.map(|()| Response::new(Empty {}))
    }
}

impl Service {
    fn register(&self, request: &RegisterDiscoveryHandlerRequest) -> Result<(), Status> {
        let endpoint = read(request, &self.directory).map_err(Status::invalid_argument)?;
        let full = |full: crate::handlers::Full| Status::resource_exhausted(full.to_string());
        if !request.shared {
            self.handlers
                .refuse_not_shared(&request.name, &endpoint)
                .map_err(full)?;
            return Err(Status::failed_precondition(
                "shared: found false; without Akri's Agent only handlers are taken whose devices every node can reach, so register with shared: true, or use Akri",
            ));
        }
        self.handlers
            .register(&request.name, endpoint)
            .map_err(full)
    }
}

/// The endpoint of a registration, or what is wrong with it.
fn read(request: &RegisterDiscoveryHandlerRequest, directory: &Path) -> Result<Endpoint, String> {
    let name = &request.name;
    let fits = |c: char| c.is_ascii_graphic();
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) {
        let found = shown(name);
        return Err(format!(
            "name: found {found}, allowed are 1 to {MAX_NAME} printable ASCII characters without spaces"
        ));
    }
    match EndpointType::try_from(request.endpoint_type) {
        Ok(EndpointType::Uds) => unix(&request.endpoint, directory),
        Ok(EndpointType::Network) => network(&request.endpoint),
        Err(_) => Err(format!(
            "endpoint_type: found {}, allowed are 0 (UDS) and 1 (NETWORK)",
            request.endpoint_type
        )),
    }
}

fn unix(endpoint: &str, directory: &Path) -> Result<Endpoint, String> {
    // Some clients of gRPC name sockets so.
    let bare = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    let path = Path::new(bare);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let inside = path.parent() == Some(directory) && path.file_name().is_some();
    let own = path.file_name().is_some_and(|name| name == SOCKET);
    if plain && inside && !own && bare.len() <= MAX_SOCKET_PATH && !bare.contains('\0') {
        return Ok(Endpoint::Unix(path.to_owned()));
    }
    Err(format!(
        "endpoint: found {}, allowed is a socket in {}, with at most {MAX_SOCKET_PATH} bytes",
        shown(endpoint),
        directory.display()
    ))
}

fn network(endpoint: &str) -> Result<Endpoint, String> {
    let wrong = || {
        let found = shown(endpoint);
        format!("endpoint: found {found}, allowed is http://<ip>:<port>")
    };
    let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
    let host = uri.host().ok_or_else(wrong)?;
    let ip: IpAddr = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .map_err(|_| wrong())?;
    let port = uri.port_u16().filter(|port| *port != 0).ok_or_else(wrong)?;
    let bare = uri.path_and_query().is_none_or(|path| path == "/")
        && uri.authority().is_some_and(|it| !it.as_str().contains('@'));
    if uri.scheme_str() != Some("http") || !bare || ip.is_unspecified() {
        return Err(wrong());
    }
    Ok(Endpoint::Network(SocketAddr::new(ip, port)))
}

/// As much of a text as an error may repeat.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(120).collect();
    format!("{start:?}")
}

#[cfg(test)]
#[path = "registration_tests.rs"]
mod tests;
