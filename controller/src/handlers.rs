//! The book of registered discovery handlers. In: registrations, and whether endpoints can be reached.
//! Out: the endpoints of each handler name, by `watch`. Taking registrations is left to
//! `registration`, calling the endpoints to `discover`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Where a handler's Discover service is. Its order is that in which lists of several endpoints are united.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A Unix socket in the handlers' directory.
    Unix(PathBuf),
    /// `http://ip:port`
    Network(SocketAddr),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Network(address) => write!(f, "http://{address}"),
        }
    }
}

/// What is known about one handler name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Its endpoints, and how often each has registered.
    pub endpoints: BTreeMap<Endpoint, u64>,
    /// Whether the last one that wanted to register was refused because its devices are not shared.
    pub not_shared: bool,
}

/// All handler names.
pub type Book = BTreeMap<Arc<str>, Registered>;

/// The registered handlers; clones share them.
#[derive(Clone, Default)]
pub struct Handlers {
    book: watch::Sender<Arc<Book>>,
}

impl Handlers {
    /// None is registered yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            book: watch::channel(Arc::default()).0,
        }
    }

    /// The handlers now and as they change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Book>> {
        self.book.subscribe()
    }
}
