//! The command line as it is typed; what it means, and whether it can be meant, is for [`crate::command::config`].

mod controller;
mod ping;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
pub use controller::ControllerArgs;
use probe_core::reflector::policy::Rates;

pub use crate::command::args::ping::PingArgs;
use crate::command::compare::args::{CalibrateArgs, CompareArgs, EchoArg};

/// Measures delay and loss between Open vSwitch ports, with stamps taken in the kernel.
#[derive(Debug, Clone, Parser)]
#[command(name = "kstamp", version, arg_required_else_help = false)]
pub struct Cli {
    /// Say more on standard error; twice: still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// What to do.
    #[command(subcommand)]
    pub command: CommandArgs,
}

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub enum CommandArgs {
    /// Find peers, probe them, answer their probes, and report delay and loss
    Agent(AgentArgs),
    /// Answer the probes of others, and send none
    Reflect(ReflectArgs),
    /// Control OpenFlow switches: find their links, measure the delay of each, route by it
    Controller(ControllerArgs),
    /// Probe one reflector, of whatever make, and say what comes back
    Ping(PingArgs),
    /// Say whether kstamp can run here, and what to do if it cannot
    Doctor(DoctorArgs),
    /// Set three ways of measuring beside each other: processes, the kernel's socket stamps, and kstamp's own
    Compare(CompareArgs),
    /// Measure the instrument itself: differences below its noise floor are not real
    Calibrate(CalibrateArgs),
}

/// `kstamp agent`.
#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// What it has in common with `reflect`.
    #[command(flatten)]
    pub port: PortArgs,

    /// Time between two probes to the same peer: 500ms, 1s; at least 1us, and below 100us in small bursts
    #[arg(long, value_name = "DURATION", default_value = "500ms", allow_hyphen_values = true)]
    pub interval: String,

    /// Time after which a probe without an answer is lost: 500ms, 2s
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub timeout: String,

    /// Probe this address too, whether or not it shows itself in the group; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub peer: Vec<String>,

    /// Send no probes to the group, only to each --peer
    #[arg(long, conflicts_with = "group")]
    pub no_group: bool,

    /// Ask agents of the older kind too, which send back numbers in ASCII: those in the group that do not speak STAMP
    #[arg(long, conflicts_with_all = ["no_group", "key_file"])]
    pub echo_peers: bool,

    /// Silence after which a peer is said to be down; at least the timeout
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub peer_expiry: String,

    /// Stop after this many probes to each peer [default: run until ctrl-C]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub count: Option<String>,

    /// Write every single probe to this file, one JSON object per line
    #[arg(long, value_name = "FILE")]
    pub samples: Option<PathBuf>,
}

/// `kstamp reflect`.
#[derive(Debug, Clone, Args)]
pub struct ReflectArgs {
    /// What it has in common with `agent`.
    #[command(flatten)]
    pub port: PortArgs,
}

/// What whoever attaches to an interface has to be told.
#[derive(Debug, Clone, Args)]
pub struct PortArgs {
    /// Interface to measure on, such as an Open vSwitch internal port
    #[arg(long, value_name = "IFACE")]
    pub iface: String,

    /// Multicast group in which peers find each other, at most one of each IP version; it alone decides which versions
    /// are used, unless --family does [default: 239.255.255.250 and ff0e::10]
    #[arg(long, value_name = "ADDR")]
    pub group: Vec<String>,

    /// UDP port on which probes arrive, here and at the peers
    #[arg(long, value_name = "PORT", default_value = "1910")]
    pub port: String,

    /// IP versions to use [default: those of which the interface has an address]
    #[arg(long, value_enum, value_name = "FAMILY")]
    pub family: Option<FamilyArg>,

    /// How to receive: the fastest way that works here, or only the one named
    #[arg(long, value_enum, value_name = "MODE", default_value = "auto")]
    pub attach: AttachArg,

    /// Answer sources in this prefix too, beside those in the interface's own prefixes; may be repeated
    #[arg(long, value_name = "PREFIX")]
    pub allow: Vec<String>,

