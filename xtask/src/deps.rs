//! The dependency law: which crate may know which. In: cargo's metadata. Out: every breach of it.
//! `cargo deny` judges versions, licences and sources; this judges the architecture.

use anyhow::bail;

use crate::metadata::{Dependency, Metadata, Package};

/// The crate without I/O.
const CORE: &str = "akri-mqtt-core";
/// The crate that hides the MQTT client library.
const SESSION: &str = "akri-mqtt-session";
/// The crate that generates code from protobuf.
const PROTO: &str = "akri-mqtt-proto";
/// The command line tool.
const CLI: &str = "akri-mqtt-cli";
/// The integration tests and their fixtures; nothing is built from them, so they may know
/// everything but the MQTT client.
const TESTS: &str = "akri-mqtt-tests";

/// Which crates of the workspace a crate may be built from. Arrows point one way only, and
/// binaries do not know each other, except that the CLI links two of them as libraries.
const MAY_USE: &[(&str, &[&str])] = &[
    (CORE, &[]),
    ("akri-mqtt-runtime", &[]),
    (PROTO, &[]),
    ("akri-mqtt-crds", &[]),
    ("akri-mqtt-cluster", &[]),
    (SESSION, &[CORE]),
    (
        "akri-mqtt-discovery-handler",
        &[CORE, SESSION, "akri-mqtt-runtime", PROTO],
    ),
    (
        "akri-mqtt-monitoring-broker",
        &[
            CORE,
            SESSION,
            "akri-mqtt-runtime",
            PROTO,
            "akri-mqtt-crds",
            "akri-mqtt-cluster",
        ],
    ),
    (
        "akri-mqtt-controller",
        &[
            CORE,
            "akri-mqtt-runtime",
            PROTO,
            "akri-mqtt-crds",
            "akri-mqtt-cluster",
        ],
    ),
    (
        CLI,
        &[
            CORE,
            SESSION,
            "akri-mqtt-runtime",
            PROTO,
            "akri-mqtt-crds",
            "akri-mqtt-discovery-handler",
            "akri-mqtt-monitoring-broker",
        ],
    ),
    ("akri-mqtt-fuzz", &[CORE, SESSION]),
    ("xtask", &["akri-mqtt-crds"]),
];

/// What core may name: data, text and hashes.
const CORE_MAY_NAME: &[&str] = &[
    "base64",
    "blake2",
    "bytes",
    "hashbrown",
    "jiff",
    "memchr",
    "percent-encoding",
    "prost",
    "saphyr-parser",
    "serde",
    "serde_json",
    "smallvec",
    "thiserror",
];

/// What core must not even be built from by way of others.
const IO: &[&str] = &[
    "async-std",
    "axum",
    "h2",
    "hyper",
    "kube",
    "kube-client",
    "mio",
    "reqwest",
    "rumqttc",
    "rustls",
    "smol",
    "socket2",
    "tokio",
    "tonic",
    "tracing-subscriber",
    "tungstenite",
];

/// Protobuf code generators.
const CODEGEN: &[&str] = &[
    "prost-build",
    "protobuf-codegen",
    "protobuf-parse",
    "protoc-bin-vendored",
    "protox",
    "tonic-build",
    "tonic-prost-build",
];

/// Checks this workspace and prints what it looked at.
pub fn run() -> anyhow::Result<()> {
    let metadata = Metadata::load()?;
    let breaches = breaches(&metadata);
    if breaches.is_empty() {
        println!(
            "dependency law: {} crates obey it",
            metadata.workspace_members.len()
        );
        return Ok(());
    }
    for breach in &breaches {
        eprintln!("dependency law: {breach}");
    }
    bail!("the dependency law is broken {} times", breaches.len())
}

