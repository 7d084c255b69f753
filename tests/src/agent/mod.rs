//! An Akri Agent for tests: it does with registrations, requests and lists what Akri's Agent does.
//! In: Configurations, and discovery handlers that register on its socket. Out: Instances, and a
//! log of everything that happened. It leaves Kubernetes out: an Instance is an entry of a map.
//!
//! What it keeps of the real one: one Discover per registered endpoint and Configuration; every
//! response replaces the endpoint's list; several endpoints are united, the first of two equal
//! Instance names wins silently; the end of the last stream or an error in it deletes all Instances
//! and starts a new request, which begins with an empty list; a failed Discover is retried after
//! 1, 2, 4, … s; a Discover that fails at registration is never retried; messages over 4 MiB fail.

mod streams;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use akri_mqtt_proto::akri::register_discovery_handler_request::EndpointType;
use akri_mqtt_proto::akri::registration_server::{Registration, RegistrationServer};
use akri_mqtt_proto::akri::{
    ByteData, Device, DiscoverRequest, Empty, RegisterDiscoveryHandlerRequest,
};
use blake2::digest::{Update, VariableOutput};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

pub use streams::discover;

/// File name of the Agent's socket in the handlers' directory.
pub const SOCKET: &str = "agent-registration.sock";

/// What a test may change about an Agent.
#[derive(Clone, Copy, Debug)]
pub struct AgentOptions {
    /// Largest message taken from a handler; the real Agent takes 4 MiB.
    pub max_message: usize,
    /// Wait before the first repetition of a failed request, doubled each time.
    pub first_retry: Duration,
    /// How long an Instance takes to be deleted; what is applied meanwhile is lost until the next list.
    pub deletion: Duration,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self {
            max_message: 4 * 1024 * 1024,
            first_retry: Duration::from_secs(1),
            deletion: Duration::ZERO,
        }
    }
}

/// Something that happened, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// A handler registered an endpoint.
    Registered {
        /// Handler name.
        name: String,
        /// Socket path or URL.
        endpoint: String,
        /// Whether its devices are shared between nodes.
        shared: bool,
    },
    /// A Discover stream was opened.
    Opened {
        /// Configuration.
        configuration: String,
        /// Handler's endpoint.
        endpoint: String,
    },
    /// A Discover call failed.
    Failed {
        /// Configuration.
        configuration: String,
        /// gRPC code.
        code: Code,
        /// gRPC message.
        message: String,
    },
    /// A list arrived.
    List {
        /// Configuration.
        configuration: String,
        /// Handler's endpoint.
        endpoint: String,
        /// Ids in the order of the response.
        devices: Vec<String>,
    },
    /// A stream ended, with its error if it had one.
    Ended {
        /// Configuration.
        configuration: String,
        /// Handler's endpoint.
        endpoint: String,
        /// The error that ended it.
        error: Option<String>,
    },
    /// An Instance was made.
    Created {
        /// Name of the Instance.
        instance: String,
        /// Device id.
        device: String,
    },
    /// An Instance was deleted, and with it its pods.
    Deleted {
        /// Name of the Instance.
        instance: String,
        /// Device id.
        device: String,
    },
}

struct Stream {
    id: u64,
    endpoint: String,
    devices: Vec<Device>,
    reader: Option<AbortHandle>,
}

struct Configuration {
    handler: String,
    request: DiscoverRequest,
    /// `None` while no request is running.
    streams: Option<Vec<Stream>>,
    instances: BTreeMap<String, Device>,
    deleting: BTreeMap<String, Instant>,
    asking: Option<AbortHandle>,
}

#[derive(Default)]
struct State {
    handlers: BTreeMap<String, BTreeMap<String, EndpointType>>,
    configurations: BTreeMap<String, Configuration>,
    happened: Vec<(Instant, Happened)>,
    next_stream: u64,
    /// Queries that the Agent itself fails, as when a Secret is missing.
    failing: usize,
}

struct Shared {
    options: AgentOptions,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

/// A running Agent; it stops when it is dropped.
pub struct Agent {
    directory: PathBuf,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Agent {
    /// Starts an Agent that behaves as Akri's with its socket in `directory`.
    pub fn start(directory: &Path) -> Self {
        Self::start_with(directory, AgentOptions::default())
    }

    /// Starts an Agent with changed options.
    pub fn start_with(directory: &Path, options: AgentOptions) -> Self {
        let shared = Arc::new(Shared {
            options,
            state: Mutex::default(),
            changed: watch::channel(0).0,
        });
        let server = serve(directory, Arc::clone(&shared));
        Self {
            directory: directory.to_owned(),
            shared,
            server,
        }
    }

    /// Restarts the Agent: its streams are dropped, its socket is replaced, its Instances go.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.server = serve(&self.directory, Arc::clone(&self.shared));
        let names: Vec<String> = self.shared.lock().configurations.keys().cloned().collect();
        for name in names {
            self.shared.start_asking(&name);
        }
    }

