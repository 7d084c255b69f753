//! What one session presents to its server. In: a request's properties, the files of `--credentials-dir`, and that
//! either has changed. Out: credentials for the session, and why changed ones are not used.
//! Whether the server accepts them is seen by the session.

use akri_mqtt_core::credentials::Credentials;
use akri_mqtt_core::details::Server;
use tokio::sync::watch;
use tracing::warn;

use crate::credentials::{Files, Properties};

/// Where the credentials of a session come from.
pub struct Account {
    server: Server,
    files: Files,
    properties: Properties,
    legacy: bool,
    credentials: watch::Sender<Credentials>,
    trouble: watch::Sender<Option<String>>,
}

/// What an account tells others.
pub struct Told {
    /// What to present.
    pub credentials: watch::Receiver<Credentials>,
    /// Why changed files are not used, if they are not.
    pub trouble: watch::Receiver<Option<String>>,
}

impl Account {
    /// An account that presents `first`, which came from these sources.
    #[must_use]
    pub fn new(
        server: Server,
        (files, properties, legacy): (Files, Properties, bool),
        first: Credentials,
    ) -> (Self, Told) {
        let (credentials, presented) = watch::channel(first);
        let (trouble, told) = watch::channel(None);
        let account = Self {
            server,
            files,
            properties,
            legacy,
            credentials,
            trouble,
        };
        let told = Told {
            credentials: presented,
            trouble: told,
        };
        (account, told)
    }

    /// Waits until a file has changed.
    pub async fn files_changed(&mut self) {
        self.files.changed().await;
    }

    /// Takes what the files say now, if it can be used. True if people are to be told something else than before.
    pub fn read_files(&self) -> bool {
        let usable = self
            .files
            .resolve_usable(&self.server, &self.properties, self.legacy);
        let trouble = match usable {
            Ok(credentials) => {
                self.present(credentials);
                None
            }
            Err(error) => Some(error),
        };
        self.tell(trouble)
    }

    /// The request's properties have changed.
    pub fn replace(&mut self, properties: Properties, credentials: Credentials) {
        self.properties = properties;
        self.present(credentials);
        self.tell(None);
    }

    fn present(&self, credentials: Credentials) {
        self.credentials.send_if_modified(|known| {
            let changed = *known != credentials;
            *known = credentials;
            changed
        });
    }

    fn tell(&self, trouble: Option<String>) -> bool {
        self.trouble.send_if_modified(|known| {
            let changed = *known != trouble;
            if let Some(error) = trouble.as_ref().filter(|_| changed) {
                warn!(server = %self.server.name, error, "changed credentials cannot be used; the old ones stay");
            }
            *known = trouble;
            changed
        })
    }
}
