//! Topics of Sparkplug B: `spBv1.0/<group>/<type>/<edge node>[/<device>]` (Eclipse Sparkplug 3.0, 4.1).

const NAMESPACE: &str = "spBv1.0";

/// Whether messages of a topic are birth certificates.
#[must_use]
pub fn is_birth(topic: &str) -> bool {
    parts(topic)
        .is_some_and(|(_, kind, rest)| matches!((kind, rest.len()), ("NBIRTH", 1) | ("DBIRTH", 2)))
}

/// The topic of the births that explain the messages of a topic; none for topics that are not Sparkplug's.
#[must_use]
pub fn birth_of(topic: &str) -> Option<String> {
    let (group, kind, rest) = parts(topic)?;
    let birth = match (kind, rest.as_slice()) {
        ("NBIRTH" | "NDATA" | "NDEATH" | "NCMD", [_]) => "NBIRTH",
        ("DBIRTH" | "DDATA" | "DDEATH" | "DCMD", [_, _]) => "DBIRTH",
        _ => return None,
    };
    Some(format!("{NAMESPACE}/{group}/{birth}/{}", rest.join("/")))
}

/// Group, type, and edge node with the device.
fn parts(topic: &str) -> Option<(&str, &str, Vec<&str>)> {
    let mut levels = topic.split('/');
    let (namespace, group, kind) = (levels.next()?, levels.next()?, levels.next()?);
    (namespace == NAMESPACE).then(|| (group, kind, levels.take(3).collect()))
}
