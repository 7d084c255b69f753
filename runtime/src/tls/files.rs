//! The files of a certificate. In: paths. Out: configurations, at the start and whenever the files changed. A pair that does
//! not fit, as while a Secret is being swapped, is an error: whoever watches keeps what it has.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;

use super::config::{Pem, server_config};
use crate::files::{FileError, Watched};

/// One for each port.
type Configs = Vec<Arc<ServerConfig>>;

/// Where the certificate of a process is, and the authorities of its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM with the certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// PEM with its private key.
    pub key: PathBuf,
    /// PEM with the authorities whose clients are known.
    pub client_authorities: Option<PathBuf>,
}

impl TlsFiles {
    /// Reads them for the first time. Each of `offers` is the list of protocols (ALPN) of a port, and gets a
    /// configuration of its own, in the same order.
    ///
    /// # Errors
    /// A file cannot be read, or is wrong.
    pub fn watched(
        &self,
        offers: &'static [&'static [&'static [u8]]],
    ) -> Result<(Watched<Configs>, Configs), FileError> {
        let mut paths = vec![self.certificate.clone(), self.key.clone()];
        paths.extend(self.client_authorities.clone());
        Watched::open(paths, move |contents| {
            let [certificate, key, rest @ ..] = contents else {
                return Err("two files make a certificate".to_owned());
            };
            let pem = Pem {
                certificate,
                key,
                client_authorities: rest.first().map(Vec::as_slice),
            };
            let configs = offers.iter().map(|offer| server_config(pem, offer));
            let configs: Result<Vec<_>, _> = configs.collect();
            configs.map_err(|error| error.to_string())
        })
    }
}
