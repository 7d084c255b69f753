//! A device as a process that is told what to do: a word a line on its standard input. In: its program and words. Out: the
//! process, once it has said that it is born; it ends with the value.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running device.
pub struct Told {
    child: Child,
}

impl Told {
    /// Runs `devices/<script>` and waits for the line `born`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[allow(clippy::expect_used)]
    #[must_use]
    pub fn start<A: AsRef<OsStr>>(program: &Path, script: &str, arguments: &[A]) -> Self {
        let devices = Path::new(env!("CARGO_MANIFEST_DIR")).join("devices");
        let mut child = Command::new(program)
            .arg(devices.join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js and Python are installed with their packages, see CONTRIBUTING.md");
        let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("it can be read");
        assert_eq!(line, "born\n", "{script} has not connected");
        // It says more, which nobody needs, and must not wait for a reader.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child }
    }

    /// Tells it a word that its script knows.
    ///
    /// # Panics
    /// When it has ended.
    #[allow(clippy::expect_used)]
    pub fn say(&mut self, word: &str) {
        let input = self.child.stdin.as_mut().expect("it is a pipe");
        writeln!(input, "{word}").expect("it runs");
    }

    /// SIGKILL: the server publishes its Last Will.
    pub fn crash(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.crash();
    }
}

/// Python with the packages of `requirements-sparkplug.txt`.
#[must_use]
pub fn older_python() -> PathBuf {
    std::env::var_os("AKRI_MQTT_TEST_SPARKPLUG_PYTHON")
        .map_or_else(|| PathBuf::from("python3"), PathBuf::from)
}
