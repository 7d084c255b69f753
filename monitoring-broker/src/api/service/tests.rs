//! Lists, pages and readings against a real store.

use akri_mqtt_core::decode::Value;

use super::*;
use crate::api::testing::{Bench, SECOND, START, device};

fn query(limit: usize, token: &str) -> MessageQuery {
    MessageQuery {
        device: "plant-a/r1".to_owned(),
        limit,
        page_token: token.to_owned(),
        ..MessageQuery::default()
    }
}

fn payloads(messages: &[MessageView]) -> Vec<String> {
    let texts = messages.iter().map(|message| {
        let payload = message.stored.record.payload.to_vec();
        String::from_utf8(payload).unwrap()
    });
    texts.collect()
}

fn second(seconds: i64) -> Option<jiff::Timestamp> {
    Some(view::timestamp(START + seconds * SECOND))
}

#[tokio::test]
async fn devices_come_in_pages_sorted_by_id() {
    let bench = Bench::new();
    for name in ["r3", "r10"] {
        bench.service.devices.put(device(name));
    }
    let devices = |token: &str| {
        let query = DeviceQuery {
            limit: 3,
            page_token: token.to_owned(),
            ..DeviceQuery::default()
        };
        let page = bench.service.devices(&query);
        page.map(|page| (page.devices, page.next_page_token))
    };
    let (first, token) = devices("").unwrap();
    let (second, end) = devices(&token).unwrap();
    let names = |page: &[DeviceView]| -> Vec<_> {
        page.iter().map(|view| view.device.name.clone()).collect()
    };
    assert_eq!(names(&first), ["r1", "r10", "r2"]);
    assert_eq!((names(&second), end.as_str()), (vec!["r3".to_owned()], ""));
    assert!(devices("&").is_err());
}

#[tokio::test]
async fn latest_has_one_message_a_topic_sorted_by_topic() {
    let bench = Bench::new();
    for (topic, payload) in [("b", "1"), ("a", "2"), ("b", "3"), ("c/d", "4")] {
        bench.send("r1", topic, payload).await;
    }
    bench.send("r2", "b", "5").await;
    let latest = bench.service.latest("plant-a/r1", "topic", None).await;
    assert_eq!(payloads(&latest.unwrap()), ["2", "3", "4"]);
    let filter = TopicFilter::parse("c/#").unwrap();
    let latest = bench.service.latest("plant-a/r1", "topic", Some(&filter));
    assert_eq!(payloads(&latest.await.unwrap()), ["4"]);
    let unknown = bench.service.latest("plant-a/none", "topic", None).await;
    assert_eq!(
        unknown.unwrap_err(),
        ServiceError::UnknownDevice("plant-a/none".to_owned())
    );
}

