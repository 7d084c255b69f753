//! Flags and environment of the discovery handler, and what they mean.
//! In: the command line. Out: a checked `Config`, which the cli fills in by itself.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use akri_mqtt_runtime::UsageError;
use clap::ValueEnum;

use crate::endpoint::Listen;
use crate::naming::sanitise;
use crate::tap::Tap;
use crate::twins::Collisions;

/// Where the Discover service listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EndpointKind {
    /// A Unix socket in the directory
    Uds,
    /// A network address
    Network,
}

/// Tells an Akri Agent, or the controller, which MQTT devices are there.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Directory of the Agent's socket, agent-registration.sock [default: $DISCOVERY_HANDLERS_DIRECTORY, else /var/lib/akri]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Name of this handler in Configurations
    #[arg(long, default_value = "mqtt")]
    pub name: String,
    /// Where Discover is served: a Unix socket in the directory, or a network address
    #[arg(long, value_enum, default_value = "uds")]
    pub endpoint: EndpointKind,
    /// Address of the network endpoint
    #[arg(long, default_value = "0.0.0.0:10000", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// URL that the Agent calls [default: http://$POD_IP:<port>]
    #[arg(long, value_name = "URL")]
    pub advertise: Option<String>,
    /// Part of socket name, client id and roster file; auto: <node>-<lowest free slot>
    #[arg(long, default_value = "auto")]
    pub instance: String,
    /// Directory of rosters and slots
    #[arg(long, default_value = "/var/lib/akri-mqtt", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// A mounted Secret with MQTT_USERNAME, MQTT_PASSWORD, MQTT_CA_CERT, …
    #[arg(long, value_name = "DIR")]
    pub credentials_dir: Option<PathBuf>,
    /// Hosts to which the plain names of the Secret may be sent; a name with a server's suffix is sent to the server that a Configuration gives that name
    #[arg(long, value_delimiter = ',', value_name = "HOST,…")]
    pub credentials_hosts: Vec<String>,
    /// What to do with two devices whose Instances would have one name
    #[arg(long, value_enum, default_value = "withhold")]
    pub collisions: Collisions,
    /// How long devices and sessions are kept that nobody asks for any more; 2s beside the controller, so that the handler of another pod can take over
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = idle)]
    pub idle: Duration,
    /// Hash client ids of more than 23 characters, for servers that allow no more
    #[arg(long)]
    pub short_client_id: bool,
    /// Address of livez, readyz, metrics and v1/presence [default: 127.0.0.1:8081, in a pod 0.0.0.0:8081]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
}

/// What the environment says beside the flags.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `DISCOVERY_HANDLERS_DIRECTORY`
    pub directory: Option<PathBuf>,
    /// `POD_IP`
    pub pod_ip: Option<String>,
    /// `AKRI_MQTT_NODE`, `NODE_NAME` or the host's name.
    pub node: String,
    /// `AKRI_MQTT_CLUSTER`
    pub cluster: Option<String>,
    /// `POD_NAMESPACE`
    pub namespace: Option<String>,
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let node = set("AKRI_MQTT_NODE")
            .or_else(|| set("NODE_NAME"))
            .or_else(host);
        Self {
            directory: set("DISCOVERY_HANDLERS_DIRECTORY").map(PathBuf::from),
            pod_ip: set("POD_IP"),
            node: node.map(|node| node.trim().to_owned()).unwrap_or_default(),
            cluster: set("AKRI_MQTT_CLUSTER"),
            namespace: set("POD_NAMESPACE"),
        }
    }
}

/// Times that only tests change.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The same list again, after the first of a stream and after a device came back.
    pub repeat_after: [Duration; 2],
    /// Within this long after its removal a device "comes back".
    pub comeback: Duration,
    /// Between two registrations while no stream is open.
    pub reregister: Duration,
    /// Between two looks at what siblings serve.
    pub siblings: Duration,
    /// How long a request without a stream keeps its devices and sessions, so that an Agent's restart loses nothing.
    pub idle: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            repeat_after: [Duration::from_secs(5), Duration::from_secs(15)],
            comeback: Duration::from_secs(60),
            reregister: Duration::from_secs(30),
            siblings: Duration::from_secs(10),
            idle: Duration::from_secs(600),
        }
    }
}

