//! A real Prometheus collects the metrics as the example says, understands each question of the dashboard, and
//! raises the chart's alerts when it should and only then.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use akri_mqtt_tests::binary::binary;
use akri_mqtt_tests::chart::{self, CURRENT, list, one, text, with};
use akri_mqtt_tests::http;
use akri_mqtt_tests::pool::until;
use akri_mqtt_tests::port::free_address;
use serde_json::{Value, json};

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// Ends with this.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Self {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What Prometheus answers; `Err` with its words if it does not understand the question.
fn ask(prometheus: SocketAddr, question: &str) -> Result<Vec<Value>, String> {
    let question: String = question
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let (status, body) = http::get(prometheus, &format!("/api/v1/query?query={question}"))
        .ok_or_else(|| "no answer".to_owned())?;
    if status != 200 {
        return Err(body);
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    Ok(list(&body, "/data/result").to_vec())
}

#[test]
fn example_collects_the_metrics_that_the_dashboard_asks_for() {
    let [akri_mqtt, prometheus] = [free_address(), free_address()];
    let directory = tempfile::tempdir().unwrap();
    let example = read("examples/prometheus/prometheus.yml");
    assert!(example.contains("127.0.0.1:8080") && example.contains("15s"));
    let mine = example
        .replace("127.0.0.1:8080", &akri_mqtt.to_string())
        .replace("15s", "1s");
    let file = directory.path().join("prometheus.yml");
    std::fs::write(&file, mine).unwrap();

    let mut demo = Command::new(binary("akri-mqtt-cli", "akri-mqtt"));
    demo.args(["demo", "--duration", "0", "--http", &akri_mqtt.to_string()]);
    let _demo = Program::start(&mut demo);
    let mut server = Command::new("prometheus");
    server
        .arg(format!("--config.file={}", file.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            directory.path().display()
        ))
        .arg(format!("--web.listen-address={prometheus}"));
    let _server = Program::start(&mut server);

    let stored = "rate(akri_mqtt_store_messages_total{job=\"akri-mqtt\",site=\"home\"}[1m]) > 0";
    until("Prometheus has two samples of the stored messages", || {
        ask(prometheus, stored).is_ok_and(|found| found.len() == 1)
    });

    let dashboard: Value =
        serde_json::from_str(&read("charts/akri-mqtt/dashboards/akri-mqtt.json")).unwrap();
    let panels = list(&dashboard, "/panels").iter();
    let questions = panels.flat_map(|panel| list(panel, "/targets"));
    let mut answered = Vec::new();
    for question in questions.map(|target| text(target, "/expr")) {
        let question = question.replace("$namespace", ".*");
        let found = ask(prometheus, &question).unwrap();
        if !found.is_empty() {
            answered.push(question);
        }
    }
    for name in ["connected", "store_messages", "store_bytes", "acks_pending"] {
        let has = answered.iter().any(|question| question.contains(name));
        assert!(has, "{name}: {answered:#?}");
    }
}

/// A pool of 64 shards, and everything that can be alarmed about.
fn rules() -> Vec<Value> {
    let values = json!({
        "serviceMonitor": {"enabled": true, "monitoringBrokers": true},
        "prometheusRule": {"enabled": true},
        "configurations": [{"name": "robots", "discoveryDetails": "serverUrls: [tcp://a]\ntopics: [a]"}],
        "pools": [{"name": "pool", "configuration": "robots"}],
    });
    let objects = chart::render(None, &values, CURRENT).unwrap();
    let rule = objects
        .iter()
        .find(|object| object.kind() == "PrometheusRule");
    list(&rule.unwrap().value, "/spec/groups").to_vec()
}

/// Each alert with series that have to raise it, as `promtool` writes them: name and labels, values of each minute.
const RAISED: &[(&str, &str, &str)] = &[
    (
        "AkriMqttServerUnreachable",
        "connected{server=\"plant-a\",OWN}",
        "0x60",
    ),
    (
        "AkriMqttSessionLost",
        "session_lost_total{server=\"plant-a\",OWN}",
        "0x50 1x10",
    ),
    (
        "AkriMqttDevicesLeftOut",
        "devices_left_out{request=\"1\",reason=\"list\",OWN}",
        "3x60",
    ),
    ("AkriMqttDevicesFlap", "flapping_devices{OWN}", "2x60"),
    ("AkriMqttNoLeader", "leader{OWN}", "0x60"),
    ("AkriMqttSuspended", "suspended{OWN}", "1x60"),
    (
        "AkriMqttReconcileFails",
        "reconcile_errors_total{reason=\"forbidden\",OWN}",
        "0+2x60",
    ),
    (
        "AkriMqttPodsDoNotRun",
        "broker_pods{configuration=\"devices/robots\",phase=\"pending\",OWN}",
        "1x60",
    ),
    (
        "AkriMqttPoolShardsWithoutOwner",
        "pool_shards{namespace=\"devices\",pod=\"pool-0\"}",
        "63x60",
    ),
];

/// The same series when all is well.
const QUIET: &[(&str, &str)] = &[
    ("connected{server=\"plant-a\",OWN}", "1x60"),
    ("session_lost_total{server=\"plant-a\",OWN}", "4x60"),
    (
        "devices_left_out{request=\"1\",reason=\"list\",OWN}",
        "0x60",
    ),
    ("flapping_devices{OWN}", "0x60"),
    ("leader{OWN}", "1x60"),
    ("suspended{OWN}", "0x60"),
    ("reconcile_errors_total{reason=\"forbidden\",OWN}", "7x60"),
    (
        "broker_pods{configuration=\"devices/robots\",phase=\"running\",OWN}",
        "9x60",
    ),
    ("pool_shards{namespace=\"devices\",pod=\"pool-0\"}", "40x60"),
    ("pool_shards{namespace=\"devices\",pod=\"pool-1\"}", "24x60"),
];

fn series((name, values): (&str, &str)) -> Value {
    let own = "namespace=\"devices\",job=\"akri-mqtt-metrics\"";
    let name = name.replace("OWN", own);
    json!({"series": format!("akri_mqtt_{name}"), "values": values})
}

/// Runs the chart's rules on series and checks what is asked then.
fn promtool(directory: &Path, input: &[Value], checks: &[Value]) {
    let rules = directory.join("rules.json");
    std::fs::write(&rules, json!({"groups": self::rules()}).to_string()).unwrap();
    let test = json!({
        "rule_files": [rules],
        "tests": [{"interval": "1m", "input_series": input, "promql_expr_test": checks}],
    });
    let file = directory.join("test.json");
    std::fs::write(&file, test.to_string()).unwrap();
    let run = Command::new("promtool")
        .args(["test", "rules"])
        .arg(&file)
        .output();
    let run = run.unwrap();
    let text = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{text}");
}

/// That so many alerts of a name are firing in the last minute.
fn firing(alert: &str, count: usize) -> Value {
    let expression = format!("count(ALERTS{{alertname=~\"{alert}\",alertstate=\"firing\"}})");
    let samples = if count == 0 {
        json!([])
    } else {
        json!([{"labels": "{}", "value": count}])
    };
    json!({"expr": expression, "eval_time": "59m", "exp_samples": samples})
}

#[test]
fn each_alert_is_raised_by_what_it_is_about_and_by_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let groups = rules();
    let alerts: Vec<_> = list(&groups[0], "/rules")
        .iter()
        .map(|rule| text(rule, "/alert"))
        .collect();
    let known: Vec<_> = RAISED.iter().map(|(alert, ..)| *alert).collect();
    assert_eq!(alerts, known);
    let quiet: Vec<_> = QUIET.iter().copied().map(series).collect();
    promtool(directory.path(), &quiet, &[firing(".+", 0)]);
    for (alert, name, values) in RAISED {
        // Instead of the quiet ones of the same metric.
        let metric = name.split('{').next().unwrap();
        let rest = QUIET
            .iter()
            .copied()
            .filter(|(name, _)| !name.starts_with(metric));
        let input: Vec<_> = rest.chain([(*name, *values)]).map(series).collect();
        promtool(
            directory.path(),
            &input,
            &[firing(alert, 1), firing(".+", 1)],
        );
    }
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_there_are() {
    let root = chart::directory().join("../..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let known = read("docs/reference/metrics.md") + &read("controller/src/metrics.rs");
    let mut asked = BTreeSet::new();
    for file in [
        "dashboards/akri-mqtt.json",
        "templates/monitoring/prometheusrule.yaml",
    ] {
        let text = read(&format!("charts/akri-mqtt/{file}"));
        for rest in text.split("akri_mqtt_").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            asked.insert(rest[..end.unwrap_or(rest.len())].to_owned());
        }
    }
    assert!(asked.len() > 10, "{asked:?}");
    for name in asked {
        let base = name.trim_end_matches("_bucket").trim_end_matches("_total");
        let documented = known.contains(&format!("akri_mqtt_{base}"));
        assert!(
            documented || known.contains(&format!("\"{base}\"")),
            "{name}"
        );
    }
}

#[test]
fn alerts_count_a_device_once_although_two_handlers_hold_it() {
    let values = json!({"mode": "akri", "serviceMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}});
    let objects = with(&values);
    let rules = list(one(&objects, "PrometheusRule"), "/spec/groups/0/rules");
    let expression = |alert: &str| {
        let rule = rules.iter().find(|rule| text(rule, "/alert") == alert);
        text(rule.unwrap(), "/expr").to_owned()
    };
    let left_out = expression("AkriMqttDevicesLeftOut");
    assert!(
        left_out.starts_with("max by (request, reason) ("),
        "{left_out}"
    );
    let flapping = expression("AkriMqttDevicesFlap");
    assert!(flapping.starts_with("max ("), "{flapping}");
}

#[test]
fn prometheus_reaches_monitoring_brokers_whose_policy_names_their_peers() {
    let prometheus = json!([{"podSelector": {"matchLabels": {"app": "prometheus"}}}]);
    let readers = json!([{"podSelector": {"matchLabels": {"app": "reader"}}}]);
    let values = |pod_monitors: bool, metrics_from: &Value, from: &Value| {
        json!({
            "configurations": [{"name": "robots", "discoveryDetails": "topics: [a]"}],
            "networkPolicy": {"enabled": true, "metricsFrom": metrics_from, "monitoringBrokers": {"from": from}},
            "serviceMonitor": {"enabled": true, "monitoringBrokers": pod_monitors},
        })
    };
    let ingress = |values: &Value| {
        let objects = with(values);
        let policy = objects
            .iter()
            .find(|object| object.kind() == "NetworkPolicy" && object.name() == "akri-mqtt-robots");
        list(&policy.unwrap().value, "/spec/ingress").to_vec()
    };
    let both = ingress(&values(true, &prometheus, &readers));
    assert_eq!(both.len(), 2);
    assert_eq!(both[0]["from"], readers);
    let metrics = json!({"ports": [{"port": 8080, "protocol": "TCP"}], "from": prometheus});
    assert_eq!(both[1], metrics);
    assert_eq!(ingress(&values(false, &prometheus, &readers)).len(), 1);
    // Nothing is opened to everybody.
    assert_eq!(ingress(&values(true, &json!([]), &readers)).len(), 1);
    let open = ingress(&values(true, &prometheus, &json!([])));
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].get("from"), None);
}
