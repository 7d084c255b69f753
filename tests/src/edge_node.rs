//! Sparkplug B Edge Nodes with one device each: clients of Eclipse Tahu and pysparkplug, a process each.
//! In: words that say what they do. Out: the process; it ends with the value.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Whose client an Edge Node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// `sparkplug-client` of Eclipse Tahu, on Node.js. It is born again when it is asked.
    Tahu,
    /// pysparkplug, on Python. It leaves requests to its user.
    PySparkplug,
}

/// A running Edge Node.
pub struct EdgeNode {
    child: Child,
}

impl EdgeNode {
    /// Starts `<group>/<node>` with the device `<group>/<node>/<device>`, see `devices/sparkplug_node.*`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[allow(clippy::expect_used)]
    #[must_use]
    pub fn start(library: Library, server: SocketAddr, name: [&str; 3]) -> Self {
        let (program, script) = match library {
            Library::Tahu => (PathBuf::from("node"), "sparkplug_node.mjs"),
            Library::PySparkplug => (python(), "sparkplug_node.py"),
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("devices")
            .join(script);
        let [group, node, device] = name;
        let mut child = Command::new(program)
            .arg(script)
            .args(["--port", &server.port().to_string(), "--group", group])
            .args(["--node", node, "--device", device])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js, and Python with pysparkplug, are installed, see CONTRIBUTING.md");
        let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("it can be read");
        assert_eq!(line, "born\n", "{library:?} has not connected");
        // It says more, which nobody needs, and must not wait for a reader.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child }
    }

    /// `data`, `birth` or `death`.
    ///
    /// # Panics
    /// When it has ended.
    #[allow(clippy::expect_used)]
    pub fn say(&mut self, word: &str) {
        let input = self.child.stdin.as_mut().expect("it is a pipe");
        writeln!(input, "{word}").expect("it runs");
    }

    /// SIGKILL: the server publishes its NDEATH.
    pub fn crash(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for EdgeNode {
    fn drop(&mut self) {
        self.crash();
    }
}

fn python() -> PathBuf {
    std::env::var_os("AKRI_MQTT_TEST_SPARKPLUG_PYTHON")
        .map_or_else(|| PathBuf::from("python3"), PathBuf::from)
}
