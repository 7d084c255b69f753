//! Resolves `discoveryProperties` as Akri's Agent does, without a cluster. In: a Configuration's entries and where Secrets lie as
//! files. Out: names and values for `Discover`. Reads files; what a value means is up to the discovery handler.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use akri_mqtt_runtime::exit::UsageError;

use crate::agent::Properties;

/// The largest value that is read from a file; the same limit that Kubernetes has for a whole Secret.
const MAX_VALUE_BYTES: u64 = 1024 * 1024;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Written into the Configuration.
    Literal(String),
    /// A key of a Secret or ConfigMap.
    Reference {
        /// `secretKeyRef` or `configMapKeyRef`.
        kind: &'static str,
        /// Name of the object.
        name: String,
        /// Key in it.
        key: String,
        /// Whether it may be missing.
        optional: bool,
    },
}

/// One entry of `discoveryProperties`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its value.
    pub source: Source,
    /// Where it stands, `file:line:column`, for messages.
    pub place: String,
}

/// All values. A reference that may be missing, and is, is left out.
///
/// # Errors
/// A reference without `--secrets-dir`, or one that leads nowhere: exit code 2.
pub fn resolve(properties: &[Property], secrets: Option<&Path>) -> Result<Properties, UsageError> {
    let mut values = BTreeMap::new();
    for property in properties {
        if let Some(value) = value(property, secrets)? {
            values.insert(property.name.clone(), value);
        }
    }
    Ok(Properties(values))
}

fn value(property: &Property, secrets: Option<&Path>) -> Result<Option<Vec<u8>>, UsageError> {
    let Property {
        name: property_name,
        place,
        source,
    } = property;
    let (kind, name, key, optional) = match source {
        Source::Literal(value) => return Ok(Some(value.clone().into_bytes())),
        Source::Reference {
            kind,
            name,
            key,
            optional,
        } => (kind, name, key, *optional),
    };
    let Some(directory) = secrets else {
        if optional {
            return Ok(None);
        }
        return Err(UsageError::new(format!(
            "{place}: {property_name} is a {kind} (name {name}, key {key}), and there is no cluster to ask. Put the value into a file \
             DIR/{name}/{key} and give --secrets-dir DIR, or set the environment variable or file of --credentials-dir instead"
        )));
    };
    let path = file(directory, name, key).ok_or_else(|| {
        UsageError::new(format!(
            "{place}: {kind} with name {name:?} and key {key:?}: neither may be empty, start with a dot or contain a slash"
        ))
    })?;
    match read(&path) {
        Ok(value) => Ok(Some(value)),
        Err(error) if optional && error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(UsageError::new(format!(
            "{place}: {property_name}: cannot read {}: {error}",
            path.display()
        ))),
    }
}

/// `<directory>/<name>/<key>`, unless a part would lead elsewhere.
fn file(directory: &Path, name: &str, key: &str) -> Option<PathBuf> {
    let plain =
        |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['/', '\0']);
    (plain(name) && plain(key)).then(|| directory.join(name).join(key))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_VALUE_BYTES {
        let message = format!("{size} bytes, allowed are {MAX_VALUE_BYTES}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    std::fs::read(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str, optional: bool) -> Property {
        Property {
            name: "MQTT_PASSWORD".to_owned(),
            place: "plant.yaml:7:9".to_owned(),
            source: Source::Reference {
                kind: "secretKeyRef",
                name: name.to_owned(),
                key: "password".to_owned(),
                optional,
            },
        }
    }

    #[test]
    fn a_reference_without_a_directory_says_what_to_do() {
        let error = resolve(&[reference("plant", false)], None).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("plant.yaml:7:9: MQTT_PASSWORD"), "{text}");
        assert!(
            text.contains("DIR/plant/password") && text.contains("--secrets-dir"),
            "{text}"
        );
        assert_eq!(
            resolve(&[reference("plant", true)], None).unwrap().0.len(),
            0
        );
    }

    #[test]
    fn a_reference_is_read_from_its_file_byte_for_byte() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("plant")).unwrap();
        std::fs::write(directory.path().join("plant/password"), b"s3cret\xff").unwrap();
        let found = resolve(&[reference("plant", false)], Some(directory.path())).unwrap();
        assert_eq!(found.0["MQTT_PASSWORD"], b"s3cret\xff");
        assert!(!format!("{found:?}").contains("s3cret"));
        assert!(resolve(&[reference("other", false)], Some(directory.path())).is_err());
        assert!(
            resolve(&[reference("other", true)], Some(directory.path()))
                .unwrap()
                .0
                .is_empty()
        );
    }

    #[test]
    fn a_reference_cannot_lead_out_of_the_directory() {
        for name in ["..", "a/b", "/etc", ""] {
            let error = resolve(&[reference(name, true)], Some(Path::new("/nowhere"))).unwrap_err();
            assert!(error.to_string().contains("slash"), "{error}");
        }
    }
}
