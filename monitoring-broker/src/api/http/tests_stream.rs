//! Server-Sent Events over real sockets: events, ids, resumption, the end.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tests::Server;
use crate::api::testing::{Bench, DEADLINE};
use crate::devices::State;

struct Stream {
    socket: TcpStream,
    text: String,
}

impl Stream {
    async fn open(server: &Server, target: &str, header: &str) -> Self {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: test\r\n{header}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut stream = Self {
            socket,
            text: String::new(),
        };
        stream.until("\nid: ").await;
        assert!(
            stream.text.contains("content-type: text/event-stream"),
            "{}",
            stream.text
        );
        stream
    }

    /// Reads until a text has come.
    async fn until(&mut self, text: &str) {
        while !self.text.contains(text) {
            let mut buffer = [0; 4096];
            let read = timeout(DEADLINE, self.socket.read(&mut buffer)).await;
            let read = read.unwrap_or_else(|_| panic!("{text:?} is missing in {}", self.text));
            let read = read.unwrap();
            assert!(read > 0, "{text:?} is missing in {}", self.text);
            self.text
                .push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    }

    /// The ids of the messages so far.
    fn messages(&self) -> Vec<String> {
        let events = self.text.split("id: ").skip(1);
        let messages = events.filter(|event| event.contains("event: message\n"));
        messages
            .map(|event| event.lines().next().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test]
async fn stream_has_messages_with_their_cursor_as_id_and_presence() {
    let server = Server::start().await;
    let mut stream = Stream::open(&server, "/v1/stream", "").await;
    stream
        .until("event: presence\ndata: {\"device_id\":\"plant-a/r1\",")
        .await;
    stream
        .until("{\"device_id\":\"plant-a/r2\",\"presence\":{\"state\":\"online\",")
        .await;
    server.bench.send("r1", "t", "{\n\"a\":\r\n1}").await;
    let id = server.bench.cursor(1);
    stream
        .until(&format!(
            "id: {id}\nevent: message\ndata: {{\"cursor\":\"{id}\","
        ))
        .await;
    stream.until("\"payload\":{\"a\":1},").await;
    server.bench.set_state("plant-a/r2", State::Offline);
    stream
        .until("{\"device_id\":\"plant-a/r2\",\"presence\":{\"state\":\"offline\",")
        .await;
}

#[tokio::test]
async fn stream_of_a_device_leaves_out_others_and_presence_on_request() {
    let server = Server::start().await;
    let target = "/v1/devices/plant-a%2Fr1/stream?presence=false";
    let mut stream = Stream::open(&server, target, "").await;
    server.bench.send("r2", "t", "1").await;
    server.bench.send("r1", "t", "2").await;
    stream.until("\"payload\":2,").await;
    assert_eq!(stream.messages(), [server.bench.cursor(2)]);
    assert!(!stream.text.contains("event: presence"));
}

#[tokio::test]
async fn last_event_id_resumes_without_gap_or_repetition_while_messages_arrive() {
    let server = Server::start().await;
    let mut last = server.bench.cursor(0);
    let mut ids = Vec::new();
    for round in 0..5 {
        server.bench.count(round * 20..round * 20 + 10).await;
        let header = format!("last-event-id: {last}\r\n");
        // The header of a browser that reconnects counts more than the URL that it began with.
        let mut stream = Stream::open(&server, "/v1/stream?since=0&presence=false", &header).await;
        server.bench.count(round * 20 + 10..round * 20 + 20).await;
        // The client goes away in the middle of an event, at the latest after 17 messages.
        let sequence = ids.len() + 17;
        stream
            .until(&format!(
                "id: {}\nevent: message\n",
                server.bench.cursor(u64::try_from(sequence).unwrap())
            ))
            .await;
        let seen = stream.messages().into_iter().take(17).collect::<Vec<_>>();
        last = seen.last().unwrap().clone();
        ids.extend(seen);
    }
    let expected: Vec<_> = (1..=85)
        .map(|sequence| server.bench.cursor(sequence))
        .collect();
    assert_eq!(ids, expected);
    let target = format!("/v1/stream?last_event_id={last}");
    let mut stream = Stream::open(&server, &target, "").await;
    stream
        .until(&format!(
            "id: {}\nevent: message\n",
            server.bench.cursor(86)
        ))
        .await;
}

#[tokio::test]
async fn since_starts_in_the_past() {
    let server = Server::start().await;
    for number in 0..4 {
        server.bench.send("r1", "t", number.to_string()).await;
    }
    let target = "/v1/stream?since=1735689602&device=plant-a%2Fr1&device=plant-a%2Fr2";
    let mut stream = Stream::open(&server, target, "").await;
    stream.until("\"payload\":3,").await;
    assert_eq!(
        stream.messages(),
        [server.bench.cursor(3), server.bench.cursor(4)]
    );
}

#[tokio::test]
async fn gap_is_an_event_with_an_id_that_goes_on_behind_it() {
    let server = Server::over(Bench::retaining(Duration::from_secs(60))).await;
    server.bench.count(0..5).await;
    server.bench.forget(6).await;
    let header = format!("last-event-id: {}\r\n", server.bench.cursor(2));
    let mut stream = Stream::open(&server, "/v1/stream", &header).await;
    let id = server.bench.cursor(5);
    stream
        .until(&format!(
            "id: {id}\nevent: gap\ndata: {{\"from\":3,\"to\":5,"
        ))
        .await;
    let mut stream = Stream::open(&server, "/v1/stream", "last-event-id: other:7\r\n").await;
    stream
        .until("event: gap\ndata: {\"from\":0,\"to\":0,")
        .await;
}

#[tokio::test(start_paused = true)]
async fn quiet_stream_sends_a_comment_every_15_seconds_with_its_position() {
    let bench = Bench::new();
    let watcher = bench.service.watch(Default::default()).await.unwrap();
    let mut watcher = crate::api::union::Stream::Own(Box::new(watcher));
    bench.service.store.sync().await.unwrap();
    let start = tokio::time::Instant::now();
    let comment = super::stream::next(&mut watcher).await.unwrap();
    assert_eq!(
        comment,
        format!(": still here\nid: {}\n\n", bench.cursor(0))
    );
    assert_eq!(start.elapsed(), Duration::from_secs(15));
}

#[tokio::test]
async fn who_finds_all_streams_taken_is_told_when_to_ask_again() {
    let server = Server::start().await;
    let mut open = Vec::new();
    while let Ok(watcher) = server.bench.service.watch(Default::default()).await {
        open.push(watcher);
    }
    let (status, head, body) = server.ask("GET", "/v1/stream").await;
    assert_eq!(status, 429, "{body}");
    assert!(head.contains("\r\nretry-after: 5\r\n"), "{head}");
    drop(open);
    let mut stream = Stream::open(&server, "/v1/stream", "").await;
    stream.until("plant-a/r2").await;
}

#[tokio::test]
async fn shutdown_ends_streams_and_the_server() {
    let server = Server::start().await;
    let mut stream = Stream::open(&server, "/v1/stream", "").await;
    stream.until("plant-a/r2").await;
    server.bench.service.shutdown.trigger();
    stream.until("\r\n0\r\n\r\n").await;
    timeout(DEADLINE, server.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
