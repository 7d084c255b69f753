//! What tests of discovery need: a discovery handler that does as it is told, and an API server that
//! knows Secrets and ConfigMaps only. Both are asked over what they are asked over in earnest.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akri_mqtt_proto::akri::discovery_handler_server::{DiscoveryHandler, DiscoveryHandlerServer};
use akri_mqtt_proto::akri::{Device, DiscoverRequest, DiscoverResponse};
use axum::body::Body;
use axum::http;
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::{BroadcastStream, UnixListenerStream, WatchStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// What a handler does with a call.
#[derive(Clone, Debug)]
pub enum Conduct {
    /// Accepts and says nothing yet.
    Silent,
    /// Sends this list, and those that replace it.
    List(Vec<Device>),
    /// Refuses or fails.
    Answer(Status),
    /// Ends the stream after this list.
    End(Vec<Device>),
}

/// The conduct for each `discoveryDetails`.
type Conducts = BTreeMap<String, watch::Sender<Conduct>>;

/// Calls of a handler.
#[derive(Default)]
struct Seen {
    calls: Vec<DiscoverRequest>,
}

/// A handler that does as it is told.
pub struct FakeHandler {
    pub path: PathBuf,
    told: Told,
    process: Option<Runtime>,
}

#[derive(Clone, Default)]
struct Told {
    conducts: Arc<Mutex<Conducts>>,
    seen: Arc<Mutex<Seen>>,
    open: Arc<AtomicUsize>,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl DiscoveryHandler for Told {
    type DiscoverStream = Pin<Box<dyn Stream<Item = Result<DiscoverResponse, Status>> + Send>>;

    async fn discover(
        &self,
        request: Request<DiscoverRequest>,
    ) -> Result<Response<Self::DiscoverStream>, Status> {
        let request = request.into_inner();
        let conduct = self.conduct(&request.discovery_details).subscribe();
        self.seen.lock().unwrap().calls.push(request);
        if let Conduct::Answer(status) = &*conduct.borrow() {
            return Err(status.clone());
        }
        self.open.fetch_add(1, Ordering::SeqCst);
        let open = Open(Arc::clone(&self.open));
        let responses = WatchStream::new(conduct).flat_map(|conduct| match conduct {
            Conduct::Silent => stream::iter(vec![]),
            Conduct::List(devices) => stream::iter(vec![Some(Ok(DiscoverResponse { devices }))]),
            Conduct::Answer(status) => stream::iter(vec![Some(Err(status)), None]),
            Conduct::End(devices) => {
                stream::iter(vec![Some(Ok(DiscoverResponse { devices })), None])
            }
        });
        let responses = responses
            .take_while(|response| std::future::ready(response.is_some()))
            .filter_map(std::future::ready)
            .map(move |response| {
                let _ = &open;
                response
            });
        Ok(Response::new(Box::pin(responses)))
    }
}

impl Told {
    fn conduct(&self, details: &str) -> watch::Sender<Conduct> {
        let mut conducts = self.conducts.lock().unwrap();
        let new = || watch::channel(Conduct::Silent).0;
        conducts
            .entry(details.to_owned())
            .or_insert_with(new)
            .clone()
    }

    /// A runtime of its own, so that its end breaks connections as that of a process does.
    fn serve(&self, path: &Path) -> Option<Runtime> {
        let _ = std::fs::remove_file(path);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let process = builder.worker_threads(1).enable_all().build().unwrap();
        let inside = process.enter();
        let listener = UnixListener::bind(path).unwrap();
        let service = DiscoveryHandlerServer::new(self.clone());
        process.spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            let served = Server::builder().add_service(service);
            served.serve_with_incoming(incoming).await.unwrap();
        });
        drop(inside);
        Some(process)
    }
}

impl FakeHandler {
    pub fn start(path: PathBuf) -> Self {
        let told = Told::default();
        let process = told.serve(&path);
        Self {
            path,
            told,
            process,
        }
    }

    /// From now on, calls for these details are treated so, also those that are open.
    pub fn conduct(&self, details: &str, conduct: Conduct) {
        self.told.conduct(details).send_replace(conduct);
    }

