//! Devices that announce themselves by a convention, each a paho-mqtt client in a process of its own.
//! In: what it says. Out: the device, once the server has taken its birth; it ends with the value.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::fleet::python;

/// A device of a convention.
pub struct Announcing {
    child: Child,
}

impl Announcing {
    /// Starts a device that says `will`, `birth` and `data`, see `devices/convention_device.py`.
    ///
    /// # Panics
    /// When it does not connect.
    #[allow(clippy::expect_used)]
    #[must_use]
    pub fn start(port: u16, client_id: &str, says: &Value) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("devices/convention_device.py");
        let mut child = Command::new(python())
            .arg(script)
            .args(["--port", &port.to_string(), "--client-id", client_id])
            .args(["--says", &says.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python with paho-mqtt is installed, see CONTRIBUTING.md");
        let mut line = String::new();
        let out = child.stdout.take().expect("standard output is a pipe");
        BufReader::new(out)
            .read_line(&mut line)
            .expect("it can be read");
        assert_eq!(line, "born\n", "{client_id} has not connected");
        Self { child }
    }

    /// SIGKILL: the server publishes its Last Will.
    pub fn crash(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Announcing {
    fn drop(&mut self) {
        self.crash();
    }
}
