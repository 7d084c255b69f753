//! Measures the presence machine: resident memory for a million devices, and messages a second on
//! one core. In: nothing, or the number of devices as the first number on the command line. Out: lines on standard
//! output, one figure each. Machine and server are left out: messages come from memory.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use akri_mqtt_core::clock::Now;
use akri_mqtt_core::details::{Details, QoS};
use akri_mqtt_core::identity::ServerName;
use akri_mqtt_core::presence::{Inbound, Options, Presence};

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    devices: usize,
    messages: usize,
}

/// What `cargo bench` measures, unless the command line says how many devices.
const FULL: Size = Size {
    devices: 1_000_000,
    messages: 4_000_000,
};
/// What a test run does, which only shows that the bench works.
const SMALL: Size = Size {
    devices: 1_000,
    messages: 10_000,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        return;
    }
    let mut size = if arguments.iter().any(|a| a == "--bench") {
        FULL
    } else {
        SMALL
    };
    if let Some(devices) = arguments.iter().find_map(|a| a.parse().ok()) {
        size.devices = devices;
    }
    run("data only", "presence: {offlineAfter: 5m}", size);
    run(
        "data and Last Wills",
        "presence: {offlineAfter: 5m, availability: [{topic: 'plant/{area}/{device}/status'}]}",
        size,
    );
}

/// The machine with its clock.
struct Bench {
    presence: Presence,
    server: ServerName,
    now: Now,
}

impl Bench {
    fn new(rules: &str, devices: usize) -> Option<Self> {
        let yaml = format!(
            "servers: [{{name: plant-a, urls: ['tcp://a:1883']}}]\n\
             topics: ['plant/{{area}}/{{device}}/joints', 'plant/{{area}}/{{device}}/battery']\n\
             limits: {{maxDevices: {devices}}}\n{rules}"
        );
        let details = match Details::parse(&yaml) {
            Ok(details) => details,
            Err(faults) => {
                eprintln!("{faults}");
                return None;
            }
        };
        let now = Now {
            mono: Instant::now(),
            wall: jiff::Timestamp::now(),
        };
        let server = ServerName::parse("plant-a").ok()?;
        let mut presence = Presence::new(Arc::new(details), Options::default(), now);
        presence.on_connected(&server, now);
        presence.on_subscribed(&server, now);
        Some(Self {
            presence,
            server,
            now,
        })
    }

    fn message(&mut self, topic: &str, payload: &[u8], retained: bool) {
        let message = Inbound {
            topic,
            payload,
            retained,
            qos: QoS::AtMostOnce,
        };
        self.presence.on_message(&self.server, message, self.now);
    }

    /// Lets a second go by.
    fn tick(&mut self) {
        self.now = self.now.plus(Duration::from_secs(1));
        self.presence.on_packet(&self.server, self.now.mono);
        self.presence.handle_timeout(self.now);
    }
}

fn topic(topic: &mut String, device: usize, last: &str) {
    use std::fmt::Write;
    topic.clear();
    // Writing into a String cannot fail.
    let _ = write!(
        topic,
        "plant/area-{}/robot-{device:07}/{last}",
        device % 100
    );
}

/// A step that visits all devices in an order that no cache can guess.
fn shuffled(n: usize, devices: usize) -> usize {
    n.wrapping_mul(2_654_435_761) % devices
}

fn run(name: &str, rules: &str, size: Size) {
    let Size { devices, messages } = size;
    let before = resident();
    let Some(mut bench) = Bench::new(rules, devices) else {
        return;
    };
    let announced = rules.contains("availability");
    let mut text = String::new();

    let start = processor_time();
    for device in 0..devices {
        let last = if announced { "status" } else { "joints" };
        topic(&mut text, shuffled(device, devices), last);
        bench.message(&text, b"online", announced);
    }
    report(name, "appear", devices, start);

    bench.tick();
    let published = bench.presence.published_count();
    let start = processor_time();
    for n in 0..messages {
        topic(&mut text, shuffled(n, devices), "joints");
        bench.message(&text, b"21.5", false);
        if n % 500_000 == 0 {
            bench.tick();
        }
    }
    report(name, "data, random devices", messages, start);

    let start = processor_time();
    for n in 0..messages {
        topic(&mut text, n % 1000, "joints");
        bench.message(&text, b"21.5", false);
    }
    report(name, "data, 1,000 devices", messages, start);

    let start = processor_time();
    for n in 0..messages {
        topic(&mut text, n, "joints");
    }
    report(name, "making those topics alone", messages, start);

    let mib = |kib: u64| kib / 1024;
    let after = resident();
    println!(
        "{name}: {published} devices published, {} MiB resident for them, {} MiB in all",
        mib(after.saturating_sub(before)),
        mib(after)
    );

    let start = Instant::now();
    bench
        .presence
        .on_disconnected(&bench.server, bench.now.mono, bench.now);
    println!("{name}: an outage begins in {:.1} ms", millis(start));
    let start = Instant::now();
    let names: usize = bench.presence.published().map(|id| id.name().len()).sum();
    println!(
        "{name}: the list is sorted and walked in {:.1} ms ({names} bytes of names)",
        millis(start)
    );
    println!("{name}: peak {} MiB", mib(peak()));
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

/// Messages a second of processor time, so that a machine with other work gives the same figure.
fn report(name: &str, what: &str, count: usize, start: Duration) {
    let seconds = (processor_time() - start).as_secs_f64();
    let count = u32::try_from(count).map_or(f64::INFINITY, f64::from);
    println!(
        "{name}: {what}: {:.0} messages/s of one core",
        count / seconds
    );
}

/// The processor time of this thread so far; where the system does not tell, wall time since 1970.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok());
    nanos.map_or_else(
        || SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
        Duration::from_nanos,
    )
}

fn resident() -> u64 {
    status("VmRSS:")
}

fn peak() -> u64 {
    status("VmHWM:")
}

/// A figure of this process in KiB; zero where the system does not tell.
fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}
