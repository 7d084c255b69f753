//! Configurations of the end-to-end tests: robots with a Last Will on an MQTT server of the cluster.
//! In: what a test changes. Out: the object.

use serde_json::{Value, json};

use super::pod::container;
use super::tag;

/// A Configuration to be.
#[derive(Clone, Debug)]
pub struct Robots {
    /// Its name.
    pub name: String,
    /// The MQTT server's address and port.
    pub server: String,
    /// Topics start so.
    pub prefix: String,
    /// More lines of discoveryDetails.
    pub details: String,
    /// More fields of the spec.
    pub spec: Value,
    /// Annotations.
    pub annotations: Value,
}

/// What runs for each device.
#[must_use]
pub fn monitor() -> Value {
    json!({"brokerPodSpec": {
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532},
        "containers": [{
            "name": "monitor",
            "image": format!("akri-mqtt/monitoring-broker:{}", tag()),
            "imagePullPolicy": "IfNotPresent",
            "args": ["--http=0.0.0.0:8080", "--grpc=0.0.0.0:50051"],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1},
            "volumeMounts": [{"name": "data", "mountPath": "/var/lib/akri-mqtt"}],
        }],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }})
}

/// The cheapest pod that stays.
#[must_use]
pub fn idle() -> Value {
    let mut container = container(&["idle"]);
    if let Some(container) = container.as_object_mut() {
        container.remove("readinessProbe");
        container.remove("ports");
    }
    json!({"brokerPodSpec": {"containers": [container], "terminationGracePeriodSeconds": 1}})
}

/// Services for each device and for the Configuration.
#[must_use]
pub fn services() -> Value {
    let service = json!({"ports": [{"name": "http", "port": 80, "targetPort": 8080}]});
    json!({"instanceServiceSpec": service, "configurationServiceSpec": service})
}

impl Robots {
    /// Robots with nothing that runs for them.
    #[must_use]
    pub fn new(name: &str, server: &str) -> Self {
        Self {
            name: name.to_owned(),
            server: server.to_owned(),
            prefix: "robots".to_owned(),
            details: String::new(),
            spec: json!({}),
            annotations: json!({}),
        }
    }

    /// The same with more fields of the spec.
    #[must_use]
    pub fn with(mut self, fields: Value) -> Self {
        if let (Value::Object(spec), Value::Object(fields)) = (&mut self.spec, fields) {
            spec.extend(fields);
        }
        self
    }

    /// The same with this brokerSpec.
    #[must_use]
    pub fn running(self, broker: Value) -> Self {
        self.with(json!({"brokerSpec": broker}))
    }

    /// Its discoveryDetails.
    #[must_use]
    pub fn discovery_details(&self) -> String {
        let Self {
            server,
            prefix,
            details,
            ..
        } = self;
        format!(
            "servers:\n- {{name: plant-a, urls: ['tcp://{server}']}}\n\
             topics:\n- {prefix}/{{device}}/joints\n\
             presence:\n  availability:\n  - topic: {prefix}/{{device}}/status\n  offlineDelay: 2s\n  reconnectGrace: 10s\n\
             limits:\n  publishInterval: 250ms\n{details}"
        )
    }

    /// The object.
    #[must_use]
    pub fn object(&self) -> Value {
        let mut spec = self.spec.clone();
        if let Some(spec) = spec.as_object_mut() {
            let handler = spec.entry("discoveryHandler").or_insert_with(|| json!({}));
            if let Some(handler) = handler.as_object_mut() {
                handler.insert("name".into(), json!("mqtt"));
                handler.insert("discoveryDetails".into(), json!(self.discovery_details()));
            }
        }
        json!({"metadata": {"name": self.name, "annotations": self.annotations}, "spec": spec})
    }
}
