//! Names of MQTT servers and devices, and the hashes that Akri makes of them.
//! In: text from a Configuration or from topics. Out: checked names, cheap to copy.
//! Which topic names which device is left to `details`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use blake2::digest::consts::{U3, U32};
use blake2::{Blake2b, Digest};

/// The longest name of a server, in characters.
const MAX_SERVER_NAME: usize = 32;
/// The longest name of a device, in bytes: Instances, lists and log lines repeat it.
pub(crate) const MAX_DEVICE_NAME: usize = 1_024;
/// What is kept of a server's default name that is too long; `-` and six hex digits follow.
const KEPT_OF_LONG_NAME: usize = 25;

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum IdentityError {
    #[error("a server's name has 1 to 32 characters out of a-z, 0-9 and `-`")]
    ServerName,
    #[error("a device's id is `<server>/<device>`, as in `plant-a/r1`")]
    NoSlash,
    #[error("a device's name is not empty and has no null character")]
    DeviceName,
}

/// The name of a logical MQTT server within a Configuration: `[a-z0-9-]{1,32}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(Arc<str>);

impl ServerName {
    /// Checks a name.
    ///
    /// # Errors
    /// It has other characters, none, or too many.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let good = (1..=MAX_SERVER_NAME).contains(&text.len())
            && text
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if good {
            Ok(Self(text.into()))
        } else {
            Err(IdentityError::ServerName)
        }
    }

    /// The name of a server that was given none: host and port in lower case, other characters
    /// as `-`; over 32, the first 25, `-` and six hex digits of its hash.
    #[must_use]
    pub fn from_host_port(host: &str, port: u16) -> Self {
        let mut name: String = format!("{host}-{port}")
            .to_lowercase()
            .chars()
            .map(|c| {
                if c.is_ascii_lowercase() || c.is_ascii_digit() {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        if name.len() > MAX_SERVER_NAME {
            let hash = InstanceHash::of(&name);
            name.truncate(KEPT_OF_LONG_NAME);
            name = format!("{name}-{hash}");
        }
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as the end of an environment variable: upper case, `-` as `_`.
    #[must_use]
    pub fn env_suffix(&self) -> String {
        self.0.to_ascii_uppercase().replace('-', "_")
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The id of a device, `<server>/<device>`, as Akri gets it.
#[derive(Clone)]
pub struct DeviceId {
    server: ServerName,
    id: Arc<str>,
}

impl DeviceId {
    /// Puts an id together.
    ///
    /// # Errors
    /// The name is empty or has a null character.
    pub fn new(server: ServerName, name: &str) -> Result<Self, IdentityError> {
        if name.is_empty() || name.contains('\0') {
            return Err(IdentityError::DeviceName);
        }
        Ok(Self::from_checked(server, name))
    }

    /// For names that come out of checked topics.
    pub(crate) fn from_checked(server: ServerName, name: &str) -> Self {
        let id = format!("{server}/{name}").into();
        Self { server, id }
    }

    /// Reads `<server>/<device>`.
    ///
    /// # Errors
    /// There is no `/`, or one of the two parts is no name.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let (server, name) = text.split_once('/').ok_or(IdentityError::NoSlash)?;
        Self::new(ServerName::parse(server)?, name)
    }

    /// The server that the device is seen through.
    #[must_use]
    pub fn server(&self) -> &ServerName {
        &self.server
    }

    /// The device's name on its server, with the salt (`#…`) if the Configuration has one.
    #[must_use]
    pub fn name(&self) -> &str {
        self.id.get(self.server.0.len() + 1..).unwrap_or_default()
    }

    /// The device's name as its topics say it. A topic has no `#`, so what follows one is the
    /// salt of `limits.idSalt`.
    #[must_use]
    pub fn plain_name(&self) -> &str {
        self.name().split('#').next().unwrap_or_default()
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.id
    }

    /// What Akri's Agent appends to the Configuration's name to name the Instance of a shared device.
    #[must_use]
    pub fn instance_hash(&self) -> InstanceHash {
        InstanceHash::of(&self.id)
    }

    /// BLAKE2b-256 of the id, by which collisions of instance hashes are settled.
    #[must_use]
    pub fn full_hash(&self) -> [u8; 32] {
        Blake2b::<U32>::digest(self.id.as_bytes()).into()
    }
}

impl PartialEq for DeviceId {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for DeviceId {}

impl PartialOrd for DeviceId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DeviceId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.id.cmp(&other.id)
    }
}

impl Hash for DeviceId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.id)
    }
}

/// BLAKE2b with three bytes of output over a device's id; six hex digits of the Instance's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceHash([u8; 3]);

impl InstanceHash {
    /// The hash of any text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Blake2b::<U3>::digest(text.as_bytes()).into())
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 3] {
        self.0
    }
}

impl fmt::Display for InstanceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_hash_is_the_one_of_pythons_blake2b() {
        // hashlib.blake2b(b"plant-a/r1", digest_size=3).hexdigest(), and digest_size=32.
        let id = DeviceId::parse("plant-a/r1").unwrap();
        assert_eq!(id.instance_hash().to_string(), "35ced2");
        let full: String = id.full_hash().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            full,
            "c4aa6db9e1c84930802cb64432b21b4e31d025810e8236f47178a8ff6367b2f0"
        );
        let id = DeviceId::parse("10-0-0-5-1883/akri-devices/Device23920/temp").unwrap();
        assert_eq!(id.instance_hash().to_string(), "be6ab8");
    }

    #[test]
    fn default_names_fit_into_32_characters() {
        assert_eq!(
            ServerName::from_host_port("MQTT.Example.com", 8883).as_str(),
            "mqtt-example-com-8883"
        );
        assert_eq!(ServerName::from_host_port("::1", 1883).as_str(), "--1-1883");
        let long = ServerName::from_host_port("a-very-long-host-name.plant.example.com", 1883);
        assert_eq!(long.as_str().len(), 32);
        assert!(
            long.as_str().starts_with("a-very-long-host-name-pla-"),
            "{long}"
        );
        assert_eq!(ServerName::parse(long.as_str()), Ok(long));
    }

    #[test]
    fn ids_are_taken_apart_where_they_were_put_together() {
        let id = DeviceId::parse("plant-a/robots/r1#s").unwrap();
        assert_eq!(id.server().as_str(), "plant-a");
        assert_eq!(id.name(), "robots/r1#s");
        assert_eq!(id.plain_name(), "robots/r1");
        assert_eq!(id.to_string(), "plant-a/robots/r1#s");
        assert_eq!(DeviceId::parse("plant-a"), Err(IdentityError::NoSlash));
        assert_eq!(DeviceId::parse("Plant/x"), Err(IdentityError::ServerName));
        assert_eq!(DeviceId::parse("p/"), Err(IdentityError::DeviceName));
        assert_eq!(
            ServerName::parse("plant-a").unwrap().env_suffix(),
            "PLANT_A"
        );
    }
}
