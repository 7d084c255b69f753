//! What `demo` and `up` tell about devices, as JSON lines, plain lines or a live table.
//! In: events. Out: text on standard output. Counts for the summary; gets no events by itself.

mod json;
mod lines;
mod table;

use std::collections::BTreeSet;
use std::io;

use jiff::Timestamp;
use serde_json::Value;

use crate::output::{self, Reader};
pub use lines::count;
pub use table::Table;

/// Devices that are remembered for the number in the summary. Far above what one process serves; it bounds the memory.
const SEEN: usize = 1_000_000;

/// Something about one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it happened.
    pub time: Timestamp,
    /// `<server>/<device>`.
    pub device: String,
    /// What happened.
    pub kind: Kind,
}

/// What happened to a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// It was discovered and has a monitor now.
    Online {
        /// The Akri Instance that it would have.
        instance: String,
    },
    /// It has gone; its monitor stopped, its data stays.
    Offline {
        /// Why, in one sentence, where the discovery handler says so.
        reason: Option<String>,
    },
    /// Its monitor stored a message.
    Message {
        /// The topic.
        topic: String,
        /// The payload: a JSON value, or a text; base64 of anything else.
        payload: Value,
    },
}

/// The numbers at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Different devices.
    pub devices_seen: usize,
    /// Stored messages.
    pub messages: u64,
    /// How many times a device went.
    pub offline_events: u64,
}

/// How it is told.
pub enum Style {
    /// One JSON object a line.
    Json,
    /// One line for people an event; messages only where they are asked for.
    Lines {
        /// Whether each message gets its line.
        messages: bool,
    },
    /// A table that is drawn again and again.
    Table(Box<Table>),
}

/// Tells events, and counts them.
pub struct Reporter {
    style: Style,
    seen: BTreeSet<String>,
    summary: Summary,
}

impl Reporter {
    /// A reporter of the given style.
    pub fn new(style: Style) -> Self {
        Self {
            style,
            seen: BTreeSet::new(),
            summary: Summary::default(),
        }
    }

    /// Tells one event.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn event(&mut self, event: &Event) -> io::Result<Reader> {
        match event.kind {
            Kind::Online { .. } => {
                if self.seen.len() < SEEN && self.seen.insert(event.device.clone()) {
                    self.summary.devices_seen += 1;
                }
            }
            Kind::Offline { .. } => self.summary.offline_events += 1,
            Kind::Message { .. } => self.summary.messages += 1,
        }
        match &mut self.style {
            Style::Json => output::write(&json::event(event)),
            Style::Lines { messages } => match lines::event(event, *messages) {
                Some(line) => output::write(&line),
                None => Ok(Reader::Listening),
            },
            Style::Table(table) => {
                table.event(event);
                Ok(Reader::Listening)
            }
        }
    }

    /// Draws what is drawn at intervals.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn tick(&mut self, now: Timestamp) -> io::Result<Reader> {
        match &mut self.style {
            Style::Table(table) => output::write(&table.frame(now)),
            Style::Json | Style::Lines { .. } => Ok(Reader::Listening),
        }
    }

    /// Tells the numbers at the end.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn finish(&mut self, now: Timestamp) -> io::Result<Reader> {
        let end = match &mut self.style {
            Style::Json => json::summary(self.summary, now),
            Style::Lines { .. } => lines::summary(self.summary),
            Style::Table(table) => {
                let last = table.frame(now);
                format!("{last}{}", lines::summary(self.summary))
            }
        };
        output::write(&end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(device: &str, kind: Kind) -> Event {
        Event {
            time: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            device: device.to_owned(),
            kind,
        }
    }

    #[test]
    fn a_device_that_comes_back_is_counted_once_and_each_departure_counts() {
        let mut reporter = Reporter::new(Style::Table(Box::new(Table::new(Vec::new()))));
        let online = || Kind::Online {
            instance: "demo-8120fe".to_owned(),
        };
        for device in ["demo/a", "demo/b", "demo/a"] {
            reporter.event(&event(device, online())).unwrap();
            let gone = Kind::Offline { reason: None };
            reporter.event(&event(device, gone)).unwrap();
        }
        assert_eq!(
            reporter.summary,
            Summary {
                devices_seen: 2,
                messages: 0,
                offline_events: 3
            }
        );
    }

    #[test]
    fn json_lines_have_the_agreed_keys() {
        let message = Kind::Message {
            topic: "demo/a/x".to_owned(),
            payload: serde_json::json!({"a": 1}),
        };
        let line = json::event(&event("demo/a", message));
        assert_eq!(
            line,
            "{\"event\":\"message\",\"time\":\"2026-01-02T03:04:05.678000000Z\",\"device\":\"demo/a\",\"topic\":\"demo/a/x\",\"payload\":{\"a\":1}}\n"
        );
        let summary = Summary {
            devices_seen: 5,
            messages: 7,
            offline_events: 1,
        };
        assert_eq!(
            json::summary(summary, "2026-01-02T03:04:05Z".parse().unwrap()),
            "{\"event\":\"summary\",\"devices_seen\":5,\"messages\":7,\"offline_events\":1,\"time\":\"2026-01-02T03:04:05.000000000Z\"}\n"
        );
    }
}
