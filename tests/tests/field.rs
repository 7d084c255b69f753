//! The whole way with real clients on a real server: paho-mqtt and MQTT.js devices in processes of their
//! own appear, speak, die in every way and come back; Mosquitto is stopped, killed, frozen and cut off.
//! What is looked at: Instances as an Agent would make them, the handler's reasons, a monitoring broker's API.

#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use akri_mqtt_tests::agent::{Agent, Happened};
use akri_mqtt_tests::fleet::{Fleet, FleetOptions, Kind, Library};
use akri_mqtt_tests::handler::{HandlerFlags, HandlerProcess};
use akri_mqtt_tests::monitor::MonitorProcess;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use akri_mqtt_tests::proxy::Proxy;

const PATIENCE: Duration = Duration::from_secs(60);

fn ids<'a>(names: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    names
        .into_iter()
        .map(|name| format!("plant/{name}"))
        .collect()
}

/// A plant with announcing devices (`a…`) and quiet ones (`q…`), of both client libraries.
struct Field {
    agent: Agent,
    handler: HandlerProcess,
    announcing: Vec<String>,
    quiet: Vec<String>,
    fleets: Vec<(Vec<String>, Fleet)>,
    _directory: tempfile::TempDir,
}

impl Field {
    /// `per_fleet` devices of each library and kind; the handler reaches the server at `handler_port`.
    async fn start(
        server: &Mosquitto,
        handler_port: u16,
        per_fleet: usize,
        presence: &str,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let agent = Agent::start(directory.path());
        let handler = HandlerFlags::below(directory.path()).start();
        let servers = format!(
            "servers: [{{name: plant, urls: ['tcp://127.0.0.1:{handler_port}']}}]\nmqtt: {{keepAlive: 5s}}\n"
        );
        let announcing = format!(
            "{servers}topics: ['a/{{device}}/data']\npresence:\n  availability: [{{topic: 'a/{{device}}/status'}}]\n  \
             offlineDelay: 1s\n  offlineAfter: 15s\n{presence}"
        );
        let quiet = format!(
            "{servers}topics: ['q/{{device}}/data']\npresence:\n  offlineAfter: 4s\n{presence}"
        );
        agent.configure("announced", &announcing, &[]);
        agent.configure("quiet", &quiet, &[]);
        let mut field = Self {
            agent,
            handler,
            announcing: Vec::new(),
            quiet: Vec::new(),
            fleets: Vec::new(),
            _directory: directory,
        };
        for (library, language) in [(Library::Paho, "py"), (Library::MqttJs, "js")] {
            let names = |kind| {
                (0..per_fleet)
                    .map(|n| format!("{kind}{language}{n:02}"))
                    .collect()
            };
            let (announcing, quiet): (Vec<String>, Vec<String>) = (names("a"), names("q"));
            field.join(server, library, Kind::Will, &announcing);
            field.join(server, library, Kind::Plain, &quiet);
            field.announcing.extend(announcing);
            field.quiet.extend(quiet);
        }
        field.wait_for_all().await;
        field
    }

    fn join(&mut self, server: &Mosquitto, library: Library, kind: Kind, names: &[String]) {
        let fleet = Fleet::start(&FleetOptions {
            library,
            kind,
            port: server.address().port(),
            prefix: if kind == Kind::Will { "a" } else { "q" },
            names,
            qos: 1,
            every: 0.5,
        });
        self.fleets.push((names.to_vec(), fleet));
    }

    fn fleet(&self, device: &str) -> &Fleet {
        let of_it = self
            .fleets
            .iter()
            .rev()
            .find(|(names, _)| names.iter().any(|name| name == device));
        &of_it.expect("the device is of a fleet").1
    }

    fn everyone(&self) -> BTreeSet<String> {
        ids(self.announcing.iter().chain(&self.quiet))
    }

    fn present(&self) -> BTreeSet<String> {
        let quiet = self.agent.devices("quiet");
        self.agent
            .devices("announced")
            .into_iter()
            .chain(quiet)
            .collect()
    }

    async fn wait_for_all(&self) {
        self.wait_without(&[], PATIENCE).await;
    }

    /// Waits until everyone but these has an Instance.
    async fn wait_without(&self, gone: &[&str], deadline: Duration) {
        let mut left = self.everyone();
        for name in gone {
            left.remove(&format!("plant/{name}"));
        }
        let what = format!("exactly {gone:?} are gone");
        self.agent
            .wait_for(&what, deadline, |_| self.present() == left)
            .await;
    }

    /// Devices whose Instance was ever deleted.
    fn deleted(&self) -> BTreeSet<String> {
        let happened = self.agent.happened().into_iter();
        happened
            .filter_map(|what| match what {
                Happened::Deleted { device, .. } => Some(device),
                _ => None,
            })
            .collect()
    }

