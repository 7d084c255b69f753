//! A whole process that holds a session and is killed with SIGKILL while it stores: what it had stored is not
//! delivered again under QoS 2, what it had not stored comes to the next process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use akri_mqtt_core::{
    credentials::Credentials,
    details::{QoS, Scheme},
};
use akri_mqtt_session::{BoxFuture, Event, Publish, SessionState, StateError, Subscription, start};
use akri_mqtt_tests::{
    clients::{Publisher, eventually, options},
    mosquitto::{Config, Mosquitto, url},
};
use tokio::sync::watch;

const PORT: &str = "SESSION_PROCESS_PORT";
const FILE: &str = "SESSION_PROCESS_FILE";
const MESSAGES: usize = 600;
const KILLS: usize = 8;

/// A store as small as can be: one line a transaction, `+id payload` or `-id`; a torn last line does not count.
struct Journal {
    path: PathBuf,
    ids: Mutex<BTreeSet<u16>>,
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .map(str::to_owned)
        .collect()
}

impl Journal {
    fn open(path: PathBuf) -> Self {
        let mut ids = BTreeSet::new();
        let whole = lines(&path);
        for line in &whole {
            match line.split_at(1) {
                ("+", rest) => drop(ids.insert(rest.split(' ').next().unwrap().parse().unwrap())),
                ("-", id) => drop(ids.remove(&id.parse().unwrap())),
                _ => ids.clear(),
            }
        }
        // A torn line must not swallow the next one.
        let text: String = whole.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, text).unwrap();
        Self {
            path,
            ids: Mutex::new(ids),
        }
    }

    fn append(&self, line: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)
            .unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn store(&self, id: u16, payload: &str) {
        self.append(&format!("+{id} {payload}"));
        self.ids.lock().unwrap().insert(id);
    }
}

impl SessionState for Journal {
    fn subscriptions(&self) -> Vec<(String, QoS)> {
        Vec::new()
    }

    fn set_subscriptions(&self, _held: &[(String, QoS)]) -> io::Result<()> {
        Ok(())
    }

    fn contains(&self, packet_id: u16) -> bool {
        self.ids.lock().unwrap().contains(&packet_id)
    }

    fn release(&self, packet_id: u16) -> BoxFuture<'_, Result<(), StateError>> {
        self.append(&format!("-{packet_id}"));
        self.ids.lock().unwrap().remove(&packet_id);
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StateError>> {
        self.append("clear");
        self.ids.lock().unwrap().clear();
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The process that is killed: this very program, told by its environment to run only this.
#[tokio::test]
async fn consumer_process() {
    let (Ok(port), Ok(file)) = (std::env::var(PORT), std::env::var(FILE)) else {
        return;
    };
    let journal = std::sync::Arc::new(Journal::open(PathBuf::from(file)));
    let server = url(Scheme::Tcp, ([127, 0, 0, 1], port.parse().unwrap()).into());
    let wanted = vec![Subscription::new("process/#", QoS::ExactlyOnce)];
    let (_sender, credentials) = watch::channel(Credentials::default());
    let (handle, mut events) = start(
        options(vec![server], "process"),
        credentials,
        journal.clone(),
        wanted,
    );
    while let Some(event) = events.recv().await {
        if let Event::Message(message) = event {
            let payload = String::from_utf8(message.payload.to_vec()).unwrap();
            let ack = message.ack.unwrap();
            journal.store(
                if ack.qos() == QoS::ExactlyOnce {
                    ack.packet_id()
                } else {
                    0
                },
                &payload,
            );
            handle.acknowledge(ack);
        }
    }
}

fn consumer(port: u16, file: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["consumer_process", "--exact"])
        .env(PORT, port.to_string())
        .env(FILE, file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn stored(file: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in lines(file) {
        if let Some((_, payload)) = line.strip_prefix('+').and_then(|line| line.split_once(' ')) {
            *counts.entry(payload.to_owned()).or_default() += 1;
        }
    }
    counts
}

#[tokio::test]
async fn process_killed_again_and_again_under_load_loses_nothing_and_doubles_no_qos_2() {
    let server = Mosquitto::start(Config::new());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal");
    let port = server.address().port();
    let mut child = consumer(port, &file);
    eventually("the subscription", || async {
        server.log().contains("Sending SUBACK to process")
    })
    .await;
    let publisher = Publisher::connect(server.url()).await;
    let load = tokio::spawn(async move {
        let messages = (0..MESSAGES).flat_map(|n| {
            [("one", QoS::AtLeastOnce), ("two", QoS::ExactlyOnce)]
                .map(|(name, qos)| Publish::new("process/x", format!("{name}-{n}"), qos))
        });
        publisher.publish_all(messages).await;
    });
    for kill in 1..=KILLS {
        let enough = 2 * MESSAGES * kill / (KILLS + 1);
        eventually("some more messages", || async {
            stored(&file).len() >= enough.min(2 * MESSAGES)
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
        child = consumer(port, &file);
    }
    load.await.unwrap();
    eventually("every message", || async {
        stored(&file).len() == 2 * MESSAGES
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    let counts = stored(&file);
    for n in 0..MESSAGES {
        assert!(counts.contains_key(&format!("one-{n}")));
        assert_eq!(counts.get(&format!("two-{n}")), Some(&1), "two-{n}");
    }
}
