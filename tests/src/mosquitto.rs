//! A real Mosquitto for one test: its own directory, its own ports, any configuration, every way to end.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a fixture that fails fails its test"
)]

use std::{
    fmt::Write as _,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use akri_mqtt_core::details::{Scheme, ServerUrl};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::certificates::ServerCertificate;
use crate::port::free_port;

/// What to install when the program is missing.
const MISSING: &str =
    "mosquitto was not found; install it (Debian: apt-get install mosquitto mosquitto-clients)";
/// Mosquitto starts in some 10 ms; a loaded machine needs longer.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How a Mosquitto is configured.
#[derive(Clone, Debug, Default)]
pub struct Config {
    persistence: bool,
    websockets: bool,
    lines: Vec<String>,
    acl: Option<String>,
    users: Vec<(String, String)>,
    tls: Option<(ServerCertificate, Option<String>)>,
}

impl Config {
    /// Anonymous clients on one TCP port, nothing is kept on disk, generous queues.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps sessions and retained messages on disk, so that they survive [`Mosquitto::kill`].
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.persistence = true;
        self
    }

    /// A further listener for WebSocket; with [`Config::tls`] it speaks TLS with the same certificate.
    #[must_use]
    pub fn websockets(mut self) -> Self {
        self.websockets = true;
        self
    }

    /// A further line of configuration.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Only these users may connect.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned()));
        self
    }

    /// An access list in Mosquitto's form.
    #[must_use]
    pub fn acl(mut self, text: &str) -> Self {
        self.acl = Some(text.to_owned());
        self
    }

    /// A further listener for TLS; with `client_ca` (PEM) clients need a certificate of it.
    #[must_use]
    pub fn tls(mut self, certificate: ServerCertificate, client_ca: Option<String>) -> Self {
        self.tls = Some((certificate, client_ca));
        self
    }
}

/// A running Mosquitto; it is killed when it is dropped.
pub struct Mosquitto {
    dir: TempDir,
    child: Option<Child>,
    config: Config,
    ports: Ports,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    tcp: u16,
    tls: u16,
    ws: u16,
}

impl Mosquitto {
    /// Starts a server and waits until it listens.
    ///
    /// # Panics
    /// When Mosquitto is not installed or does not start; the message says what to do.
    #[must_use]
    pub fn start(config: Config) -> Self {
        for _ in 0..5 {
            // Another test may take a port between our look and Mosquitto's bind.
            let ports = Ports {
                tcp: free_port(),
                tls: free_port(),
                ws: free_port(),
            };
            let dir = tempfile::tempdir().expect("a temporary directory");
            let mut server = Self {
                dir,
                child: None,
                config: config.clone(),
                ports,
            };
            server
                .write_config()
                .expect("the configuration can be written");
            match server.spawn() {
                Ok(()) => return server,
                Err(error) => eprintln!(
                    "mosquitto did not start: {error}; its log:\n{}",
                    server.log()
                ),
            }
        }
        panic!("mosquitto did not start five times, see above");
    }

