//! akri-mqtt: MQTT devices discovered and served without Kubernetes.

fn main() {}
