//! Fleets of real devices: paho-mqtt (Python) and MQTT.js clients, one process each.
//! In: a server's port, a topic prefix, names. Out: process ids that a test can kill, stop or silence.
//! What the devices publish is in `tests/devices/`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Which client library a fleet uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// Eclipse paho-mqtt on Python, MQTT 3.1.1.
    Paho,
    /// MQTT.js on Node.js, MQTT 5.
    MqttJs,
}

/// Whether the devices announce themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Retained birth and Last Will on `<prefix>/<device>/status`.
    Will,
    /// Data on `<prefix>/<device>/data` only.
    Plain,
}

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct FleetOptions<'a> {
    /// The client library.
    pub library: Library,
    /// Whether they announce themselves.
    pub kind: Kind,
    /// Port of the MQTT server, on 127.0.0.1.
    pub port: u16,
    /// First topic level.
    pub prefix: &'a str,
    /// Names of the devices.
    pub names: &'a [String],
    /// Quality of service of their data.
    pub qos: u8,
    /// Seconds between two messages of a device.
    pub every: f64,
}

/// Running devices; they end with it.
pub struct Fleet {
    processes: BTreeMap<String, i32>,
    child: Child,
}

/// The Python interpreter that has paho-mqtt.
pub fn python() -> PathBuf {
    std::env::var_os("AKRI_MQTT_TEST_PYTHON")
        .map_or_else(|| PathBuf::from("python3"), PathBuf::from)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("devices")
        .join(name)
}

impl Fleet {
    /// Starts the devices and returns once each has a process.
    ///
    /// # Panics
    /// When a script does not start; the message says what has to be installed.
    #[allow(clippy::expect_used, clippy::panic)]
    pub fn start(options: &FleetOptions<'_>) -> Self {
        let (program, file) = match options.library {
            Library::Paho => (python(), script("paho_devices.py")),
            Library::MqttJs => (PathBuf::from("node"), script("mqttjs_devices.mjs")),
        };
        let kind = match options.kind {
            Kind::Will => "will",
            Kind::Plain => "plain",
        };
        let mut child = Command::new(&program)
            .arg(file)
            .args(["--port", &options.port.to_string()])
            .args(["--prefix", options.prefix])
            .args(["--names", &options.names.join(",")])
            .args(["--kind", kind])
            .args(["--qos", &options.qos.to_string()])
            .args(["--every", &options.every.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}; CONTRIBUTING.md says what the tests need",
                    program.display()
                )
            });
        let out = child.stdout.take().expect("standard output is a pipe");
        let mut processes = BTreeMap::new();
        for line in BufReader::new(out).lines().take(options.names.len()) {
            let line = line.expect("a line of the device script");
            let started: serde_json::Value = serde_json::from_str(&line).expect("a JSON line");
            let name = started
                .get("device")
                .and_then(serde_json::Value::as_str)
                .expect("a device name")
                .to_owned();
            let pid = started
                .get("pid")
                .and_then(serde_json::Value::as_i64)
                .expect("a process id");
            processes.insert(name, i32::try_from(pid).expect("a process id"));
        }
        assert_eq!(
            processes.len(),
            options.names.len(),
            "{} did not start; CONTRIBUTING.md says which packages the tests need",
            program.display()
        );
        Self { processes, child }
    }

    fn signal(&self, name: &str, signal: &str) {
        let pid = self
            .processes
            .get(name)
            .copied()
            .unwrap_or_else(|| unreachable!("{name} is of this fleet"));
        // A device that is already gone is what the signal wanted.
        let _ = Command::new("kill")
            .args(["-s", signal, &pid.to_string()])
            .stderr(Stdio::null())
            .status();
    }

    /// Kills a device as a power cut does.
    pub fn kill(&self, name: &str) {
        self.signal(name, "KILL");
    }

    /// Lets a device say good-bye and disconnect.
    pub fn disconnect(&self, name: &str) {
        self.signal(name, "TERM");
    }

    /// Makes a device silent; it stays connected.
    pub fn silence(&self, name: &str) {
        self.signal(name, "HUP");
    }

    /// Lets a silent device speak again.
    pub fn speak(&self, name: &str) {
        self.signal(name, "USR2");
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for pid in self.processes.values() {
            let _ = Command::new("kill")
                .args(["-s", "KILL", &pid.to_string()])
                .stderr(Stdio::null())
                .status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
