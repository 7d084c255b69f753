//! What the tests of the binary share: a child process whose lines are read with a deadline, signals, plain HTTP.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::panic,
    clippy::string_slice,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a fixture that fails fails its test"
)]

pub mod mosquitto;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a test waits for something that has to happen.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// A Configuration of robots that announce themselves, with the last level of their data's topics and further lines.
pub fn robots(server: SocketAddr, data: &str, lines: &str) -> String {
    format!(
        "\
apiVersion: akri.sh/v0
kind: Configuration
metadata: {{name: plant}}
spec:
  discoveryHandler:
    name: mqtt
    discoveryDetails: |
      servers: [{{name: plant-a, urls: [\"tcp://{server}\"]}}]
      topics: [\"robots/{{device}}/{data}\"]
      presence:
        availability: [{{topic: \"robots/{{device}}/status\"}}]
{lines}"
    )
}

/// The same in a file.
pub fn plant(directory: &Path, server: SocketAddr, data: &str, lines: &str) -> PathBuf {
    let file = directory.join("plant.yaml");
    std::fs::write(&file, robots(server, data, lines)).unwrap();
    file
}

/// A running `akri-mqtt`; killed when it is dropped.
pub struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    /// What was read of standard error so far.
    pub errors: Vec<String>,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_akri-mqtt"));
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Running {
    /// Starts it.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// Starts it with environment variables.
    pub fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::spawn(command(arguments).envs(variables.iter().copied()))
    }

    /// Starts it with a pipe as its standard input.
    pub fn start_fed(arguments: &[&str]) -> (Self, ChildStdin) {
        let mut run = Self::spawn(command(arguments).stdin(Stdio::piped()));
        let stdin = run.child.stdin.take().unwrap();
        (run, stdin)
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self {
            child,
            stdout,
            stderr,
            errors: Vec::new(),
        }
    }

    /// The next line of standard output, or `None` at its end.
    pub fn line(&mut self) -> Option<String> {
        match self.stdout.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!(
                    "no line within {DEADLINE:?}; standard error: {:?}",
                    self.drain()
                )
            }
        }
    }

    /// Reads standard output up to the first line that `wanted` says yes to.
    pub fn line_with(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            match self.line() {
                Some(line) if wanted(&line) => return line,
                Some(_) => {}
                None => panic!("it ended; standard error: {:?}", self.drain()),
            }
        }
        panic!(
            "no such line within {DEADLINE:?}; standard error: {:?}",
            self.drain()
        )
    }

    /// The remaining lines as JSON.
    pub fn events(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.line())
            .map(|line| json(&line))
            .collect()
    }

    /// Reads standard error up to the first line that contains `part`.
    pub fn error_with(&mut self, part: &str) -> String {
        let until = Instant::now() + DEADLINE;
        while let Ok(line) = self
            .stderr
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            self.errors.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
        panic!("no {part:?} on standard error: {:?}", self.errors)
    }

    /// The address after `label` on standard error, such as `http://127.0.0.1:8080`.
    pub fn address(&mut self, label: &str) -> SocketAddr {
        let line = self.error_with(label);
        let address = line.split("://").nth(1).unwrap_or_default();
        let end = address.find(|c: char| !(c.is_ascii_digit() || ".:[]".contains(c)));
        address[..end.unwrap_or(address.len())].parse().unwrap()
    }

    /// Everything else on standard error; up to its end if the process has ended.
    pub fn drain(&mut self) -> Vec<String> {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            while let Ok(line) = self.stderr.recv_timeout(DEADLINE) {
                self.errors.push(line);
            }
        }
        self.errors.extend(self.stderr.try_iter());
        self.errors.clone()
    }

    /// Sends a signal, such as `INT`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Kills it at once, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Closes our end of its standard output, as `head` does.
    pub fn close_stdout(&mut self) {
        self.stdout = channel().1;
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!(
            "it did not end within {within:?}; standard error: {:?}",
            self.drain()
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lines(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (lines, received) = channel();
    std::thread::spawn(move || {
        // Ends, and so closes the pipe, when the receiver is gone.
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    received
}

/// A line as JSON.
pub fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is no JSON: {error}"))
}

/// `GET`, with its status and body. `None` if nobody answers.
pub fn get(server: SocketAddr, path: &str) -> Option<(u16, Value)> {
    ask(server, &format!("GET {path} HTTP/1.1\r\n"), "")
}

/// `POST` of JSON, with its status and body. `None` if nobody answers.
pub fn post(server: SocketAddr, path: &str, body: &str) -> Option<(u16, Value)> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
    );
    ask(server, &head, body)
}

fn ask(server: SocketAddr, head: &str, body: &str) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    let request = format!("{head}host: {server}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    // A chunked body: the JSON stands between the first and the last brace.
    let body = body.get(body.find(['{', '['])?..=body.rfind(['}', ']'])?)?;
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// Asks again and again until the answer is as wanted.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "{what} within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
