//! Follows what the monitors store, over their own gRPC API. In: the API's address. Out: an event per stored message.
//! Uses `Watch` as any workload would, so that what is shown has gone the whole way.

use std::net::SocketAddr;
use std::time::Duration;

use akri_mqtt_proto::monitoring::monitoring_client::MonitoringClient;
use akri_mqtt_proto::monitoring::watch_request::Start;
use akri_mqtt_proto::monitoring::watch_response::Event as Watched;
use akri_mqtt_proto::monitoring::{Message, WatchRequest};
use base64::Engine as _;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use tracing::debug;

use crate::report::{Event, Kind};

/// Messages that wait to be told. If that takes long, the API serves them later from its store: nothing is lost.
const WAITING: usize = 256;
/// Pause before the stream is opened again.
const RETRY: Duration = Duration::from_millis(200);

/// Follows all messages from the beginning of the store on, and goes on after the last one seen when a stream breaks.
/// Ends when the receiver is dropped.
pub fn follow(api: SocketAddr) -> mpsc::Receiver<Event> {
    let (events, received) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut cursor = None;
        while !events.is_closed() {
            if let Err(error) = stream(api, &mut cursor, &events).await {
                debug!(%error, "Watch stream ended");
            }
            tokio::time::sleep(RETRY).await;
        }
    });
    received
}

async fn stream(
    api: SocketAddr,
    cursor: &mut Option<String>,
    events: &mpsc::Sender<Event>,
) -> Result<(), tonic::Status> {
    let unavailable =
        |error: tonic::transport::Error| tonic::Status::unavailable(error.to_string());
    let endpoint = Endpoint::from_shared(format!("http://{api}")).map_err(unavailable)?;
    let mut client: MonitoringClient<Channel> =
        MonitoringClient::new(endpoint.connect().await.map_err(unavailable)?);
    let start = match cursor.clone() {
        Some(cursor) => Start::Cursor(cursor),
        None => Start::Since(prost_types::Timestamp::default()),
    };
    let request = WatchRequest {
        start: Some(start),
        ..WatchRequest::default()
    };
    let mut stream = client.watch(request).await?.into_inner();
    while let Some(response) = stream.message().await? {
        if let Some(Watched::Message(message)) = response.event {
            *cursor = Some(message.cursor.clone());
            if events.send(event(message)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn event(message: Message) -> Event {
    let time = message.received_at.and_then(timestamp);
    Event {
        time: time.unwrap_or(Timestamp::UNIX_EPOCH),
        device: message.device_id,
        kind: Kind::Message {
            topic: message.topic,
            payload: payload(&message.payload),
        },
    }
}

fn timestamp(time: prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}

/// A JSON value as it is, other UTF-8 as a text, anything else as base64.
fn payload(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| {
        let text = std::str::from_utf8(bytes).map(str::to_owned);
        let text = text.unwrap_or_else(|_| base64::engine::general_purpose::STANDARD.encode(bytes));
        Value::String(text)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn payloads_of_all_kinds_have_a_json_form() {
        assert_eq!(payload(b"{\"a\":1}"), json!({"a": 1}));
        assert_eq!(payload(b"21.5"), json!(21.5));
        assert_eq!(payload(b"open"), json!("open"));
        assert_eq!(payload(&[0xff, 0xfe]), json!("//4="));
        assert_eq!(payload(b""), json!(""));
    }
}
