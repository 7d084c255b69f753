//! TLS for the ports of a process. In: PEM, from files that may change at any time or from elsewhere. Out: connections
//! whose handshake is over, each with the certificate that was the newest when it came.

mod config;
mod files;
mod listener;

pub use config::{ClientPem, Pem, TlsError, client_config, server_config};
pub use files::TlsFiles;
pub use listener::{Config, Peer, Port, TlsListener};
