//! Arguments of `kstamp hub`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::command::shared::args::{ConfigurationArgs, OutputArgs};

#[derive(Debug, Clone, Args)]
#[command(subcommand_value_name = "ACTION", subcommand_help_heading = "Actions")]
pub struct HubArgs {
    #[command(flatten)]
    pub configuration: ConfigurationArgs,

    #[command(flatten)]
    pub fleet: FleetArgs,

    /// Name of this hub among several of one fleet [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Have the NATS server that this hub starts listen here
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:4222")]
    pub nats_listen: String,

    /// NATS server to start, of version 2.11 or newer [default: nats-server in PATH]
    #[arg(long, value_name = "PATH", conflicts_with = "nats")]
    pub nats_server: Option<PathBuf>,

    /// Disk space for results; the oldest go first
    #[arg(long, value_name = "SIZE", default_value = "5GiB")]
    pub store_size: String,

    /// Targets that each port gets
    #[arg(long, value_name = "NUMBER", default_value = "32")]
    pub neighbours: String,

    /// Time after which the rotating share of the targets changes
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub rotation: String,

    /// Send alerts to this address, as JSON by POST [default: off]
    #[arg(long, value_name = "URL")]
    pub webhook: Option<String>,

    /// Serve the page, an API and metrics for Prometheus at http://ADDR:PORT/; none: serve nothing
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9864")]
    pub listen: String,

    /// TLS and passwords of --listen, in the format of Prometheus' exporter toolkit; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub web_config: Option<PathBuf>,

    /// Stop after this time [default: run until Ctrl-C]
    #[arg(long, value_name = "DURATION")]
    pub duration: Option<String>,

    #[command(flatten)]
    pub output: OutputArgs,

    #[command(subcommand)]
    pub action: Option<HubAction>,
}

/// What the hub and its actions need to know.
#[derive(Debug, Clone, Args)]
pub struct FleetArgs {
    /// Directory of the authority, the keys and the enrolled hosts; only its owner may have access to it
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kstamp/hub", global = true)]
    pub state: PathBuf,

    /// Name or address of this host as agents connect to it, repeatable; kept in --state [default: those of before, or the
    /// host's name]
    #[arg(long, value_name = "HOST[:PORT]", global = true)]
    pub address: Vec<String>,

    /// Use these NATS servers with JetStream, repeatable, instead of starting one
    #[arg(long, value_name = "URL", global = true)]
    pub nats: Vec<String>,

    /// Authority of the certificates of --nats (PEM) [default: that in --state]
    #[arg(long, value_name = "FILE", global = true)]
    pub nats_ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum HubAction {
    /// Enrol a host: print the credentials with which its agents connect
    Enroll(EnrollArgs),
    /// End the enrolment of a host: its credentials no longer work
    Revoke(RevokeArgs),
    /// Print the keys and the enrolled hosts, for a second hub or as a backup: whoever has them controls the fleet
    Export(ExportArgs),
    /// Import an export: make a new --state of it, or enrol the same hosts in an existing one
    Import(ImportArgs),
    /// Show who coordinates, hosts, ports, alerts and the worst pairs
    Status(StatusArgs),
}

#[derive(Debug, Clone, Args)]
pub struct EnrollArgs {
    /// Name of the host: letters, digits, `-` and `_`
    #[arg(value_name = "HOST")]
    pub host: String,

    /// Prefix of the addresses of the host's ports, repeatable; addresses outside are not probed
    #[arg(long, value_name = "PREFIX", required_unless_present = "reader")]
    pub prefix: Vec<String>,

    /// Make credentials for queries only, such as `kstamp hub status`
    #[arg(long, conflicts_with = "prefix")]
    pub reader: bool,

    /// Give a host that is enrolled new credentials; those of before no longer work
    #[arg(long)]
    pub replace: bool,

    /// Write the credentials to this file, which must not exist [default: standard output]
    #[arg(short = 'o', long = "output", value_name = "FILE", id = "credentials")]
    pub credentials: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct RevokeArgs {
    /// Name of the host
    #[arg(value_name = "HOST")]
    pub host: String,
}

#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Write the export to this file, which must not exist [default: standard output]
    #[arg(short = 'o', long = "output", value_name = "FILE", id = "export")]
    pub export: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// File of `kstamp hub export`; -: standard input
    #[arg(value_name = "FILE")]
    pub export: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Ask with the credentials of a reader, by `kstamp hub enroll NAME --reader` [default: those in --state]
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,

    /// Number of the worst pairs
    #[arg(long, value_name = "NUMBER", default_value = "5")]
    pub top: String,

    #[command(flatten)]
    pub output: OutputArgs,
}
