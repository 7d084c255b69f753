//! The live table of a terminal. In: events and the time. Out: frames, each of which draws over the one before.
//! Uses no alternate screen and hides no cursor, so that nothing has to be restored however the program ends.

use std::collections::BTreeMap;

use jiff::Timestamp;
use terminal_size::{Height, Width};

use super::lines::{clock, text};
use super::{Event, Kind};
use crate::output::printable;

/// Devices that the table knows; a terminal shows far fewer.
const ROWS: usize = 10_000;
/// Over how many frames a rate is averaged.
const SMOOTHING: f64 = 0.3;
/// Column widths: device, presence, messages per second.
const DEVICE: usize = 26;
const STATE: usize = 9;
const RATE: usize = 9;
/// The size that is taken where the terminal does not tell its own.
const DEFAULT_SIZE: (usize, usize) = (100, 24);
/// Payloads are cut when they come, not when they are drawn: the table is no store.
const VALUE: usize = 400;

#[derive(Default)]
struct Row {
    online: bool,
    since: Option<Timestamp>,
    value: String,
    new: u32,
    rate: f64,
}

/// The table.
pub struct Table {
    header: Vec<String>,
    rows: BTreeMap<String, Row>,
    drawn: usize,
    last: Option<Timestamp>,
}

impl Table {
    /// An empty table under some lines that stay.
    pub fn new(header: Vec<String>) -> Self {
        Self {
            header,
            rows: BTreeMap::new(),
            drawn: 0,
            last: None,
        }
    }

    /// Takes in an event.
    pub fn event(&mut self, event: &Event) {
        if self.rows.len() >= ROWS && !self.rows.contains_key(&event.device) {
            return;
        }
        let row = self.rows.entry(event.device.clone()).or_default();
        match &event.kind {
            Kind::Online { .. } => {
                row.online = true;
                row.since = Some(event.time);
            }
            Kind::Offline { reason } => {
                row.online = false;
                row.since = Some(event.time);
                if let Some(reason) = reason {
                    row.value = printable(reason, VALUE);
                }
            }
            Kind::Message { payload, .. } => {
                row.new = row.new.saturating_add(1);
                if row.online {
                    row.value = printable(&text(payload), VALUE);
                }
            }
        }
    }

    /// The next frame.
    pub fn frame(&mut self, now: Timestamp) -> String {
        let size = terminal_size::terminal_size();
        let (width, height) = size.map_or(DEFAULT_SIZE, |(Width(width), Height(height))| {
            (usize::from(width), usize::from(height))
        });
        self.update_rates(now);
        self.draw(width, height)
    }

    fn update_rates(&mut self, now: Timestamp) {
        let passed = self
            .last
            .map_or(0.0, |last| now.duration_since(last).as_secs_f64());
        self.last = Some(now);
        for row in self.rows.values_mut() {
            let new = f64::from(std::mem::take(&mut row.new));
            if passed > 0.0 {
                row.rate += SMOOTHING * (new / passed - row.rate);
            }
        }
    }

    fn draw(&mut self, width: usize, height: usize) -> String {
        let mut lines: Vec<String> = self
            .header
            .iter()
            .map(|line| printable(line, width))
            .collect();
        let title = format!(
            "{:DEVICE$} {:STATE$} {:>RATE$}  {}",
            "DEVICE", "PRESENCE", "MSGS/S", "LAST VALUE"
        );
        lines.push(printable(&title, width));
        // One line for the remainder, one for the cursor.
        let room = height.saturating_sub(lines.len()).saturating_sub(2).max(1);
        lines.extend(self.rows.iter().take(room).map(|(device, row)| {
            let line = line(device, row);
            let shown = printable(&line, width);
            if row.online {
                shown
            } else {
                format!("\x1b[2m{shown}\x1b[0m")
            }
        }));
        if let Some(more) = self.rows.len().checked_sub(room).filter(|more| *more > 0) {
            let online = self.rows.values().filter(|row| row.online).count();
            lines.push(printable(
                &format!("… and {more} more; {online} online"),
                width,
            ));
        }
        let up = match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}F"),
        };
        self.drawn = lines.len();
        let body: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
        format!("{up}{body}\x1b[J")
    }
}

fn line(device: &str, row: &Row) -> String {
    let state = if row.online { "online" } else { "offline" };
    let since = match row.since {
        Some(since) if !row.online => format!("since {}: ", clock(since)),
        _ => String::new(),
    };
    format!(
        "{:DEVICE$} {state:STATE$} {:>RATE$.1}  {since}{}",
        printable(device, DEVICE),
        row.rate,
        row.value
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn online(device: &str) -> Event {
        Event {
            time: Timestamp::UNIX_EPOCH,
            device: device.to_owned(),
            kind: Kind::Online {
                instance: "demo-000000".to_owned(),
            },
        }
    }

    #[test]
    fn a_frame_never_has_more_lines_than_the_terminal() {
        let mut table = Table::new(vec!["header".to_owned()]);
        for device in 0..200 {
            table.event(&online(&format!("demo/d{device:03}")));
        }
        for height in [5, 24, 100] {
            let frame = table.draw(80, height);
            assert!(frame.lines().count() <= height, "height {height}");
            assert!(frame.contains("more; 200 online"), "height {height}");
        }
    }

    #[test]
    fn a_frame_draws_over_the_one_before() {
        let mut table = Table::new(Vec::new());
        table.event(&online("demo/a"));
        assert!(!table.draw(80, 24).starts_with("\x1b["));
        assert!(table.draw(80, 24).starts_with("\x1b[2F"));
    }

    #[test]
    fn a_payload_cannot_command_the_terminal() {
        let mut table = Table::new(Vec::new());
        table.event(&online("demo/a\x1b[2J"));
        let evil = Kind::Message {
            topic: "t".to_owned(),
            payload: serde_json::Value::String("\x1b]0;owned\x07".to_owned()),
        };
        table.event(&Event {
            kind: evil,
            ..online("demo/a\x1b[2J")
        });
        let frame = table.draw(80, 24);
        assert!(
            !frame.contains("\x1b[2J") && !frame.contains('\x07'),
            "{frame:?}"
        );
    }
}
