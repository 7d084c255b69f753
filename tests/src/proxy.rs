//! A TCP proxy that misbehaves on demand: cut, hold, swallow, delay, throttle, by direction and by MQTT packet.
//! In: orders from a test. Out: broken connections and counts of what passed. Knows only MQTT's framing.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a fixture that fails fails its test"
)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the client to the MQTT server.
    ToServer,
    /// From the MQTT server to the client.
    ToClient,
}

/// MQTT packet types by their number (MQTT 5.0, 2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are those of the specification")]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
}

/// Whether the packet that triggers a cut still passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The connection is cut and the packet is lost.
    Before,
    /// The packet passes, then the connection is cut.
    After,
}

/// How the proxy plays a server that speaks only MQTT 3.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldServer {
    /// CONNACK with return code 1.
    Refuses,
    /// Closes without an answer.
    Closes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Pass,
    /// Nothing is read: bytes wait, as in a network that drops packets.
    Hold,
    /// Bytes vanish: the other end is gone without a word.
    Swallow,
}

#[derive(Clone, Debug)]
struct Lane {
    flow: Flow,
    delay: Duration,
    bytes_per_second: Option<usize>,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            flow: Flow::Pass,
            delay: Duration::ZERO,
            bytes_per_second: None,
        }
    }
}

#[derive(Debug)]
struct Cut {
    direction: Direction,
    packet: u8,
    when: When,
    /// Packets of this type that still pass.
    after: usize,
}

#[derive(Debug, Default)]
struct Orders {
    cuts: Vec<Cut>,
    cuts_done: usize,
    packets: BTreeMap<(Direction, u8), usize>,
    connections: usize,
    refusing: bool,
    old_server: Option<OldServer>,
    target: Option<SocketAddr>,
}

#[derive(Clone, Debug, Default)]
struct Lanes {
    to_server: Lane,
    to_client: Lane,
    /// Connections of an older generation are cut.
    generation: u64,
}

impl Lanes {
    fn of(&self, direction: Direction) -> &Lane {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }
}

struct Shared {
    orders: Mutex<Orders>,
    lanes: watch::Sender<Lanes>,
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running proxy; it ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

impl Proxy {
    /// Starts a proxy to `target` on a free port of the loopback.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let orders = Orders {
            target: Some(target),
            ..Orders::default()
        };
        let (lanes, _) = watch::channel(Lanes::default());
        let shared = Arc::new(Shared {
            orders: Mutex::new(orders),
            lanes,
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections go from now on.
    pub fn set_target(&self, target: SocketAddr) {
        self.shared.orders().target = Some(target);
    }

    /// Cuts every connection; new ones pass.
    pub fn cut(&self) {
        self.shared.lanes.send_modify(|lanes| lanes.generation += 1);
    }

    /// Closes new connections at once, while `refusing`.
    pub fn refuse(&self, refusing: bool) {
        self.shared.orders().refusing = refusing;
    }

    /// Cuts the connection at the next packet of this type after `passing` others have passed. Happens once.
    pub fn cut_at(&self, direction: Direction, packet: PacketType, when: When, passing: usize) {
        let cut = Cut {
            direction,
            packet: packet as u8,
            when,
            after: passing,
        };
        self.shared.orders().cuts.push(cut);
    }

    /// How many of the ordered cuts have happened.
    #[must_use]
    pub fn cuts_done(&self) -> usize {
        self.shared.orders().cuts_done
    }

    /// Holds bytes back in a direction, as a network that drops packets, until [`Proxy::pass`].
    pub fn hold(&self, direction: Direction) {
        self.lane(direction, |lane| lane.flow = Flow::Hold);
    }

    /// Holds both directions: a frozen link.
    pub fn freeze(&self) {
        self.hold(Direction::ToServer);
        self.hold(Direction::ToClient);
    }

    /// Lets bytes vanish in a direction: writing works and nothing arrives.
    pub fn swallow(&self, direction: Direction) {
        self.lane(direction, |lane| lane.flow = Flow::Swallow);
    }

    /// Both directions pass again, without delay or throttle.
    pub fn pass(&self) {
        self.shared.lanes.send_modify(|lanes| {
            lanes.to_server = Lane::default();
            lanes.to_client = Lane::default();
        });
    }

    /// Delays bytes in a direction.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.lane(direction, |lane| lane.delay = delay);
    }

    /// Limits the rate of a direction.
    pub fn throttle(&self, direction: Direction, bytes_per_second: usize) {
        self.lane(direction, |lane| {
            lane.bytes_per_second = Some(bytes_per_second.max(1))
        });
    }

    /// Plays a server that speaks only MQTT 3.1.1.
    pub fn speak_only_311(&self, how: OldServer) {
        self.shared.orders().old_server = Some(how);
    }

    /// Packets of a type that reached the proxy in a direction.
    #[must_use]
    pub fn packets(&self, direction: Direction, packet: PacketType) -> usize {
        self.shared
            .orders()
            .packets
            .get(&(direction, packet as u8))
            .copied()
            .unwrap_or(0)
    }

    /// Connections that reached the proxy.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.orders().connections
    }

