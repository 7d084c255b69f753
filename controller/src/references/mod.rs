//! What `discoveryProperties` stand for. In: the properties of a Configuration, and the Secrets and
//! ConfigMaps that they name. Out: values for the handler, or why there are none, without a value in it.
//! Watching the objects is left to `watch`; what a change leads to is decided in `discover`.

mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use akri_mqtt_crds::{DiscoveryProperty, KeySelector, PropertySource};
use prost::bytes::Bytes;

pub use watch::References;

/// Objects that all Configurations together may name.
pub const MAX_OBJECTS: usize = 1_024;
/// Bytes of all values of one Configuration: they travel in one gRPC message of at most 4 MiB.
const MAX_VALUES: usize = 2 << 20;
/// Bytes of a value that is looked for in texts; shorter ones are found in every text.
const MIN_REDACTED: usize = 4;

/// Where a value can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        })
    }
}

/// A Secret or a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    /// Which of them.
    pub kind: Kind,
    /// Its namespace; a DNS label.
    pub namespace: Arc<str>,
    /// Its name; a DNS subdomain.
    pub name: Arc<str>,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The values of an object by key. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Data(pub BTreeMap<String, Bytes>);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What is known about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It is there. While the API server cannot be asked, what it said last.
    Present(Arc<Data>),
    /// It is not there.
    Absent,
    /// We may not read it.
    Forbidden,
    /// It was never read, because of this.
    Failed(String),
}

/// All that is known.
pub type Known = BTreeMap<Object, Observed>;

/// Values for a handler. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    values: BTreeMap<String, Bytes>,
    secret: BTreeSet<String>,
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Resolved {
    /// Values that are no secrets.
    #[cfg(test)]
    pub(crate) fn of(values: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| {
            ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes()))
        };
        Self {
            values: values.iter().map(owned).collect(),
            secret: BTreeSet::new(),
        }
    }

    /// The values by name.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// The text without the values of Secrets, should somebody have repeated them.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let secret = self.secret.iter().filter_map(|name| self.values.get(name));
        let values = secret.filter_map(|value| std::str::from_utf8(value).ok());
        // Also line by line: who repeats a key may put it on one line.
        let mut parts: Vec<&str> = values
            .flat_map(|value| [value, value.trim()].into_iter().chain(value.lines()))
            .filter(|part| part.len() >= MIN_REDACTED)
            .collect();
        // One value may be a part of another.
        parts.sort_unstable_by_key(|part| std::cmp::Reverse(part.len()));
        parts
            .into_iter()
            .fold(text.to_owned(), |text, part| text.replace(part, "…"))
    }
}

/// Why there are no values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// An object has not been read yet.
    Pending,
    /// Something is wrong, in one sentence.
    Because(String),
}

/// Whose references may lead where.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The Configuration's namespace.
    pub namespace: &'a str,
    /// `--allow-secret-namespace`
    pub allowed: &'a BTreeSet<String>,
}

/// The objects that the properties name and may name.
#[must_use]
pub fn objects(properties: &[DiscoveryProperty], rules: Rules<'_>) -> BTreeSet<Object> {
    let sources = properties
        .iter()
        .filter_map(|property| property.value_from.as_ref());
    sources
        .filter_map(|source| object(source, rules).ok())
        .collect()
}

