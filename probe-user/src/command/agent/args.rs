//! Flags of `kstamp agent`.

use std::path::PathBuf;

use clap::Args;

use crate::command::shared::args::EndpointArgs;
use crate::output::metrics::Detail;

#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    #[command(flatten)]
    pub endpoint: EndpointArgs,

    /// Time between two probes to the same peer, at least 1us; below 100us probes are sent in small bursts
    #[arg(long, value_name = "DURATION", default_value = "500ms", allow_hyphen_values = true)]
    pub interval: String,

    /// A probe without a reply is lost after this time
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub timeout: String,

    /// Probe this address even if it is not found by multicast; repeatable
    #[arg(long, value_name = "ADDR")]
    pub peer: Vec<String>,

    /// Send no multicast probes, only unicast ones to each --peer
    #[arg(long, conflicts_with = "group")]
    pub no_group: bool,

    /// Also probe legacy agents, which send back ASCII numbers: group members that do not speak STAMP
    #[arg(long, alias = "echo-peers", conflicts_with_all = ["no_group", "key_file"])]
    pub legacy_peers: bool,

    /// A peer is down after this time without a reply; at least --timeout
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub peer_expiry: String,

    /// Stop after this many probes to each peer; with 1, the group finds no peers [default: run until Ctrl-C]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub count: Option<String>,

    /// Write every probe to this file, one JSON object per line, or a row with --format csv; truncated at the start, opened again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub samples: Option<PathBuf>,

    /// Serve metrics for Prometheus at http://ADDR:PORT/metrics; 127.0.0.1:9862 is usual [default: off]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,

    /// TLS and passwords of --listen, in the format of Prometheus' exporter toolkit; read again when it changes
    #[arg(long, value_name = "FILE", requires = "listen")]
    pub web_config: Option<PathBuf>,

    /// Send the same metrics to an OpenTelemetry receiver, as http://HOST:4318; /v1/metrics is added [default: off]
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,

    /// Headers for --otlp, one `Name: value` per line; a file, because every user of the host can see the command line
    #[arg(long, value_name = "FILE", requires = "otlp")]
    pub otlp_headers: Option<PathBuf>,

    /// Certificates in PEM that sign the one of --otlp [default: those of the system]
    #[arg(long, value_name = "FILE", requires = "otlp")]
    pub otlp_ca: Option<PathBuf>,

    /// Show the noise floor of this host in the metrics, from a file that `kstamp calibrate --format jsonl` wrote
    #[arg(long, value_name = "FILE")]
    pub noise_floor: Option<PathBuf>,

    /// How many time series --listen and --otlp show [default: peer]
    #[arg(long, value_enum, value_name = "DETAIL")]
    pub metrics_detail: Option<Detail>,

    /// A probe with a longer round trip is an outlier, and becomes a record of its own: a time, or auto for 4 times the 99th
    /// percentile [default: auto]
    #[arg(long, value_name = "DURATION|auto", requires = "hops")]
    pub outlier: Option<String>,

    /// Also send this many probes per second to each peer from ports that change, each as a new flow, and report them apart
    #[arg(
        long,
        value_name = "RATE",
        conflicts_with = "key_file",
        allow_negative_numbers = true
    )]
    pub cold: Option<String>,

    /// Socket of Open vSwitch's database, which says on which bridge the port is, or none; it is only read
    /// [default: /var/run/openvswitch/db.sock if it is there]
    #[arg(long, value_name = "PATH|none")]
    pub ovsdb: Option<String>,

    #[command(flatten)]
    pub fleet: FleetArgs,
}

/// How the port joins a fleet.
#[derive(Debug, Clone, Args)]
pub struct FleetArgs {
    /// Join the fleet of a hub: the file that `kstamp hub enroll` wrote for this host; reports are 7s apart unless --report is
    /// given [default: no fleet]
    #[arg(long, value_name = "FILE")]
    pub hub_credentials: Option<PathBuf>,

    /// NATS server of the fleet, as tls://HOST:4222, in place of those in --hub-credentials; repeatable
    #[arg(long, value_name = "URL", requires = "hub_credentials")]
    pub hub: Vec<String>,

    /// Label of this port, as rack=r7: the hub chooses neighbours by rack, zone and network; repeatable
    #[arg(long, value_name = "NAME=VALUE", requires = "hub_credentials")]
    pub hub_label: Vec<String>,

    /// Probe assigned ports only in this prefix; repeatable [default: anywhere]
    #[arg(long, value_name = "PREFIX", requires = "hub_credentials")]
    pub hub_allow: Vec<String>,

    /// Maximum number of ports that the hub may assign [default: 64]
    #[arg(long, value_name = "NUMBER", requires = "hub_credentials")]
    pub hub_max_peers: Option<String>,

    /// Directory of results that wait for the hub, and of its last assignment [default: /var/lib/kstamp/fleet]
    #[arg(long, value_name = "DIR", requires = "hub_credentials")]
    pub hub_buffer: Option<PathBuf>,

    /// Maximum size of --hub-buffer; beyond it the oldest results are dropped [default: 64MiB]
    #[arg(long, value_name = "SIZE", requires = "hub_credentials")]
    pub hub_buffer_size: Option<String>,

    /// Connect to the hub from this network namespace, as /run/netns/mgmt [default: that of the agent]
    #[arg(long, value_name = "FILE", requires = "hub_credentials")]
    pub hub_netns: Option<PathBuf>,
}