/// Every breach, sorted.
fn breaches(metadata: &Metadata) -> Vec<String> {
    let members = metadata.members();
    let is_member = |name: &str| members.contains_key(name);
    let mut found = Vec::new();
    for package in members.values() {
        found.extend(wrong_direction(package, is_member));
        found.extend(mqtt_library(package, is_member));
        found.extend(code_generator(package));
    }
    if let Some(core) = members.get(CORE) {
        found.extend(io_in_core(metadata, core));
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn wrong_direction(package: &Package, is_member: impl Fn(&str) -> bool) -> Vec<String> {
    let name = package.name.as_str();
    let allowed = MAY_USE.iter().find(|(user, _)| *user == name);
    if allowed.is_none() && name != TESTS {
        return vec![format!("{name} is not in the table of xtask/src/deps.rs")];
    }
    let may = |used: &str| match allowed {
        // The tests stand above all the others.
        None => used != TESTS,
        Some((_, list)) => list.contains(&used) || used == name,
    };
    // The fixtures of the tests serve every crate's own tests.
    let fixture = |used: &Dependency| used.name == TESTS && used.kind.as_deref() == Some("dev");
    package
        .dependencies
        .iter()
        .filter(|used| is_member(&used.name) && !may(&used.name) && !fixture(used))
        .map(|used| format!("{name} must not depend on {}", used.name))
        .collect()
}

fn mqtt_library(package: &Package, is_member: impl Fn(&str) -> bool) -> Vec<String> {
    let name = package.name.as_str();
    let may = |used: &str| match name {
        // The demo's embedded MQTT server.
        CLI => used == "mqtt5",
        SESSION => used != "mqtt5",
        _ => false,
    };
    package
        .dependencies
        .iter()
        .filter(|used| used.name.contains("mqtt") && !is_member(&used.name) && !may(&used.name))
        .map(|used| format!("{name} must not name an MQTT library, found {}", used.name))
        .collect()
}

fn code_generator(package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    package
        .dependencies
        .iter()
        .filter(|used| name != PROTO && CODEGEN.contains(&used.name.as_str()))
        .map(|used| {
            format!(
                "{name} must not generate code from protobuf, found {}",
                used.name
            )
        })
        .collect()
}

fn io_in_core(metadata: &Metadata, core: &Package) -> Vec<String> {
    let named = core
        .dependencies
        .iter()
        .filter(|used| used.kind.as_deref() != Some("dev"))
        .filter(|used| !CORE_MAY_NAME.contains(&used.name.as_str()))
        .map(|used| {
            format!(
                "{CORE} may not name {}: allowed are {}",
                used.name,
                CORE_MAY_NAME.join(", ")
            )
        });
    let built = metadata
        .built_from(core)
        .into_iter()
        .filter(|(name, _)| IO.contains(name))
        .map(|(_, chain)| format!("{CORE} is built from an I/O crate: {}", chain.join(" -> ")));
    named.chain(built).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A workspace of (package, its dependencies), all of them members; a dependency `x:dev` or
    /// `x:build` is of that kind; what is no member comes from outside.
    fn workspace(packages: &[(&str, &[&str])]) -> Metadata {
        let edge = |text: &str| {
            let (name, kind) = text
                .split_once(':')
                .map_or((text, None), |(n, k)| (n, Some(k)));
            (name.to_owned(), kind.map(str::to_owned))
        };
        let mut all: Vec<Value> = Vec::new();
        let mut nodes: Vec<Value> = Vec::new();
        for (name, used) in packages {
            let edges: Vec<_> = used.iter().map(|text| edge(text)).collect();
            let dependencies: Vec<_> = edges
                .iter()
                .map(|(name, kind)| json!({"name": name, "kind": kind}))
                .collect();
            all.push(
                json!({"id": name, "name": name, "dependencies": dependencies, "targets": []}),
            );
            let deps: Vec<_> = edges
                .iter()
                .map(|(name, kind)| json!({"pkg": name, "dep_kinds": [{"kind": kind}]}))
                .collect();
            nodes.push(json!({"id": name, "deps": deps}));
        }
        let members: Vec<_> = packages
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| name.starts_with("akri-mqtt") || *name == "xtask")
            .collect();
        serde_json::from_value(json!({
            "packages": all, "workspace_members": members, "resolve": {"nodes": nodes},
            "target_directory": "/t", "workspace_root": "/",
        }))
        .unwrap()
    }

    #[test]
    fn this_workspace_obeys_the_law() {
        assert_eq!(breaches(&Metadata::load().unwrap()), Vec::<String>::new());
    }

    #[test]
    fn lawful_workspace_has_no_breach() {
        let lawful = workspace(&[
            (CORE, &["serde", "proptest:dev"]),
            ("serde", &[]),
            ("proptest", &["tokio"]),
            ("tokio", &[]),
            (SESSION, &[CORE, "rumqttc"]),
            (PROTO, &["prost", "tonic-prost-build:build"]),
            ("akri-mqtt-monitoring-broker", &[CORE, SESSION, PROTO]),
            (
                CLI,
                &[
                    "akri-mqtt-monitoring-broker",
                    "mqtt5",
                    "akri-mqtt-tests:dev",
                ],
            ),
            (TESTS, &[CLI, "akri-mqtt-monitoring-broker:dev"]),
        ]);
        assert_eq!(breaches(&lawful), Vec::<String>::new());
    }

    #[test]
    fn core_may_not_name_an_io_crate() {
        let broken = workspace(&[(CORE, &["tokio"]), ("tokio", &[])]);
        let found = breaches(&broken);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0]
                .starts_with("akri-mqtt-core is built from an I/O crate: akri-mqtt-core -> tokio")
        );
        assert!(
            found[1].starts_with("akri-mqtt-core may not name tokio"),
            "{found:?}"
        );
    }

    #[test]
    fn core_may_not_be_built_from_an_io_crate_through_another() {
        let broken = workspace(&[(CORE, &["bytes"]), ("bytes", &["mio"]), ("mio", &[])]);
        assert_eq!(
            breaches(&broken),
            ["akri-mqtt-core is built from an I/O crate: akri-mqtt-core -> bytes -> mio"]
        );
    }

    #[test]
    fn only_the_session_names_an_mqtt_client() {
        let broken = workspace(&[
            ("akri-mqtt-discovery-handler", &["rumqttc"]),
            (CLI, &["mqtt5", "rumqttc-next"]),
            (TESTS, &["paho-mqtt:dev"]),
            (SESSION, &["mqtt5"]),
        ]);
        assert_eq!(
            breaches(&broken),
            [
                "akri-mqtt-cli must not name an MQTT library, found rumqttc-next",
                "akri-mqtt-discovery-handler must not name an MQTT library, found rumqttc",
                "akri-mqtt-session must not name an MQTT library, found mqtt5",
                "akri-mqtt-tests must not name an MQTT library, found paho-mqtt",
            ]
        );
    }

    #[test]
    fn only_proto_generates_code() {
        let broken = workspace(&[("akri-mqtt-monitoring-broker", &["tonic-prost-build:build"])]);
        assert_eq!(
            breaches(&broken),
            [
                "akri-mqtt-monitoring-broker must not generate code from protobuf, found tonic-prost-build"
            ]
        );
    }

    #[test]
    fn binaries_do_not_know_each_other() {
        let broken = workspace(&[
            (
                "akri-mqtt-discovery-handler",
                &["akri-mqtt-monitoring-broker:dev"],
            ),
            ("akri-mqtt-monitoring-broker", &[CLI]),
            (CLI, &["akri-mqtt-controller"]),
            ("akri-mqtt-controller", &[]),
        ]);
        assert_eq!(
            breaches(&broken),
            [
                "akri-mqtt-cli must not depend on akri-mqtt-controller",
                "akri-mqtt-discovery-handler must not depend on akri-mqtt-monitoring-broker",
                "akri-mqtt-monitoring-broker must not depend on akri-mqtt-cli",
            ]
        );
    }

    #[test]
    fn nothing_is_built_from_the_tests() {
        let broken = workspace(&[
            (CLI, &[TESTS]),
            (SESSION, &["akri-mqtt-tests:build"]),
            (TESTS, &[]),
        ]);
        assert_eq!(
            breaches(&broken),
            [
                "akri-mqtt-cli must not depend on akri-mqtt-tests",
                "akri-mqtt-session must not depend on akri-mqtt-tests",
            ]
        );
    }

    #[test]
    fn crds_are_known_to_those_who_talk_to_the_cluster_and_to_xtask_only() {
        let users: Vec<_> = MAY_USE
            .iter()
            .filter(|(_, used)| used.contains(&"akri-mqtt-crds"))
            .map(|(user, _)| *user)
            .collect();
        assert_eq!(
            users,
            [
                "akri-mqtt-monitoring-broker",
                "akri-mqtt-controller",
                CLI,
                "xtask"
            ]
        );
        let broken = workspace(&[
            ("akri-mqtt-discovery-handler", &["akri-mqtt-crds"]),
            ("akri-mqtt-crds", &[]),
        ]);
        assert_eq!(
            breaches(&broken),
            ["akri-mqtt-discovery-handler must not depend on akri-mqtt-crds"]
        );
    }

    #[test]
    fn new_crate_needs_its_line_in_the_table() {
        assert_eq!(
            breaches(&workspace(&[("akri-mqtt-extra", &[])])),
            ["akri-mqtt-extra is not in the table of xtask/src/deps.rs"]
        );
    }
}
