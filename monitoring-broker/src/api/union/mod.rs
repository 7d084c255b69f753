//! Any member of a pool answers for every device. In: requests as the two fronts took them, with who asks. Out: what
//! all members have together. Requests of other members, and those of a process without a pool, are answered from
//! its own store by `service`; between members there is one protocol, gRPC.

mod begin;
mod caller;
mod command;
mod cursor;
mod each;
mod history;
mod latest;
mod link;
mod list;
mod metrics;
mod part;
mod places;
mod watch;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::pool::{Member, ShardCount};
use akri_mqtt_runtime::Shutdown;
use rustls::ClientConfig;
use tokio::sync::watch::Receiver;

pub use caller::Caller;
pub use link::{ERROR, MARKER};
pub use metrics::ForwardMetrics;
pub use watch::Stream;

use super::service::{DeviceView, Service, ServiceError};
use crate::pool::Live;
use link::Link;

/// What members show and trust when they talk to each other; none: they talk without TLS.
pub type PeerTls = Option<Receiver<Arc<ClientConfig>>>;

/// What an answer about a device says beside its data.
#[derive(Clone, Debug)]
pub struct About {
    /// The device's presence.
    pub device: DeviceView,
    /// There may be more elsewhere.
    pub partial: bool,
}

/// The other members of the pool, with a connection to each that was asked.
#[derive(Clone)]
pub struct Others(Arc<Inner>);

struct Inner {
    me: Member,
    shards: ShardCount,
    live: Receiver<Live>,
    tls: PeerTls,
    metrics: ForwardMetrics,
    links: Mutex<BTreeMap<Member, Arc<Link>>>,
}

/// The others at one moment, sorted.
struct Present {
    links: Vec<Arc<Link>>,
    /// One that lives and cannot be asked.
    silent: Option<Member>,
}

impl Others {
    /// The members that live, but for this one.
    #[must_use]
    pub fn new(
        me: Member,
        shards: ShardCount,
        live: Receiver<Live>,
        tls: PeerTls,
        metrics: ForwardMetrics,
    ) -> Self {
        Self(Arc::new(Inner {
            me,
            shards,
            live,
            tls,
            metrics,
            links: Mutex::default(),
        }))
    }

    /// Drops the connections to members that have gone, until the shutdown.
    pub async fn follow(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut live = self.0.live.clone();
        loop {
            self.present();
            tokio::select! {
                () = shutdown.triggered() => return Ok(()),
                changed = live.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    fn live(&self) -> Receiver<Live> {
        self.0.live.clone()
    }

    fn present(&self) -> Present {
        let inner = &*self.0;
        let live = inner.live.borrow().clone();
        let mut links = inner.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|member, link| live.get(member).and_then(Option::as_ref) == Some(&link.peer));
        let mut silent = None;
        for (member, peer) in live.into_iter().filter(|(member, _)| *member != inner.me) {
            match peer {
                Some(peer) => {
                    let tls = inner.tls.clone();
                    links.entry(member.clone()).or_insert_with(|| {
                        let metrics = inner.metrics.clone();
                        Arc::new(Link::new(member, peer, tls, metrics))
                    });
                }
                None => silent = Some(member),
            }
        }
        Present {
            links: links.values().cloned().collect(),
            silent,
        }
    }

    /// The member to which a device belongs, if there is any.
    fn owner(&self, device: &str) -> Option<Member> {
        let id = DeviceId::parse(device).ok()?;
        let live = self.0.live.borrow();
        self.0.shards.of(&id).target(live.keys()).cloned()
    }
}

/// The API as one caller sees it.
#[derive(Clone)]
pub struct Asked {
    service: Service,
    caller: Caller,
}

impl Asked {
    /// The API for a caller.
    ///
    /// # Errors
    /// When it is a member that takes this process for another one, or this process is not in its pool yet.
    pub fn new(service: Service, caller: Caller) -> Result<Self, ServiceError> {
        match caller.store() {
            Some(store) if store != service.store.id() => Err(ServiceError::Unreachable(
                "another member is at this address now".to_owned(),
            )),
            None if service.is_joining() => Err(ServiceError::Unreachable(
                "this process is not a member of its pool yet; ask again later".to_owned(),
            )),
            _ => Ok(Self { service, caller }),
        }
    }

    /// Whether another member asks.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.caller.store().is_some()
    }

    /// Whom to ask beside the own store.
    fn others(&self) -> Option<&Others> {
        if self.is_member() {
            return None;
        }
        self.service.pool.get()
    }

    /// What the own store knows of a device.
    fn about(&self, device: &str) -> Result<About, ServiceError> {
        Ok(About {
            device: self.service.device(device)?,
            partial: self.service.is_partial(device),
        })
    }
}

#[cfg(test)]
mod tests;
