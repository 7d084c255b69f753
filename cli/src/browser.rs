//! Opens the dashboard in the user's browser. In: its address. Out: a browser, or a note on standard error: the
//! address is printed in any case.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// The program that opens an address with what the user has chosen for it.
const PROGRAM: &str = if cfg!(target_os = "macos") {
    "open"
} else {
    "xdg-open"
};

/// Opens the dashboard; whether the browser shows it is up to the desktop.
pub fn open(http: SocketAddr) {
    let started = Command::new(PROGRAM)
        .arg(format!("http://{http}/"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match started {
        // It ends at once; waiting for it in a thread of its own leaves no zombie.
        Ok(mut child) => {
            std::thread::spawn(move || child.wait());
        }
        Err(error) => eprintln!("note: --open: {PROGRAM} cannot be started: {error}"),
    }
}
