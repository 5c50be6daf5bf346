//! `kstamp controller`, as it is typed.

use std::path::PathBuf;

use clap::Args;

use crate::output::Format;

/// `kstamp controller`.
#[derive(Debug, Clone, Args)]
pub struct ControllerArgs {
    /// Where switches connect to: `ovs-vsctl set-controller BRIDGE tcp:ADDRESS`
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:6653")]
    pub listen: String,

    /// Time in which each port and each switch is measured once; LLDP that fails to come for three periods takes a link
    /// out of all paths, so with 500ms in a second and a half
    #[arg(long, value_name = "DURATION", default_value = "500ms")]
    pub period: String,

    /// Accept switches by TLS only: this controller's certificate (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca"])]
    pub tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_ca"])]
    pub tls_key: Option<PathBuf>,

    /// Authority that the switches' certificates must come from (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_key"])]
    pub tls_ca: Option<PathBuf>,

    /// Stamp LLDP in the kernel at these switch ports of this host: both ends of a link give its true delay; needs root
    #[arg(long, value_name = "IFACE", num_args = 1..)]
    pub tap: Vec<String>,

    /// Forward nothing: touch no rules but those that measuring needs, LLDP to the controller and the bounces
    #[arg(long)]
    pub measure_only: bool,

    /// Leave a way that works only for one that takes less time by this much, so that noise moves no traffic
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

    /// Stop after this time [default: run until ctrl-C]
    #[arg(long, value_name = "DURATION")]
    pub duration: Option<String>,

    /// Form of the output: tables for people, or one JSON object per line
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: Format,

    /// Write the output to this file instead of standard output; it is emptied first
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Draw the network with its delays in this file, anew at each report; a browser that shows it keeps up
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}