/// Everything a handler needs to know to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of the Agent's socket.
    pub directory: PathBuf,
    /// Handler name in Configurations.
    pub name: String,
    /// Where Discover is served.
    pub listen: Listen,
    /// `auto`, or a name.
    pub instance: String,
    /// Node name, for `auto`.
    pub node: String,
    /// Cluster id, if it is known.
    pub cluster: Option<String>,
    /// Namespace of this process.
    pub namespace: String,
    /// Where state is kept; `None`: only in memory.
    pub state_dir: Option<PathBuf>,
    /// A mounted Secret.
    pub credentials_dir: Option<PathBuf>,
    /// Hosts that its plain names may be sent to.
    pub credentials_hosts: BTreeSet<String>,
    /// What happens to colliding Instance names.
    pub collisions: Collisions,
    /// Hash long client ids.
    pub short_client_id: bool,
    /// A dry run: clean sessions with client ids of their own, which disturb no running handler.
    pub transient: bool,
    /// Somebody who listens in.
    pub tap: Tap,
    /// Times.
    pub timing: Timing,
}

impl Config {
    /// A handler that serves on a socket in `directory`, keeps nothing, and passes collisions on:
    /// what a process needs that is its own Agent.
    #[must_use]
    pub fn in_process(directory: PathBuf) -> Self {
        Self {
            directory,
            name: "mqtt".to_owned(),
            listen: Listen::Unix,
            instance: "local".to_owned(),
            node: String::new(),
            cluster: None,
            namespace: "default".to_owned(),
            state_dir: None,
            credentials_dir: None,
            credentials_hosts: BTreeSet::new(),
            collisions: Collisions::Pass,
            short_client_id: false,
            transient: false,
            tap: Tap::default(),
            timing: Timing::default(),
        }
    }
}

impl Args {
    /// Checks the arguments.
    ///
    /// # Errors
    /// A name that cannot be part of a socket's name.
    pub fn config(self, environment: Environment) -> Result<Config, UsageError> {
        let fits = |name: &str| !name.is_empty() && sanitise(name) == name;
        if !fits(&self.name) {
            let found = &self.name;
            return Err(UsageError::new(format!(
                "--name: found {found:?}, allowed are lower-case letters, digits and - between them"
            )));
        }
        if !fits(&self.instance) {
            let found = &self.instance;
            return Err(UsageError::new(format!(
                "--instance: found {found:?}, allowed are auto, or lower-case letters, digits and - between them"
            )));
        }
        let listen = match self.endpoint {
            EndpointKind::Uds => Listen::Unix,
            EndpointKind::Network => Listen::Network {
                address: self.listen,
                advertise: self.advertise,
                pod_ip: environment.pod_ip,
            },
        };
        let directory = self.directory.or(environment.directory);
        let hosts = self.credentials_hosts.iter();
        Ok(Config {
            directory: directory.unwrap_or_else(|| PathBuf::from("/var/lib/akri")),
            name: self.name,
            listen,
            instance: self.instance,
            node: environment.node,
            cluster: environment.cluster,
            namespace: environment
                .namespace
                .unwrap_or_else(|| "default".to_owned()),
            state_dir: Some(self.state_dir),
            credentials_dir: self.credentials_dir,
            credentials_hosts: hosts.map(|host| host.trim().to_ascii_lowercase()).collect(),
            collisions: self.collisions,
            short_client_id: self.short_client_id,
            transient: false,
            tap: Tap::default(),
            timing: Timing {
                idle: self.idle,
                ..Timing::default()
            },
        })
    }
}

/// From `1s` to `24h`.
fn idle(text: &str) -> Result<Duration, String> {
    let allowed = || "allowed: 1s to 24h, such as 2s or 10m".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = digits
        .and_then(|digits| text.split_at_checked(digits))
        .ok_or_else(allowed)?;
    let number: u64 = number.parse().map_err(|_| allowed())?;
    let seconds = match unit {
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3_600),
        _ => None,
    };
    let seconds = seconds.filter(|seconds| (1..=86_400).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_from_a_second_to_a_day() {
        assert_eq!(idle("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(idle("10m"), Ok(Timing::default().idle));
        assert_eq!(idle("24h"), Ok(Duration::from_secs(86_400)));
        for wrong in [
            "",
            "2",
            "0s",
            "s",
            "25h",
            "1d",
            "99999999999999999999h",
            "5124095576030431h",
        ] {
            assert!(idle(wrong).is_err(), "{wrong}");
        }
    }
}
