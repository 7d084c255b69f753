use std::fs;
use std::sync::Arc;

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_runtime::{Health, Shutdown, Tasks};

use super::*;
use crate::monitor::{Monitor, MonitorOptions};
use crate::servers::Servers;
use crate::source::{Source, SourceMetrics};

const TWO: &str = r#"
# Robots of hall 1.
- MQTT_DEVICE_ID: plant/r1
  MQTT_SERVER_URLS: tcp://10.0.0.1:1883
  MQTT_TOPICS: ["robots/r1/#", "robots/all"]
- MQTT_DEVICE_ID: plant/r2
  MQTT_SERVER_URLS: tcp://10.0.0.1:1883
  MQTT_TOPICS: '["robots/r2/#"]'
  MQTT_SESSION:
    qos: 2
    keepAlive: 30s
"#;

fn faults(text: &str) -> Vec<String> {
    let faults = parse(text).unwrap_err();
    faults.iter().map(Fault::to_string).collect()
}

#[test]
fn yaml_and_json_say_the_same() {
    let yaml = parse(TWO).unwrap();
    let json = r#"[{"MQTT_DEVICE_ID": "plant/r1", "MQTT_SERVER_URLS": "tcp://10.0.0.1:1883",
        "MQTT_TOPICS": "[\"robots/r1/#\",\"robots/all\"]"},
      {"MQTT_DEVICE_ID": "plant/r2", "MQTT_SERVER_URLS": "tcp://10.0.0.1:1883",
        "MQTT_TOPICS": ["robots/r2/#"], "MQTT_SESSION": {"qos": 2, "keepAlive": "30s"}}]"#;
    assert_eq!(parse(json).unwrap(), yaml);
    let ids: Vec<_> = yaml.keys().map(DeviceId::as_str).collect();
    assert_eq!(ids, ["plant/r1", "plant/r2"]);
    assert!(parse("[]").unwrap().is_empty());
}

#[test]
fn faults_name_line_column_and_variable() {
    let text = "- MQTT_DEVICE_ID: plant/r1\n  MQTT_SERVER_URLS: http://x\n  MQTT_TOPICS: [a]\n\
        - MQTT_DEVICE_ID: plant/r2\n  MQTT_TOPICS: [a]\n\
        - name: r3\n\
        - r4\n";
    let faults = faults(text);
    let starts = [
        "line 2, column 3: MQTT_SERVER_URLS",
        "line 4, column 3: MQTT_SERVER_URLS",
        "line 6, column 3: name",
        "line 7, column 3: a device is a map",
    ];
    assert_eq!(faults.len(), starts.len(), "{faults:?}");
    for (fault, start) in faults.iter().zip(starts) {
        assert!(fault.starts_with(start), "{fault}");
    }
}

#[test]
fn a_device_that_is_there_twice_and_a_text_that_is_no_list_are_refused() {
    let device = "- {MQTT_DEVICE_ID: plant/r1, MQTT_SERVER_URLS: tcp://h:1, MQTT_TOPICS: [a]}\n";
    let twice = faults(&format!("{device}{device}"));
    assert!(
        twice[0].starts_with("line 2, column 3: MQTT_DEVICE_ID: plant/r1 is"),
        "{twice:?}"
    );
    for text in ["", "# nothing\n", "a: b", "text"] {
        assert!(faults(text)[0].starts_with("line 1"), "{text}");
    }
}

#[test]
fn a_change_is_read_once_it_stands_still_and_a_wrong_one_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("devices.yaml");
    fs::write(&path, TWO).unwrap();
    let (mut file, listed) = DevicesFile::open(&path).unwrap();
    assert_eq!(listed.len(), 2);
    assert!(file.look().is_none());

    fs::write(&path, "[]").unwrap();
    assert!(file.look().is_none());
    assert!(file.look().unwrap().unwrap().is_empty());
    assert!(file.look().is_none());

    fs::write(&path, "- r1\n").unwrap();
    assert!(file.look().is_none());
    let error = file.look().unwrap().unwrap_err().to_string();
    assert!(error.contains("devices.yaml: line 1, column 3"), "{error}");
    assert!(file.look().is_none());

    fs::remove_file(&path).unwrap();
    assert!(file.look().is_none());
    assert!(matches!(file.look(), Some(Err(FileError::Io { .. }))));
    assert!(file.look().is_none());
    fs::write(&path, TWO).unwrap();
    assert!(file.look().is_none());
    assert_eq!(file.look().unwrap().unwrap(), listed);
}

#[test]
fn of_many_faults_the_first_are_shown_and_the_rest_counted() {
    let faults = parse(&"- x\n".repeat(50)).unwrap_err();
    let text = shown(&faults);
    assert!(text.ends_with("\nand 30 more"), "{text}");
    assert_eq!(text.lines().count(), 21);
}

#[tokio::test]
async fn a_process_is_ready_only_once_the_devices_of_its_file_are_watched() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("devices.yaml");
    fs::write(&file, "[]").unwrap();
    let health = Health::new();
    let tasks = Arc::new(Tasks::new(Shutdown::new()));
    let options = MonitorOptions::new(directory.path().join("data"));
    let monitor = Monitor::open(options, health.clone(), Arc::clone(&tasks));
    let monitor = monitor.await.unwrap();
    let opened = DevicesFile::open(&file).unwrap();
    let source = Source::of_file(opened, SourceMetrics::default());
    let ready = monitor.listing();
    assert!(!health.is_ready());
    let stop = Shutdown::new();
    let watching = source.run(&monitor, Servers::new(None, &tasks), ready, &stop);
    let seen = async {
        while !health.is_ready() {
            tokio::task::yield_now().await;
        }
        stop.trigger();
    };
    let (watched, ()) = tokio::join!(watching, seen);
    watched.unwrap();
    drop(tasks);
    monitor.close().await.unwrap();
}
