//! A discovery handler as a process of its own, for tests that stop, kill and question it.
//! In: flags. Out: the process, everything it has logged, and the answers of its admin port.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::binary::binary;
use crate::http;
use crate::port::free_address;

/// How long a process may take to do what it is waited for.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running handler; it is killed when it is dropped.
pub struct HandlerProcess {
    child: Child,
    log: Arc<Mutex<String>>,
    admin: SocketAddr,
    /// When it was started.
    pub started: Instant,
}

/// How to start a handler.
#[derive(Clone, Debug)]
pub struct HandlerFlags {
    /// Directory of the Agent's socket.
    pub directory: PathBuf,
    /// Directory of its state.
    pub state: PathBuf,
    /// Instance.
    pub instance: String,
    /// More flags.
    pub more: Vec<String>,
    /// More environment variables.
    pub environment: Vec<(String, String)>,
    /// Level of its log.
    pub log: &'static str,
}

impl HandlerFlags {
    /// A handler `n-0` with both directories below `base`.
    #[must_use]
    pub fn below(base: &Path) -> Self {
        Self {
            directory: base.to_owned(),
            state: base.join("state"),
            instance: "n-0".to_owned(),
            more: Vec::new(),
            environment: Vec::new(),
            log: "debug",
        }
    }

    /// The same with another instance.
    #[must_use]
    pub fn instance(mut self, instance: &str) -> Self {
        instance.clone_into(&mut self.instance);
        self
    }

    /// The same with more flags.
    #[must_use]
    pub fn with(mut self, flags: &[&str]) -> Self {
        self.more
            .extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Starts the process.
    ///
    /// # Panics
    /// When it cannot be started.
    #[allow(clippy::expect_used)]
    #[must_use]
    pub fn start(&self) -> HandlerProcess {
        let path = binary("akri-mqtt-discovery-handler", "akri-mqtt-discovery-handler");
        let admin = free_address();
        let mut command = Command::new(path);
        command
            .arg("--directory")
            .arg(&self.directory)
            .arg("--state-dir")
            .arg(&self.state)
            .args(["--instance", &self.instance, "--admin", &admin.to_string()])
            .args(&self.more)
            .env(
                "RUST_LOG",
                format!(
                    "warn,akri_mqtt={0},akri_mqtt_discovery_handler={0},akri_mqtt_session={0}",
                    self.log
                ),
            )
            .env("AKRI_MQTT_NODE", "n")
            .envs(self.environment.iter().cloned())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .stdin(Stdio::null());
        let started = Instant::now();
        let mut child = command.spawn().expect("the handler can be started");
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stderr.take().expect("it is piped"), &log);
        collect(child.stdout.take().expect("it is piped"), &log);
        HandlerProcess {
            child,
            log,
            admin,
            started,
        }
    }
}

fn collect(stream: impl std::io::Read + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&line);
            log.push('\n');
        }
    });
}

impl HandlerProcess {
    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its admin port.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Everything it has written to standard error and output.
    #[must_use]
    pub fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The body of an answer of its admin port, `None` while it does not answer.
    #[must_use]
    pub fn try_get(&self, path: &str) -> Option<(u16, String)> {
        http::get(self.admin, path)
    }

    /// The body of an answer of its admin port.
    ///
    /// # Panics
    /// When it does not answer in time.
    #[must_use]
    pub fn get(&self, path: &str) -> (u16, String) {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(answer) = self.try_get(path) {
                return answer;
            }
            assert!(
                Instant::now() < end,
                "{path} is not answered; log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `/v1/presence`, or a part of it, as JSON.
    #[must_use]
    pub fn presence(&self, path: &str) -> serde_json::Value {
        let (_, body) = self.get(&format!("/v1/presence{path}"));
        serde_json::from_str(&body).unwrap_or_default()
    }

    /// The value of a metric, such as `discover_streams` or `devices{request="…",state="online"}`; labels may be cut short.
    #[must_use]
    pub fn metric(&self, start: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        let name = format!("akri_mqtt_{start}");
        let mut values = text
            .lines()
            .filter(|line| line.starts_with(&name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// Waits until the log contains a text.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn wait_for_log(&self, text: &str) {
        self.wait_for(text, |handler| handler.log().contains(text))
            .await;
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !condition(self) {
            assert!(
                Instant::now() < end,
                "not in time: {what}; log:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGTERM, and the exit status.
    ///
    /// # Panics
    /// When it does not end.
    #[allow(clippy::expect_used)]
    pub async fn terminate(&mut self) -> ExitStatus {
        let begin = Instant::now();
        self.signal("TERM");
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(
                begin.elapsed() < DEADLINE,
                "it does not end; log:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Resident memory in KiB.
    #[must_use]
    pub fn resident(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    fn signal(&self, name: &str) {
        // The process is ours and was not waited for, so the id is still its own.
        let _ = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status();
    }
}

impl Drop for HandlerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