    /// Its address for plain TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.tcp).into()
    }

    /// Its address for TLS.
    #[must_use]
    pub fn tls_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.tls).into()
    }

    /// Its address for WebSocket.
    #[must_use]
    pub fn ws_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.ws).into()
    }

    /// Its URL for plain TCP.
    #[must_use]
    pub fn url(&self) -> ServerUrl {
        url(Scheme::Tcp, self.address())
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// SIGTERM: it stores what it keeps and publishes the Last Wills. Returns once it is gone.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        if let Some(mut child) = self.child.take() {
            child.wait().expect("mosquitto can be waited for");
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("mosquitto can be killed");
            child.wait().expect("mosquitto can be waited for");
        }
    }

    /// SIGUSR1: stores what it keeps now, as `autosave_interval` would.
    pub fn save(&self) {
        self.signal(Signal::USR1);
    }

    /// SIGSTOP: it holds its connections and does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts again on the same ports, after [`Mosquitto::stop`] or [`Mosquitto::kill`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "mosquitto still runs");
        if let Err(error) = self.spawn() {
            panic!(
                "mosquitto did not start again: {error}; its log:\n{}",
                self.log()
            );
        }
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("mosquitto runs");
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        kill_process(pid, signal).expect("mosquitto can be signalled");
    }

    /// Mosquitto opens its listeners one after the other.
    fn listens(&self) -> bool {
        let tls = self.config.tls.is_some().then(|| self.tls_address());
        let ws = self.config.websockets.then(|| self.ws_address());
        let mut all = [Some(self.address()), tls, ws].into_iter().flatten();
        all.all(|address| std::net::TcpStream::connect(address).is_ok())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_config(&self) -> io::Result<()> {
        let config = &self.config;
        let mut text = String::from("per_listener_settings false\nlog_type all\n");
        let _ = writeln!(text, "log_dest file {}", self.path("log").display());
        let _ = writeln!(text, "max_queued_messages 0\nmax_inflight_messages 100");
        // Mosquitto drops privileges to its own user when root starts it.
        text.push_str("user root\n");
        let _ = writeln!(text, "allow_anonymous {}", config.users.is_empty());
        if !config.users.is_empty() {
            self.write_passwords(&self.path("passwords"))?;
            let _ = writeln!(text, "password_file {}", self.path("passwords").display());
        }
        if let Some(acl) = &config.acl {
            std::fs::write(self.path("acl"), acl)?;
            let _ = writeln!(text, "acl_file {}", self.path("acl").display());
        }
        if config.persistence {
            let _ = writeln!(
                text,
                "persistence true\npersistence_location {}/",
                self.dir.path().display()
            );
        }
        for line in &config.lines {
            let _ = writeln!(text, "{line}");
        }
        text.push_str(&self.listeners()?);
        std::fs::write(self.path("mosquitto.conf"), text)
    }

    fn listeners(&self) -> io::Result<String> {
        let mut text = format!("listener {} 127.0.0.1\n", self.ports.tcp);
        let mut secure = String::new();
        if let Some((certificate, client_ca)) = &self.config.tls {
            std::fs::write(self.path("server.crt"), &certificate.certificate)?;
            std::fs::write(self.path("server.key"), &certificate.key)?;
            let dir = self.dir.path().display();
            let _ = writeln!(
                secure,
                "certfile {dir}/server.crt\nkeyfile {dir}/server.key"
            );
            if let Some(ca) = client_ca {
                std::fs::write(self.path("client-ca.crt"), ca)?;
                let _ = writeln!(
                    secure,
                    "cafile {dir}/client-ca.crt\nrequire_certificate true"
                );
            }
            let _ = write!(text, "listener {} 127.0.0.1\n{secure}", self.ports.tls);
        }
        if self.config.websockets {
            let _ = write!(
                text,
                "listener {} 127.0.0.1\nprotocol websockets\n{secure}",
                self.ports.ws
            );
        }
        Ok(text)
    }

    fn write_passwords(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, "")?;
        for (name, password) in &self.config.users {
            let status = Command::new(program("mosquitto_passwd"))
                .arg("-b")
                .arg(path)
                .args([name, password])
                .status();
            assert!(status.expect(MISSING).success(), "mosquitto_passwd failed");
        }
        Ok(())
    }

    fn spawn(&mut self) -> io::Result<()> {
        let mut command = Command::new(program("mosquitto"));
        command.arg("-c").arg(self.path("mosquitto.conf"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => panic!("{MISSING}"),
            result => result?,
        };
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!("mosquitto ended: {status}")));
            }
            if self.listens() {
                self.child = Some(child);
                return Ok(());
            }
            if Instant::now() > deadline {
                let _ = (child.kill(), child.wait());
                return Err(io::Error::other("mosquitto did not listen in time"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = (child.kill(), child.wait());
        }
    }
}

/// A URL of an address.
#[must_use]
pub fn url(scheme: Scheme, address: SocketAddr) -> ServerUrl {
    ServerUrl {
        scheme,
        host: address.ip().to_string(),
        port: address.port(),
        path: String::new(),
    }
}

/// Debian keeps the server outside the path of ordinary users.
fn program(name: &str) -> PathBuf {
    let sbin = Path::new("/usr/sbin").join(name);
    if sbin.exists() {
        sbin
    } else {
        PathBuf::from(name)
    }
}
