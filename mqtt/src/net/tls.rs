//! TLS: the system's authorities or an own one, client certificates, and every failure with its cause.

use std::sync::{Arc, OnceLock};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct,
    RootCertStore, SignatureScheme, WantsVerifier,
    client::{
        WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Attempt, io_error};
use crate::{Credentials, ErrorKind, ServerUrl, SessionError};

pub(super) async fn wrap(
    tcp: TcpStream,
    attempt: &Attempt<'_>,
) -> Result<TlsStream<TcpStream>, SessionError> {
    let url = attempt.url;
    let config = config(attempt)?;
    let name = ServerName::try_from(url.host.clone()).map_err(|error| {
        SessionError::new(ErrorKind::Configuration, format!("{:?}: {error}", url.host))
    })?;
    let connector = TlsConnector::from(Arc::new(config));
    connector
        .connect(name, tcp)
        .await
        .map_err(|error| io_error(url, &error))
}

fn config(attempt: &Attempt<'_>) -> Result<ClientConfig, SessionError> {
    let builder = builder()?;
    let builder = if attempt.options.insecure_skip_verify {
        tracing::warn!(url = %attempt.url, "the server's certificate is not verified (insecureSkipVerify)");
        let provider = Arc::new(ring::default_provider());
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    } else {
        builder.with_root_certificates(roots(attempt.credentials)?)
    };
    with_client_certificate(builder, attempt.credentials)
}

/// Whether certificates and key can be used: each whole, the key the certificate's. What the server says of them is
/// another matter.
///
/// # Errors
/// Which one cannot be used, and why; never its contents.
pub fn check(credentials: &Credentials) -> Result<(), SessionError> {
    if let Some(pem) = &credentials.ca_cert {
        authorities(pem)?;
    }
    let builder = builder()?.with_root_certificates(RootCertStore::empty());
    with_client_certificate(builder, credentials).map(drop)
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, SessionError> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| configuration(format!("TLS: {error}")))
}

fn with_client_certificate(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    credentials: &Credentials,
) -> Result<ClientConfig, SessionError> {
    match (&credentials.client_cert, &credentials.client_key) {
        (Some(chain), Some(key)) => {
            let chain = certificates(chain, "MQTT_CLIENT_CERT")?;
            let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| {
                configuration("MQTT_CLIENT_KEY holds no private key in PEM".to_owned())
            })?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                configuration(format!("MQTT_CLIENT_CERT and MQTT_CLIENT_KEY: {error}"))
            })
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(configuration(
            "MQTT_CLIENT_CERT and MQTT_CLIENT_KEY must be given together".to_owned(),
        )),
    }
}

/// The system's authorities, read once in a process.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "a system certificate was not read");
        }
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(found.certs);
        store
    })
}

/// An own authority stands in for those of the system: whoever names one trusts no other to vouch for the server.
fn roots(credentials: &Credentials) -> Result<RootCertStore, SessionError> {
    if let Some(pem) = &credentials.ca_cert {
        return authorities(pem);
    }
    let store = system_roots().clone();
    if store.is_empty() {
        let text =
            "there are no authorities to trust: the system has none and MQTT_CA_CERT is not set";
        return Err(configuration(text.to_owned()));
    }
    Ok(store)
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, SessionError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem, "MQTT_CA_CERT")? {
        store
            .add(certificate)
            .map_err(|error| configuration(format!("MQTT_CA_CERT: {error}")))?;
    }
    Ok(store)
}

fn certificates(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, SessionError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(configuration(format!("{name} holds no certificate in PEM"))),
        Err(_) => Err(configuration(format!(
            "{name} is not whole: it is no PEM, or was cut"
        ))),
    }
}

fn configuration(text: String) -> SessionError {
    SessionError::new(ErrorKind::Configuration, text)
}

/// The TLS error inside an I/O error.
pub(super) fn cause(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>()
}

pub(super) fn error(url: &ServerUrl, error: &rustls::Error) -> SessionError {
    let kind = match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => ErrorKind::CertificateExpired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                ErrorKind::CertificateHost
            }
            CertificateError::UnknownIssuer => ErrorKind::CertificateUnknownIssuer,
            _ => ErrorKind::Tls,
        },
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => ErrorKind::ClientCertificate,
        _ => ErrorKind::Tls,
    };
    let text = match kind {
        ErrorKind::CertificateExpired => {
            format!("the certificate of {url} has expired or is not valid yet: {error}")
        }
        ErrorKind::CertificateHost => {
            format!("the certificate of {url} names other hosts: {error}")
        }
        ErrorKind::CertificateUnknownIssuer => {
            format!(
                "the certificate of {url} was issued by an unknown authority; give it as MQTT_CA_CERT: {error}"
            )
        }
        ErrorKind::ClientCertificate => {
            format!(
                "{url} did not accept our client certificate (MQTT_CLIENT_CERT, MQTT_CLIENT_KEY): {error}"
            )
        }
        _ => format!("TLS with {url} failed: {error}"),
    };
    SessionError::new(kind, text)
}

/// For `insecureSkipVerify`: any certificate will do, but the peer must hold its key.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
