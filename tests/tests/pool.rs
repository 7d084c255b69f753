//! A pool of monitoring brokers around real Mosquitto: members come, go and are killed under traffic of QoS 1.
//! Publishers are `mosquitto_pub`. What the stores of all members hold together must be everything.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Instant;

use akri_mqtt_tests::http;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use akri_mqtt_tests::pool::{DEVICES, Member, SHARDS, Traffic, devices_file, settled, until};

/// What the stores of all members hold: nothing is missing, each store has its part in order, and of what is
/// there more than once all but one was recognised. Returns how many were there more than once.
fn judge(members: &mut [Member], sent: u64) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let nothing = directory.path().join("devices.json");
    std::fs::write(&nothing, "[]").unwrap();
    let mut copies: BTreeMap<(usize, u64), Vec<bool>> = BTreeMap::new();
    for member in members {
        member.child = Some(member.command(&nothing).spawn().unwrap());
        until("a store is served", || member.is_ready());
        for device in 0..DEVICES {
            let stored = member.stored(device);
            let mut seen = BTreeSet::new();
            for (number, duplicate) in stored {
                let is_new = seen.insert(number);
                assert!(
                    !is_new || seen.last() == Some(&number),
                    "{}: r{device}: {number} after {:?}",
                    member.name,
                    seen.last()
                );
                copies.entry((device, number)).or_default().push(duplicate);
            }
        }
        member.kill();
    }
    let expected: BTreeSet<_> = (0..DEVICES)
        .flat_map(|device| (0..sent).map(move |number| (device, number)))
        .collect();
    let missing: Vec<_> = expected
        .iter()
        .filter(|key| !copies.contains_key(key))
        .collect();
    assert!(
        missing.is_empty(),
        "{} of {} are missing: {missing:?}",
        missing.len(),
        expected.len()
    );
    assert_eq!(copies.len(), expected.len());
    let unmarked = copies
        .values()
        .filter(|copies| copies.iter().filter(|dup| !**dup).count() > 1);
    assert_eq!(unmarked.count(), 0);
    let more: usize = copies.values().map(|copies| copies.len() - 1).sum();
    u64::try_from(more).unwrap()
}

/// Waits until the last message of each device is stored by one of the members.
fn arrived(members: &[Member], sent: u64) {
    until("everything has arrived", || {
        let pending = members.iter();
        let pending = pending.map(|member| member.metric("akri_mqtt_acks_pending "));
        let last = |device: usize| {
            let mut stores = members.iter().map(|member| member.stored(device));
            stores.any(|stored| stored.last().is_some_and(|(number, _)| number + 1 == sent))
        };
        pending.sum::<u64>() == 0 && (0..DEVICES).all(last)
    });
}

#[test]
fn members_that_come_go_and_are_killed_lose_no_message_of_qos_1() {
    let server = Mosquitto::start(Config::new().line("max_queued_messages 0"));
    let shared = tempfile::tempdir().unwrap();
    let (devices, pool) = (
        shared.path().join("devices.json"),
        shared.path().join("pool"),
    );
    devices_file(&devices, server.address(), 1);
    let mut members: Vec<_> = (0..5).map(Member::new).collect();
    for member in &mut members[..3] {
        member.join(&devices, &pool);
    }
    settled(&members.iter().take(3).collect::<Vec<_>>());
    let traffic = Traffic::start(server.address(), 1);
    let some = |member: &Member| member.metric("akri_mqtt_store_messages_total ") > 200;
    until("messages arrive", || members[..3].iter().all(some));

    members[1].kill();
    let killed = Instant::now();
    settled(&[&members[0], &members[2]]);
    println!(
        "after SIGKILL all shards were served within {:?}",
        killed.elapsed()
    );

    for number in [1, 3, 4] {
        members[number].join(&devices, &pool);
    }
    settled(&members.iter().collect::<Vec<_>>());
    until("messages arrive everywhere", || members.iter().all(some));

    for member in &members[2..] {
        member.stop();
    }
    for member in &mut members[2..] {
        member.ended();
    }
    settled(&[&members[0], &members[1]]);
    let handed_over: u64 = members[..2]
        .iter()
        .map(|member| member.metric("akri_mqtt_pool_shards_handed_over_total "))
        .sum();
    let sent = traffic.end();
    arrived(&members[..2], sent);
    for member in &members[..2] {
        member.stop();
    }
    for member in &mut members[..2] {
        member.ended();
    }
    let more = judge(&mut members, sent);
    let messages = sent * u64::try_from(DEVICES).unwrap();
    println!(
        "{messages} messages, {more} copies more, {handed_over} shards handed over by the last two"
    );
    // A server has 20 messages in flight per session: only the kill may repeat some.
    assert!(more <= 20 * SHARDS, "{more}");
}

