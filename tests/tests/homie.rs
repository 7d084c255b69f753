//! The convention `homie` with devices of other people's libraries on a real Mosquitto: Homie4 (Homie 4) and node-homie
//! (Homie 5), states, a child on its root's connection, removal, Last Wills.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;

use akri_mqtt_tests::agent::Agent;
use akri_mqtt_tests::handler::HandlerFlags;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use akri_mqtt_tests::told::{Told, older_python};

fn homie_4(server: &Mosquitto) -> Told {
    let port = server.address().port().to_string();
    let arguments = ["--port", &port, "--device", "boiler"];
    Told::start(&older_python(), "homie4_device.py", &arguments)
}

fn homie_5(server: &Mosquitto) -> Told {
    let port = server.address().port().to_string();
    let arguments = ["--port", &port, "--root", "bridge", "--child", "lamp"];
    Told::start(Path::new("node"), "homie5_device.mjs", &arguments)
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_homie4_and_node_homie_come_and_go_with_their_states_children_with_their_root() {
    let server = Mosquitto::start(Config::default());
    let directory = tempfile::Builder::new().prefix("akri").tempdir().unwrap();
    let agent = Agent::start(directory.path());
    let handler = HandlerFlags::below(directory.path()).start();
    let details = format!(
        "servers: [{{name: home, urls: ['tcp://{}']}}]\nconventions: [homie]\npresence: {{offlineDelay: 1s}}\n",
        server.address()
    );
    // One that is there before us, found by what is retained, and two that come later.
    let mut boiler = homie_4(&server);
    agent.configure("h", &details, &[]);
    agent.wait_for_devices("h", &["home/boiler"]).await;
    let mut bridge = homie_5(&server);
    let all = ["home/boiler", "home/bridge", "home/lamp"];
    agent.wait_for_devices("h", &all).await;
    bridge.say("data");
    boiler.say("data");
    boiler.say("sleep");

    // A child that is removed, and comes back.
    bridge.say("remove");
    agent.wait_for_devices("h", &all[..2]).await;
    let lamp = handler.presence("/home%2Flamp");
    assert_eq!(lamp["requests"][0]["state"], "removed", "{lamp}");
    bridge.say("add");
    agent.wait_for_devices("h", &all).await;

    // The root's Last Will takes its child along; of a clean end nobody sends one.
    bridge.crash();
    agent.wait_for_devices("h", &all[..1]).await;
    boiler.say("close");
    agent.wait_for_devices("h", &[]).await;
    let _bridge = homie_5(&server);
    boiler.crash();
    let mut boiler = homie_4(&server);
    agent.wait_for_devices("h", &all).await;
    boiler.crash();
    agent.wait_for_devices("h", &all[1..]).await;
}
