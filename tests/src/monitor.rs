//! A monitoring broker as a process of its own. In: the Instances that it is to serve, as its pod's
//! environment would name them. Out: the process and the answers of its HTTP port.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use akri_mqtt_proto::akri::Device;

use crate::binary::binary;
use crate::http;
use crate::port::free_address;

/// How long a condition may take to become true.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running monitoring broker; it is killed when it is dropped.
pub struct MonitorProcess {
    child: Child,
    address: std::net::SocketAddr,
    _data: tempfile::TempDir,
}

impl MonitorProcess {
    /// Starts one for these Instances: name and device.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(instances: impl IntoIterator<Item = (String, Device)>) -> Self {
        Self::start_with(instances, |_| {})
    }

    /// With further flags or variables.
    ///
    /// # Panics
    /// When it does not start.
    #[allow(clippy::expect_used)]
    pub fn start_with(
        instances: impl IntoIterator<Item = (String, Device)>,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let data = tempfile::tempdir().expect("a directory can be made");
        let address = free_address();
        let mut command = Command::new(binary(
            "akri-mqtt-monitoring-broker",
            "akri-mqtt-monitoring-broker",
        ));
        command
            .args(["--http", &address.to_string(), "--grpc", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(data.path())
            .stdout(Stdio::null());
        for (instance, device) in instances {
            let hash = instance
                .rsplit('-')
                .next()
                .unwrap_or_default()
                .to_uppercase();
            for (key, value) in device.properties {
                command.env(format!("{key}_{hash}"), value);
            }
        }
        change(&mut command);
        let child = command
            .spawn()
            .expect("the monitoring broker can be started");
        Self {
            child,
            address,
            _data: data,
        }
    }

    /// The body of the answer to `GET path`, empty while there is none.
    #[must_use]
    pub fn text(&self, path: &str) -> String {
        http::get(self.address, path).map_or_else(String::new, |(_, body)| body)
    }

    /// The answer to `GET path`, `Null` while there is none.
    #[must_use]
    pub fn get(&self, path: &str) -> serde_json::Value {
        http::get(self.address, path)
            .and_then(|(_, body)| serde_json::from_str(&body).ok())
            .unwrap_or_default()
    }

    /// Waits until the answer to `GET path` fulfils a condition.
    async fn wait_for(
        &self,
        path: &str,
        what: &str,
        condition: impl Fn(&serde_json::Value) -> bool,
    ) {
        let end = Instant::now() + DEADLINE;
        loop {
            let answer = self.get(path);
            if condition(&answer) {
                return;
            }
            assert!(
                Instant::now() < end,
                "not in time: {what}; last answer: {answer}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a message of each of these devices is served.
    ///
    /// # Panics
    /// When one does not come in time.
    pub async fn wait_for_messages_of(&self, devices: &BTreeSet<String>) {
        for device in devices {
            let path = format!("/v1/devices/{}/latest", device.replace('/', "%2F"));
            let what = format!("a message of {device}");
            self.wait_for(&path, &what, |answer| {
                answer
                    .pointer("/messages/0/payload/temperature")
                    .is_some_and(serde_json::Value::is_number)
            })
            .await;
        }
    }

    /// Waits until a device is in this state for a reason with this word in it.
    ///
    /// # Panics
    /// When it is not in time.
    pub async fn wait_for_presence(&self, device: &str, state: &str, word: &str) {
        let path = format!("/v1/devices/{}", device.replace('/', "%2F"));
        let what = format!("{device} {state}, {word:?}");
        self.wait_for(&path, &what, |answer| {
            let field = |name| answer.pointer(name).and_then(serde_json::Value::as_str);
            field("/presence/state") == Some(state)
                && field("/presence/reason").is_some_and(|reason| reason.contains(word))
        })
        .await;
    }
}

impl Drop for MonitorProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
