//! Flags of the controller. In: the command line. Out: what `run` is told.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Makes pods for devices without Akri: Configurations become Instances, pods, jobs and Services.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Directory of the sockets that are shared with the discovery handlers
    #[arg(long, default_value = "/var/lib/akri", value_name = "DIR")]
    pub handlers_directory: PathBuf,
    /// Namespace whose Configurations are served; repeatable [default: all]
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    pub namespace: Vec<String>,
    /// Namespace in which discoveryProperties of Configurations elsewhere may name Secrets and ConfigMaps; repeatable
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    pub allow_secret_namespace: Vec<String>,
    /// Wait for the Lease before anything is written
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,
    /// Name of the Lease
    #[arg(long, default_value = "akri-mqtt-controller", value_name = "NAME")]
    pub lease_name: String,
    /// Namespace of the Lease [default: $POD_NAMESPACE, else the kubeconfig's]
    #[arg(long, value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Install or upgrade the CRDs at start, unless Akri is in the cluster
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub manage_crds: bool,
    /// Requests a second to the API server, on average
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub api_qps: u32,
    /// URL of the discovery handler's admin port, which knows how the MQTT servers fare; empty: not asked
    #[arg(long, default_value = "http://127.0.0.1:8081", value_name = "URL")]
    pub handler_status: String,
    /// Address of the validating webhook; empty: off
    #[arg(long, value_name = "ADDR")]
    pub webhook: Option<SocketAddr>,
    /// Service that the API server reaches the webhook by, in the namespace of the Lease
    #[arg(long, default_value = "akri-mqtt-webhook", value_name = "NAME")]
    pub webhook_service: String,
    /// Secret that keeps the webhook's certificate [default: the Service's name and -certificate]
    #[arg(long, value_name = "NAME")]
    pub webhook_secret: Option<String>,
    /// ValidatingWebhookConfiguration that is told the certificate [default: the Service's name, - and the namespace]
    #[arg(long, value_name = "NAME")]
    pub webhook_configuration: Option<String>,
    /// Address of livez, readyz, metrics and v1/status [default: 127.0.0.1:8082, in a pod 0.0.0.0:8082]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
}
