//! The MQTT server of the demo: in this process, in memory, gone with it.
//! In: an address. Out: the address that it listens on. What is published on it is up to `devices`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use mqtt5::broker::MqttBroker;
use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig};
use mqtt5::broker::server::BrokerShutdownHandle;
use tokio::task::JoinHandle;

/// Messages of the demo are small; anything larger comes from somebody who tries something.
const MAX_PACKET_BYTES: usize = 1024 * 1024;
/// Messages that wait for one slow client; beyond that the oldest are dropped.
const MAX_QUEUED_MESSAGES: usize = 10_000;
/// How long a stop may take.
const STOP: Duration = Duration::from_secs(1);

/// A running MQTT server.
pub struct Server {
    address: SocketAddr,
    shutdown: BrokerShutdownHandle,
    task: JoinHandle<mqtt5::Result<()>>,
}

impl Server {
    /// Listens on `address` (port 0: a free one) and serves.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let storage = StorageConfig::new()
            .with_backend(StorageBackend::Memory)
            .with_max_queued_messages_per_client(MAX_QUEUED_MESSAGES);
        let config = BrokerConfig::new()
            .with_bind_addresses(vec![address])
            .with_max_packet_size(MAX_PACKET_BYTES)
            .with_sys_topics_enabled(false)
            .with_storage(storage);
        let mut broker = MqttBroker::with_config(config).await.with_context(|| {
            format!("the embedded MQTT server cannot listen on {address} (--mqtt)")
        })?;
        let address = broker
            .local_addr()
            .context("the embedded MQTT server has no address")?;
        let shutdown = broker.shutdown_handle();
        let task = tokio::spawn(async move { broker.run().await });
        Ok(Self {
            address,
            shutdown,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it. Its data was in memory only, so a stop that takes long is cut short.
    pub async fn stop(mut self) {
        self.shutdown.shutdown();
        if tokio::time::timeout(STOP, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}
