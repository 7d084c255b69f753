//! The book of registered discovery handlers. In: registrations, and whether endpoints can be reached.
//! Out: the endpoints of each handler name, by `watch`. Taking registrations is left to
//! `registration`, calling the endpoints to `discover`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_runtime::Shutdown;
use thiserror::Error;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::discover::Metrics;

/// Handler names: the pod has a handful of containers.
pub const MAX_NAMES: usize = 64;
/// Endpoints of one name.
pub const MAX_ENDPOINTS: usize = 16;
/// How long a local endpoint may take to accept a connection.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Where a handler's Discover service is. Its order is that in which lists of several endpoints are united.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A Unix socket in the handlers' directory.
    Unix(PathBuf),
    /// `http://ip:port`
    Network(SocketAddr),
}

impl Endpoint {
    /// Whether something accepts connections there.
    async fn accepts(&self) -> bool {
        let connected = async {
            match self {
                Self::Unix(path) => connect_unix(path).await.map(drop),
                Self::Network(address) => TcpStream::connect(address).await.map(drop),
            }
        };
        matches!(timeout(CONNECT_WITHIN, connected).await, Ok(Ok(())))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Network(address) => write!(f, "http://{address}"),
        }
    }
}

/// Connects to a socket, but not to what a symbolic link in its place leads to.
///
/// # Errors
/// What the system answers.
pub async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::other("it is not a socket"));
    }
    UnixStream::connect(path).await
}

/// What is known about one handler name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Its endpoints, and how often each has registered.
    pub endpoints: BTreeMap<Endpoint, u64>,
    /// Whether one that wanted to register was refused because its devices are not shared.
    pub not_shared: bool,
}

/// All handler names.
pub type Book = BTreeMap<Arc<str>, Registered>;

/// No room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Full {
    /// Too many names.
    #[error("{MAX_NAMES} handler names are registered")]
    Names,
    /// Too many endpoints of one name.
    #[error("{MAX_ENDPOINTS} endpoints of this handler name are registered")]
    Endpoints,
}

/// The registered handlers; clones share them.
#[derive(Clone)]
pub struct Handlers {
    book: watch::Sender<Arc<Book>>,
    metrics: Metrics,
}

impl Handlers {
    /// None is registered yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self {
            book: watch::channel(Arc::default()).0,
            metrics,
        }
    }

    /// The handlers now and as they change; a repeated registration is a change too.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Book>> {
        self.book.subscribe()
    }

    /// Counts what became of a registration.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Notes that an endpoint has registered.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn register(&self, name: &str, endpoint: Endpoint) -> Result<(), Full> {
        self.change(|book| {
            let known = entry(book, name)?;
            let full = known.endpoints.len() >= MAX_ENDPOINTS;
            if full && !known.endpoints.contains_key(&endpoint) {
                return Err(Full::Endpoints);
            }
            known.not_shared = false;
            let times = known.endpoints.entry(endpoint.clone()).or_default();
            *times += 1;
            if *times == 1 {
                info!(handler = name, %endpoint, "discovery handler is registered");
            }
            Ok(())
        })
    }

    /// Notes that an endpoint was refused because its devices are those of one node.
    ///
    /// # Errors
    /// When there is no room to remember it.
    pub fn refuse_not_shared(&self, name: &str, endpoint: &Endpoint) -> Result<(), Full> {
        self.change(|book| {
            let known = entry(book, name)?;
            if !known.not_shared {
                warn!(handler = name, %endpoint, "discovery handler is refused: its devices are not shared between nodes");
            }
            known.endpoints.remove(endpoint);
            known.not_shared = true;
            Ok(())
        })
    }

    fn drop_endpoint(&self, name: &str, endpoint: &Endpoint, times: u64) {
        warn!(handler = name, %endpoint, "discovery handler is forgotten: it cannot be reached");
        let dropped = self.change(|book| {
            let known = book.get_mut(name);
            // It may have registered again meanwhile.
            if let Some(known) = known.filter(|known| known.endpoints.get(endpoint) == Some(&times))
            {
                known.endpoints.remove(endpoint);
                if *known == Registered::default() {
                    book.remove(name);
                }
            }
            Ok(())
        });
        debug_assert!(dropped.is_ok());
    }

    fn change(&self, change: impl FnOnce(&mut Book) -> Result<(), Full>) -> Result<(), Full> {
        let mut result = Ok(());
        self.book.send_if_modified(|known| {
            let mut book = Book::clone(known);
            result = change(&mut book);
            let changed = result.is_ok() && book != **known;
            if changed {
                *known = Arc::new(book);
            }
            changed
        });
        let book = self.book.borrow();
        self.metrics
            .endpoints(book.values().map(|known| known.endpoints.len()).sum());
        result
    }

    /// Forgets endpoints that nobody answers at for a while, until the shutdown.
    ///
    /// # Errors
    /// Never.
    pub async fn watch_reachability(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let watch = self.forget_unreachable(Probe::default());
        let _ = shutdown.token().run_until_cancelled(watch).await;
        Ok(())
    }

    async fn forget_unreachable(&self, probe: Probe) {
        let mut missing: BTreeMap<(Arc<str>, Endpoint, u64), Instant> = BTreeMap::new();
        loop {
            tokio::time::sleep(probe.every).await;
            let book = Arc::clone(&self.book.borrow());
            let mut still = BTreeMap::new();
            for (name, known) in book.iter() {
                for (endpoint, times) in &known.endpoints {
                    if endpoint.accepts().await {
                        continue;
                    }
                    let what = (Arc::clone(name), endpoint.clone(), *times);
                    let since = missing.get(&what).copied();
                    let since = since.unwrap_or_else(Instant::now);
                    if since.elapsed() >= probe.patience {
                        self.drop_endpoint(name, endpoint, *times);
                    } else {
                        still.insert(what, since);
                    }
                }
            }
            missing = still;
        }
    }
}

