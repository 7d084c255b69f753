//! A test pod in the cluster. In: a name, and what to add to its spec. Out: its control port, reached
//! through the API server, so that it works wherever `kubectl` does.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{SOON, TEST_IMAGE, api, create, until};
use crate::http::Tls;
use crate::pod::CONTROL_PORT;
use crate::pod::agent::{Configure, Seen};
use crate::pod::control::{Fetch, Fetched, ONCE, Publish};
use crate::pod::processes::{Start, State};

/// A running test pod.
#[derive(Clone)]
pub struct TestPod {
    client: Client,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its address in the cluster.
    pub ip: String,
}

/// The container of a test pod, with this command line.
#[must_use]
pub fn container(arguments: &[&str]) -> Value {
    json!({
        "name": "test",
        "image": TEST_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "ports": [{"containerPort": CONTROL_PORT}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": CONTROL_PORT}, "periodSeconds": 1},
    })
}

/// The spec of a pod that sees the processes of its node.
#[must_use]
pub fn on_node(arguments: &[&str]) -> Value {
    let mut container = container(arguments);
    if let Some(container) = container.as_object_mut() {
        let root = json!({"privileged": true, "runAsUser": 0, "runAsGroup": 0});
        container.insert("securityContext".into(), root);
    }
    json!({"containers": [container], "hostPID": true, "terminationGracePeriodSeconds": 1})
}

impl TestPod {
    /// Starts one that serves its control port.
    pub async fn start(client: &Client, namespace: &str, name: &str) -> Self {
        let spec = json!({
            "containers": [container(&["serve"])],
            "terminationGracePeriodSeconds": 1,
        });
        Self::start_with(client, namespace, name, spec).await
    }

    /// Starts one that can kill the processes of other containers.
    pub async fn start_on_node(client: &Client, namespace: &str, name: &str) -> Self {
        Self::start_with(client, namespace, name, on_node(&["serve"])).await
    }

    /// Starts one with this spec.
    pub async fn start_with(client: &Client, namespace: &str, name: &str, spec: Value) -> Self {
        let pod = json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec});
        create(client, namespace, "Pod", pod).await;
        Self::ready(client, namespace, name).await
    }

    /// Waits until a pod is ready.
    pub async fn ready(client: &Client, namespace: &str, name: &str) -> Self {
        let ip = until(&format!("pod {name} is ready"), SOON, async || {
            let pod = api(client, namespace, "Pod")
                .get(name)
                .await
                .map_err(|error| error.to_string())?;
            let status = pod.data.get("status").cloned().unwrap_or_default();
            let ready = status
                .get("conditions")
                .and_then(Value::as_array)
                .is_some_and(|all| {
                    all.iter().any(|one| {
                        one.get("type") == Some(&json!("Ready"))
                            && one.get("status") == Some(&json!("True"))
                    })
                });
            let ip = status.get("podIP").and_then(Value::as_str);
            ip.filter(|_| ready)
                .map(str::to_owned)
                .ok_or_else(|| status.to_string())
        })
        .await;
        Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ip,
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &impl serde::Serialize,
        number: &str,
    ) -> Result<T, String> {
        let uri = format!(
            "/api/v1/namespaces/{}/pods/{}:{CONTROL_PORT}/proxy{path}",
            self.namespace, self.name
        );
        let body = serde_json::to_vec(body).expect("JSON");
        let request = http_request(method, &uri, number, body);
        let answer = tokio::time::timeout(SOON, self.client.request::<T>(request)).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("{}: {path}: {error}", self.name)),
            Err(_) => Err(format!("{}: {path}: no answer", self.name)),
        }
    }

    /// As [`Self::ask`], again if the way through the API server broke; the pod does it once.
    async fn asked<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &impl serde::Serialize,
    ) -> T {
        let number = rand::random::<u64>().to_string();
        until(&format!("{}: {path}", self.name), SOON, async || {
            self.ask(method, path, body, &number).await
        })
        .await
    }

    /// Starts processes in it.
    pub async fn spawn(&self, starts: &[Start]) {
        let () = self.asked("POST", "/processes", &starts).await;
    }

    /// Sends a signal to a process; the time just before, in milliseconds since 1970.
    pub async fn signal(&self, process: &str, signal: &str) -> u64 {
        self.asked("POST", &format!("/processes/{process}/{signal}"), &())
            .await
    }

    /// Kills a container of its node; see [`Self::start_on_node`].
    pub async fn kill_container(&self, id: &str) -> u64 {
        self.asked("POST", &format!("/node/kill/{id}"), &()).await
    }

    /// Resident memory of a container of its node, in KiB; see [`Self::start_on_node`].
    pub async fn resident(&self, id: &str) -> u64 {
        self.asked("GET", &format!("/node/resident/{id}"), &())
            .await
    }

    /// Its processes.
    pub async fn processes(&self) -> BTreeMap<String, State> {
        self.asked("GET", "/processes", &()).await
    }

    /// Runs a command in it to its end.
    pub async fn run(&self, name: &str, argv: &[&str]) {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        let name = name.to_owned();
        self.spawn(&[Start {
            name: name.clone(),
            argv,
        }])
        .await;
        let ended = until(&format!("{name} ends"), SOON, async || {
            let ended = self.processes().await.remove(&name).and_then(|p| p.ended);
            ended.ok_or("it runs")
        })
        .await;
        assert_eq!(ended, "exit status: 0", "{name}");
    }

    /// Fetches from inside the cluster.
    pub async fn fetch(&self, address: SocketAddr, path: &str) -> Fetched {
        self.fetch_as(address, path, None).await
    }

    /// Fetches over TLS from inside the cluster.
    pub async fn fetch_encrypted(&self, address: SocketAddr, path: &str, tls: &Tls) -> Fetched {
        self.fetch_as(address, path, Some(tls.clone())).await
    }

    async fn fetch_as(&self, address: SocketAddr, path: &str, tls: Option<Tls>) -> Fetched {
        let path = path.to_owned();
        self.asked("POST", "/fetch", &Fetch { address, path, tls })
            .await
    }

    /// Fetches JSON from inside the cluster; `Null` while there is none.
    pub async fn fetch_json(&self, address: SocketAddr, path: &str) -> Value {
        let body = self.fetch(address, path).await;
        body.and_then(|(_, body)| serde_json::from_str(&body).ok())
            .unwrap_or_default()
    }

    /// Publishes from inside the cluster; the time just before the first message.
    pub async fn publish(
        &self,
        server: &str,
        retain: bool,
        messages: Vec<(String, String)>,
    ) -> u64 {
        let published = self.try_publish(server, retain, messages).await;
        published.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn try_publish(
        &self,
        server: &str,
        retain: bool,
        messages: Vec<(String, String)>,
    ) -> Result<u64, String> {
        let server = server.to_owned();
        let publish = Publish {
            server,
            retain,
            messages,
        };
        let number = rand::random::<u64>().to_string();
        self.ask("POST", "/publish", &publish, &number).await
    }

    /// Gives the test Agent in it a Configuration.
    pub async fn configure(&self, name: &str, details: &str) {
        let (name, details) = (name.to_owned(), details.to_owned());
        let () = self
            .asked("POST", "/agent/configure", &Configure { name, details })
            .await;
    }

    /// What the test Agent in it has seen.
    pub async fn seen(&self) -> Seen {
        self.asked("GET", "/agent/seen", &()).await
    }
}

/// A request with a JSON body.
fn http_request(
    method: &str,
    uri: &str,
    number: &str,
    body: Vec<u8>,
) -> axum::http::Request<Vec<u8>> {
    axum::http::Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", "application/json")
        .header(ONCE, number)
        .body(body)
        .expect("a request")
}
