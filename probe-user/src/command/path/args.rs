//! Flags of `kstamp path`.

use std::path::PathBuf;

use clap::Args;

use crate::command::shared::values::AGENT_PORT;
use crate::output::Format;

#[derive(Debug, Clone, Args)]
pub struct PathArgs {
    /// Interface to measure from, such as an Open vSwitch internal port; an agent may run there
    #[arg(long, value_name = "IFACE")]
    pub iface: String,

    /// Address of the other end; an agent there gives its half of the path if it has --hops
    #[arg(long, value_name = "ADDR")]
    pub peer: String,

    /// UDP port of the peer
    #[arg(short, long, value_name = "PORT", default_value_t = AGENT_PORT.to_string())]
    pub port: String,

    /// Number of probes
    #[arg(
        short,
        long,
        value_name = "NUMBER",
        default_value = "50",
        allow_negative_numbers = true
    )]
    pub count: String,

    /// Time between two probes
    #[arg(
        short,
        long,
        value_name = "DURATION",
        default_value = "100ms",
        allow_hyphen_values = true
    )]
    pub interval: String,

    /// A probe without a reply is lost after this time
    #[arg(short = 'W', long, value_name = "DURATION", default_value = "1s")]
    pub timeout: String,

    /// Look for the devices that probes pass in this network namespace, as /run/netns/host [default: that of process 1, or
    /// without permission that of this process]
    #[arg(long, value_name = "FILE")]
    pub host_netns: Option<PathBuf>,

    /// Socket of Open vSwitch's database, which says on which bridge the port is, or none; it is only read
    /// [default: /var/run/openvswitch/db.sock if it is there]
    #[arg(long, value_name = "PATH|none")]
    pub ovsdb: Option<String>,

    /// Output format: tables, or one JSON object per line
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}