    pub fn lists(&self, details: &str, ids: &[&str]) {
        self.conduct(details, Conduct::List(devices(ids)));
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<DiscoverRequest> {
        self.told.seen.lock().unwrap().calls.clone()
    }

    /// The value of a property in the newest call.
    pub fn property(&self, name: &str) -> Option<String> {
        let calls = self.calls();
        let data = calls.last()?.discovery_properties.get(name)?;
        String::from_utf8(data.vec.clone()?.to_vec()).ok()
    }

    pub fn open_streams(&self) -> usize {
        self.told.open.load(Ordering::SeqCst)
    }

    /// SIGKILL: connections break, the socket file stays.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.shutdown_background();
        }
    }

    pub fn start_again(&mut self) {
        self.process = self.told.serve(&self.path);
    }
}

impl Drop for FakeHandler {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn devices(ids: &[&str]) -> Vec<Device> {
    let device = |id: &&str| Device {
        id: (*id).to_owned(),
        properties: BTreeMap::from([("MQTT_DEVICE_ID".to_owned(), (*id).to_owned())]),
        ..Device::default()
    };
    ids.iter().map(device).collect()
}

/// An API server with Secrets and ConfigMaps.
#[derive(Clone)]
pub struct FakeApi {
    inner: Arc<Mutex<Api>>,
    events: broadcast::Sender<(String, String)>,
}

#[derive(Default)]
struct Api {
    version: u64,
    /// By path.
    objects: BTreeMap<String, Value>,
    /// Paths that are forbidden; an empty one: the server answers nobody.
    forbidden: BTreeSet<String>,
    asked: Vec<String>,
}

impl FakeApi {
    pub fn new() -> Self {
        Self {
            inner: Arc::default(),
            events: broadcast::channel(64).0,
        }
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request.uri())) }
        });
        kube::Client::new(service, "default")
    }

    /// Makes or changes an object; `path` is `<namespace>/secrets/<name>`.
    pub fn put(&self, path: &str, kind: &str, data: Value) {
        let mut inner = self.inner.lock().unwrap();
        inner.version += 1;
        let name = path.rsplit('/').next().unwrap();
        let object = json!({
            "apiVersion": "v1", "kind": kind, "data": data,
            "metadata": {"name": name, "resourceVersion": inner.version.to_string()},
        });
        inner.objects.insert(path.to_owned(), object.clone());
        drop(inner);
        self.event(path, "MODIFIED", &object);
    }

    pub fn delete(&self, path: &str) {
        let object = self.inner.lock().unwrap().objects.remove(path);
        self.event(path, "DELETED", &object.unwrap());
    }

    pub fn forbid(&self, path: &str) {
        self.inner.lock().unwrap().forbidden.insert(path.to_owned());
    }

    pub fn allow(&self, path: &str) {
        self.inner.lock().unwrap().forbidden.remove(path);
    }

    /// Ends all watches, as an API server does that stops.
    pub fn break_watches(&self) {
        let _ = self.events.send((String::new(), String::new()));
    }

    /// The paths that were asked for, with queries.
    pub fn asked(&self) -> Vec<String> {
        self.inner.lock().unwrap().asked.clone()
    }

    fn event(&self, path: &str, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        let _ = self.events.send((path.to_owned(), line));
    }

    fn answer(&self, uri: &http::Uri) -> http::Response<Body> {
        let mut inner = self.inner.lock().unwrap();
        inner.asked.push(uri.to_string());
        let path = uri.path().trim_start_matches("/api/v1/namespaces/");
        let selected = uri.query().unwrap_or_default().split('&').find_map(|part| {
            part.strip_prefix("fieldSelector=metadata.name%3D")
                .or_else(|| part.strip_prefix("fieldSelector=metadata.name="))
        });
        let of = selected.map_or_else(|| path.to_owned(), |name| format!("{path}/{name}"));
        if inner.forbidden.contains("") {
            return status(500);
        }
        if inner.forbidden.contains(&of) {
            return status(403);
        }
        if selected.is_some() {
            let events = BroadcastStream::new(self.events.subscribe());
            let events = events
                .filter_map(|event| std::future::ready(event.ok()))
                .take_while(|(path, _)| std::future::ready(!path.is_empty()))
                .filter(move |(path, _)| std::future::ready(*path == of))
                .map(|(_, line)| Ok::<_, Infallible>(line));
            return http::Response::new(Body::from_stream(events));
        }
        match inner.objects.get(&of) {
            Some(object) => http::Response::new(Body::from(object.to_string())),
            None => status(404),
        }
    }
}

fn status(code: u16) -> http::Response<Body> {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": "no", "reason": reason,
    });
    let answer = http::Response::builder().status(code);
    answer.body(Body::from(status.to_string())).unwrap()
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