    fn lane(&self, direction: Direction, change: impl FnOnce(&mut Lane)) {
        self.shared.lanes.send_modify(|lanes| match direction {
            Direction::ToServer => change(&mut lanes.to_server),
            Direction::ToClient => change(&mut lanes.to_client),
        });
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let (refusing, target, old) = {
            let mut orders = shared.orders();
            orders.connections += 1;
            (orders.refusing, orders.target, orders.old_server)
        };
        let generation = shared.lanes.borrow().generation;
        if let (false, Some(target)) = (refusing, target) {
            tokio::spawn(connection(
                client,
                target,
                Arc::clone(&shared),
                old,
                generation,
            ));
        }
    }
}

async fn connection(
    mut client: TcpStream,
    target: SocketAddr,
    shared: Arc<Shared>,
    old: Option<OldServer>,
    generation: u64,
) {
    let mut first = Vec::new();
    if let Some(how) = old {
        // Fixed header (2), protocol name (6), protocol level.
        while first.len() < 9 {
            if client.read_buf(&mut first).await.unwrap_or(0) == 0 {
                return;
            }
        }
        if first[8] == 5 {
            if how == OldServer::Refuses {
                let _ = client.write_all(&[0x20, 2, 0, 1]).await;
            }
            return;
        }
    }
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    if server.write_all(&first).await.is_err() {
        return;
    }
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let mut lanes = shared.lanes.subscribe();
    let cut = async { drop(lanes.wait_for(|lanes| lanes.generation != generation).await) };
    // The end of one direction is passed on and the other goes on, as TCP has it: closing both at once would
    // reset a connection whose last bytes nobody has read.
    let both = async {
        tokio::try_join!(
            pump(client_read, server_write, Direction::ToServer, &shared),
            pump(server_read, client_write, Direction::ToClient, &shared),
        )
    };
    tokio::select! {
        _ = both => {}
        () = cut => {}
    }
}

/// The connection is to be cut.
struct Broken;

/// Moves bytes until the source ends or a cut is due.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    shared: &Shared,
) -> Result<(), Broken> {
    let mut lanes = shared.lanes.subscribe();
    let mut scanner = Scanner::default();
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        if lanes
            .wait_for(|lanes| lanes.of(direction).flow != Flow::Hold)
            .await
            .is_err()
        {
            return Err(Broken);
        }
        let held = async {
            drop(
                lanes
                    .wait_for(|lanes| lanes.of(direction).flow == Flow::Hold)
                    .await,
            )
        };
        let limit = shared
            .lanes
            .borrow()
            .of(direction)
            .bytes_per_second
            .map_or(buffer.len(), |rate| (rate / 20).max(1));
        let window = limit.min(buffer.len());
        let count = tokio::select! {
            biased;
            () = held => continue,
            result = from.read(&mut buffer[..window]) => match result {
                Ok(0) => return to.shutdown().await.map_err(|_| Broken),
                Ok(count) => count,
                Err(_) => return Err(Broken),
            },
        };
        let lane = shared.lanes.borrow().of(direction).clone();
        if lane.flow == Flow::Swallow {
            continue;
        }
        if !lane.delay.is_zero() {
            tokio::time::sleep(lane.delay).await;
        }
        let (pass, cut) = scanner.scan(&buffer[..count], direction, shared);
        if to.write_all(&buffer[..pass]).await.is_err() || cut {
            return Err(Broken);
        }
        if lane.bytes_per_second.is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Follows the packet boundaries of a stream.
#[derive(Default)]
struct Scanner {
    header: Vec<u8>,
    body: usize,
}

impl Scanner {
    /// How many bytes pass, and whether the connection is cut behind them.
    fn scan(&mut self, bytes: &[u8], direction: Direction, shared: &Shared) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
            if self.body > 0 {
                let step = self.body.min(bytes.len() - at);
                self.body -= step;
                at += step;
            } else {
                if self.header.is_empty() && due(shared, direction, bytes[at] >> 4, When::Before) {
                    return (at, true);
                }
                self.header.push(bytes[at]);
                at += 1;
                let complete = self.header.len() > 1
                    && (self.header[self.header.len() - 1] & 0x80 == 0 || self.header.len() == 5);
                if !complete {
                    continue;
                }
                self.body = self.header[1..]
                    .iter()
                    .rev()
                    .fold(0, |sum, byte| (sum << 7) | usize::from(byte & 0x7F));
            }
            if self.body == 0 {
                let packet = self.header[0] >> 4;
                self.header.clear();
                *shared
                    .orders()
                    .packets
                    .entry((direction, packet))
                    .or_default() += 1;
                if due(shared, direction, packet, When::After) {
                    return (at, true);
                }
            }
        }
        (at, false)
    }
}

/// Whether a cut is due at this packet.
fn due(shared: &Shared, direction: Direction, packet: u8, when: When) -> bool {
    let mut orders = shared.orders();
    let found = orders
        .cuts
        .iter()
        .position(|cut| (cut.direction, cut.packet, cut.when) == (direction, packet, when));
    let Some(index) = found else { return false };
    if orders.cuts[index].after > 0 {
        orders.cuts[index].after -= 1;
        return false;
    }
    orders.cuts.remove(index);
    orders.cuts_done += 1;
    true
}
