//! What `replay` prints: a line for each change, and at the end the devices that are there, in the form of `discover`.
//! In: changes, and the machine at the end. Out: text or JSON lines.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use akri_mqtt_core::details::Details;
use akri_mqtt_core::identity::{DeviceId, ServerName};
use akri_mqtt_core::trace::{Event, Header, Replay, Seen};
use jiff::Timestamp;
use serde::Serialize;

use crate::configuration::Configuration;
use crate::discover::report;
use crate::output::{self, printable};
use crate::roster::{environment, instance_name};

/// How wide the sentence of a change may become.
const WIDTH: usize = 240;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Change {
        time: String,
        id: &'a str,
        instance: String,
        state: &'static str,
        published: bool,
        reason: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        evidence: Option<&'a str>,
    },
    Summary {
        time: String,
        messages: u64,
        changes: u64,
        undecided: u64,
        configuration: report::Configuration,
    },
}

/// Prints one replay.
pub struct Report {
    configuration: Configuration,
    json: bool,
    /// Those of the trace, and whether they are connected.
    servers: BTreeMap<ServerName, bool>,
    listed: BTreeSet<DeviceId>,
    messages: u64,
    changes: u64,
}

impl Report {
    /// Nothing has been printed yet.
    pub fn new(configuration: &Configuration, header: &Header, json: bool) -> Self {
        Self {
            configuration: configuration.clone(),
            json,
            servers: header
                .servers
                .iter()
                .map(|name| (name.clone(), false))
                .collect(),
            listed: BTreeSet::new(),
            messages: 0,
            changes: 0,
        }
    }

    /// Notes what the summary tells.
    pub fn note(&mut self, server: &ServerName, event: &Event<'_>) {
        match event {
            Event::Connected { .. } => drop(self.servers.insert(server.clone(), true)),
            Event::Disconnected { .. } => drop(self.servers.insert(server.clone(), false)),
            Event::Message(_) => self.messages += 1,
            Event::Subscribed | Event::Alive | Event::TooLarge { .. } => {}
        }
    }

    /// Prints changes.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn changes(&mut self, seen: &[Seen]) -> io::Result<output::Reader> {
        if seen.is_empty() {
            return Ok(output::Reader::Listening);
        }
        let mut text = String::new();
        for one in seen {
            self.changes += 1;
            text.push_str(&if self.json {
                self.json(one)
            } else {
                self.text(one)
            });
        }
        output::write(&text)
    }

    fn json(&self, seen: &Seen) -> String {
        let change = &seen.change;
        json(&Line::Change {
            time: nanoseconds(seen.time),
            id: change.device.as_str(),
            instance: instance_name(&self.configuration.name, &change.device),
            state: change.state.as_str(),
            published: change.published,
            reason: change.reason.as_str(),
            evidence: seen.explanation.as_deref(),
        })
    }

    fn text(&mut self, seen: &Seen) -> String {
        let change = &seen.change;
        let moved = if change.published {
            self.listed.insert(change.device.clone())
        } else {
            self.listed.remove(&change.device)
        };
        let mark = match (moved, change.published) {
            (true, true) => '+',
            (true, false) => '-',
            (false, _) => ' ',
        };
        let (time, device) = (seen.time.strftime("%H:%M:%S%.3f"), &change.device);
        let short = || format!("{} ({})", change.state.as_str(), change.reason.as_str());
        let told = seen.explanation.clone().unwrap_or_else(short);
        let (device, told) = (printable(device.as_str(), WIDTH), printable(&told, WIDTH));
        format!("{mark} {time}  {device}  {told}\n")
    }

    /// Prints the devices that are listed at the end.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn end(&self, replay: &Replay) -> io::Result<output::Reader> {
        let found = self.found(replay);
        let (messages, changes, undecided) = (self.messages, self.changes, replay.undecided());
        if undecided > 0 {
            eprintln!(
                "note: {undecided} messages would have decided something, but the trace has not kept their payloads"
            );
        }
        if self.json {
            return output::write(&json(&Line::Summary {
                time: nanoseconds(replay.now().wall),
                messages,
                changes,
                undecided,
                configuration: found,
            }));
        }
        let devices = found.devices.len();
        let table = report::rows(&found.devices);
        output::write(&format!(
            "\n{messages} messages, {changes} changes, {devices} devices at the end\n{table}"
        ))
    }

    fn found(&self, replay: &Replay) -> report::Configuration {
        let servers = self.servers.iter().map(|(name, connected)| report::Server {
            name: name.to_string(),
            connected: *connected,
            error: None,
        });
        let published = replay.presence().published();
        let details = self.configuration.details.as_ref();
        let device = |id| details.map(|details| self.device(details, replay, id));
        report::Configuration {
            name: self.configuration.name.clone(),
            servers: servers.collect(),
            devices: published.filter_map(device).collect(),
        }
    }

    fn device(&self, details: &Arc<Details>, replay: &Replay, id: &DeviceId) -> report::Device {
        let presence = replay.presence();
        let explained = presence.explain(id, replay.now());
        let found_by = presence.found_by(id);
        let convention = found_by.and_then(|at| details.convention(at));
        let properties = details.properties_with(id, convention);
        report::Device {
            id: id.to_string(),
            instance: instance_name(&self.configuration.name, id),
            state: explained
                .as_ref()
                .map_or("unknown", |it| it.state.as_str())
                .to_owned(),
            evidence: explained.map(|it| it.explanation).unwrap_or_default(),
            environment: environment(&properties, &self.configuration.broker_properties),
        }
    }
}

/// As everywhere: such texts sort as the times do.
fn nanoseconds(time: Timestamp) -> String {
    format!("{time:.9}")
}

fn json(line: &Line<'_>) -> String {
    // Structs of text, numbers and lists always have a JSON form.
    let mut text = serde_json::to_string(line).unwrap_or_default();
    text.push('\n');
    text
}
