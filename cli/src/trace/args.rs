//! The flags of `record` and `replay`, and the texts of their `--help`. In: nothing. Out: types for `args`.

use std::path::PathBuf;
use std::time::Duration;

use akri_mqtt_core::details::parse_size;
use akri_mqtt_core::trace::Payloads;
use clap::{Args, ValueEnum};

use crate::args::{CredentialSources, FILES_HELP, parse_duration};

const RECORD_HELP: &str = "\
Examples:
  akri-mqtt record -f plant.yaml -o trace.jsonl --duration 5m
  akri-mqtt record -f plant.yaml -o trace.jsonl --payloads hash
  akri-mqtt replay trace.jsonl -f plant.yaml

It connects as discover does, with clean sessions and client ids of its own, and writes everything \
that decides about devices: connections, subscriptions, messages, answers to pings. A trace holds no \
credentials and no addresses, but topics, names of servers and, with --payloads full, what devices \
say. What a replay can decide without payloads: see docs/record-replay.md.";

/// `akri-mqtt record`.
#[derive(Args, Debug)]
#[command(after_help = RECORD_HELP)]
pub struct Record {
    /// File with one Akri Configuration; - is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true,
          action = clap::ArgAction::Append, long_help = format!("File with one Akri Configuration; - is standard input. {FILES_HELP}"))]
    pub files: Vec<PathBuf>,
    /// File that is written, readable for you alone; one that exists is not overwritten; - is standard output
    #[arg(short = 'o', long = "trace", value_name = "TRACE")]
    pub trace: PathBuf,
    /// How long to record, such as 30s or 5m; 0: until Ctrl-C
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = parse_duration)]
    pub duration: Duration,
    /// What is kept of payloads
    #[arg(long, value_enum, default_value = "full")]
    pub payloads: KeptPayloads,
    /// Recording ends when the trace has so many bytes
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub max_size: u64,
    /// Where credentials are found.
    #[command(flatten)]
    pub credentials: CredentialSources,
}

/// What is kept of payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeptPayloads {
    /// All of them
    Full,
    /// Those that decide about presence; of the others length and a hash that cannot be looked up
    Hash,
    /// Only their lengths: a replay can decide by data and silence, but by no announcement
    None,
}

impl From<KeptPayloads> for Payloads {
    fn from(kept: KeptPayloads) -> Self {
        match kept {
            KeptPayloads::Full => Self::Full,
            KeptPayloads::Hash => Self::Hash,
            KeptPayloads::None => Self::None,
        }
    }
}

const REPLAY_HELP: &str = "\
Examples:
  akri-mqtt replay trace.jsonl -f plant.yaml
  akri-mqtt replay trace.jsonl -f plant.yaml --json | jq 'select(.event == \"change\")'
  akri-mqtt replay trace.jsonl -f plant.yaml --speed 10x

Each line is a change, with + where a device comes onto the list and - where it leaves it; then come \
the devices that are listed at the end, as discover shows them. With --json each line is one object:
  {\"event\":\"change\",\"time\":…,\"id\":…,\"instance\":…,\"state\":…,\"published\":…,\"reason\":…,\"evidence\":…}
  {\"event\":\"summary\",\"time\":…,\"messages\":…,\"changes\":…,\"undecided\":…,\"configuration\":{…}}
The Configuration may be another one than the trace was recorded with: what would have been decided?";

/// `akri-mqtt replay`.
#[derive(Args, Debug)]
#[command(after_help = REPLAY_HELP)]
pub struct Replay {
    /// File that record has written; - is standard input
    #[arg(value_name = "TRACE")]
    pub trace: PathBuf,
    /// File with one Akri Configuration
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true,
          action = clap::ArgAction::Append, long_help = format!("File with one Akri Configuration. {FILES_HELP}"))]
    pub files: Vec<PathBuf>,
    /// How fast: max, or how many times as fast as it was, such as 1x, 10x or 0.5x
    #[arg(long, value_name = "SPEED", default_value = "max", value_parser = speed)]
    pub speed: Speed,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// How fast a trace is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// Without waiting.
    Max,
    /// So many times as fast as it was.
    Times(f64),
}

/// From a thousandth to a million times.
fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let times = text.strip_suffix('x').and_then(|times| times.parse().ok());
    times
        .filter(|times| (0.001..=1_000_000.0).contains(times))
        .map(Speed::Times)
        .ok_or_else(|| "allowed: max, or 0.001x to 1000000x, such as 1x".to_owned())
}

/// The smallest file that is worth it.
const LEAST_SIZE: u64 = 1 << 10;

fn size(text: &str) -> Result<u64, String> {
    parse_size(text)
        .filter(|size| *size >= LEAST_SIZE)
        .ok_or_else(|| "allowed: bytes, or KiB, MiB, GiB, from 1KiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_max_or_a_factor() {
        assert_eq!(speed("max"), Ok(Speed::Max));
        assert_eq!(speed("1x"), Ok(Speed::Times(1.0)));
        assert_eq!(speed("0.5x"), Ok(Speed::Times(0.5)));
        for wrong in ["", "1", "x", "0x", "-1x", "NaNx", "infx", "2000000x", "MAX"] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_trace_has_room_for_its_first_line() {
        assert_eq!(size("1KiB"), Ok(1024));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        for wrong in ["", "1023", "1kB", "-1", "99999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
