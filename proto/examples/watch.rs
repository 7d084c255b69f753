//! Follows all devices of a monitoring broker over gRPC: messages with their readings, presence, gaps. Goes on
//! where it was when the stream breaks.
//!
//!     cargo run --package akri-mqtt-proto --example watch -- http://127.0.0.1:50051

use std::time::Duration;

use akri_mqtt_proto::monitoring::monitoring_client::MonitoringClient;
use akri_mqtt_proto::monitoring::value::Kind;
use akri_mqtt_proto::monitoring::watch_request::Start;
use akri_mqtt_proto::monitoring::watch_response::Event;
use akri_mqtt_proto::monitoring::{Message, Reading, WatchRequest};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    let mut cursor = None;
    loop {
        if let Err(error) = follow(&address, &mut cursor).await {
            eprintln!("lost the stream ({error}), trying again");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn follow(
    address: &str,
    cursor: &mut Option<String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut client = MonitoringClient::connect(address.to_owned()).await?;
    let request = WatchRequest {
        start: cursor.clone().map(Start::Cursor),
        include_presence: true,
        ..WatchRequest::default()
    };
    let mut stream = client.watch(request).await?.into_inner();
    while let Some(answer) = stream.message().await? {
        match answer.event {
            Some(Event::Message(message)) => {
                print(&message);
                *cursor = Some(message.cursor);
            }
            Some(Event::Presence(change)) => {
                let presence = change.presence.unwrap_or_default();
                println!("{}: {}", change.device_id, presence.reason);
            }
            Some(Event::Gap(gap)) => println!("messages are missing: {}", gap.reason),
            // Nobody asked for positions.
            Some(Event::Position(_)) | None => {}
        }
    }
    Ok(())
}

fn print(message: &Message) {
    for reading in &message.readings {
        let name = match reading.name.as_str() {
            "" => "value",
            name => name,
        };
        println!("{} {name} = {}", message.topic, value(reading));
    }
}

fn value(reading: &Reading) -> String {
    let unit = reading.unit.as_deref().unwrap_or_default();
    let value = match reading.value.as_ref().and_then(|value| value.kind.as_ref()) {
        Some(Kind::DoubleValue(value)) => value.to_string(),
        Some(Kind::IntValue(value)) => value.to_string(),
        Some(Kind::UintValue(value)) => value.to_string(),
        Some(Kind::BoolValue(value)) => value.to_string(),
        Some(Kind::StringValue(value)) => format!("{value:?}"),
        None => "nothing".to_owned(),
    };
    format!("{value} {unit}").trim_end().to_owned()
}
