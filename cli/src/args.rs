//! The command line: what can be asked for, and the texts of `--help`. In: arguments and environment. Out: checked values.
//! `--version`, `--log-format` and an environment variable per flag are added by the runtime; `app` dispatches.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use akri_mqtt_monitoring_broker::access::AccessArgs;
use akri_mqtt_monitoring_broker::sink::SinkUrls;
use akri_mqtt_monitoring_broker::talk::{AllowedTopic, AnnounceTopic};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::trace::args::{Record, Replay};

/// The most devices that the demo simulates: each has a connection, a monitor and a session of its own.
const MAX_DEMO_DEVICES: i64 = 500;

const ABOUT: &str = "Discovers MQTT devices and serves their data, without Kubernetes";

const EXAMPLES: &str = "\
Examples:
  akri-mqtt demo                    see it work: five devices, one of which crashes
  akri-mqtt check -f plant.yaml     is this Configuration right?
  akri-mqtt discover -f plant.yaml  what would it find?
  akri-mqtt up -f plant.yaml        find it, store its data, serve it over HTTP
  akri-mqtt migrate                 what has Akri left behind in the cluster?
  akri-mqtt record -f plant.yaml -o trace.jsonl
  akri-mqtt replay trace.jsonl -f plant.yaml    what changed when, and why?

