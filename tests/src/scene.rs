//! What most handler tests need: an Agent, a Mosquitto, and a directory for both and for handlers.
//! In: nothing. Out: the scene, and `discoveryDetails` for it with short times.

use std::net::SocketAddr;
use std::path::Path;

use crate::agent::{Agent, AgentOptions};
use crate::devices::{self, Device};
use crate::handler::{HandlerFlags, HandlerProcess};
use crate::mosquitto::{Config, Mosquitto};

/// Name of the Configuration that tests use.
pub const CONFIGURATION: &str = "robots";

/// An Agent and an MQTT server.
pub struct Scene {
    /// The Agent.
    pub agent: Agent,
    /// The MQTT server.
    pub server: Mosquitto,
    directory: tempfile::TempDir,
}

impl Scene {
    /// An Agent as Akri's and a Mosquitto that keeps its data.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(AgentOptions::default(), Config::new().persistent())
    }

    /// With another Agent or Mosquitto.
    ///
    /// # Panics
    /// When no directory can be made.
    #[allow(clippy::expect_used)]
    #[must_use]
    pub fn start_with(options: AgentOptions, config: Config) -> Self {
        // Unix sockets have short paths.
        let directory = tempfile::Builder::new()
            .prefix("akri")
            .tempdir()
            .expect("it can be made");
        Self {
            agent: Agent::start_with(directory.path(), options),
            server: Mosquitto::start(config),
            directory,
        }
    }

    /// Directory of the Agent's socket.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Flags of a handler in this scene.
    #[must_use]
    pub fn flags(&self) -> HandlerFlags {
        HandlerFlags::below(self.directory.path())
    }

    /// A handler that has registered.
    pub async fn handler(&self) -> HandlerProcess {
        self.registered(self.flags()).await
    }

    /// A handler with other flags that has registered.
    pub async fn registered(&self, flags: HandlerFlags) -> HandlerProcess {
        let handler = flags.start();
        handler.wait_for_log("registered with the Agent").await;
        handler
    }

    /// Details for the server of the scene.
    #[must_use]
    pub fn details(&self) -> String {
        details(self.server.address(), "")
    }

    /// Creates the Configuration and waits for its first list: then everything is subscribed.
    pub async fn configure(&self, details: &str, properties: &[(&str, &str)]) {
        self.agent.configure(CONFIGURATION, details, properties);
        self.agent
            .wait_for(
                "a list has come",
                std::time::Duration::from_secs(20),
                |agent| agent.lists(CONFIGURATION) > 0,
            )
            .await;
    }

    /// A robot with a Last Will.
    #[must_use]
    pub fn robot(&self, name: &str) -> Device {
        Device::start(&self.server, &format!("robot-{name}"), &status_of(name))
    }

    /// Whether a roster on the disk has a device of this name.
    #[must_use]
    pub fn saved(&self, name: &str) -> bool {
        let files = std::fs::read_dir(self.flags().state)
            .into_iter()
            .flatten()
            .flatten();
        let rosters =
            files.filter(|file| file.file_name().to_string_lossy().ends_with(".roster.json"));
        let quoted = format!("\"plant-a/{name}\"");
        rosters.into_iter().any(|file| {
            std::fs::read_to_string(file.path())
                .unwrap_or_default()
                .contains(&quoted)
        })
    }

    /// A live message of a robot.
    pub fn data(&self, name: &str) {
        devices::publish(
            self.server.address(),
            &format!("robots/{name}/joints"),
            Some("{\"a\":1}"),
            &[],
        );
    }
}

/// Where a robot announces itself.
#[must_use]
pub fn status_of(name: &str) -> String {
    format!("robots/{name}/status")
}

/// Details with short times: a robot that crashes goes 300 ms later, an outage is over 1.5 s after it.
#[must_use]
pub fn details(server: SocketAddr, more: &str) -> String {
    format!(
        "servers:\n- {{name: plant-a, urls: ['tcp://{server}']}}\n\
         topics:\n- robots/{{device}}/joints\n\
         presence:\n  availability:\n  - topic: robots/{{device}}/status\n  offlineDelay: 300ms\n  reconnectGrace: 1500ms\n\
         limits:\n  publishInterval: 50ms\n{more}"
    )
}
