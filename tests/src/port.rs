//! Ports of the loopback for servers that have to know theirs before they start. In: nothing. Out: a port that
//! nobody has, and that the system gives nobody by itself: those begin at 32768.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// How many this process has given, from a place of its own on.
static GIVEN: LazyLock<AtomicUsize> =
    LazyLock::new(|| AtomicUsize::new(rand::random::<u16>().into()));

/// A port that is free, and stays so unless somebody asks for this very one. A process gives none twice before all
/// have been given.
///
/// # Panics
/// When none is free.
#[must_use]
#[allow(clippy::expect_used)]
pub fn free_port() -> u16 {
    let next = || GIVEN.fetch_add(1, Ordering::Relaxed) % usize::from(COUNT);
    let ports = (0..COUNT).filter_map(|_| Some(FIRST + u16::try_from(next()).ok()?));
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let mut free = ports.filter(is_free);
    free.next().expect("a port of the loopback is free")
}

/// The same, with the loopback's address.
#[must_use]
pub fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}
