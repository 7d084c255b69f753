//! The words in which presence is spoken about: states, reasons, evidence, counters and what the
//! machine takes and gives. In: nothing. Out: closed enums, whose names are also metric labels.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::details::QoS;
use crate::topic::TopicFilter;

/// What is believed about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Something speaks for it, but nothing of it was heard alive. Published.
    Unconfirmed,
    /// It is there. Published.
    Online,
    /// It seems to have gone, but may come back in time. Published.
    Leaving,
    /// It is not there.
    Offline,
    /// Its announcement was deleted.
    Removed,
}

impl State {
    /// Whether a device in this state is published, if `maxDevices` leaves room for it.
    #[must_use]
    pub fn is_present(self) -> bool {
        matches!(self, Self::Unconfirmed | Self::Online | Self::Leaving)
    }

    /// Its name in metrics and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unconfirmed => "unconfirmed",
            Self::Online => "online",
            Self::Leaving => "leaving",
            Self::Offline => "offline",
            Self::Removed => "removed",
        }
    }
}

/// Why a device is in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A live message on a data topic.
    Data,
    /// A live `online` announcement.
    Announced,
    /// A retained `online` announcement.
    AnnouncedRetained,
    /// A retained data message, with `presence.retained: trust`.
    RetainedData,
    /// A list of devices names it.
    Listed,
    /// It was there before our restart.
    Restored,
    /// It was there, but what happened to it since then may have been missed.
    Doubted,
    /// A live `offline` announcement, as Last Wills are.
    Will,
    /// A retained `offline` announcement.
    WillRetained,
    /// An empty message on an announcing topic.
    Emptied,
    /// Its retained announcement was no longer there when the server was reached again.
    Vanished,
    /// Nothing was heard for `offlineAfter`.
    Silence,
    /// Nothing confirmed it in time.
    Unproven,
    /// The server was away for `serverLost`.
    ServerLost,
}

impl Reason {
    /// Its name in metrics and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Announced => "announced",
            Self::AnnouncedRetained => "announced_retained",
            Self::RetainedData => "retained_data",
            Self::Listed => "listed",
            Self::Restored => "restored",
            Self::Doubted => "doubted",
            Self::Will => "will",
            Self::WillRetained => "will_retained",
            Self::Emptied => "emptied",
            Self::Vanished => "vanished",
            Self::Silence => "silence",
            Self::Unproven => "unproven",
            Self::ServerLost => "server_lost",
        }
    }

    /// Where a device that leaves for this reason ends.
    pub(super) fn end(self) -> State {
        match self {
            Self::Emptied | Self::Vanished => State::Removed,
            _ => State::Offline,
        }
    }
}

/// Why a message said nothing about any device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ignored {
    /// It came from a server that this request does not name.
    UnknownServer,
    /// Its topic is under `akri-mqtt/`.
    Own,
    /// No entry of the Configuration takes its topic.
    NoRule,
    /// The level of its topic that names the device is empty.
    EmptyName,
    /// The device's name would have more than 1,024 bytes.
    LongName,
    /// Its topic is one on which others send to the device.
    Command,
    /// Its payload is none of the words of the announcing rule.
    UnknownPayload,
    /// It asks for a template that is not understood; the payload is taken as it is.
    Template,
    /// It announces more than a convention keeps.
    Excess,
    /// It is retained data, which `presence.retained` does not trust, or that an announcement denies.
    Retained,
    /// It is data of a device that is announced as offline, where data does not override that.
    Overruled,
    /// It announces what a newer announcement has replaced: a death of an earlier session, or one that came too late.
    Superseded,
    /// It concerns a device that is not known, and makes none known: an empty message, or data
    /// of a convention whose devices announce themselves elsewhere.
    UnknownDevice,
    /// `maxDevices` is reached, and so is the number of refused devices that are remembered.
    Full,
}

impl Ignored {
    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownServer => "unknown_server",
            Self::Own => "own",
            Self::NoRule => "no_rule",
            Self::EmptyName => "empty_name",
            Self::LongName => "long_name",
            Self::Command => "command",
            Self::UnknownPayload => "unknown_payload",
            Self::Template => "template",
            Self::Excess => "excess",
            Self::Retained => "retained",
            Self::Overruled => "overruled",
            Self::Superseded => "superseded",
            Self::UnknownDevice => "unknown_device",
            Self::Full => "full",
        }
    }
}

