//! The command line. In: flags and their variables. Out: options of a monitor, or what is wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use akri_mqtt_core::decode::Decoder;
use akri_mqtt_core::pool::ShardCount;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_core::topic::TopicFilter;
use akri_mqtt_runtime::{UsageError, usage};

use crate::access::AccessArgs;
use crate::api::service::Decoders;
use crate::devices_file::DevicesFile;
use crate::ingest::Identity;
use crate::monitor::MonitorOptions;
use crate::pool::{Address, NoAddress};
use crate::sink::SinkUrls;
use crate::talk::{AllowedTopic, AnnounceTopic, TalkOptions};
use crate::watching::From;

/// The least room: below it, retention would delete what has just come.
const LEAST_BYTES: u64 = 4 << 20;

/// Subscribes for its devices, stores every message, serves live data and history.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address of REST, streams, probes and metrics [default: 127.0.0.1:8080, in a pod 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Address of gRPC [default: 127.0.0.1:50051, in a pod 0.0.0.0:50051]
    #[arg(long, value_name = "ADDR")]
    pub grpc: Option<SocketAddr>,
    /// Directory of the store
    #[arg(long, value_name = "DIR", default_value = "/var/lib/akri-mqtt")]
    pub data_dir: PathBuf,
    /// Part of the client id [default: $POD_NAME, else a random one kept in the data directory]
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Hash client ids of more than 23 characters, for servers that allow no more
    #[arg(long)]
    pub short_client_id: bool,
    /// Directory with MQTT_USERNAME and the like as files; without it they are taken from the environment
    #[arg(long, value_name = "DIR")]
    pub credentials_dir: Option<PathBuf>,
    /// Older messages are deleted
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub retain_for: Duration,
    /// Most bytes on the disk
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    pub retain_bytes: u64,
    /// A batch is committed so long after its first message at the latest
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = duration)]
    pub commit_window: Duration,
    /// How payloads of a topic filter are read: auto, json, text, sparkplugB or bytes; the first match decides
    #[arg(long, value_name = "FILTER=DECODER", value_parser = decode_rule)]
    pub decode: Vec<(TopicFilter, Decoder)>,
    /// Topics on which commands may be published, as filters; {device} stands for the device's own name; repeatable [default: none, publishing is off]
    #[arg(long, value_name = "FILTER")]
    pub allow_publish: Vec<AllowedTopic>,
    /// Topic below which each MQTT session says whether anybody listens; empty: it does not
    #[arg(long, value_name = "TOPIC", default_value = "akri-mqtt/monitors")]
    pub announce_topic: AnnounceTopic,
    /// Sends every message on: redis://, rediss://, http://, https://, postgres://, mongodb://; several URLs are
    /// separated by white space, ${NAME} in one is taken from the environment
    #[arg(long, value_name = "URL", hide_env_values = true)]
    pub sink: Vec<SinkUrls>,
    /// How long a stop waits for the sinks to send what is left
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub drain_timeout: Duration,
    /// Device to watch, `<server>/<name>` [default: MQTT_DEVICE_ID of the environment]
    #[arg(long, value_name = "ID")]
    pub device_id: Option<String>,
    /// MQTT server of the device; again for further members [default: MQTT_SERVER_URLS]
    #[arg(long, value_name = "URL")]
    pub server_url: Vec<String>,
    /// Topic filter of the device; again for more [default: MQTT_TOPICS]
    #[arg(long, value_name = "FILTER")]
    pub topic: Vec<String>,
    /// Watch the devices of this file, a YAML or JSON list with the MQTT_* variables of each; it is read again when it changes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["device_id", "server_url", "topic"])]
    pub devices_file: Option<PathBuf>,
    /// Share the devices of --devices-file with the other processes that name this directory
    #[arg(long, value_name = "DIR", requires = "devices_file")]
    pub pool_dir: Option<PathBuf>,
    /// Share the devices of this Configuration's Instances, in the pod's namespace, with the other processes that name it; its annotation mqtt.akri.sh/shards counts before --shards
    #[arg(long, value_name = "CONFIGURATION", conflicts_with_all = ["devices_file", "pool_dir", "device_id", "server_url", "topic"])]
    pub pool: Option<String>,
    /// Parts that a new pool's devices fall into; each is an MQTT session that moves as a whole
    #[arg(long, value_name = "NUMBER", default_value = "64")]
    pub shards: ShardCount,
    /// Where the other members of the pool reach the gRPC port of this one, HOST:PORT [default: --grpc; if that is every address, $POD_IP with its port]
    #[arg(long, value_name = "ADDR")]
    pub advertise: Option<Address>,
    /// Authorities of the certificates that the other members of the pool show, PEM; watched [default: --tls-cert]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub peer_ca: Option<PathBuf>,
    /// Who may use the ports.
    #[command(flatten)]
    pub access: AccessArgs,
}