    /// Looks for a word in what the handler says about a device.
    fn explained(&self, name: &str, word: &str) {
        let view = self
            .handler
            .presence(&format!("/plant%2F{name}"))
            .to_string();
        assert!(view.contains(word), "{name}: no {word:?} in {view}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_devices_appear_die_in_three_ways_and_come_back() {
    let server = Mosquitto::start(Config::new());
    let mut field = Field::start(&server, server.address().port(), 25, "").await;
    let instances = [
        field.agent.instances("announced"),
        field.agent.instances("quiet"),
    ];
    let monitor = MonitorProcess::start(instances.into_iter().flatten());
    monitor.wait_for_messages_of(&field.everyone()).await;

    // By SIGKILL: the Last Will speaks for those that have one, silence for the others.
    let killed = ["apy00", "ajs00", "qpy00", "qjs00"];
    killed.iter().for_each(|name| field.fleet(name).kill(name));
    // By a clean disconnect.
    let left = ["apy01", "ajs01", "qpy01", "qjs01"];
    left.iter()
        .for_each(|name| field.fleet(name).disconnect(name));
    // By silence alone.
    let silent = ["qpy02", "qjs02"];
    silent
        .iter()
        .for_each(|name| field.fleet(name).silence(name));
    let gone: Vec<&str> = killed.iter().chain(&left).chain(&silent).copied().collect();
    field.wait_without(&gone, PATIENCE).await;
    for name in &gone {
        let why = if name.starts_with('a') {
            format!("a/{name}/status")
        } else {
            "silen".to_owned()
        };
        field.explained(name, &why);
        monitor
            .wait_for_presence(&format!("plant/{name}"), "offline", &why)
            .await;
    }
    monitor.wait_for_presence("plant/qpy03", "online", "").await;

    // They come back: a voice for the silent ones, new processes for the others.
    silent.iter().for_each(|name| field.fleet(name).speak(name));
    for (library, language) in [(Library::Paho, "py"), (Library::MqttJs, "js")] {
        for (kind, letter) in [(Kind::Will, "a"), (Kind::Plain, "q")] {
            let back: Vec<String> = (0..2)
                .map(|n| format!("{letter}{language}{n:02}"))
                .collect();
            field.join(&server, library, kind, &back);
        }
    }
    field.wait_for_all().await;
    for device in &field.everyone() {
        monitor.wait_for_presence(device, "online", "").await;
    }
}

/// A device of each kind and library dies in the outage; they go after the grace, and nobody else ever does.
async fn living_devices_stay(
    mut server: Mosquitto,
    outage: impl AsyncFnOnce(&mut Mosquitto, &Proxy, &mut dyn FnMut()),
) {
    let proxy = Proxy::start(server.address())
        .await
        .expect("the proxy starts");
    let field = Field::start(
        &server,
        proxy.address().port(),
        5,
        "  reconnectGrace: 20s\n",
    )
    .await;
    assert_eq!(
        field.deleted(),
        BTreeSet::new(),
        "nobody goes before the outage"
    );
    let dead = ["apy00", "ajs00", "qpy00", "qjs00"];
    let mut die = || dead.iter().for_each(|name| field.fleet(name).kill(name));
    outage(&mut server, &proxy, &mut die).await;
    field.wait_without(&dead, Duration::from_secs(120)).await;
    assert_eq!(
        field.deleted(),
        ids(&dead.map(str::to_owned)),
        "only the dead go"
    );
    assert_eq!(field.agent.streams("announced"), 1, "the stream stays open");
    assert_eq!(field.agent.streams("quiet"), 1, "the stream stays open");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_living_device_goes_when_the_server_is_stopped_and_started() {
    let server = Mosquitto::start(Config::new().persistent());
    living_devices_stay(server, async |server, _, die| {
        server.stop();
        die();
        server.restart();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_living_device_goes_when_the_server_is_killed_and_started() {
    // A killed server sends no Last Will and may keep a dead device's `online`: only silence tells.
    let server = Mosquitto::start(Config::new().persistent());
    living_devices_stay(server, async |server, _, die| {
        server.kill();
        die();
        server.restart();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_living_device_goes_when_the_server_is_frozen_for_100_s() {
    living_devices_stay(Mosquitto::start(Config::new()), async |server, _, die| {
        server.freeze();
        die();
        // The length of the outage is what is tested.
        tokio::time::sleep(Duration::from_secs(100)).await;
        server.thaw();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_living_device_goes_when_the_link_is_cut_for_30_s() {
    living_devices_stay(Mosquitto::start(Config::new()), async |_, proxy, die| {
        proxy.refuse(true);
        proxy.cut();
        die();
        // The length of the outage is what is tested.
        tokio::time::sleep(Duration::from_secs(30)).await;
        proxy.refuse(false);
    })
    .await;
}