/// What a message says about one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// An announcement that it is there.
    Online,
    /// An announcement that it is not.
    Offline,
    /// An announcement that it is no more.
    Removed,
    /// A message of its own.
    Data,
    /// A message to it; no evidence.
    Command,
    /// It is in a list of devices, which says nothing of its state.
    Listed,
    /// What spoke for it is back, and nothing is announced of it.
    Vouched,
    /// What is announced of it may be over, and nobody may have said so.
    Doubted,
    /// The number of its message is not the one that was expected; no evidence.
    Irregular(Irregular),
    /// An announcement that a newer one has replaced already; no evidence.
    Superseded,
    /// An announcement that nobody understands; no evidence.
    Unknown,
    /// An announcement with a template that nobody understands; no evidence.
    Template,
    /// An announcement of more than a convention keeps; no evidence.
    Excess,
}

/// What is wrong with the number of a message that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Irregular {
    /// The first one has not the number 0.
    FirstNumber,
    /// It has none, or one that cannot be.
    Unnumbered,
    /// Others that were sent before it have not come.
    Gap,
    /// It was missing, and others that were sent after it have come.
    Late,
    /// It has come before.
    Duplicate,
}

impl Irregular {
    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstNumber => "first_number",
            Self::Unnumbered => "unnumbered",
            Self::Gap => "gap",
            Self::Late => "late",
            Self::Duplicate => "duplicate",
        }
    }
}

/// A message that is to be published, with QoS 0 and not retained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
}

/// A message as the session gives it.
#[derive(Clone, Copy, Debug)]
pub struct Inbound<'a> {
    /// Where it was published.
    pub topic: &'a str,
    /// What it says.
    pub payload: &'a [u8],
    /// Whether it came because of a subscription (Retain As Published is 0).
    pub retained: bool,
    /// How it was delivered.
    pub qos: QoS,
}

/// A subscription that the machine needs on every server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// What to subscribe.
    pub filter: TopicFilter,
    /// The greatest quality of service.
    pub qos: QoS,
    /// Whether the retained messages are wanted after every connect.
    pub snapshot: bool,
}

/// What of the machine is not said by the Configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many devices that are not published are remembered, so that their state can be
    /// explained; beyond it, those that went longest ago are forgotten.
    pub remembered: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { remembered: 10_000 }
    }
}

/// What `GET /v1/presence` says about a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The device's id.
    pub device: String,
    /// What is believed.
    pub state: State,
    /// Whether callers are told that it is there.
    pub published: bool,
    /// Since when, by the wall clock as it runs now.
    pub since: Timestamp,
    /// Why.
    pub reason: Reason,
    /// All of it in one sentence.
    pub explanation: String,
    /// When its last live data message came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_data_at: Option<Timestamp>,
    /// Whether it comes and goes so often that `offlineDelay` is stretched.
    pub flapping: bool,
}

/// What the machine has counted since it was made, and how many devices there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub(super) devices: BTreeMap<State, u64>,
    pub(super) transitions: BTreeMap<(State, Reason), u64>,
    pub(super) ignored: BTreeMap<Ignored, u64>,
    pub(super) irregular: BTreeMap<Irregular, u64>,
    /// Messages that were handed in.
    pub messages: u64,
    /// Devices that are there and for which `maxDevices` leaves no room.
    pub refused: u64,
    /// How often a device was refused.
    pub refusals: u64,
    /// Devices whose `offlineDelay` is stretched because they come and go.
    pub flapping: u64,
    /// How often a device was asked to announce itself again.
    pub rebirths: u64,
}

impl Counters {
    /// How many devices are in each state, whether published or refused.
    pub fn devices(&self) -> impl Iterator<Item = (State, u64)> {
        self.devices.iter().map(|(state, count)| (*state, *count))
    }

    /// How often devices came into a state, by reason.
    pub fn transitions(&self) -> impl Iterator<Item = (State, Reason, u64)> {
        self.transitions
            .iter()
            .map(|((to, reason), count)| (*to, *reason, *count))
    }

    /// How many messages said nothing, by reason.
    pub fn ignored(&self) -> impl Iterator<Item = (Ignored, u64)> {
        self.ignored.iter().map(|(reason, count)| (*reason, *count))
    }

    /// How many messages had another number than was expected.
    pub fn irregular(&self) -> impl Iterator<Item = (Irregular, u64)> {
        self.irregular.iter().map(|(what, count)| (*what, *count))
    }

    pub(super) fn ignore(&mut self, reason: Ignored) {
        *self.ignored.entry(reason).or_default() += 1;
    }

    pub(super) fn moved(&mut self, from: Option<State>, to: Option<State>) {
        if let Some(count) = from.and_then(|state| self.devices.get_mut(&state)) {
            *count = count.saturating_sub(1);
        }
        if let Some(state) = to {
            *self.devices.entry(state).or_default() += 1;
        }
    }
}
