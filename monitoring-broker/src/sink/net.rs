//! Connections to the servers of sinks. In: host, port, whether TLS. Out: a stream, or why there is none.
//! TLS is rustls with ring; it trusts the system's authorities, or those of a file and no others.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure::{Failure, Reason};

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Authorities in PEM instead of the system's; read at each connect.
    pub ca_file: Option<PathBuf>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// TCP.
    pub port: u16,
    /// None: plain TCP.
    pub tls: Option<Tls>,
}

/// A connection.
pub enum Stream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Endpoint {
    /// As it is named in URLs: an IPv6 address stands in brackets.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    /// Connects with TCP.
    pub async fn tcp(&self) -> Result<TcpStream, Failure> {
        let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = connected.map_err(|error| Failure::new(Reason::Connection, error))?;
        // Batches are complete when they are written: nothing is gained by waiting for more.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// Connects, with TLS if that is asked for.
    pub async fn connect(&self) -> Result<Stream, Failure> {
        let stream = self.tcp().await?;
        let Some(tls) = &self.tls else {
            return Ok(Stream::Plain(stream));
        };
        let (connector, name) = (tls.connector().await?, self.server_name()?);
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| Failure::new(Reason::Tls, error))?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    /// What the server's certificate must name.
    pub fn server_name(&self) -> Result<ServerName<'static>, Failure> {
        ServerName::try_from(self.host.clone()).map_err(|error| Failure::new(Reason::Tls, error))
    }
}

impl Tls {
    /// Makes TLS clients.
    pub async fn connector(&self) -> Result<TlsConnector, Failure> {
        let file = self.ca_file.clone();
        let roots = tokio::task::spawn_blocking(move || roots(file.as_deref())).await;
        let roots = roots.map_err(|error| Failure::new(Reason::Tls, error))??;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new(Reason::Tls, error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut store = RootCertStore::empty();
    let Some(path) = file else {
        let found = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(found.certs);
        return Ok(store);
    };
    let wrong = |text: String| Failure::new(Reason::Tls, format!("{}: {text}", path.display()));
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        let added = store.add(certificate);
        added.map_err(|error| wrong(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    Ok(store)
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