/// The entry of a name. One of which only a refusal is known makes room when there is none.
fn entry<'b>(book: &'b mut Book, name: &str) -> Result<&'b mut Registered, Full> {
    if !book.contains_key(name) && book.len() >= MAX_NAMES {
        let idle = book.iter().find(|(_, known)| known.endpoints.is_empty());
        let idle = idle.map(|(name, _)| Arc::clone(name)).ok_or(Full::Names)?;
        book.remove(&idle);
    }
    Ok(book.entry(name.into()).or_default())
}

/// How endpoints are looked at.
#[derive(Clone, Copy, Debug)]
struct Probe {
    every: Duration,
    /// Longer than the longest back-off of a container that crashes, which is 5 minutes.
    patience: Duration,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(20),
            patience: Duration::from_secs(360),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handlers() -> Handlers {
        Handlers::new(Metrics::default())
    }

    fn at(port: u16) -> Endpoint {
        Endpoint::Network(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn book(handlers: &Handlers) -> Arc<Book> {
        Arc::clone(&handlers.watch().borrow())
    }

    #[test]
    fn an_endpoint_that_registers_again_is_counted_and_not_doubled() {
        let handlers = handlers();
        let mut watch = handlers.watch();
        handlers.register("mqtt", at(1)).unwrap();
        watch.mark_unchanged();
        handlers.register("mqtt", at(1)).unwrap();
        assert!(watch.has_changed().unwrap());
        assert_eq!(
            book(&handlers)["mqtt"].endpoints,
            BTreeMap::from([(at(1), 2)])
        );
    }

    #[test]
    fn a_handler_whose_devices_are_not_shared_is_remembered_until_it_registers_as_shared() {
        let handlers = handlers();
        handlers.register("onvif", at(1)).unwrap();
        handlers.refuse_not_shared("onvif", &at(1)).unwrap();
        let refused = Registered {
            endpoints: BTreeMap::new(),
            not_shared: true,
        };
        assert_eq!(book(&handlers)["onvif"], refused);
        handlers.register("onvif", at(1)).unwrap();
        assert!(!book(&handlers)["onvif"].not_shared);
    }

    #[test]
    fn names_and_endpoints_are_bounded_and_refused_names_make_room() {
        let handlers = handlers();
        handlers.refuse_not_shared("refused", &at(1)).unwrap();
        for n in 0..MAX_NAMES {
            handlers.register(&format!("h{n}"), at(1)).unwrap();
        }
        assert!(!book(&handlers).contains_key("refused"));
        assert_eq!(handlers.register("more", at(1)), Err(Full::Names));
        assert_eq!(handlers.refuse_not_shared("more", &at(1)), Err(Full::Names));
        for port in 2..=16 {
            handlers.register("h0", at(port)).unwrap();
        }
        assert_eq!(handlers.register("h0", at(17)), Err(Full::Endpoints));
        assert_eq!(handlers.register("h0", at(16)), Ok(()));
    }

    #[tokio::test]
    async fn an_endpoint_that_nobody_answers_at_is_forgotten_and_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("alive.sock");
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        let link = directory.path().join("link.sock");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let handlers = handlers();
        let (alive, gone) = (
            Endpoint::Unix(path),
            Endpoint::Unix(directory.path().join("gone.sock")),
        );
        handlers.register("a", alive.clone()).unwrap();
        handlers.register("a", gone).unwrap();
        handlers.register("b", Endpoint::Unix(link)).unwrap();
        let probe = Probe {
            every: Duration::from_millis(10),
            patience: Duration::from_millis(30),
        };
        let mut watch = handlers.watch();
        let forgotten =
            watch.wait_for(|book| !book.contains_key("b") && book["a"].endpoints.len() == 1);
        tokio::select! {
            () = handlers.forget_unreachable(probe) => {}
            book = timeout(Duration::from_secs(10), forgotten) => {
                assert!(book.unwrap().unwrap()["a"].endpoints.contains_key(&alive));
            }
        }
    }
}
