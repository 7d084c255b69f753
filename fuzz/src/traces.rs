//! Traces of `akri-mqtt record`. In: their lines.

use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::details::Details;
use akri_mqtt_core::trace::{Entry, Reader, Replay, What, entry_line, header_line};

use crate::history::noon;

/// Of a server that is called `plant-a`, with a convention that acts on its own, and one that listens to payloads.
const DETAILS: &str = "servers: [{name: plant-a, urls: ['tcp://a:1883']}]\n\
    topics: ['robots/{device}/joints']\nlimits: {maxDevices: 8}\n\
    conventions: [homeAssistant, {sparkplugB: {groups: ['+'], rebirth: true}}]\n\
    presence: {offlineAfter: 1m, serverLost: 1h, availability: [{topic: 'robots/{device}/status'}]}\n";
/// Timers that go off between two lines, for each line until then: deadlines, rebirths, steps of a server.
const TIMERS: usize = 64;

/// Reads all lines, writes each again, and replays them until one is wrong.
pub fn run(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let Ok((mut reader, header)) = Reader::new(first) else {
        return;
    };
    let again = Reader::new(header_line(&header).as_bytes());
    assert_eq!(again.expect("it was read before").1, header);
    let details = Arc::new(Details::parse(DETAILS).expect("it is right"));
    let mut replay = Replay::new(details, header.time, noon().mono);
    for (done, line) in lines.enumerate() {
        let Ok(entry) = reader.read(line) else {
            return;
        };
        let written = entry_line(&entry);
        let (mut reader, _) = Reader::new(first).expect("it was read before");
        let again = reader.read(written.trim_end().as_bytes());
        assert_eq!(again.as_ref(), Ok(&entry), "{written}");
        play(&mut replay, &entry, (done + 1) * TIMERS);
    }
}

fn play(replay: &mut Replay, entry: &Entry<'_>, most: usize) {
    let mut timers = 0;
    let mut last = Duration::ZERO;
    while let Some(due) = replay.next_timer(entry.at) {
        assert!(due >= last && due <= entry.at);
        (last, timers) = (due, timers + 1);
        assert!(timers <= most, "{timers} timers until {:?}", entry.at);
        replay.wake(due);
    }
    match &entry.what {
        What::Event(server, event) => {
            replay.take(entry.at, server, event);
        }
        What::End => {
            replay.wake(entry.at);
        }
    }
    assert!(replay.presence().explain_all(replay.now()).len() <= 20_008);
}
