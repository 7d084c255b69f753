//! Names of what is made: from a Configuration and a device's id to Instance, pods, Job, Services.
//! In: names. Out: names, or a sentence why Kubernetes would not take one. None is ever cut.
//!
//! An Instance is `<configuration>-<hash>`. The hash is the one of Akri's Agent, BLAKE2b with three
//! bytes of output over the device's id. Of two devices with the same one the second gets BLAKE2b with
//! six bytes of output; that is another hash altogether, not a longer form of the first.

use akri_mqtt_core::identity::InstanceHash;
use blake2::digest::consts::{U6, U32};
use blake2::{Blake2b, Digest};

/// The longest name of a pod, Service or Job, and the longest value of a label.
const LONGEST: usize = 63;

/// Where a name is used, which says what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Instance, pod, Job: parts of labels and host names; letters, digits, `-` and `.`.
    Object,
    /// Service: as an object, without `.`, and it begins with a letter.
    Service,
}

/// The Instance of a device, as Akri's Agent names it.
pub(super) fn short(configuration: &str, device: &str) -> String {
    format!("{configuration}-{}", InstanceHash::of(device))
}

/// The Instance of a device whose short name another device has.
pub(super) fn long(configuration: &str, device: &str) -> String {
    let hash = Blake2b::<U6>::digest(device.as_bytes());
    let mut name = format!("{configuration}-");
    for byte in hash {
        name.push_str(&format!("{byte:02x}"));
    }
    name
}

/// An Instance of some device.
pub(super) fn example(configuration: &str) -> String {
    format!("{configuration}-000000")
}

/// Decides which of two newcomers with the same short name gets it: the one with the smaller digest,
/// as the handler decides it for Akri.
pub(super) fn precedence(device: &str) -> [u8; 32] {
    Blake2b::<U32>::digest(device.as_bytes()).into()
}

/// What environment variables of an Instance end in: its hash in upper case.
pub(super) fn suffix(configuration: &str, instance: &str) -> String {
    let hash = instance
        .strip_prefix(configuration)
        .and_then(|rest| rest.strip_prefix('-'));
    hash.unwrap_or_default().to_ascii_uppercase()
}

/// A pod, and its claim.
pub(super) fn pod(instance: &str, n: u32) -> String {
    format!("{instance}-{n}")
}

/// The Service of an Instance or of a Configuration.
pub fn service(owner: &str) -> String {
    format!("{owner}-svc")
}

/// The Job of an Instance.
pub(super) fn job(instance: &str, generation: i64) -> String {
    format!("{instance}-{generation}-job")
}

/// Says why a name cannot be used.
pub(super) fn check(name: &str, what: Use) -> Result<(), String> {
    let kind = match what {
        Use::Object => "name",
        Use::Service => "Service name",
    };
    if name.len() > LONGEST {
        return Err(format!(
            "the {kind} `{name}` has {} characters, {LONGEST} fit",
            name.len()
        ));
    }
    match what {
        Use::Object if !is_subdomain(name) => Err(format!(
            "the {kind} `{name}` is not made of lower case letters, digits, `-` and `.` alone"
        )),
        Use::Service if !is_label(name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) => {
            Err(format!(
                "the {kind} `{name}` does not begin with a letter or has a `.`, which Services must not"
            ))
        }
        _ => Ok(()),
    }
}

/// A DNS label: lower case letters, digits and `-` between them, up to 63 characters.
pub(super) fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=LONGEST).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Labels joined by `.`, up to 253 characters.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_akri() {
        assert_eq!(short("cams", "plant-a/r1"), "cams-35ced2");
        // hashlib.blake2b(b"plant-a/r1", digest_size=6).hexdigest()
        assert_eq!(long("cams", "plant-a/r1"), "cams-4e49d80b8554");
        assert_eq!(suffix("cams", "cams-35ced2"), "35CED2");
        assert_eq!(pod("cams-35ced2", 0), "cams-35ced2-0");
        assert_eq!(job("cams-35ced2", 3), "cams-35ced2-3-job");
        assert_eq!(service("cams-35ced2"), "cams-35ced2-svc");
    }

    #[test]
    fn names_that_kubernetes_would_refuse_are_refused_in_words() {
        assert_eq!(check(&"a".repeat(63), Use::Object), Ok(()));
        assert_eq!(check("plant.a-35ced2-0", Use::Object), Ok(()));
        assert_eq!(check("cams-svc", Use::Service), Ok(()));
        let long = "a".repeat(64);
        assert_eq!(
            check(&long, Use::Object),
            Err(format!("the name `{long}` has 64 characters, 63 fit"))
        );
        for bad in ["1cams-svc", "plant.a-svc"] {
            assert_eq!(
                check(bad, Use::Service),
                Err(format!(
                    "the Service name `{bad}` does not begin with a letter or has a `.`, which Services must not"
                ))
            );
        }
        assert!(check("Cams", Use::Object).is_err());
        assert!(check("-cams", Use::Object).is_err());
        assert!(check("a..b", Use::Object).is_err());
    }
}
