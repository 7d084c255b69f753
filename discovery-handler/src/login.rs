//! Whose roster it is. In: a request's credentials, and the salt of the state directory. Out: a digest that tells them
//! from others in a file, and from which they cannot be guessed at any speed that is of use.
//! What may be taken over by whom is decided by `rosters`.

use std::num::NonZeroU32;

use rand::Rng as _;
use ring::pbkdf2;
use serde::{Deserialize, Serialize};

use crate::credentials::Properties;
use crate::naming::hex;
use crate::state_dir::StateDir;

const SALT_FILE: &str = "login-salt";
/// Hexadecimal digits of a salt of 16 bytes.
const SALT_DIGITS: usize = 32;
/// Some 20 ms for each guess, and for each new request.
const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();
/// Bytes of a digest: enough to tell the few logins of a node apart.
const DIGEST: usize = 8;

/// Digests of a request's credentials; those in the files of `--credentials-dir` are the same for all requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Of everything; empty where there is nothing.
    whole: String,
    /// Of user names and client certificates: what stays when a password changes.
    user: String,
}

impl Login {
    /// Whether a changed password is all that may be between the two.
    #[must_use]
    pub fn is_same_user(&self, other: &Self) -> bool {
        self.user == other.user
    }

    /// What the name of a file ends in; nothing where there are no credentials.
    #[must_use]
    pub fn file_end(&self) -> String {
        match self.whole.get(..DIGEST) {
            Some(start) => format!("-{start}"),
            None => String::new(),
        }
    }

    /// What tells the user from others in a name; empty where there is none.
    #[must_use]
    pub fn user_start(&self) -> &str {
        self.user.get(..DIGEST).unwrap_or_default()
    }
}

/// Makes logins that processes with one state directory can compare.
#[derive(Clone)]
pub struct Logins {
    salt: String,
}

impl Logins {
    /// With the salt of this state directory.
    #[must_use]
    pub fn load(state: &StateDir) -> Self {
        let valid = |kept: &str| {
            kept.len() == SALT_DIGITS && kept.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let fresh = || hex(&rand::rng().random::<[u8; SALT_DIGITS / 2]>());
        let salt = state.kept(SALT_FILE, valid, fresh);
        Self { salt }
    }

    /// The login of a Discover call, made beside everything else; none when the process stops.
    pub async fn of_call(&self, properties: &Properties) -> Option<Login> {
        let (logins, properties) = (self.clone(), properties.clone());
        let made = tokio::task::spawn_blocking(move || logins.of(&properties));
        made.await.ok()
    }

    /// The login of a request. It takes a while: not for a thread that others wait for.
    #[must_use]
    pub fn of(&self, properties: &Properties) -> Login {
        Login {
            whole: self.digest(properties.iter()),
            user: self.digest(properties.user()),
        }
    }

    fn digest<'a>(&self, values: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
        let mut bytes = Vec::new();
        for part in values.flat_map(|(name, value)| [name.as_bytes(), value]) {
            bytes.extend_from_slice(&part.len().to_le_bytes());
            bytes.extend_from_slice(part);
        }
        if bytes.is_empty() {
            return String::new();
        }
        let mut digest = [0; DIGEST];
        let (algorithm, salt) = (pbkdf2::PBKDF2_HMAC_SHA256, self.salt.as_bytes());
        pbkdf2::derive(algorithm, ROUNDS, salt, &bytes, &mut digest);
        hex(&digest)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use akri_mqtt_proto::akri::ByteData;

    use super::*;

    fn properties(values: &[(&str, &str)]) -> Properties {
        let data = |value: &str| ByteData {
            vec: Some(value.to_owned().into()),
        };
        let values = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), data(value)));
        Properties::of(&values.collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn logins_are_told_apart_in_every_process_of_a_state_directory_and_say_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let (logins, elsewhere) = (Logins::load(&state), Logins::load(&StateDir::in_memory()));
        let of = |password: &str| {
            let properties = properties(&[("MQTT_USERNAME", "anna"), ("MQTT_PASSWORD", password)]);
            (logins.of(&properties), properties)
        };
        let ((right, known), (wrong, _)) = (of("s3cret"), of("guess"));
        assert_ne!(right, wrong);
        assert!(right.is_same_user(&wrong));
        assert_eq!(Logins::load(&state).of(&known), right);
        assert_ne!(elsewhere.of(&known), right);
        let bert = logins.of(&properties(&[("MQTT_USERNAME", "bert")]));
        assert!(!bert.is_same_user(&right));
        let nobody = logins.of(&properties(&[]));
        assert_eq!(
            (&nobody, nobody.file_end()),
            (&Login::default(), String::new())
        );
        assert!(!nobody.is_same_user(&right));
        let text = format!("{right:?}");
        assert!(!text.contains("anna") && !text.contains("s3cret"), "{text}");
    }
}
