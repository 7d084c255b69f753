//! What can go wrong with a session, as a closed set of kinds (metric labels) plus one sentence.
//! A text never holds a credential.

use std::fmt;

/// Cause of a failure; a closed set, fit for a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The host name could not be resolved.
    Dns,
    /// Nothing listens there.
    ConnectionRefused,
    /// No answer in time while connecting.
    ConnectTimeout,
    /// Another failure of the network.
    Network,
    /// The server's certificate has expired (or is not valid yet).
    CertificateExpired,
    /// The server's certificate names other hosts.
    CertificateHost,
    /// The server's certificate was not issued by an authority that is trusted here.
    CertificateUnknownIssuer,
    /// The server refused our client certificate, or wants one.
    ClientCertificate,
    /// Another failure of TLS.
    Tls,
    /// The WebSocket handshake or framing failed.
    WebSocket,
    /// User name or password were refused.
    BadCredentials,
    /// The server says: not authorised.
    NotAuthorised,
    /// The server refused the client id.
    ClientIdRefused,
    /// The server does not speak the protocol version.
    UnsupportedVersion,
    /// The server is unavailable, busy, shutting down or wants us elsewhere.
    ServerUnavailable,
    /// The server refused the connection for another reason.
    Refused,
    /// Another client with the same client id took the session over.
    TakenOver,
    /// The server closed the connection.
    Closed,
    /// No packet within one and a half keep-alives: a half-open link or a frozen server.
    KeepAlive,
    /// Bytes could not be written in time.
    WriteTimeout,
    /// The server broke the protocol.
    Protocol,
    /// The memory of the session (packet ids) failed.
    State,
    /// There is no connection to publish on.
    NotConnected,
    /// The message to publish is not one that can be sent, or the server refused it.
    Publish,
    /// The server refused a message because its quota is used up.
    Quota,
    /// The session was closed by its owner.
    Stopped,
    /// The credentials changed, so that the session connects again.
    CredentialsChanged,
    /// A preferred member of the failover list is back.
    MemberSwitch,
    /// The options or credentials cannot be used.
    Configuration,
}

impl ErrorKind {
    /// The label for metrics, in snake case.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::Network => "network",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateHost => "certificate_host",
            Self::CertificateUnknownIssuer => "certificate_unknown_issuer",
            Self::ClientCertificate => "client_certificate",
            Self::Tls => "tls",
            Self::WebSocket => "websocket",
            Self::BadCredentials => "bad_credentials",
            Self::NotAuthorised => "not_authorised",
            Self::ClientIdRefused => "client_id_refused",
            Self::UnsupportedVersion => "unsupported_version",
            Self::ServerUnavailable => "server_unavailable",
            Self::Refused => "refused",
            Self::TakenOver => "taken_over",
            Self::Closed => "closed",
            Self::KeepAlive => "keep_alive",
            Self::WriteTimeout => "write_timeout",
            Self::Protocol => "protocol",
            Self::State => "state",
            Self::NotConnected => "not_connected",
            Self::Publish => "publish",
            Self::Quota => "quota",
            Self::Stopped => "stopped",
            Self::CredentialsChanged => "credentials_changed",
            Self::MemberSwitch => "member_switch",
            Self::Configuration => "configuration",
        }
    }
}

/// A failure of the session.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SessionError {
    /// The cause.
    pub kind: ErrorKind,
    /// One sentence: what failed, with which value, what would be right.
    pub text: String,
}

impl SessionError {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

impl fmt::Debug for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionError({}: {})", self.kind.label(), self.text)
    }
}