    /// The next so many Discover calls fail before they are made, as when a Secret is missing.
    pub fn fail_next(&self, calls: usize) {
        self.shared.lock().failing = calls;
    }

    /// Ends the Agent's process: streams dropped, connections closed, the socket file stays.
    pub async fn stop(&mut self) {
        self.server.abort();
        // The result of an aborted task says nothing.
        let _ = (&mut self.server).await;
        let mut state = self.shared.lock();
        state.handlers.clear();
        for configuration in state.configurations.values_mut() {
            configuration.stop();
            configuration.instances.clear();
        }
    }

    /// Creates a Configuration, or replaces the one of that name as `kubectl delete` and `apply` would.
    pub fn configure(&self, name: &str, details: &str, properties: &[(&str, &str)]) {
        self.configure_for("mqtt", name, details, properties);
    }

    /// Creates a Configuration for a handler of another name than `mqtt`.
    pub fn configure_for(
        &self,
        handler: &str,
        name: &str,
        details: &str,
        properties: &[(&str, &str)],
    ) {
        self.remove(name);
        let discovery_properties = properties
            .iter()
            .map(|(key, value)| {
                let vec = Some(value.as_bytes().to_vec().into());
                ((*key).to_owned(), ByteData { vec })
            })
            .collect();
        let configuration = Configuration {
            handler: handler.to_owned(),
            request: DiscoverRequest {
                discovery_details: details.to_owned(),
                discovery_properties,
            },
            streams: None,
            instances: BTreeMap::new(),
            deleting: BTreeMap::new(),
            asking: None,
        };
        self.shared
            .lock()
            .configurations
            .insert(name.to_owned(), configuration);
        self.shared.start_asking(name);
    }

    /// Deletes a Configuration and its Instances.
    pub fn remove(&self, name: &str) {
        let removed = self.shared.lock().configurations.remove(name);
        if let Some(mut configuration) = removed {
            configuration.stop();
            for (instance, device) in configuration.instances {
                let device = device.id;
                self.shared.log(Happened::Deleted { instance, device });
            }
        }
    }

    /// The Instances of a Configuration: device by Instance name.
    pub fn instances(&self, configuration: &str) -> BTreeMap<String, Device> {
        let state = self.shared.lock();
        let found = state.configurations.get(configuration);
        found.map(|c| c.instances.clone()).unwrap_or_default()
    }

    /// Device ids that have an Instance, sorted.
    pub fn devices(&self, configuration: &str) -> Vec<String> {
        let mut ids: Vec<String> = self
            .instances(configuration)
            .into_values()
            .map(|device| device.id)
            .collect();
        ids.sort();
        ids
    }

    /// How many Discover streams are open for a Configuration.
    pub fn streams(&self, configuration: &str) -> usize {
        let state = self.shared.lock();
        let found = state.configurations.get(configuration);
        found
            .and_then(|c| c.streams.as_ref())
            .map_or(0, |streams| streams.len())
    }

    /// The device ids that each open stream of a Configuration listed last.
    pub fn listed(&self, configuration: &str) -> Vec<Vec<String>> {
        let state = self.shared.lock();
        let found = state.configurations.get(configuration);
        let streams = found.and_then(|c| c.streams.as_ref()).into_iter().flatten();
        streams
            .map(|stream| stream.devices.iter().map(|d| d.id.clone()).collect())
            .collect()
    }

    /// How many lists have come for a Configuration.
    pub fn lists(&self, configuration: &str) -> usize {
        let state = self.shared.lock();
        let lists = state.happened.iter().filter(|(_, what)| {
            matches!(what, Happened::List { configuration: of, .. } if of == configuration)
        });
        lists.count()
    }

    /// Whether a device's Instance was ever deleted.
    pub fn has_deleted(&self, device: &str) -> bool {
        let state = self.shared.lock();
        state.happened.iter().any(|(_, what)| {
            matches!(what, Happened::Deleted { device: deleted, .. } if deleted == device)
        })
    }

    /// How many streams have ended.
    pub fn ended(&self) -> usize {
        let state = self.shared.lock();
        let ended = state.happened.iter();
        ended
            .filter(|(_, what)| matches!(what, Happened::Ended { .. }))
            .count()
    }

    /// How often handlers have registered.
    pub fn registrations(&self) -> usize {
        let state = self.shared.lock();
        let all = state.happened.iter();
        all.filter(|(_, what)| matches!(what, Happened::Registered { .. }))
            .count()
    }