impl Args {
    /// The options of the monitor.
    ///
    /// # Errors
    /// A sink that is wrong.
    pub fn options(&self) -> Result<MonitorOptions, UsageError> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Ok(MonitorOptions {
            data_dir: self.data_dir.clone(),
            retain_for: self.retain_for,
            retain_bytes: self.retain_bytes,
            commit_window: self.commit_window,
            decoders: Decoders::new(self.decode.clone()),
            identity: Identity {
                instance: self.instance.clone().or_else(|| set("POD_NAME")),
                cluster: set("AKRI_MQTT_CLUSTER"),
                namespace: set("POD_NAMESPACE"),
                short: self.short_client_id,
            },
            talk: TalkOptions {
                allow_publish: self.allow_publish.clone(),
                announce: self.announce_topic.clone(),
            },
            access: self.access.files(),
            sinks: SinkUrls::parse_all(&self.sink).map_err(usage)?,
            drain_timeout: self.drain_timeout,
        })
    }

    /// Where other members of the pool reach the port that listens there.
    ///
    /// # Errors
    /// When that cannot be known.
    pub fn advertised(&self, grpc: SocketAddr) -> Result<Address, UsageError> {
        let pod_ip = std::env::var("POD_IP").ok();
        let told = self.advertise.clone();
        told.or_else(|| Address::of(grpc, pod_ip.as_deref()))
            .ok_or_else(|| {
                usage(format!(
                    "--advertise is missing: --grpc {grpc} is every address, and there is no POD_IP; {NoAddress}"
                ))
            })
    }

    /// Where the devices come from: a Configuration or the file if there is one, else flags and environment.
    ///
    /// # Errors
    /// Everything that is missing or wrong.
    pub fn source(
        &self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<From, UsageError> {
        match (&self.pool, &self.devices_file) {
            (Some(configuration), _) => Ok(From::Configuration(configuration.clone())),
            (None, None) => self.devices(environment).map(From::Environment),
            (None, Some(file)) => {
                let opened = DevicesFile::open(file);
                let opened = opened.map_err(|error| usage(format!("--devices-file {error}")))?;
                Ok(From::File(Box::new(opened)))
            }
        }
    }

    /// The devices of flags and environment.
    ///
    /// # Errors
    /// Every variable that is missing or wrong.
    pub fn devices(
        &self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Vec<DeviceSpec>, UsageError> {
        let mut variables: BTreeMap<String, String> = environment.into_iter().collect();
        if let Some(id) = &self.device_id {
            variables.insert("MQTT_DEVICE_ID".to_owned(), id.clone());
        }
        if !self.server_url.is_empty() {
            variables.insert("MQTT_SERVER_URLS".to_owned(), self.server_url.join(","));
        }
        if !self.topic.is_empty() {
            let topics = serde_json::to_string(&self.topic).map_err(usage)?;
            variables.insert("MQTT_TOPICS".to_owned(), topics);
        }
        DeviceSpec::from_env(variables).map_err(|faults| {
            UsageError::new(format!(
                "no devices to watch; these variables, or their flags, are missing or wrong:\n{faults}"
            ))
        })
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("allowed: 500ms, 30s, 5m, 24h, 7d".to_owned()),
    };
    let number = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds));
    let number = number.filter(|number| *number > 0 && *number <= 100 * 366 * 86_400_000);
    number
        .map(Duration::from_millis)
        .ok_or_else(|| "allowed: 1ms to 100 years".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err("allowed: bytes, or KiB, MiB, GiB, TiB".to_owned()),
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift));
    bytes
        .filter(|bytes| *bytes >= LEAST_BYTES)
        .ok_or_else(|| "allowed: at least 4MiB".to_owned())
}

fn decode_rule(text: &str) -> Result<(TopicFilter, Decoder), String> {
    let (filter, decoder) = text
        .rsplit_once('=')
        .ok_or("allowed: FILTER=DECODER, such as robots/+/state=json")?;
    let filter = TopicFilter::parse(filter).map_err(|error| error.to_string())?;
    Ok((
        filter,
        decoder
            .parse()
            .map_err(|error: akri_mqtt_core::decode::UnknownDecoder| error.to_string())?,
    ))
}