Exit codes: 0 done, 1 failed while running, 2 wrong usage or configuration.
RUST_LOG sets what is logged on standard error, for example RUST_LOG=debug.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(about = ABOUT, after_help = EXAMPLES, max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows it all in one process: an MQTT server, simulated devices, discovery, a monitor per device, one HTTP address
    Demo(Demo),
    /// Discovers the devices of Configurations on their MQTT servers, and stores and serves their data
    Up(Box<Up>),
    /// Checks Configurations and says where they are wrong
    Check(Check),
    /// Dry run: which devices a Configuration finds, under which names, and why
    Discover(Discover),
    /// Records what the MQTT servers of a Configuration say, to be looked at again with replay
    Record(Record),
    /// Plays a recording through the same decisions, and says what changed when and why
    Replay(Replay),
    /// Cleans up in a cluster between Akri and agentless mode; shows what it would do, and does it with --apply
    Migrate(Migrate),
    /// Prints a completion script for a shell
    #[command(after_help = "Example:\n  source <(akri-mqtt completions bash)")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

const DEMO_HELP: &str = "\
Examples:
  akri-mqtt demo
  akri-mqtt demo --devices 50 --duration 0
  akri-mqtt demo --json | jq 'select(.event == \"device_offline\")'

While it runs, see http://127.0.0.1:8080/ in a browser, or:
  curl http://127.0.0.1:8080/v1/devices
  curl http://127.0.0.1:8080/v1/devices/demo%2Frobot-1/latest
  curl -N http://127.0.0.1:8080/v1/stream

With --json each line of standard output is one object with `event` and `time`:
  {\"event\":\"device_online\",\"time\":…,\"device\":\"demo/robot-1\",\"instance\":…}
  {\"event\":\"message\",\"time\":…,\"device\":…,\"topic\":…,\"payload\":…}
  {\"event\":\"device_offline\",\"time\":…,\"device\":…,\"reason\":…}
and the last one is
  {\"event\":\"summary\",\"devices_seen\":5,\"messages\":130,\"offline_events\":1,…}

A demo of ten seconds or more has room for the crash and the return of a device.";

/// `akri-mqtt demo`.
#[derive(Args, Debug)]
#[command(after_help = DEMO_HELP)]
pub struct Demo {
    /// How many devices are simulated, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(1..=MAX_DEMO_DEVICES))]
    pub devices: u16,
    /// How long it runs once everything is started, such as 30s or 5m; 0: until Ctrl-C
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Address of the HTTP API; by default 127.0.0.1:8080, or a free port if that one is taken
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Address of the embedded MQTT server, if other programs are to join in
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub mqtt: SocketAddr,
    /// Open the dashboard in a browser
    #[arg(long)]
    pub open: bool,
    /// Print the Akri Configuration that finds the simulated devices, and do nothing else
    #[arg(long)]
    pub print_configuration: bool,
}

pub(crate) const FILES_HELP: &str = "\
A file holds one or several YAML documents; those that are no Akri Configuration are passed over.";

const UP_HELP: &str = "\
Examples:
  akri-mqtt up -f plant.yaml
  akri-mqtt up -f plant.yaml -f office.yaml --http 0.0.0.0:8080
  MQTT_USERNAME=reader MQTT_PASSWORD=… akri-mqtt up -f plant.yaml

Credentials come from the Configuration's discoveryProperties, else from the environment, else \
from files of --credentials-dir: MQTT_USERNAME, MQTT_PASSWORD, MQTT_CA_CERT, MQTT_CLIENT_CERT, \
MQTT_CLIENT_KEY (PEM), each also with _<SERVER_NAME> for one server. Those of the environment go \
to every server of the Configurations, plain names of files only to the hosts of \
--credentials-hosts. References to Secrets and ConfigMaps need --secrets-dir.

brokerProperties override the properties of a device, as in Akri. brokerSpec, services and \
capacity mean nothing here: each device has exactly one monitor, in this process.";

/// `akri-mqtt up`.
#[derive(Args, Debug)]
#[command(after_help = UP_HELP)]
pub struct Up {
    /// File with Akri Configurations; repeatable; - is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true,
          action = clap::ArgAction::Append, long_help = format!("File with Akri Configurations; repeatable; - is standard input. {FILES_HELP}"))]
    pub files: Vec<PathBuf>,
    /// Address of the HTTP API; by default 127.0.0.1:8080, or a free port if that one is taken
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Address of the gRPC API; by default 127.0.0.1:50051, or a free port if that one is taken
    #[arg(long, value_name = "ADDR")]
    pub grpc: Option<SocketAddr>,
    /// Open the dashboard in a browser
    #[arg(long)]
    pub open: bool,
    /// Where data and the list of devices are kept; by default $XDG_DATA_HOME/akri-mqtt, that is ~/.local/share/akri-mqtt
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Topics on which commands may be published, as filters; {device} stands for the device's own name; repeatable [default: none, publishing is off]
    #[arg(long, value_name = "FILTER")]
    pub allow_publish: Vec<AllowedTopic>,
    /// Topic below which each MQTT session says whether anybody listens; empty: it does not
    #[arg(long, value_name = "TOPIC", default_value = "akri-mqtt/monitors")]
    pub announce_topic: AnnounceTopic,
    /// Send every message on: redis://, http://, postgres:// and the same with TLS; several URLs are separated by
    /// white space, ${NAME} in one is taken from the environment
    #[arg(long, value_name = "URL", hide_env_values = true)]
    pub sink: Vec<SinkUrls>,
    /// Print one JSON object a line: device_online and device_offline
    #[arg(long)]
    pub json: bool,
    /// Where credentials are found.
    #[command(flatten)]
    pub credentials: CredentialSources,
    /// Who may use the two APIs.
    #[command(flatten)]
    pub access: AccessArgs,
}

/// Where credentials are found that the Configuration does not hold itself.
#[derive(Args, Clone, Debug, Default)]
pub struct CredentialSources {
    /// Directory with MQTT_USERNAME, MQTT_PASSWORD and so on as files
    #[arg(long, value_name = "DIR")]
    pub credentials_dir: Option<PathBuf>,
    /// Hosts to which the files without a server in their names may be sent; repeatable
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub credentials_hosts: Vec<String>,
    /// Directory that holds the Secrets and ConfigMaps that discoveryProperties refer to, as <name>/<key>
    #[arg(long, value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
}

const CHECK_HELP: &str = "\
Examples:
  akri-mqtt check -f plant.yaml
  akri-mqtt check -f plant.yaml -f office.yaml -o json
  helm template … | akri-mqtt check -f -

Each fault is one line on standard output, file:line:column: message, which editors and CI \
systems understand. The exit code is 2 if there is one, else 0 with a line per file. \
discoveryDetails are checked for handlers of the name mqtt; a fault inside them is shown where \
it is in the file. The rest of a Configuration is held against what Akri's webhook accepts.";

/// `akri-mqtt check`.
#[derive(Args, Debug)]
#[command(after_help = CHECK_HELP)]
pub struct Check {
    /// File with Akri Configurations; repeatable; - is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true,
          action = clap::ArgAction::Append, num_args = 1.., long_help = format!("File with Akri Configurations; repeatable; - is standard input. {FILES_HELP}"))]
    pub files: Vec<PathBuf>,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: CheckOutput,
}

/// Forms of `check`'s result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckOutput {
    /// A line per fault, or per file that is right.
    Text,
    /// One JSON object.
    Json,
}