    /// Answer at most so many probes a second in all; 0: as many as come
    #[arg(long, value_name = "NUMBER", default_value_t = Rates::DEFAULT.port.to_string(), allow_negative_numbers = true)]
    pub rate: String,

    /// Answer each source at most so many probes a second; 0: as many as come
    #[arg(long, value_name = "NUMBER", default_value_t = Rates::DEFAULT.source.to_string(), allow_negative_numbers = true)]
    pub rate_source: String,

    /// Answer each source at most so many probes to a group a second, as every member does; 0: as many as come
    #[arg(long, value_name = "NUMBER", default_value_t = Rates::DEFAULT.group.to_string(), allow_negative_numbers = true)]
    pub rate_group: String,

    /// Go on as this user once everything is opened and attached
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// How to stamp: by kernel programs, or by sockets, where eBPF is not permitted [default: ebpf; socket with --key-file]
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub engine: Option<EngineArg>,

    /// Authenticate every packet with the key in this file, and answer no others: hexadecimal digits, or the key itself;
    /// nobody but its owner may have any right to the file
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// Answer with the sender's sequence numbers, and keep no sessions; only with --engine socket
    #[arg(long)]
    pub stateless: bool,

    /// Time between two reports
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub report: String,

    /// Stop after this time [default: run until ctrl-C]
    #[arg(long, value_name = "DURATION")]
    pub duration: Option<String>,

    /// What peers are told this agent is called [default: HOSTNAME:IFACE]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Form of the output: tables for people, or one JSON object per line
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: FormatArg,

    /// Write the output to this file instead of standard output; it is emptied first
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Whether processes of this end answer too, which is what `kstamp compare` compares with
    #[arg(long, value_enum, value_name = "HOW", default_value = "on")]
    pub echo: EchoArg,

    /// Show on standard error what the kernel programs log of each packet (slow)
    #[arg(long)]
    pub log_bpf: bool,
}

/// `kstamp doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Look at this interface too
    #[arg(long, value_name = "IFACE")]
    pub iface: Option<String>,
}

/// `--family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FamilyArg {
    /// IPv4 only
    V4,
    /// IPv6 only
    V6,
    /// Both, and fail if the interface lacks one
    Both,
}

/// `--attach`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AttachArg {
    /// The fastest that works
    Auto,
    /// XDP in the driver
    XdpNative,
    /// XDP in the network stack
    XdpGeneric,
    /// Traffic control
    Tc,
}

/// `--engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineArg {
    /// Kernel programs
    Ebpf,
    /// Sockets
    Socket,
}

/// `--engine` of `ping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PingEngineArg {
    /// Kernel programs, or else sockets
    Auto,
    /// Kernel programs
    Ebpf,
    /// Sockets
    Socket,
}

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// Tables for people
    Text,
    /// One JSON object per line
    Jsonl,
}

/// Why there are no arguments to go on with.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Help or the version was asked for: print it on standard output and end as a success.
    #[error("{0}")]
    Help(String),
    /// They cannot be understood; one line.
    #[error("{0}")]
    Usage(String),
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// [`ParseError::Help`] if only help is wanted, [`ParseError::Usage`] if the line makes no sense.
pub fn parse<I>(arguments: I) -> Result<Cli, ParseError>
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    Cli::try_parse_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ParseError::Help(error.to_string()),
        _ => ParseError::Usage(one_line(&error.to_string())),
    })
}

/// What clap says in paragraphs, as one line without the usage: complaint; tip; where to find help.
fn one_line(error: &str) -> String {
    let paragraphs = error
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut parts: Vec<String> = paragraphs
        .filter(|paragraph| !paragraph.is_empty() && !paragraph.starts_with("Usage:"))
        .filter(|paragraph| !paragraph.starts_with("For more information"))
        .map(|paragraph| {
            paragraph
                .trim_start_matches("error: ")
                .trim_start_matches("tip: ")
                .to_owned()
        })
        .collect();
    parts.push("see --help".to_owned());
    parts.join("; ")
}
