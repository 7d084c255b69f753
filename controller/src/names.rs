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
/// Annotation of a Configuration: how many shards its pool has (64). The members read it; the controller only says when it is wrong.
pub const SHARDS: &str = "mqtt.akri.sh/shards";
/// Annotation of an Instance: the id of its device.
pub const DEVICE_ID: &str = "mqtt.akri.sh/device-id";
/// Annotation of an Instance: the handler that listed its device.
pub const HANDLER: &str = "mqtt.akri.sh/handler";
/// Annotation of an Instance: mounts and device nodes of its device, as JSON.
pub const ATTACHMENTS: &str = "mqtt.akri.sh/attachments";
/// Annotation of an Instance: digest of the job template that has run for it.
pub const JOB: &str = "mqtt.akri.sh/job";
/// Annotation of a pod: it was made in the place of one that served, for a new template.
pub const REPLACEMENT: &str = "mqtt.akri.sh/replacement";
/// Annotation of a claim: since when its device is gone.
pub const GONE_SINCE: &str = "mqtt.akri.sh/gone-since";

/// The labels that every object of a Configuration has.
#[must_use]
pub fn configuration_labels(configuration: &str) -> [(&'static str, &str); 4] {
    [
        (CONFIGURATION, configuration),
        ("app.kubernetes.io/name", "akri-mqtt-broker"),
        ("app.kubernetes.io/instance", configuration),
        (MANAGED_BY, MANAGER),
    ]
}

/// The labels that an Instance and every object of it have.
#[must_use]
pub fn instance_labels<'a>(
    configuration: &'a str,
    instance: &'a str,
) -> [(&'static str, &'a str); 5] {
    let [a, b, c, d] = configuration_labels(configuration);
    [a, (INSTANCE, instance), b, c, d]
}

/// The CDI name of an Instance `<configuration>-<hash>`.
#[must_use]
pub fn cdi_name(configuration: &str, instance: &str) -> String {
    let hash = instance
        .strip_prefix(configuration)
        .and_then(|rest| rest.strip_prefix('-'))
        .unwrap_or(instance);
    format!("akri.sh/{configuration}={hash}")
}

#[cfg(test)]
mod tests {
    /// Every name that this crate and the CRDs define has a line in the reference.
    #[test]
    fn reference_lists_every_name() {
        let reference = include_str!("../../docs/reference/names.md");
        let code = [
            include_str!("names.rs"),
            include_str!("webhook/certificate.rs"),
            include_str!("../../crds/src/lib.rs"),
        ];
        let names: Vec<&str> = code
            .iter()
            .flat_map(|code| code.lines())
            .filter(|line| line.contains("const "))
            .filter_map(|line| line.split('"').nth(1))
            .filter(|name| name.contains('/'))
            .collect();
        assert!(names.len() > 12, "{names:?}");
        for name in names {
            assert!(reference.contains(&format!("`{name}`")), "{name}");
        }
    }
}
