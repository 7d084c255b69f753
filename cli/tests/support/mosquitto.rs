//! The tests' Mosquitto with `mosquitto_pub` as its devices. Both end with the test.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use akri_mqtt_tests::mosquitto::{Config, Mosquitto as Server};

/// A running server.
pub struct Mosquitto {
    server: Server,
    login: Vec<String>,
}

impl Mosquitto {
    /// One that lets everybody in.
    pub fn start() -> Self {
        Self {
            server: Server::start(Config::new()),
            login: Vec::new(),
        }
    }

    /// One that asks for a password.
    pub fn start_with_password(user: &str, password: &str) -> Self {
        Self {
            server: Server::start(Config::new().user(user, password)),
            login: ["-u", user, "-P", password].map(str::to_owned).to_vec(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Publishes one message with QoS 1.
    pub fn publish(&self, topic: &str, payload: &str, retain: bool) {
        let mut command = self.publisher();
        command.args(["-q", "1", "-t", topic, "-m", payload]);
        if retain {
            command.arg("-r");
        }
        assert!(command.status().unwrap().success());
    }

    /// What the server keeps for a topic.
    pub fn retained(&self, topic: &str) -> String {
        let port = self.address().port().to_string();
        let output = Command::new("mosquitto_sub")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-C",
                "1",
                "-W",
                "20",
                "-t",
                topic,
            ])
            .args(&self.login)
            .output()
            .unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    fn publisher(&self) -> Command {
        let port = self.address().port().to_string();
        let mut command = Command::new("mosquitto_pub");
        command
            .args(["-h", "127.0.0.1", "-p", &port])
            .args(&self.login);
        command
    }
}

/// A device that publishes the same message five times a second.
pub struct Publisher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Starts it.
    pub fn start(server: &Mosquitto, topic: &str, payload: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut command = server.publisher();
        command.args(["-t", topic, "-m", payload]);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let _ = command.status();
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
