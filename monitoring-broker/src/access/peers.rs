//! What this process shows and trusts when it talks to other members of its pool. In: the files of the ports, the
//! authorities of members. Out: a configuration that is always the newest. Without a certificate of its own members
//! talk without TLS, as their ports do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akri_mqtt_runtime::Tasks;
use akri_mqtt_runtime::files::{FileError, Watched};
use akri_mqtt_runtime::tls::{ClientPem, TlsFiles, client_config};
use tokio::sync::watch;

use super::watch_files;
use crate::access::AccessMetrics;
use crate::api::union::PeerTls;

/// Reads the files and watches them from now on. Without `authorities` the certificate's own file names them.
///
/// # Errors
/// A file cannot be read or is wrong.
pub fn peers(
    files: Option<&TlsFiles>,
    authorities: Option<&Path>,
    tasks: &Tasks,
    metrics: &AccessMetrics,
) -> Result<PeerTls, FileError> {
    let Some(files) = files else {
        return Ok(None);
    };
    let trusted = authorities.map_or_else(|| files.certificate.clone(), PathBuf::from);
    // Where ports ask for a certificate, members show theirs.
    let shows = files.client_authorities.is_some();
    let paths = vec![trusted, files.certificate.clone(), files.key.clone()];
    let (watched, first) = Watched::open(paths, move |contents| {
        let [authorities, certificate, key] = contents else {
            return Err("three files make what members show and trust".to_owned());
        };
        let own = shows.then_some((certificate.as_slice(), key.as_slice()));
        let pem = ClientPem { authorities, own };
        client_config(pem, &[b"h2"]).map_err(|error| error.to_string())
    })?;
    let (sender, receiver) = watch::channel(first);
    let changed = move |config: Arc<_>| drop(sender.send_replace(config));
    watch_files("peers", watched, changed, tasks, metrics);
    Ok(Some(receiver))
}
