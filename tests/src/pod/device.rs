//! One device as a process: it announces itself, publishes, and connects again after an outage.
//! In: flags. Out: messages, and a line with the time before each first message of a connection.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::mqtt::Connection;

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(500);

/// A device with a Last Will.
#[derive(Clone, Debug, clap::Args)]
pub struct Device {
    /// The MQTT server, host:port
    #[arg(long)]
    server: String,
    /// Client id
    #[arg(long)]
    client_id: String,
    /// Where it announces itself: `online`, and `offline` as its Last Will, both retained
    #[arg(long)]
    status: Option<String>,
    /// Where it publishes
    #[arg(long)]
    data: String,
    /// Between two messages, in milliseconds
    #[arg(long, default_value_t = 500)]
    every: u64,
    /// QoS 1: a reading follows when the server has taken the one before, which is printed as `taken <reading>`
    #[arg(long)]
    acknowledged: bool,
}

impl Device {
    /// Never returns by itself.
    pub fn run(&self) -> ! {
        let mut reading = 0;
        loop {
            if let Err(error) = self.talk(&mut reading) {
                eprintln!("{}: {error:#}", self.client_id);
            }
            std::thread::sleep(RETRY);
        }
    }

    /// One connection, until it breaks.
    fn talk(&self, reading: &mut u64) -> anyhow::Result<()> {
        let will = self.status.as_deref().map(|topic| (topic, "offline"));
        let mut connection = Connection::open(&self.server, &self.client_id, will)?;
        println!("first {}", now_ms());
        if let Some(status) = &self.status {
            connection.publish(status, "online", true)?;
        }
        loop {
            let temperature = 20 + *reading % 10;
            let payload = format!("{{\"temperature\":{temperature},\"reading\":{reading}}}");
            if self.acknowledged {
                connection.publish_acknowledged(&self.data, &payload)?;
                println!("taken {reading}");
            } else {
                connection.publish(&self.data, &payload, false)?;
            }
            *reading += 1;
            connection.drain(Duration::from_millis(self.every.max(1)))?;
        }
    }
}

/// The time in milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
