//! A Mosquitto in a pod with a Service, so that its address outlives it. In: a namespace. Out: its
//! address, its end and its return, the devices' view of outages, and its log.

use std::time::Duration;

use kube::Client;
use serde_json::json;

use super::pod::{TestPod, container};
use super::{SOON, api, create, delete, logs, until};
use crate::pod::processes::Start;

const PORT: u16 = 1883;
const NAME: &str = "mqtt";
const PASSWORDS: &str = "/data/passwords";
/// Everything on standard error; anonymous clients are taken, wrong passwords are not; what nobody takes yet is kept.
const CONFIG: &str = "listener 1883\nallow_anonymous true\npassword_file /data/passwords\n\
    max_queued_messages 0\n\
    persistence true\npersistence_location /data/\nlog_dest stderr\nlog_timestamp false\nconnection_messages true\n";

/// An MQTT server in the cluster.
pub struct Server {
    client: Client,
    namespace: String,
    pod: TestPod,
    /// Address and port of its Service.
    pub address: String,
}

impl Server {
    /// Starts one and waits until it listens.
    pub async fn start(client: &Client, namespace: &str) -> Self {
        let config = json!({"metadata": {"name": NAME}, "data": {"mosquitto.conf": CONFIG}});
        create(client, namespace, "ConfigMap", config).await;
        let service = json!({
            "metadata": {"name": NAME},
            "spec": {"selector": {"app": NAME}, "ports": [{"port": PORT}]},
        });
        let service = create(client, namespace, "Service", service).await;
        let ip = service
            .data
            .pointer("/spec/clusterIP")
            .and_then(|ip| ip.as_str())
            .expect("a Service has an address")
            .to_owned();
        let pod = Self::pod(client, namespace).await;
        let server = Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            pod,
            address: format!("{ip}:{PORT}"),
        };
        server.begin().await;
        server
    }

    async fn pod(client: &Client, namespace: &str) -> TestPod {
        let mut container = container(&["serve"]);
        if let Some(container) = container.as_object_mut() {
            let mounts = json!([{"name": "conf", "mountPath": "/conf"}, {"name": "data", "mountPath": "/data"},
                {"name": "tmp", "mountPath": "/tmp"}]);
            container.insert("volumeMounts".into(), mounts);
        }
        let spec = json!({
            "containers": [container],
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"fsGroup": 65532},
            "volumes": [{"name": "conf", "configMap": {"name": NAME}}, {"name": "data", "emptyDir": {}},
                {"name": "tmp", "emptyDir": {}}],
        });
        let pod = TestPod::start_with(client, namespace, NAME, spec).await;
        pod.run(
            "passwords",
            &[
                "mosquitto_passwd",
                "-c",
                "-b",
                PASSWORDS,
                "nobody",
                "nothing",
            ],
        )
        .await;
        pod
    }

    /// Starts the process and waits until it listens.
    pub async fn begin(&self) {
        let argv = ["mosquitto", "-c", "/conf/mosquitto.conf"];
        let start = Start {
            name: NAME.to_owned(),
            argv: argv.map(str::to_owned).to_vec(),
        };
        self.pod.spawn(&[start]).await;
        until("the MQTT server listens", SOON, async || {
            let processes = self.pod.processes().await;
            let ended = processes.get(NAME).and_then(|p| p.ended.clone());
            assert_eq!(ended, None, "the MQTT server ended");
            let local = format!("127.0.0.1:{PORT}");
            self.pod.try_publish(&local, false, Vec::new()).await
        })
        .await;
    }

    /// Adds a user with a password; the server knows it at once.
    pub async fn add_user(&self, user: &str, password: &str) {
        let name = format!("add-{user}");
        self.pod
            .run(
                &name,
                &["mosquitto_passwd", "-b", PASSWORDS, user, password],
            )
            .await;
        self.pod.signal(NAME, "HUP").await;
    }

    /// Stops it as an administrator would: it publishes the Last Will of every device.
    pub async fn stop(&self) {
        self.end("TERM").await;
    }

    /// Kills it as a crash would.
    pub async fn kill(&self) {
        self.end("KILL").await;
    }

    async fn end(&self, signal: &str) {
        self.pod.signal(NAME, signal).await;
        until("the MQTT server has ended", SOON, async || {
            let state = self.pod.processes().await.remove(NAME);
            state.and_then(|state| state.ended).ok_or("it runs")
        })
        .await;
    }

    /// Deletes its pod, and with it everything that it has stored, and starts another after `pause`.
    pub async fn replace(&mut self, pause: Duration) {
        delete(&self.client, &self.namespace, "Pod", NAME, true).await;
        until(
            "the pod of the MQTT server is gone",
            SOON,
            async || match api(&self.client, &self.namespace, "Pod")
                .get_opt(NAME)
                .await
            {
                Ok(None) => Ok(()),
                Ok(Some(_)) => Err("it is there".to_owned()),
                Err(error) => Err(error.to_string()),
            },
        )
        .await;
        tokio::time::sleep(pause).await;
        self.pod = Self::pod(&self.client, &self.namespace).await;
        self.begin().await;
    }

    /// Its log.
    pub async fn log(&self) -> String {
        logs(&self.client, &self.namespace, NAME, 5000).await
    }
}
