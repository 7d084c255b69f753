//! From PEM to what a TLS server needs. Errors name the part that is wrong and never repeat it.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// What a TLS server shows and trusts, as PEM.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// The certificate and those between it and its authority.
    pub certificate: &'a [u8],
    /// Its private key.
    pub key: &'a [u8],
    /// Authorities of clients. A client may come without a certificate all the same; who may do what is decided
    /// with [`super::Peer::certified`].
    pub client_authorities: Option<&'a [u8]>,
}

/// What a TLS client shows and trusts, as PEM.
#[derive(Clone, Copy)]
pub struct ClientPem<'a> {
    /// Authorities of servers, or certificates of servers that signed themselves.
    pub authorities: &'a [u8],
    /// Its own certificate and private key.
    pub own: Option<(&'a [u8], &'a [u8])>,
}

/// Which part is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// No certificate, or one that cannot be read.
    #[error("no readable certificate, allowed: PEM with BEGIN CERTIFICATE")]
    Certificate,
    /// No key, or one that cannot be read.
    #[error("no readable private key, allowed: unencrypted PEM with BEGIN PRIVATE KEY")]
    Key,
    /// They are not for each other, or cannot be used.
    #[error("certificate and private key cannot be used together: {0}")]
    Pair(String),
    /// The authorities of clients cannot be read.
    #[error("no readable authority of clients, allowed: PEM with BEGIN CERTIFICATE")]
    ClientAuthority,
    /// The authorities of servers cannot be read.
    #[error("no readable authority of servers, allowed: PEM with BEGIN CERTIFICATE")]
    ServerAuthority,
}

/// A configuration that offers `protocols` (ALPN) in this order.
///
/// # Errors
/// As [`TlsError`].
pub fn server_config(pem: Pem<'_>, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(pem.certificate).ok_or(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(pem.key).map_err(|_| TlsError::Key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pair = |error: rustls::Error| TlsError::Pair(error.to_string());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(pair)?;
    let builder = match pem.client_authorities {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(authorities).ok_or(TlsError::ClientAuthority)? {
                let added = roots.add(authority);
                added.map_err(|_| TlsError::ClientAuthority)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|_| TlsError::ClientAuthority)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// A configuration of a client that speaks one of `protocols` (ALPN).
///
/// # Errors
/// As [`TlsError`].
pub fn client_config(
    pem: ClientPem<'_>,
    protocols: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsError> {
    let pair = |error: rustls::Error| TlsError::Pair(error.to_string());
    let mut roots = RootCertStore::empty();
    for authority in certificates(pem.authorities).ok_or(TlsError::ServerAuthority)? {
        let added = roots.add(authority);
        added.map_err(|_| TlsError::ServerAuthority)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_root_certificates(roots);
    let mut config = match pem.own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate).ok_or(TlsError::Certificate)?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
            builder.with_client_auth_cert(chain, key).map_err(pair)?
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// At least one certificate, all of them readable.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok().filter(|certificates| !certificates.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn error(certificate: &str, key: &str, authorities: Option<&str>) -> TlsError {
        let pem = Pem {
            certificate: certificate.as_bytes(),
            key: key.as_bytes(),
            client_authorities: authorities.map(str::as_bytes),
        };
        server_config(pem, &[]).unwrap_err()
    }

    #[test]
    fn what_is_wrong_is_named_and_not_repeated() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        assert_eq!(error("x", &key, None), TlsError::Certificate);
        assert_eq!(error(&certificate, "x", None), TlsError::Key);
        let half = &key[..key.len() / 2];
        assert_eq!(error(&certificate, half, None), TlsError::Key);
        let wrong = error(&certificate, &other, None);
        assert!(matches!(wrong, TlsError::Pair(_)), "{wrong}");
        let wrong = error(&certificate, &key, Some(""));
        assert_eq!(wrong, TlsError::ClientAuthority);
    }

    #[test]
    fn protocols_are_offered_in_their_order() {
        let (certificate, key) = pair();
        let pem = Pem {
            certificate: certificate.as_bytes(),
            key: key.as_bytes(),
            client_authorities: None,
        };
        let config = server_config(pem, &[b"h2", b"http/1.1"]).unwrap();
        assert_eq!(config.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    }
}
