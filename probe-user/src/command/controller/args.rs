//! Arguments of `kstamp controller`.

use std::path::PathBuf;

use clap::Args;

use crate::command::shared::args::ConfigurationArgs;
use crate::output::Format;

#[derive(Debug, Clone, Args)]
pub struct ControllerArgs {
    #[command(flatten)]
    pub configuration: ConfigurationArgs,

    /// Listen here for switches (`ovs-vsctl set-controller BRIDGE tcp:ADDR:PORT`); for switches of other hosts give
    /// another address, best with --tls-cert
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6653")]
    pub listen: String,

    /// Measure each port and each switch once in this time; a link without LLDP for three periods leaves all paths, so
    /// after 1.5s with 500ms
    #[arg(long, value_name = "DURATION", default_value = "500ms")]
    pub period: String,

    /// Serve metrics for Prometheus, a page and an API at http://ADDR:PORT/; 127.0.0.1:9863 is usual [default: off]
    #[arg(long, value_name = "ADDR:PORT")]
    pub web_listen: Option<String>,

    /// TLS and passwords of --web-listen, in the format of Prometheus' exporter toolkit; read again when it changes
    #[arg(long, value_name = "FILE", requires = "web_listen")]
    pub web_config: Option<PathBuf>,

    /// Accept switches by TLS only: this controller's certificate (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca"])]
    pub tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_ca"])]
    pub tls_key: Option<PathBuf>,

    /// Authority that the switches' certificates must come from (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_key"])]
    pub tls_ca: Option<PathBuf>,

    /// Stamp LLDP in the kernel at these switch ports of this host: both ends of a link give its true delay (needs root)
    #[arg(long, value_name = "IFACE", num_args = 1..)]
    pub tap: Vec<String>,

    /// Forward nothing: install only the rules that measure, for LLDP and bounces
    #[arg(long)]
    pub measure_only: bool,

    /// Change a working path only if another is faster by this percentage of its delay, so that noise moves no traffic
    #[arg(
        long,
        value_name = "PERCENT",
        default_value = "5%",
        conflicts_with = "measure_only",
        allow_hyphen_values = true
    )]
    pub reroute_gain: String,

    /// Time between two reports
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub report: String,

    /// Stop after this time [default: run until Ctrl-C]
    #[arg(long, value_name = "DURATION")]
    pub duration: Option<String>,

    /// Output format: tables, or one JSON object per line
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: Format,

    /// Write results to this file instead of standard output; truncated at the start, opened again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Draw the network with its delays in this HTML file at each report; an open browser page reloads itself
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}