    /// Everything that happened so far.
    pub fn happened(&self) -> Vec<Happened> {
        let state = self.shared.lock();
        state
            .happened
            .iter()
            .map(|(_, what)| what.clone())
            .collect()
    }

    /// Everything that happened so far, with its time.
    pub fn timeline(&self) -> Vec<(Instant, Happened)> {
        self.shared.lock().happened.clone()
    }

    /// Waits until `condition` holds; it is looked at after everything that happens.
    ///
    /// # Panics
    /// After `deadline`, with all that happened.
    #[allow(clippy::panic)]
    pub async fn wait_for(
        &self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&Self) -> bool,
    ) {
        let mut changed = self.shared.changed.subscribe();
        let end = tokio::time::Instant::now() + deadline;
        loop {
            changed.mark_unchanged();
            if condition(self) {
                return;
            }
            // The condition may also look at something else than the Agent, so it is asked again soon.
            let soon = tokio::time::Instant::now() + Duration::from_millis(50);
            let _ = tokio::time::timeout_at(soon.min(end), changed.changed()).await;
            if tokio::time::Instant::now() >= end && !condition(self) {
                panic!(
                    "not within {deadline:?}: {what}; what happened: {:#?}",
                    self.happened()
                );
            }
        }
    }

    /// Waits until at least so many devices have an Instance.
    pub async fn wait_for_devices_at_least(&self, configuration: &str, count: usize) {
        let what = format!("{configuration} has {count} devices");
        self.wait_for(&what, Duration::from_secs(20), |agent| {
            agent.devices(configuration).len() >= count
        })
        .await;
    }

    /// Waits until exactly these devices have an Instance.
    pub async fn wait_for_devices(&self, configuration: &str, devices: &[&str]) {
        let what = format!("{configuration} has the devices {devices:?}");
        self.wait_for(&what, Duration::from_secs(20), |agent| {
            agent.devices(configuration) == devices
        })
        .await;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.server.abort();
        for configuration in self.shared.lock().configurations.values_mut() {
            configuration.stop();
        }
    }
}

impl Configuration {
    fn stop(&mut self) {
        if let Some(asking) = self.asking.take() {
            asking.abort();
        }
        for stream in self.streams.take().into_iter().flatten() {
            if let Some(reader) = stream.reader {
                reader.abort();
            }
        }
    }
}

/// Name of the Instance that Akri makes for a shared device.
pub fn instance_name(configuration: &str, device: &str) -> String {
    let mut hash = [0; 3];
    let mut hasher = blake2::Blake2bVar::new(hash.len()).unwrap_or_else(|_| unreachable!());
    hasher.update(device.as_bytes());
    hasher
        .finalize_variable(&mut hash)
        .unwrap_or_else(|_| unreachable!());
    let [a, b, c] = hash;
    format!("{configuration}-{a:02x}{b:02x}{c:02x}")
}

fn serve(directory: &Path, shared: Arc<Shared>) -> JoinHandle<()> {
    let socket = directory.join(SOCKET);
    // A missing file is what we want.
    let _ = std::fs::remove_file(&socket);
    #[allow(clippy::expect_used)]
    let listener = UnixListener::bind(&socket).expect("the Agent's socket can be made");
    let service = RegistrationServer::new(RegistrationService { shared });
    let server = Server::builder().add_service(service);
    tokio::spawn(async move {
        // A test Agent that dies is noticed by its test.
        let _ = server
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await;
    })
}

struct RegistrationService {
    shared: Arc<Shared>,
}

#[tonic::async_trait]
impl Registration for RegistrationService {
    async fn register_discovery_handler(
        &self,
        request: Request<RegisterDiscoveryHandlerRequest>,
    ) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        let kind = request.endpoint_type();
        self.shared.log(Happened::Registered {
            name: request.name.clone(),
            endpoint: request.endpoint.clone(),
            shared: request.shared,
        });
        let running: Vec<(String, DiscoverRequest)> = {
            let mut state = self.shared.lock();
            let endpoints = state.handlers.entry(request.name.clone()).or_default();
            endpoints.insert(request.endpoint.clone(), kind);
            let of_this_name = state.configurations.iter();
            of_this_name
                .filter(|(_, c)| c.handler == request.name && c.streams.is_some())
                .map(|(name, c)| (name.clone(), c.request.clone()))
                .collect()
        };
        for (configuration, discover) in running {
            let shared = Arc::clone(&self.shared);
            let endpoint = request.endpoint.clone();
            tokio::spawn(async move {
                if let Ok(stream) = shared
                    .query(&configuration, &endpoint, kind, discover)
                    .await
                {
                    shared.add_stream(&configuration, &endpoint, stream);
                }
            });
        }
        Ok(Response::new(Empty {}))
    }
}
