//! Runs the simulated devices of a plan, each with an MQTT connection of its own.
//! In: the plan and the server's address. Out: messages on the server, Last Wills among them.
//! Who they are and when one crashes is decided in `plan`.

use std::net::SocketAddr;
use std::time::Duration;

use mqtt5::{ConnectOptions, MqttClient, PublishOptions, QoS, WillMessage};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::plan::Device;

/// Keep-alive of the devices: half-open connections do not occur inside one process.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Pause after a failed connect.
const RETRY: Duration = Duration::from_millis(500);
/// How long one publish may take before the connection counts as broken.
const PUBLISH: Duration = Duration::from_secs(5);

/// How a time on line ended.
enum Ended {
    /// It is the plan's moment to crash.
    Crashed,
    /// The connection broke by itself.
    Broken,
}

/// Starts all devices. They end when `stop` is cancelled; the set then becomes empty.
pub fn start(devices: Vec<Device>, server: SocketAddr, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for device in devices {
        let stop = stop.clone();
        tasks.spawn(async move {
            let url = format!("mqtt://{server}");
            // Cut off wherever it is: the server ends as well, and nobody is left to say good-bye to.
            let _ = stop.run_until_cancelled(live(&device, &url)).await;
        });
    }
    tasks
}

/// Connects, publishes, crashes when it is time, and comes back, until it is cancelled.
async fn live(device: &Device, url: &str) {
    tokio::time::sleep(device.delay).await;
    let mut tick = 0;
    let mut on_line = device.crash.map(|crash| crash.after);
    loop {
        match online(device, url, on_line, &mut tick).await {
            Ok(Ended::Crashed) => {
                let Some(crash) = device.crash else { return };
                tokio::time::sleep(crash.away).await;
                on_line = Some(crash.again);
            }
            Ok(Ended::Broken) => tokio::time::sleep(RETRY).await,
            Err(error) => {
                debug!(device = %device.name, %error, "simulated device cannot connect");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// One connection, from CONNECT to its end.
async fn online(
    device: &Device,
    url: &str,
    crash_after: Option<Duration>,
    tick: &mut u32,
) -> mqtt5::Result<Ended> {
    let client = MqttClient::with_options(options(device));
    client.connect(url).await?;
    if device.kind.has_last_will() {
        publish(&client, device.status_topic(), "online".to_owned(), true).await?;
    }
    let crash_at = crash_after.map(|after| Instant::now() + after);
    let mut due = tokio::time::interval(device.kind.period());
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = until(crash_at) => {
                let _ = client.disconnect_abnormally().await;
                return Ok(Ended::Crashed);
            }
            _ = due.tick() => {
                *tick = tick.wrapping_add(1);
                let sent = publish(&client, device.data_topic(), device.kind.payload(*tick), false).await;
                if let Err(error) = sent {
                    debug!(device = %device.name, %error, "simulated device lost its connection");
                    let _ = client.disconnect_abnormally().await;
                    return Ok(Ended::Broken);
                }
            }
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn options(device: &Device) -> ConnectOptions {
    let options = ConnectOptions::new(format!("demo-{}", device.name))
        .with_clean_start(true)
        .with_automatic_reconnect(false)
        .with_keep_alive(KEEP_ALIVE);
    if !device.kind.has_last_will() {
        return options;
    }
    let will = WillMessage::new(device.status_topic(), "offline")
        .with_qos(QoS::AtLeastOnce)
        .with_retain(true);
    options.with_will(will)
}

async fn publish(
    client: &MqttClient,
    topic: String,
    payload: String,
    retain: bool,
) -> mqtt5::Result<()> {
    let options = PublishOptions {
        qos: QoS::AtLeastOnce,
        retain,
        ..PublishOptions::default()
    };
    match tokio::time::timeout(
        PUBLISH,
        client.publish_with_options(topic, payload, options),
    )
    .await
    {
        Ok(sent) => sent.map(|_| ()),
        Err(_) => Err(mqtt5::MqttError::Timeout),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::super::plan::{Crash, Kind};
    use super::super::server::Server;
    use super::*;

    async fn next(messages: &mut mpsc::Receiver<(String, String)>) -> (String, String) {
        tokio::time::timeout(Duration::from_secs(20), messages.recv())
            .await
            .unwrap()
            .unwrap()
    }

    #[tokio::test]
    async fn a_crash_lets_the_last_will_fire_and_the_device_comes_back() {
        let server = Server::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let observer = MqttClient::new("observer");
        observer
            .connect(&format!("mqtt://{}", server.address()))
            .await
            .unwrap();
        let (seen, mut messages) = mpsc::channel(1024);
        let note = move |message: mqtt5::Message| {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            let _ = seen.try_send((message.topic, text));
        };
        observer.subscribe("demo/#", note).await.unwrap();
        let stop = CancellationToken::new();
        let device = Device {
            name: "robot-1".to_owned(),
            kind: Kind::Robot,
            delay: Duration::ZERO,
            crash: Some(Crash {
                after: Duration::from_millis(300),
                away: Duration::from_millis(300),
                again: Duration::from_secs(60),
            }),
        };
        let mut tasks = start(vec![device], server.address(), &stop);
        let mut states = Vec::new();
        while states.len() < 3 {
            let (topic, text) = next(&mut messages).await;
            if topic.ends_with("/status") {
                states.push(text);
            }
        }
        assert_eq!(states, ["online", "offline", "online"]);
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        server.stop().await;
    }
}