const DISCOVER_HELP: &str = "\
Examples:
  akri-mqtt discover -f plant.yaml
  akri-mqtt discover -f plant.yaml --for 1m -o yaml

It connects with clean sessions and client ids of its own, so it disturbs no discovery handler \
that runs, and it stores nothing. A server that cannot be reached is reported on standard error; \
if none could be, the exit code is 1.";

/// `akri-mqtt discover`.
#[derive(Args, Debug)]
#[command(after_help = DISCOVER_HELP)]
pub struct Discover {
    /// File with Akri Configurations; repeatable; - is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true,
          action = clap::ArgAction::Append, long_help = format!("File with Akri Configurations; repeatable; - is standard input. {FILES_HELP}"))]
    pub files: Vec<PathBuf>,
    /// How long to listen, such as 10s or 2m: devices that announce themselves show up at once, others when they publish
    #[arg(long = "for", value_name = "DURATION", default_value = "10s", value_parser = parse_positive_duration)]
    pub listen_for: Duration,
    /// How the devices are printed
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: DiscoverOutput,
    /// Where credentials are found.
    #[command(flatten)]
    pub credentials: CredentialSources,
}

/// Forms of `discover`'s result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiscoverOutput {
    /// For people.
    Table,
    /// One JSON object.
    Json,
    /// The same as YAML.
    Yaml,
}

const MIGRATE_HELP: &str = "\
Examples:
  akri-mqtt migrate                               what has Akri left behind?
  akri-mqtt migrate --apply                       remove its finalizers
  akri-mqtt migrate --delete-instances --apply    and its Instances, whose pods and Services go with them
  akri-mqtt migrate --to akri --apply             before Akri comes back

Akri's Agents put a finalizer with their node's name on every Configuration and Instance. When Akri \
is uninstalled nobody removes it, and a deletion hangs. Removed are finalizers that are the name of a \
node, or that an Agent has applied (field manager <node>-fin); all others are left alone. It refuses \
while a pod of Akri exists.

The other way it removes the status that agentless mode has written, because Akri's webhook refuses \
every write of a Configuration that has one.

The cluster is that of KUBECONFIG, else ~/.kube/config, else the one around this pod. Exit codes: 0 \
done or nothing to do, 1 Akri is there, no access or something failed, 2 wrong usage.";

/// `akri-mqtt migrate`.
#[derive(Args, Debug)]
#[command(after_help = MIGRATE_HELP)]
pub struct Migrate {
    /// Which mode is to follow
    #[arg(long, value_enum, default_value = "agentless")]
    pub to: MigrateTo,
    /// Do it; else nothing is changed
    #[arg(long)]
    pub apply: bool,
    /// Also delete the Instances that Akri has left behind
    #[arg(long)]
    pub delete_instances: bool,
    /// Only this namespace; repeatable [default: all]
    #[arg(short, long = "namespace", value_name = "NAMESPACE", action = clap::ArgAction::Append, value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Directions of `migrate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MigrateTo {
    /// Akri is gone and agentless mode is to begin.
    Agentless,
    /// Agentless mode has ended and Akri is to begin.
    Akri,
}

/// `500ms`, `30s`, `5m`, `1h`, `0`; up to a year.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    const YEAR: u64 = 365 * 24 * 3600 * 1000;
    let allowed = || format!("{text:?} is no duration; allowed are 500ms, 30s, 5m, 1h and 0");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match text.strip_prefix(digits).unwrap_or_default() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if digits == "0" => 1,
        _ => return Err(allowed()),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(allowed());
    }
    let millis = digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor));
    match millis {
        Some(millis) if millis <= YEAR => Ok(Duration::from_millis(millis)),
        _ => Err(format!("{text} is more than a year")),
    }
}

fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("it has to be longer than 0".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_parsed_and_nonsense_is_refused() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for wrong in [
            "",
            "s",
            "30",
            "-1s",
            "1.5s",
            "3 s",
            "30S",
            "99999999999999999999s",
            "9000h9",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse_duration("9000h").is_err());
        assert!(parse_positive_duration("0s").is_err());
    }
}
