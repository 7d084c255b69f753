use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

/// `discovery-handler` has the same text and the same digits.
const DETAILS: &str = "topics: [a]";
const DIGITS: &str = "8a9cf82c507dce20";

async fn serve(answer: serde_json::Value) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let route = get(move || async move { axum::Json(answer) });
    let router = Router::new().route("/v1/presence", route);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn asked(streams: u64, name: &str, connected: bool) -> serde_json::Value {
    json!({
        "details": DIGITS, "request": "1a2b3c4d", "streams": streams, "offline_after": 1.5,
        "servers": [{
            "name": name, "connected": connected, "last_error": "refused", "since": "x",
            "refused_filters": [["a/#", "not authorized"]],
        }],
    })
}

#[test]
fn the_digest_is_that_of_the_handler() {
    assert_eq!(Digest::of(DETAILS), Digest(DIGITS.to_owned()));
}

#[tokio::test]
async fn the_handler_is_asked_and_what_it_says_is_found_by_the_details() {
    let answer = json!({"instance": "x", "requests": [
        asked(1, "a", true), asked(1, "b", false), asked(0, "c", false),
        {"request": "of an older handler", "streams": 1, "servers": []},
    ]});
    let address = serve(answer).await;
    let status = format!("http://{address}").parse().unwrap();
    let (reports_in, mut reports) = watch::channel(Arc::<Reports>::default());
    let (_demand, demanded) = watch::channel(true);
    let poll = tokio::spawn(poll(status, demanded, reports_in));
    let found = reports.wait_for(|reports| !reports.is_empty()).await;
    let server = |name: &str, connected: bool| ServerReport {
        name: name.to_owned(),
        connected,
        error: (!connected).then(|| "refused".to_owned()),
        refused_filters: vec![("a/#".to_owned(), "not authorized".to_owned())],
    };
    let expected = ServersReport {
        servers: vec![server("a", true), server("b", false)],
        offline_after: Some(Duration::from_millis(1_500)),
    };
    assert_eq!(*found.unwrap()[&Digest::of(DETAILS)], expected);
    assert!(!expected.all_connected());
    poll.abort();
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_and_no_panic() {
    let address = serve(json!("nonsense")).await;
    let ask_at = |path: &str| {
        let status: Uri = format!("http://{address}{path}").parse().unwrap();
        async move { ask(&status).await.err() }
    };
    assert!(ask_at("").await.is_some());
    assert_eq!(
        ask_at("/nowhere").await,
        Some("it answers with 404 Not Found".to_owned())
    );
    let nobody = Uri::from_static("http://127.0.0.1:1");
    assert!(ask(&nobody).await.is_err());
}

#[test]
fn a_server_counts_as_reached_when_every_request_reaches_it() {
    let presence =
        json!({"requests": [asked(1, "a", true), asked(2, "a", false), asked(1, "a", true)]});
    let reports = read(serde_json::from_value(presence).unwrap());
    assert!(!reports[&Digest::of(DETAILS)].all_connected());
}
