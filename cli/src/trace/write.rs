//! Writes a trace while it is made. In: what requests observe. Out: a file, and what was counted. Runs in a thread of
//! its own: while the disk is slow, the requests wait, and their sessions read no more.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akri_mqtt_core::details::Details;
use akri_mqtt_core::identity::ServerName;
use akri_mqtt_core::trace::{
    Entry, Event, HashKey, Header, Message, Payload, Payloads, Replay, What, entry_line,
    header_line,
};
use akri_mqtt_discovery_handler::observed::Observed;
use tokio::sync::mpsc::Receiver;

/// Only for the user: payloads may be private.
const MODE: u32 = 0o600;

/// Where a trace goes.
pub type Output = Box<dyn Write + Send>;

/// Makes the file; `-` is standard output.
///
/// # Errors
/// It exists, or cannot be made.
pub fn create(path: &Path) -> io::Result<Output> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdout()));
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(MODE).open(path)?;
    Ok(Box::new(file))
}

/// What was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All lines.
    pub lines: u64,
    /// Those with messages.
    pub messages: u64,
    /// Connections that a server has accepted.
    pub connects: u64,
    /// Bytes of all lines.
    pub bytes: u64,
    /// Whether it had to end because it was large enough.
    pub is_full: bool,
}

/// Writes one trace.
pub struct Recorder {
    out: BufWriter<Output>,
    start: Instant,
    payloads: Payloads,
    /// Knows which payloads decide, where only those are kept.
    mirror: Option<(Replay, HashKey)>,
    max_size: u64,
    counts: Counts,
}

impl Recorder {
    /// A recorder that begins now; `random` keys the hashes of payloads.
    pub fn new(
        out: Output,
        (header, details): (&Header, Arc<Details>),
        max_size: u64,
        random: [u8; 32],
    ) -> io::Result<Self> {
        let start = Instant::now();
        let mirror = (header.payloads == Payloads::Hash).then(|| {
            (
                Replay::new(details, header.time, start),
                HashKey::new(random),
            )
        });
        let mut recorder = Self {
            out: BufWriter::new(out),
            start,
            payloads: header.payloads,
            mirror,
            max_size,
            counts: Counts::default(),
        };
        recorder.put(&header_line(header))?;
        recorder.out.flush()?;
        Ok(recorder)
    }

    /// Writes until nobody can observe anything any more, or the trace is large enough.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn run(mut self, mut heard: Receiver<(ServerName, Observed)>) -> io::Result<Counts> {
        while let Some((server, observed)) = heard.blocking_recv() {
            self.write(server, &observed)?;
            while !self.counts.is_full
                && let Ok((server, observed)) = heard.try_recv()
            {
                self.write(server, &observed)?;
            }
            self.out.flush()?;
            if self.counts.is_full {
                break;
            }
        }
        let end = Entry {
            at: self.start.elapsed(),
            what: What::End,
        };
        self.put(&entry_line(&end))?;
        self.out.flush()?;
        Ok(self.counts)
    }

    fn write(&mut self, server: ServerName, observed: &Observed) -> io::Result<()> {
        let Some((at, event)) = self.event(observed) else {
            return Ok(());
        };
        let reduced = self.reduced(at, &server, &event);
        self.counts.messages += u64::from(matches!(event, Event::Message(_)));
        self.counts.connects += u64::from(matches!(event, Event::Connected { .. }));
        let entry = Entry {
            at,
            what: What::Event(server, reduced.unwrap_or(event)),
        };
        self.put(&entry_line(&entry))?;
        self.counts.is_full = self.counts.bytes >= self.max_size;
        Ok(())
    }

    fn put(&mut self, line: &str) -> io::Result<()> {
        self.counts.lines += 1;
        self.counts.bytes += u64::try_from(line.len()).unwrap_or(u64::MAX);
        self.out.write_all(line.as_bytes())
    }

    fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    fn event<'o>(&self, observed: &'o Observed) -> Option<(Duration, Event<'o>)> {
        let (at, event) = match observed {
            Observed::Connected { resumed, at } => (at, Event::Connected { resumed: *resumed }),
            Observed::Subscribed { at } => (at, Event::Subscribed),
            Observed::Alive { at } => (at, Event::Alive),
            Observed::Disconnected { last_packet, at } => {
                let last_packet = self.since(last_packet.unwrap_or(*at));
                (at, Event::Disconnected { last_packet })
            }
            Observed::Message {
                topic,
                payload,
                retained,
                qos,
                at,
            } => {
                let message = Message {
                    topic: (&**topic).into(),
                    qos: *qos,
                    retained: *retained,
                    payload: Payload::Kept((&**payload).into()),
                };
                (at, Event::Message(message))
            }
            Observed::TooLarge {
                topic,
                retained,
                at,
            } => {
                let (topic, retained) = ((&**topic).into(), *retained);
                (at, Event::TooLarge { topic, retained })
            }
            // It decides nothing about devices.
            Observed::Account => return None,
        };
        Some((self.since(*at), event))
    }

    /// A message with less of its payload, where not all of it is kept.
    fn reduced<'e>(
        &mut self,
        at: Duration,
        server: &ServerName,
        event: &Event<'e>,
    ) -> Option<Event<'e>> {
        let mut decides = false;
        if let Some((mirror, _)) = &mut self.mirror {
            while let Some(due) = mirror.next_timer(at) {
                mirror.wake(due);
            }
            if let Event::Message(message) = event {
                decides = mirror.decides(server, &message.topic);
            }
            mirror.take(at, server, event);
        }
        let Event::Message(message) = event else {
            return None;
        };
        let Payload::Kept(payload) = &message.payload else {
            return None;
        };
        let left = match (self.payloads, &self.mirror) {
            (Payloads::None, _) => Payload::left(payload),
            (Payloads::Hash, Some((_, key))) if !decides => key.hashed(payload),
            _ => return None,
        };
        Some(Event::Message(Message {
            payload: left,
            ..message.clone()
        }))
    }
}
