//! Sinks: every stored message is sent on to another system, at least once, from a position of its own in the
//! store. In: `--sink` URLs and the store. Out: batches to Redis, HTTP, PostgreSQL and MongoDB, and metrics.
//! A sink reads what is committed, so it never holds ingestion back; it tries for ever; a message that the
//! other side refuses for good is left out and counted. How each system is written to: `docs/sinks.md`.

mod events;
mod failure;
mod feed;
mod http;
mod metrics;
#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(feature = "mongodb")]
mod mongodb_documents;
#[cfg(feature = "mongodb")]
mod mongodb_failure;
mod net;
mod options;
mod postgres;
mod postgres_rows;
mod query;
mod redis;
mod runner;
mod secret;

use std::convert::Infallible;
use std::time::Duration;

use akri_mqtt_runtime::Tasks;
use tokio::sync::mpsc;

use crate::api::Service;
use crate::api::service::MessageView;
use crate::store::StoreError;

use failure::Failure;
use feed::Gap;
pub use metrics::SinkMetrics;
use options::Kind;
pub use options::{OptionError, SinkOptions, SinkUrls};
use runner::Runner;

/// Where batches go.
enum Target {
    Redis(Box<redis::Redis>),
    Http(Box<http::Http>),
    Postgres(Box<postgres::Postgres>),
    #[cfg(feature = "mongodb")]
    Mongodb(Box<mongodb::Mongodb>),
}

/// How much of a message is written where the other side may not take all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// All of it.
    Full,
    /// Without its JSON and its readings.
    Plain,
}

impl Target {
    fn new(kind: Kind, store_id: &str) -> Self {
        match kind {
            Kind::Redis(options) => Self::Redis(Box::new(redis::Redis::new(options, store_id))),
            Kind::Http(options) => Self::Http(Box::new(http::Http::new(options, store_id))),
            Kind::Postgres(options) => {
                Self::Postgres(Box::new(postgres::Postgres::new(options, store_id)))
            }
            #[cfg(feature = "mongodb")]
            Kind::Mongodb(options) => {
                Self::Mongodb(Box::new(mongodb::Mongodb::new(options, store_id)))
            }
        }
    }

    /// Sends messages, in order. Once it is over they are all there; after a failure some of them may be.
    async fn send(&mut self, messages: &[MessageView]) -> Result<(), Failure> {
        match self {
            Self::Redis(redis) => redis.send(messages).await,
            Self::Http(http) => http.send(messages).await,
            Self::Postgres(postgres) => postgres.send(messages).await,
            #[cfg(feature = "mongodb")]
            Self::Mongodb(mongodb) => mongodb.send(messages).await,
        }
    }

    /// Tells that messages are missing, where there is a form for it.
    async fn tell(&mut self, gap: &Gap) -> Result<(), Failure> {
        match self {
            Self::Redis(redis) => redis.tell(gap).await,
            Self::Http(http) => http.tell(gap).await,
            Self::Postgres(_) => Ok(()),
            #[cfg(feature = "mongodb")]
            Self::Mongodb(_) => Ok(()),
        }
    }

    /// Closes what is open: after a failure nobody knows in which state it is.
    fn reset(&mut self) {
        match self {
            Self::Redis(redis) => redis.reset(),
            Self::Http(http) => http.reset(),
            Self::Postgres(postgres) => postgres.reset(),
            #[cfg(feature = "mongodb")]
            Self::Mongodb(mongodb) => mongodb.reset(),
        }
    }
}

/// Tells when all sinks have ended.
pub struct Running(mpsc::Receiver<Infallible>);

impl Running {
    /// Returns once they have.
    pub async fn ended(mut self) {
        while self.0.recv().await.is_some() {}
    }
}

/// Starts the sinks; they end `drain` after the shutdown, or as soon as they have sent everything.
///
/// # Errors
/// When the store cannot keep their positions.
pub async fn start(
    sinks: Vec<SinkOptions>,
    service: &Service,
    metrics: &SinkMetrics,
    tasks: &Tasks,
    drain: Duration,
) -> Result<Running, StoreError> {
    let (running, ended) = mpsc::channel(1);
    for options in sinks {
        let name = options.name.clone();
        let after = service.store.follow(&name, options.from_oldest).await?;
        tracing::info!(sink = name, after, "sink starts");
        let runner = Runner::new(options, service.clone(), metrics.of(&name), after);
        let (shutdown, running) = (tasks.shutdown().clone(), running.clone());
        tasks.critical(format!("sink {name}"), async move {
            runner.run(shutdown, drain).await;
            drop(running);
            Ok(())
        });
    }
    Ok(Running(ended))
}
