//! Servers that sinks write to: a real Redis and a real PostgreSQL, each in a directory of its own that
//! outlives SIGKILL. In: options. Out: an address, and every way to end.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture that fails fails its test"
)]

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::certificates::ServerCertificate;
use crate::port::free_port;

/// Both start in less than a second; a loaded machine needs longer.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A process and those that it starts: PostgreSQL has one for each connection.
struct Server {
    child: Option<Child>,
}

impl Server {
    fn start(mut command: Command, what: &str, listens: impl Fn() -> bool) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let spawned = command.process_group(0).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{what} does not start: {error}"));
        let deadline = Instant::now() + START_LIMIT;
        while !listens() {
            let ended = child.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "{what} ended: {ended:?}");
            assert!(Instant::now() < deadline, "{what} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child: Some(child) }
    }

    fn signal(&self, signal: Signal) {
        let id = self
            .child
            .as_ref()
            .and_then(|child| i32::try_from(child.id()).ok());
        let group = id.and_then(Pid::from_raw).expect("it runs");
        kill_process_group(group, signal).expect("it can be signalled");
    }

    fn kill(&mut self) {
        if self.child.is_some() {
            self.signal(Signal::KILL);
        }
        if let Some(mut child) = self.child.take() {
            child.wait().expect("it can be waited for");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_open(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Writes certificate and key, as only their reader may see them.
fn write_tls(directory: &Path, certificate: &ServerCertificate) {
    use std::os::unix::fs::PermissionsExt;
    let key = directory.join("server.key");
    std::fs::write(directory.join("server.crt"), &certificate.certificate).expect("written");
    std::fs::write(&key, &certificate.key).expect("written");
    std::fs::set_permissions(key, PermissionsExt::from_mode(0o600)).expect("private");
}

/// A Redis that writes each command to the disk before it answers.
pub struct Redis {
    server: Option<Server>,
    directory: TempDir,
    port: u16,
    options: Vec<String>,
}

impl Redis {
    /// Starts one with further options, such as `--requirepass x`.
    #[must_use]
    pub fn start(options: &[&str]) -> Self {
        let mut redis = Self {
            server: None,
            directory: tempfile::tempdir().expect("a directory"),
            port: free_port(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
        };
        redis.restart();
        redis
    }

    /// Starts one that speaks TLS only.
    #[must_use]
    pub fn start_tls(certificate: &ServerCertificate) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        write_tls(directory.path(), certificate);
        let port = free_port();
        let file = |name| directory.path().join(name).display().to_string();
        let options = [
            ["--tls-port".to_owned(), port.to_string()],
            ["--tls-cert-file".to_owned(), file("server.crt")],
            ["--tls-key-file".to_owned(), file("server.key")],
            ["--tls-auth-clients".to_owned(), "no".to_owned()],
            ["--port".to_owned(), "0".to_owned()],
        ];
        let mut redis = Self {
            server: None,
            port,
            options: options.into_iter().flatten().collect(),
            directory,
        };
        redis.restart();
        redis
    }

    /// Starts it again, with what it has on its disk.
    pub fn restart(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        command.args(["--save", "", "--loglevel", "warning", "--dir"]);
        command.arg(self.directory.path()).args(&self.options);
        let port = self.port;
        self.server = Some(Server::start(command, "redis-server", || is_open(port)));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// SIGSTOP: it takes connections and does nothing.
    ///
    /// # Panics
    /// When it does not run.
    pub fn freeze(&self) {
        self.server.as_ref().expect("it runs").signal(Signal::STOP);
    }

    /// SIGCONT.
    ///
    /// # Panics
    /// When it does not run.
    pub fn thaw(&self) {
        self.server.as_ref().expect("it runs").signal(Signal::CONT);
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The lines of an answer, as `redis-cli` prints it.
    ///
    /// # Panics
    /// When `redis-cli` is not installed.
    #[must_use]
    pub fn ask(&self, command: &[&str]) -> Vec<String> {
        let mut client = Command::new("redis-cli");
        client.args(["-p", &self.port.to_string(), "--raw"]);
        let output = client.args(command).output().expect("redis-cli runs");
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().map(str::to_owned).collect()
    }
}

/// A PostgreSQL with one user, `akri`, whose password is `pass/word`.
pub struct Postgres {
    server: Option<Server>,
    directory: TempDir,
    port: u16,
    tls: bool,
}

impl Postgres {
    /// Makes a cluster and starts it.
    ///
    /// # Panics
    /// When PostgreSQL is not installed.
    #[must_use]
    pub fn start(certificate: Option<&ServerCertificate>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("password"), "pass/word").expect("written");
        if let Some(certificate) = certificate {
            write_tls(directory.path(), certificate);
        }
        give_away(directory.path());
        let data = directory.path().join("data");
        let mut init = program("initdb");
        init.args(["--auth=scram-sha-256", "--username=akri", "--encoding=UTF8"]);
        init.args(["--no-sync", "--locale=C", "--pwfile"]);
        init.arg(directory.path().join("password"));
        init.arg("--pgdata").arg(&data).stdout(Stdio::null());
        let made = init.status().expect("initdb runs; install postgresql");
        assert!(made.success(), "initdb: {made}");
        let mut postgres = Self {
            server: None,
            directory,
            port: free_port(),
            tls: certificate.is_some(),
        };
        postgres.restart();
        postgres
    }

    /// Starts it again, with what it has on its disk.
    pub fn restart(&mut self) {
        let path = self.directory.path();
        // A killed server leaves it, and another process may have its id by now.
        let _ = std::fs::remove_file(path.join("data/postmaster.pid"));
        let mut settings = format!(
            "port={}\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\nmax_connections=20\n\
             logging_collector=off\nlog_min_messages=panic\n",
            self.port
        );
        if self.tls {
            let directory = path.display();
            let _ = writeln!(
                settings,
                "ssl=on\nssl_cert_file='{directory}/server.crt'\nssl_key_file='{directory}/server.key'"
            );
        }
        std::fs::write(path.join("data/postgresql.auto.conf"), settings).expect("written");
        let mut command = program("postgres");
        command.arg("-D").arg(path.join("data"));
        let this = &*self;
        let server = Server::start(command, "postgres", || this.try_ask("SELECT 1").is_some());
        self.server = Some(server);
    }

    /// SIGKILL, to all of its processes.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The rows of an answer: columns are separated by `|`.
    ///
    /// # Panics
    /// When the statement fails.
    #[must_use]
    pub fn ask(&self, statement: &str) -> Vec<String> {
        self.try_ask(statement)
            .unwrap_or_else(|| panic!("it fails: {statement}"))
    }

    /// The rows of an answer, if there is one.
    ///
    /// # Panics
    /// When `psql` is not installed.
    #[must_use]
    pub fn try_ask(&self, statement: &str) -> Option<Vec<String>> {
        let mut client = Command::new("psql");
        client.args(["-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-U", "akri"]);
        client.args([
            "-p",
            &self.port.to_string(),
            "-d",
            "postgres",
            "-c",
            statement,
        ]);
        client.env("PGPASSWORD", "pass/word");
        let output = client.stderr(Stdio::null()).output().expect("psql runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let rows = text.lines().map(str::to_owned).collect();
        output.status.success().then_some(rows)
    }
}

/// Debian keeps the server's programs outside of the path, and they do not run as root.
fn program(name: &str) -> Command {
    let found = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut versions: Vec<PathBuf> = found.flatten().map(|entry| entry.path()).collect();
    versions.sort();
    let path = versions
        .last()
        .map(|version| version.join("bin").join(name));
    let mut command = Command::new(path.unwrap_or_else(|| name.into()));
    command.stderr(Stdio::null());
    if let Some((user, group)) = postgres_user() {
        command.uid(user).gid(group);
    }
    command
}

/// The user and group `postgres`, if we are root.
fn postgres_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn give_away(directory: &Path) {
    let Some((user, group)) = postgres_user() else {
        return;
    };
    let entries = std::fs::read_dir(directory).expect("it can be read");
    for path in entries
        .flatten()
        .map(|entry| entry.path())
        .chain([directory.to_owned()])
    {
        std::os::unix::fs::chown(path, Some(user), Some(group)).expect("root may");
    }
}
