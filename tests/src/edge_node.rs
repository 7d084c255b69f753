//! Sparkplug B Edge Nodes with one device each: clients of Eclipse Tahu and pysparkplug, a process each.
//! In: words that say what they do. Out: the process; it ends with the value.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::told::{Told, older_python};

/// Whose client an Edge Node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// `sparkplug-client` of Eclipse Tahu, on Node.js. It is born again when it is asked.
    Tahu,
    /// pysparkplug, on Python. It leaves requests to its user.
    PySparkplug,
}

/// A running Edge Node.
pub struct EdgeNode(Told);

impl EdgeNode {
    /// Starts `<group>/<node>` with the device `<group>/<node>/<device>`, see `devices/sparkplug_node.*`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(library: Library, server: SocketAddr, name: [&str; 3]) -> Self {
        let (program, script) = match library {
            Library::Tahu => (PathBuf::from("node"), "sparkplug_node.mjs"),
            Library::PySparkplug => (older_python(), "sparkplug_node.py"),
        };
        let [group, node, device] = name;
        let port = server.port().to_string();
        let arguments = [
            "--port", &port, "--group", group, "--node", node, "--device", device,
        ];
        Self(Told::start(&program, script, &arguments))
    }

    /// `data`, `birth` or `death`.
    ///
    /// # Panics
    /// When it has ended.
    pub fn say(&mut self, word: &str) {
        self.0.say(word);
    }

    /// SIGKILL: the server publishes its NDEATH.
    pub fn crash(&mut self) {
        self.0.crash();
    }
}
