//! Names that everything in the cluster agrees on: labels, annotations, finalizers, field managers.

/// Field manager of server-side applies, and `app.kubernetes.io/managed-by` of all that is made.
pub const MANAGER: &str = "akri-mqtt-controller";
/// Label: the Configuration that an object belongs to (Akri's own).
pub const CONFIGURATION: &str = "akri.sh/configuration";
/// Label: the Instance that an object belongs to (Akri's own).
pub const INSTANCE: &str = "akri.sh/instance";
/// Label of all that the controller makes.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Annotation of a pod, Job or Service: digest of the template it was made from.
pub const TEMPLATE: &str = "mqtt.akri.sh/template-hash";
/// Annotation of a Configuration: how long an Instance that exists when a stream begins is kept without being listed (5m).
pub const HOLD: &str = "mqtt.akri.sh/hold";
/// Annotation of a Configuration: after how long on an unreachable node a pod is made anew (60s).
pub const NODE_LOSS_AFTER: &str = "mqtt.akri.sh/node-loss-after";
/// Annotation of a Configuration: `<size>[,<storage class>]` of a PersistentVolumeClaim per pod.
pub const DATA_VOLUME: &str = "mqtt.akri.sh/data-volume";
/// Annotation of a Configuration: how long a claim outlives its device (24h).
pub const DATA_RETENTION: &str = "mqtt.akri.sh/data-retention";
/// Annotation of a Configuration: the StatefulSet whose members serve the devices; no pod per device then.
pub const POOL: &str = "mqtt.akri.sh/pool";
