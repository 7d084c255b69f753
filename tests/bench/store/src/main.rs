//! Measures one embedded store. In: engine, mode, directory. Out: one line of figures.
//! `idle`: one message a second. `load`: 10,000 devices, batches of 512 committed durably, retention running.

mod engines;

use std::path::Path;
use std::time::{Duration, Instant};

pub struct Message {
    pub topic: u32,
    pub time: i64,
    pub flags: u8,
    pub payload: Vec<u8>,
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(data: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = data[0];
        *data = &data[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
        shift += 7;
    }
}

/// The sorted topics (as differences) and the records.
pub fn encode_block(messages: &[Message]) -> (Vec<u8>, Vec<u8>) {
    let mut topics: Vec<u32> = messages.iter().map(|m| m.topic).collect();
    topics.sort_unstable();
    topics.dedup();
    let (mut index, mut last) = (Vec::with_capacity(1024), 0);
    for topic in topics {
        varint(&mut index, u64::from(topic - last));
        last = topic;
    }
    let mut data = Vec::with_capacity(messages.len() * 200);
    let mut time = 0;
    for message in messages {
        varint(&mut data, u64::from(message.topic));
        varint(&mut data, (message.time - time) as u64);
        time = message.time;
        data.push(message.flags);
        varint(&mut data, message.payload.len() as u64);
        data.extend_from_slice(&message.payload);
    }
    (index, data)
}

pub fn topics_of(mut index: &[u8]) -> impl Iterator<Item = u32> {
    let mut last = 0;
    std::iter::from_fn(move || {
        (!index.is_empty()).then(|| {
            last += take_varint(&mut index) as u32;
            last
        })
    })
}

pub fn decode_block(mut data: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        (!data.is_empty()).then(|| {
            let topic = take_varint(&mut data) as u32;
            take_varint(&mut data);
            data = &data[1..];
            let length = take_varint(&mut data) as usize;
            let (payload, rest) = data.split_at(length);
            data = rest;
            (topic, payload)
        })
    })
}

fn proc_number(file: &str, key: &str) -> u64 {
    std::fs::read_to_string(file)
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap()
}

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn disk(directory: &Path) -> u64 {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { disk(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

struct Source(u64, i64);

impl Source {
    fn batch(&mut self, count: usize) -> Vec<Message> {
        (0..count)
            .map(|_| {
                self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let device = (self.0 >> 33) as u32 % 10_000;
                self.1 += 16_666;
                Message {
                    topic: device,
                    time: self.1,
                    flags: 1,
                    payload: format!(
                        "{{\"device\":\"line-{}/device-{device}\",\"temperature\":{}.{},\"humidity\":{},\"state\":\"running\",\"counter\":{},\"ok\":true,\"unit\":\"C\"}}",
                        device % 20, self.0 % 90, self.0 % 10, self.0 % 100, self.0 >> 40
                    )
                    .into_bytes(),
                }
            })
            .collect()
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, engine, mode, directory, rate, seconds] = arguments.as_slice() else {
        panic!("usage: store ENGINE idle|load DIRECTORY RATE SECONDS  (rate 0: as fast as it goes)");
    };
    let (rate, seconds): (f64, f64) = (rate.parse().unwrap(), seconds.parse().unwrap());
    let directory = Path::new(directory);
    std::fs::create_dir_all(directory).unwrap();
    let mut source = Source(7, 1_700_000_000_000_000_000);
    let mut store = engines::open(engine, directory);
    if mode == "idle" {
        for first in 1..=20 {
            let batch = source.batch(1);
            store.commit(first, &batch);
        }
        println!("{engine} idle rss={} KiB", proc_number("/proc/self/status", "VmRSS:"));
        return;
    }
    let pool: Vec<Vec<Message>> = (0..400).map(|_| source.batch(512)).collect();
    let base = proc_number("/proc/self/status", "VmRSS:");
    let keep = 400_000;
    let (mut first, mut oldest) = (1_u64, 1_u64);
    let mut latencies = Vec::new();
    let (started, cpu_before) = (Instant::now(), cpu());
    let written = proc_number("/proc/self/io", "write_bytes:");
    let mut late = 0;
    for round in 0.. {
        if started.elapsed().as_secs_f64() > seconds {
            break;
        }
        if rate > 0.0 {
            let due = Duration::from_secs_f64(f64::from(round) * 512.0 / rate);
            match due.checked_sub(started.elapsed()) {
                Some(wait) => std::thread::sleep(wait),
                None => late += 1,
            }
        }
        let before = Instant::now();
        store.commit(first, &pool[round as usize % pool.len()]);
        first += 512;
        if round % 16 == 0 && first - oldest > keep {
            oldest = first - keep;
            store.delete_below(oldest);
        }
        latencies.push(before.elapsed());
    }
    let elapsed = started.elapsed().as_secs_f64();
    let cpu_used = (cpu() - cpu_before).as_secs_f64();
    let written = proc_number("/proc/self/io", "write_bytes:") - written;
    let peak = proc_number("/proc/self/status", "VmHWM:");
    latencies.sort_unstable();
    let messages = first - 1;
    let query = Instant::now();
    for topic in 0..20 {
        assert!(store.last_of_topic(topic * 499, 20) >= 10);
    }
    let query = query.elapsed() / 20;
    let scan = Instant::now();
    let scanned = store.scan(oldest, 300_000);
    let scan = scanned as f64 / scan.elapsed().as_secs_f64();
    drop(store);
    let reopen = Instant::now();
    drop(engines::open(engine, directory));
    println!(
        "{engine} load rate={:.0}/s late={late}/{} cpu={:.2} us/msg p50={:.2} ms p99={:.2} ms max={:.1} ms written={:.0} B/msg disk={} MiB rss+={} KiB history20={:.2} ms scan={:.1} M/s reopen={:.1} ms",
        messages as f64 / elapsed,
        latencies.len(),
        cpu_used * 1e6 / messages as f64,
        latencies[latencies.len() / 2].as_secs_f64() * 1e3,
        latencies[latencies.len() * 99 / 100].as_secs_f64() * 1e3,
        latencies[latencies.len() - 1].as_secs_f64() * 1e3,
        written as f64 / messages as f64,
        disk(directory) >> 20,
        peak.saturating_sub(base),
        query.as_secs_f64() * 1e3,
        scan / 1e6,
        reopen.elapsed().as_secs_f64() * 1e3,
    );
}
