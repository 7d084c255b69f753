//! The part of Akri's Agent, without Kubernetes: takes a discovery handler's registration and calls `Discover` on it.
//! In: a directory for the sockets and one request per Configuration. Out: the list of devices of each request as it changes.
//! What becomes of the devices is decided in `fleet`; what a device is, in the discovery handler.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_proto::akri::discovery_handler_client::DiscoveryHandlerClient;
use akri_mqtt_proto::akri::register_discovery_handler_request::EndpointType;
use akri_mqtt_proto::akri::registration_server::{Registration, RegistrationServer};
use akri_mqtt_proto::akri::{
    ByteData, Device, DiscoverRequest, Empty, RegisterDiscoveryHandlerRequest,
};
use anyhow::Context as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Response, Status};
use tracing::{debug, warn};

/// The name of the socket on which Akri's Agent takes registrations.
const REGISTRATION_SOCKET: &str = "agent-registration.sock";
/// Lists larger than the Agent's 4 MiB are taken, and the discovery handler is told so.
const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;
/// The discovery property that tells it.
const MAX_RESPONSE_PROPERTY: &str = "AKRI_MQTT_MAX_RESPONSE";
/// Lists that wait for the fleet. Each replaces the one before, and the fleet is quicker than the handler's publish interval.
const LISTS: usize = 16;
/// Pause before Discover is called again after it failed.
const RETRY: Duration = Duration::from_secs(1);

/// What one Configuration asks the discovery handler for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The Configuration's `discoveryHandler.name`.
    pub handler: String,
    /// Its `discoveryDetails`.
    pub details: String,
    /// Its `discoveryProperties`, resolved. Never logged: credentials are among them.
    pub properties: Properties,
}

/// Discovery properties; `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Properties(pub BTreeMap<String, Vec<u8>>);

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The full list of one request's devices; it replaces the list before.
#[derive(Debug)]
pub struct List {
    /// Index of the request.
    pub request: usize,
    /// Its devices.
    pub devices: Vec<Device>,
}

/// An Agent that runs. Dropping it does not stop it; cancelling the token that it was started with does.
pub struct Agent {
    tasks: JoinSet<()>,
}

impl Agent {
    /// Listens for registrations in `directory` and asks every handler that registers for the devices of its requests.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn start(
        directory: &Path,
        requests: Vec<Request>,
        stop: CancellationToken,
    ) -> anyhow::Result<(Self, mpsc::Receiver<List>)> {
        let path = directory.join(REGISTRATION_SOCKET);
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot listen on {}", path.display()))?;
        let (found, endpoints) = watch::channel(BTreeMap::new());
        let (lists, received) = mpsc::channel(LISTS);
        let mut tasks = JoinSet::new();
        let registrar = Registrar {
            endpoints: Arc::new(found),
        };
        let until = stop.clone();
        tasks.spawn(async move {
            let served = Server::builder()
                .add_service(RegistrationServer::new(registrar))
                .serve_with_incoming_shutdown(
                    UnixListenerStream::new(listener),
                    until.cancelled_owned(),
                )
                .await;
            if let Err(error) = served {
                warn!(%error, "registration socket failed");
            }
        });
        for (index, request) in requests.into_iter().enumerate() {
            let caller = Caller {
                index,
                request,
                endpoints: endpoints.clone(),
                lists: lists.clone(),
            };
            let stop = stop.clone();
            tasks.spawn(async move {
                let _ = stop.run_until_cancelled(caller.run()).await;
            });
        }
        Ok((Self { tasks }, received))
    }

    /// Waits until everything that was started has ended, after the token was cancelled.
    pub async fn join(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Handler name to the socket on which it listens.
type Endpoints = BTreeMap<String, PathBuf>;

/// Takes registrations.
struct Registrar {
    endpoints: Arc<watch::Sender<Endpoints>>,
}

#[tonic::async_trait]
impl Registration for Registrar {
    async fn register_discovery_handler(
        &self,
        request: tonic::Request<RegisterDiscoveryHandlerRequest>,
    ) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        if request.endpoint_type() != EndpointType::Uds {
            return Err(Status::invalid_argument(
                "only handlers that listen on a Unix socket are taken here",
            ));
        }
        debug!(handler = %request.name, endpoint = %request.endpoint, "discovery handler registered");
        let path = PathBuf::from(&request.endpoint);
        self.endpoints.send_if_modified(|endpoints| {
            endpoints.insert(request.name, path.clone()) != Some(path)
        });
        Ok(Response::new(Empty {}))
    }
}

/// Keeps one Discover stream open.
struct Caller {
    index: usize,
    request: Request,
    endpoints: watch::Receiver<Endpoints>,
    lists: mpsc::Sender<List>,
}

impl Caller {
    /// Calls Discover again whenever a stream ends. Other than Akri's Agent, it lets the last list stand until then.
    async fn run(mut self) {
        loop {
            let Some(path) = self.endpoint().await else {
                return;
            };
            match self.discover(path).await {
                Ok(()) => debug!(request = self.index, "Discover stream ended"),
                Err(error) => {
                    warn!(request = self.index, error = %error.message(), "Discover failed");
                }
            }
            if self.lists.is_closed() {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn endpoint(&mut self) -> Option<PathBuf> {
        let name = &self.request.handler;
        let found = self
            .endpoints
            .wait_for(|endpoints| endpoints.contains_key(name))
            .await
            .ok()?;
        found.get(name).cloned()
    }

    async fn discover(&self, path: PathBuf) -> Result<(), Status> {
        let channel = connect(path).await?;
        let mut client =
            DiscoveryHandlerClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
        let mut properties: BTreeMap<String, ByteData> = BTreeMap::new();
        for (name, value) in &self.request.properties.0 {
            let vec = Some(value.clone().into());
            properties.insert(name.clone(), ByteData { vec });
        }
        let most = MAX_RESPONSE_BYTES.to_string().into_bytes().into();
        properties.insert(
            MAX_RESPONSE_PROPERTY.to_owned(),
            ByteData { vec: Some(most) },
        );
        let request = DiscoverRequest {
            discovery_details: self.request.details.clone(),
            discovery_properties: properties,
        };
        let mut stream = client.discover(request).await?.into_inner();
        while let Some(response) = stream.message().await? {
            let list = List {
                request: self.index,
                devices: response.devices,
            };
            if self.lists.send(list).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Connects over a Unix socket, with tonic's default authority.
async fn connect(path: PathBuf) -> Result<Channel, Status> {
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move {
            let stream = UnixStream::connect(path).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    Endpoint::from_static("http://[::1]:50051")
        .connect_with_connector(connector)
        .await
        .map_err(|error| Status::unavailable(format!("cannot connect: {error}")))
}