#[tokio::test]
async fn tokens_are_stable_while_messages_are_stored() {
    let bench = Bench::new();
    bench.count(0..10).await;
    for ascending in [false, true] {
        let (mut found, mut token) = (Vec::new(), String::new());
        for round in 0..3 {
            let query = MessageQuery {
                ascending,
                ..query(3, &token)
            };
            let page = bench.service.query(&query).await.unwrap();
            found.extend(payloads(&page.messages));
            token = page.next_page_token;
            assert!(!token.is_empty());
            // Newer messages come at once and must not shift the pages.
            bench.send("r1", "t", format!("new {round}")).await;
        }
        let expected = if ascending {
            ["0", "1", "2", "3", "4", "5", "6", "7", "8"]
        } else {
            ["9", "8", "7", "6", "5", "4", "3", "2", "1"]
        };
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn tokens_survive_that_retention_deletes_their_message() {
    let bench = Bench::retaining(std::time::Duration::from_secs(60));
    bench.count(0..10).await;
    let ascending = |token: &str| MessageQuery {
        ascending: true,
        ..query(3, token)
    };
    let page = bench.service.query(&ascending("")).await.unwrap();
    assert_eq!(payloads(&page.messages), ["0", "1", "2"]);
    bench.pass_time(1_000_000);
    bench.count(10..12).await;
    bench.forget_but(11).await;
    let page = bench.service.query(&ascending(&page.next_page_token)).await;
    assert_eq!(payloads(&page.unwrap().messages), ["10", "11"]);
}

#[tokio::test]
async fn token_of_another_query_is_refused() {
    let bench = Bench::new();
    bench.count(0..10).await;
    let page = bench.service.query(&query(3, "")).await.unwrap();
    let other = MessageQuery {
        ascending: true,
        ..query(3, &page.next_page_token)
    };
    let error = bench.service.query(&other).await.unwrap_err().to_string();
    assert!(
        error.starts_with("page_token: found one that is not of this query"),
        "{error}"
    );
    assert!(bench.service.query(&query(3, "x")).await.is_err());
}

#[tokio::test]
async fn from_is_inclusive_and_to_is_exclusive() {
    let bench = Bench::new();
    for number in 0..5 {
        bench.send("r1", "t", number.to_string()).await;
    }
    let between = MessageQuery {
        from: second(1),
        to: second(3),
        ..query(0, "")
    };
    let page = bench.service.query(&between).await.unwrap();
    assert_eq!(payloads(&page.messages), ["2", "1"]);
    let swapped = MessageQuery {
        from: second(3),
        to: second(1),
        ..query(0, "")
    };
    let error = bench.service.query(&swapped).await.unwrap_err().to_string();
    assert!(error.starts_with("to: found "), "{error}");
    assert!(bench.service.query(&query(10_001, "")).await.is_err());
}

#[tokio::test]
async fn page_ends_early_when_it_has_enough_bytes() {
    let bench = Bench::new();
    for _ in 0..5 {
        bench.send("r1", "raw/t", vec![0; 1 << 20]).await;
    }
    let (mut counts, mut token) = (Vec::new(), String::new());
    loop {
        let page = bench.service.query(&query(100, &token)).await.unwrap();
        counts.push(page.messages.len());
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(counts, [2, 2, 1]);
}

fn readings(limit: usize, token: &str) -> ReadingQuery {
    ReadingQuery {
        messages: query(limit, token),
        ..ReadingQuery::default()
    }
}

#[tokio::test]
async fn readings_are_found_by_name_and_value() {
    let bench = Bench::new();
    for number in 0..40 {
        let payload = format!(r#"{{"t":{number},"unit":"C","u":{}}}"#, number * 2);
        bench.send("r1", "t", payload).await;
    }
    let between = ReadingQuery {
        name: Some("/t".to_owned()),
        min: Some(10.0),
        max: Some(12.0),
        ..readings(0, "")
    };
    let page = bench.service.readings(&between).await.unwrap();
    let values: Vec<_> = page
        .readings
        .iter()
        .map(|r| (&*r.name, r.value.clone()))
        .collect();
    assert_eq!(
        values,
        [
            ("/t", Value::Int(12)),
            ("/t", Value::Int(11)),
            ("/t", Value::Int(10))
        ]
    );
    assert_eq!(page.next_page_token, "");
}

#[tokio::test]
async fn page_of_readings_may_end_inside_a_message() {
    let bench = Bench::new();
    bench.send("r1", "t", "[1,2,3]").await;
    bench.send("r1", "t", "[4,5,6]").await;
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = bench.service.readings(&readings(2, &token)).await.unwrap();
        assert!(page.readings.len() <= 2);
        names.extend(
            page.readings
                .into_iter()
                .map(|r| (r.sequence, r.name.to_string())),
        );
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let expected = [
        (2, "/0"),
        (2, "/1"),
        (2, "/2"),
        (1, "/0"),
        (1, "/1"),
        (1, "/2"),
    ];
    assert_eq!(names, expected.map(|(at, name)| (at, name.to_owned())));
}

#[tokio::test]
async fn page_of_readings_ends_early_when_too_much_was_decoded() {
    let bench = Bench::new();
    for _ in 0..20 {
        let payload = format!("[\"{}\"]", "x".repeat(1 << 20));
        bench.send("r1", "t", payload).await;
    }
    bench.send("r1", "t", "7").await;
    let ascending = |token: &str| {
        let mut query = readings(0, token);
        query.messages.ascending = true;
        query.name = Some(String::new());
        query
    };
    let first = bench.service.readings(&ascending("")).await.unwrap();
    assert!(first.readings.is_empty() && !first.next_page_token.is_empty());
    let second = bench
        .service
        .readings(&ascending(&first.next_page_token))
        .await
        .unwrap();
    assert_eq!(second.readings.len(), 1);
    assert_eq!(second.next_page_token, "");
}

#[tokio::test]
async fn decoder_is_chosen_by_topic_and_errors_stay_with_the_message() {
    let bench = Bench::new();
    bench.send("r1", "raw/t", "1").await;
    bench.send("r1", "strict", "{").await;
    let latest = bench
        .service
        .latest("plant-a/r1", "topic", None)
        .await
        .unwrap();
    assert!(latest[0].decoded.readings.is_empty() && latest[0].decoded.error.is_none());
    assert_eq!(&latest[1].stored.record.payload[..], b"{");
    assert!(latest[1].decoded.error.is_some());
}