#[test]
fn in_orderly_hand_overs_a_message_of_qos_2_is_stored_once_in_the_whole_pool() {
    let server = Mosquitto::start(Config::new().line("max_queued_messages 0"));
    let shared = tempfile::tempdir().unwrap();
    let (devices, pool) = (
        shared.path().join("devices.json"),
        shared.path().join("pool"),
    );
    devices_file(&devices, server.address(), 2);
    let mut members: Vec<_> = (0..2).map(Member::new).collect();
    members[0].join(&devices, &pool);
    settled(&[&members[0]]);
    let traffic = Traffic::start(server.address(), 2);
    // Each time shards go to the second member and come back, so that packet ids are used again meanwhile.
    for _ in 0..3 {
        members[1].join(&devices, &pool);
        settled(&[&members[0], &members[1]]);
        let before = members[1].metric("akri_mqtt_store_messages_total ");
        until("messages arrive", || {
            members[1].metric("akri_mqtt_store_messages_total ") > before + 200
        });
        members[1].stop();
        members[1].ended();
        settled(&[&members[0]]);
    }
    let sent = traffic.end();
    arrived(&members[..1], sent);
    members[0].stop();
    members[0].ended();
    assert_eq!(judge(&mut members, sent), 0);
}

#[test]
fn devices_of_a_file_come_and_go_with_it_and_a_wrong_file_changes_nothing() {
    let server = Mosquitto::start(Config::new());
    let shared = tempfile::tempdir().unwrap();
    let devices = shared.path().join("devices.yaml");
    let device = |name: &str| {
        let port = server.address().port();
        format!(
            "- MQTT_DEVICE_ID: plant/{name}\n  MQTT_SERVER_URLS: tcp://127.0.0.1:{port}\n  MQTT_TOPICS: [d/{name}/state]\n"
        )
    };
    let wrong = "- MQTT_DEVICE_ID: plant/r0\n  MQTT_TOPICS: [a]\n";
    let mut member = Member::new(0);

    std::fs::write(&devices, wrong).unwrap();
    let refused = member
        .command(&devices)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("devices.yaml: line 1, column 3: MQTT_SERVER_URLS"),
        "{said}"
    );

    std::fs::write(&devices, device("r0")).unwrap();
    member.child = Some(member.command(&devices).spawn().unwrap());
    let heard = |number: usize| {
        let mut publish = Command::new("mosquitto_pub");
        publish.args([
            "-h",
            "127.0.0.1",
            "-p",
            &server.address().port().to_string(),
        ]);
        let status = publish
            .args(["-q", "1", "-m", "1", "-t", &format!("d/r{number}/state")])
            .status();
        assert!(status.unwrap().success());
        !member.stored(number).is_empty()
    };
    until("the first device is heard", || {
        member.is_ready() && heard(0)
    });
    std::fs::write(&devices, device("r0") + &device("r1")).unwrap();
    until("the second device is heard", || heard(1));

    std::fs::write(&devices, wrong).unwrap();
    until("the wrong file is counted", || {
        member.metric("akri_mqtt_devices_file_errors_total ") == 1
    });
    assert_eq!(member.metric("akri_mqtt_devices_listed "), 2);
    let before = member.stored(1).len();
    until("the second device is still heard", || {
        heard(1) && member.stored(1).len() > before
    });

    std::fs::write(&devices, device("r0")).unwrap();
    until("the second device has gone", || {
        let path = "/v1/devices/plant%2Fr1";
        let body = http::get(member.http, path).map_or_else(String::new, |(_, body)| body);
        body.contains("withdrawn")
    });
    assert_eq!(member.metric("akri_mqtt_devices_listed "), 1);
}
