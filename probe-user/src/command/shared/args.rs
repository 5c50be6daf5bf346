//! Flags and values that several subcommands have.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use probe_core::reflector::policy::Rates;

use crate::output::{AgentFormat, Format};

/// The configuration, which `crate::config` has read before the flags are checked.
#[derive(Debug, Clone, Args)]
pub struct ConfigurationArgs {
    /// Read this configuration file, and the files *.toml in the directory of that name with .d; none: no file [default:
    /// COMMAND.toml in /etc/kstamp]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options shared by `agent` and `reflect`.
#[derive(Debug, Clone, Args)]
pub struct EndpointArgs {
    #[command(flatten)]
    pub configuration: ConfigurationArgs,

    /// Interface to measure on, such as an Open vSwitch internal port
    #[arg(long, value_name = "IFACE")]
    pub iface: String,

    /// Multicast group for discovery, at most one per IP version; also selects the IP versions unless --family is given
    /// [default: 239.255.255.250 and ff0e::10]
    #[arg(long, value_name = "ADDR")]
    pub group: Vec<String>,

    /// UDP port on which probes are answered, repeatable up to 4 times; an agent sends its probes to the first
    /// [default: 1910; of reflect: 862, STAMP's own port, and 1910]
    #[arg(long, value_name = "PORT")]
    pub port: Vec<String>,

    /// IP versions to use [default: those that the interface has an address of]
    #[arg(long, value_enum, value_name = "FAMILY")]
    pub family: Option<FamilyArg>,

    /// Hook of the receive program (auto: the fastest that works on this interface)
    #[arg(long, value_enum, value_name = "MODE", default_value = "auto")]
    pub attach: AttachArg,

    /// Also answer sources in this prefix, in addition to the interface's own prefixes; repeatable
    #[arg(long, value_name = "PREFIX")]
    pub allow: Vec<String>,

    /// Maximum replies per second, all sources together (0: unlimited)
    #[arg(long, value_name = "NUMBER", default_value_t = Rates::DEFAULT.port.to_string(), allow_negative_numbers = true)]
    pub rate: String,

    /// Maximum replies per second to each source (0: unlimited)
    #[arg(long, value_name = "NUMBER", default_value_t = Rates::DEFAULT.source.to_string(), allow_negative_numbers = true)]
    pub rate_source: String,

    /// Maximum replies per second to each source's multicast probes (0: unlimited)
    #[arg(long, value_name = "NUMBER", default_value_t = Rates::DEFAULT.group.to_string(), allow_negative_numbers = true)]
    pub rate_group: String,

    /// Maximum probes per second of a `kstamp volley` that this host agrees to, within --rate and --rate-source (0: none)
    #[arg(long, value_name = "NUMBER", default_value_t = Rates::DEFAULT_VOLLEY.to_string(), allow_negative_numbers = true)]
    pub volley_limit: String,

    /// Switch to this user once everything is opened and attached
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// Where timestamps are taken: in kernel programs, or by the kernel at sockets, which needs no eBPF [default: ebpf;
    /// socket with --key-file]
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub engine: Option<EngineArg>,

    /// Authenticate packets with the key in this file (hexadecimal digits or raw bytes) and ignore all others; only its
    /// owner may have access to the file
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// Verify HMAC TLVs of unauthenticated packets with the key in this file; without it, TLVs that come with an HMAC are
    /// returned unused, with flag I
    #[arg(long, value_name = "FILE")]
    pub tlv_key_file: Option<PathBuf>,

    /// Reflect without sessions: replies repeat the sender's sequence numbers; needs --engine socket
    #[arg(long)]
    pub stateless: bool,

    /// Time between two reports [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub report: Option<String>,

    /// Stop after this time [default: run until Ctrl-C]
    #[arg(long, value_name = "DURATION")]
    pub duration: Option<String>,

    /// Name of this agent, as peers see it [default: HOSTNAME:IFACE]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Output format: tables, one JSON object per line, or windows and summaries as comma-separated values
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: AgentFormat,

    /// Write results to this file instead of standard output; truncated at the start, opened again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Answer the probes of `kstamp compare` in processes too (realtime: with threads at SCHED_FIFO)
    #[arg(long, alias = "echo", value_enum, value_name = "HOW", default_value = "on")]
    pub responder: ResponderArg,

    #[command(flatten)]
    pub hops: HopArgs,

    /// Print the log of the kernel programs, several lines per packet, on standard error (slow)
    #[arg(long)]
    pub log_bpf: bool,
}

/// Stamps at the devices that probes pass.
#[derive(Debug, Clone, Args)]
pub struct HopArgs {
    /// Stamp probes also at each device of this host that they pass, so that round trips, losses and outliers are split by
    /// segment; a peer that has it too gives its half
    #[arg(long)]
    pub hops: bool,

    /// Look for the devices of --hops in this network namespace, as /run/netns/host [default: that of process 1, or without
    /// permission that of the agent]
    #[arg(long, value_name = "FILE", requires = "hops")]
    pub host_netns: Option<PathBuf>,
}

/// Where results go, and in which form.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Output format: tables, or one JSON object per line
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: Format,

    /// Write results to this file instead of standard output; truncated at the start, opened again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FamilyArg {
    /// IPv4 only
    V4,
    /// IPv6 only
    V6,
    /// IPv4 and IPv6; fail if the interface lacks one
    Both,
}

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineArg {
    /// Kernel programs
    Ebpf,
    /// Sockets
    Socket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResponderArg {
    /// Answer
    On,
    /// Answer with threads at SCHED_FIFO
    Realtime,
    /// Do not answer
    Off,
}
