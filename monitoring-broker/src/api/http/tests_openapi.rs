//! The OpenAPI document against the routes: nothing is missing, and what it says of parameters is what they take.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::tests::Server;
use super::*;
use crate::api::testing::Bench;

/// What is there for people, not for programs.
const PAGES: &[&str] = &["/", "/assets/{*path}", "/docs"];

fn document() -> Value {
    serde_json::from_str(&openapi::text(&documented().1)).unwrap()
}

/// Path, method, operation.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    });
    operations.collect()
}

#[test]
fn the_committed_document_is_the_generated_one() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/reference/openapi.json"
    );
    let path = PathBuf::from(path);
    let text = openapi::text(&documented().1);
    if std::env::var_os("AKRI_MQTT_WRITE_REFERENCE").is_some() {
        std::fs::write(path, text).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == text,
        "docs/reference/openapi.json is stale: \
         AKRI_MQTT_WRITE_REFERENCE=1 cargo test -p akri-mqtt-monitoring-broker openapi"
    );
}

/// The paths as axum's own debug form has them: a router cannot be asked.
fn routes(router: &Router) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let (_, paths) = text.split_once("paths: {").unwrap();
    let (paths, _) = paths.split_once("} }").unwrap();
    let entries = paths.split("RouteId(").skip(1);
    let paths = entries.filter_map(|entry| entry.split('"').nth(1));
    paths.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_route_is_documented() {
    let bench = Bench::new();
    let registry = akri_mqtt_runtime::metrics::registry("test", std::time::SystemTime::now());
    let router = router(bench.service.clone(), Health::new(), Arc::new(registry));
    let served = routes(&router);
    let is_page = |path: &&String| PAGES.contains(&path.as_str()) || path.starts_with("/docs/");
    let served: BTreeSet<_> = served
        .iter()
        .filter(|path| !is_page(path))
        .cloned()
        .collect();
    let document = document();
    let documented = operations(&document)
        .into_iter()
        .map(|(path, ..)| path.to_owned());
    let documented: BTreeSet<_> = documented.collect();
    assert!(served.len() > 10, "{served:?}");
    assert_eq!(served, documented);
}

#[test]
fn every_operation_says_what_it_does_and_has_its_problems() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        assert!(operation["summary"].is_string(), "{method} {path}");
        if !path.starts_with("/v1/") {
            continue;
        }
        for parameter in operation["parameters"].as_array().unwrap_or(&Vec::new()) {
            assert!(parameter["description"].is_string(), "{path}: {parameter}");
        }
        for status in ["400", "401", "403", "404", "429", "500", "503"] {
            let content = &operation["responses"][status]["content"];
            let schema = &content["application/problem+json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/Problem", "{path} {status}");
        }
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        let parts = schema["allOf"].as_array().into_iter().flatten();
        let properties = parts
            .chain([schema])
            .filter_map(|part| part["properties"].as_object());
        for (property, schema) in properties.flatten() {
            // One that may be null says it inside.
            let description = [&schema["description"], &schema["oneOf"][0]["description"]];
            let is_described = description.iter().any(|text| text.is_string());
            assert!(is_described, "{name}.{property}: {schema}");
        }
    }
}

#[tokio::test]
async fn documented_parameters_are_those_that_are_taken() {
    let server = Server::start().await;
    let document = document();
    for (path, method, operation) in operations(&document) {
        if !path.starts_with("/v1/") || method != "get" {
            continue;
        }
        let none = Vec::new();
        let parameters = operation["parameters"].as_array().unwrap_or(&none).iter();
        let queries = parameters.filter(|parameter| parameter["in"] == "query");
        let documented: BTreeSet<_> = queries
            .map(|query| query["name"].as_str().unwrap())
            .collect();
        let target = path.replace("{id}", "plant-a%2Fr1") + "?nonsense=1";
        let (status, problem) = server.problem("GET", &target).await;
        assert_eq!(
            (status, &problem["field"]),
            (400, &"nonsense".into()),
            "{path}"
        );
        let detail = problem["detail"].as_str().unwrap();
        let (_, allowed) = detail.split_once("allowed: ").unwrap();
        let allowed = allowed.split(", ").filter(|name| *name != "none");
        assert_eq!(documented, allowed.collect::<BTreeSet<_>>(), "{path}");
    }
}

#[tokio::test]
async fn the_document_and_its_page_are_served() {
    let server = Server::start().await;
    assert_eq!(server.get("/openapi.json").await, document());
    let (status, head, body) = server.ask("GET", "/docs").await;
    assert_eq!(status, 200);
    assert!(
        head.contains("content-security-policy: default-src 'none';"),
        "{head}"
    );
    assert!(body.contains("docs/start.js"), "{body}");
}