/// The values of the properties. Of two with one name the last counts, as with Akri.
///
/// # Errors
/// The first property that has no value, in words.
pub fn resolve(
    properties: &[DiscoveryProperty],
    rules: Rules<'_>,
    known: &Known,
) -> Result<Resolved, Unresolved> {
    let mut resolved = Resolved::default();
    let mut pending = false;
    for property in properties {
        let name = &property.name;
        let because = |why: String| {
            let start: String = name.chars().take(64).collect();
            Unresolved::Because(format!("discoveryProperties: {start}: {why}"))
        };
        if !is_name(name) {
            let allowed = "a name has letters, digits and _, and does not begin with a digit";
            return Err(because(allowed.to_owned()));
        }
        let value = match (&property.value, &property.value_from) {
            (Some(value), _) => Ok(Some(Bytes::copy_from_slice(value.as_bytes()))),
            (None, Some(source)) => value(source, rules, known),
            (None, None) => Err(Unresolved::Because(
                "it has neither value nor valueFrom".to_owned(),
            )),
        };
        match value {
            Ok(Some(value)) => {
                let of_secret =
                    matches!(property.value_from, Some(PropertySource::SecretKeyRef(_)));
                if property.value.is_none() && of_secret {
                    resolved.secret.insert(name.clone());
                } else {
                    resolved.secret.remove(name);
                }
                resolved.values.insert(name.clone(), value);
            }
            Ok(None) => {}
            Err(Unresolved::Pending) => pending = true,
            Err(Unresolved::Because(why)) => return Err(because(why)),
        }
    }
    let bytes: usize = resolved.values.values().map(Bytes::len).sum();
    if bytes > MAX_VALUES {
        return Err(Unresolved::Because(format!(
            "discoveryProperties: their values have {bytes} bytes and may have {MAX_VALUES}"
        )));
    }
    if pending {
        return Err(Unresolved::Pending);
    }
    Ok(resolved)
}

/// `Ok(None)`: it is missing and may be.
fn value(
    source: &PropertySource,
    rules: Rules<'_>,
    known: &Known,
) -> Result<Option<Bytes>, Unresolved> {
    let object = object(source, rules).map_err(Unresolved::Because)?;
    let (_, selector) = parts(source);
    let because = |why: String| Err(Unresolved::Because(why));
    let optional = selector.optional == Some(true);
    let Some(key) = &selector.key else {
        return because(format!("the reference to {object} has no key"));
    };
    match known.get(&object) {
        None => Err(Unresolved::Pending),
        Some(Observed::Present(data)) => match data.0.get(key) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => {
                let key: String = key.chars().take(64).collect();
                because(format!("{object} has no key {key:?}"))
            }
        },
        Some(Observed::Absent) if optional => Ok(None),
        Some(Observed::Absent) => because(format!("there is no {object}")),
        Some(Observed::Forbidden) => because(format!(
            "the controller may not read {object}: add {} to the chart's value secretNamespaces",
            object.namespace
        )),
        Some(Observed::Failed(why)) => because(format!("{object} cannot be read: {why}")),
    }
}

fn parts(source: &PropertySource) -> (Kind, &KeySelector) {
    match source {
        PropertySource::ConfigMapKeyRef(selector) => (Kind::ConfigMap, selector),
        PropertySource::SecretKeyRef(selector) => (Kind::Secret, selector),
    }
}

/// The object of a reference, if it may be read. Names are checked because they become part of a URL.
fn object(source: &PropertySource, rules: Rules<'_>) -> Result<Object, String> {
    let (kind, selector) = parts(source);
    let own = selector.namespace.as_deref().unwrap_or_default();
    let namespace = if own.is_empty() { rules.namespace } else { own };
    if !is_dns(&selector.name, 253, true) {
        return Err(format!(
            "the {kind}'s name is no name that Kubernetes allows"
        ));
    }
    if !is_dns(namespace, 63, false) {
        return Err(format!(
            "the {kind}'s namespace is no name that Kubernetes allows"
        ));
    }
    let object = Object {
        kind,
        namespace: namespace.into(),
        name: selector.name.as_str().into(),
    };
    if namespace != rules.namespace && !rules.allowed.contains(namespace) {
        return Err(format!(
            "{object} is outside the Configuration's namespace: move it there, or add {namespace} to the chart's values controller.allowSecretNamespaces and secretNamespaces (flag --allow-secret-namespace)"
        ));
    }
    Ok(object)
}

/// `^[_A-Za-z][_A-Za-z0-9]*$`
fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c == '_' || c.is_ascii_alphabetic())
        && chars.all(|c| c == '_' || c.is_ascii_alphanumeric())
}

/// RFC 1123, as Kubernetes reads it.
fn is_dns(name: &str, most: usize, subdomain: bool) -> bool {
    let label = |label: &str| {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty()
            && label.chars().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels = || name.split('.').all(label);
    name.len() <= most && if subdomain { labels() } else { label(name) }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
