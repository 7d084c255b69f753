//! The flags of who may use the ports, for every program that serves them. In: flags and their variables. Out: the files.

use std::path::PathBuf;

use akri_mqtt_runtime::tls::TlsFiles;

use super::AccessFiles;

/// See the module.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Access to both ports")]
pub struct AccessArgs {
    /// Certificate of both ports, PEM; without it they are not encrypted. Watched, as are the other three files
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Authorities whose clients may use the ports, PEM; probes and metrics need no certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Tokens of at least 16 characters, one a line, of which a request has to show one (`Authorization: Bearer`);
    /// probes, metrics and pages without data need none
    #[arg(long, value_name = "FILE")]
    pub auth_token_file: Option<PathBuf>,
}

impl AccessArgs {
    /// The files that they name.
    #[must_use]
    pub fn files(&self) -> AccessFiles {
        let pair = self.tls_cert.clone().zip(self.tls_key.clone());
        AccessFiles {
            tls: pair.map(|(certificate, key)| TlsFiles {
                certificate,
                key,
                client_authorities: self.tls_client_ca.clone(),
            }),
            tokens: self.auth_token_file.clone(),
        }
    }
}
