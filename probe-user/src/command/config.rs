//! What the command line means: checked as a whole before anything is attached, in terms of what it configures.

mod compare;
mod controller;
mod families;
mod ping;
mod stamping;
mod values;

use std::path::PathBuf;
use std::process;
use std::time::Duration;

pub use compare::{CalibrateConfig, CompareConfig, Stress};
pub use controller::ControllerConfig;
use families::{families_of, groups, has, limit};
use probe_common::abi::MAX_IN_FLIGHT;
use probe_common::family::Family;
use probe_core::agent::config::{Families, MAX_PEERS, ProbeConfig};
use probe_core::reflector::policy::Rates;
use probe_core::session::GRACE_NS;
use probe_host::hostname::default_agent_name;
use probe_host::link::{NameError, check_name};
use probe_io::backend::ebpf::plan::{Choice, ReceiveMode};
use probe_io::backend::ebpf::{Answering, PortConfig};
use probe_io::compare::priority::Priority;

use crate::command::args::{AgentArgs, AttachArg, Cli, CommandArgs, DoctorArgs, FormatArg, PortArgs, ReflectArgs};
use crate::command::compare::args::EchoArg;
pub use crate::command::config::ping::{PingConfig, PingEngine};
pub use crate::command::config::stamping::StampingConfig;
use crate::output::Format;

/// aya-log's level `trace`: everything that the programs say.
const LOG_EVERYTHING: u8 = 5;

/// As a file name, the usual sign for it.
const STANDARD_OUTPUT: &str = "-";

/// What is wrong with a command line, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No interface can have this name.
    #[error("--iface: {0}; `ip link` lists the interfaces")]
    Interface(#[source] NameError),
    /// One flag, by itself or beside another.
    #[error("{0}")]
    Flag(String),
}

/// One subcommand with what it needs.
#[derive(Debug, Clone)]
pub enum Command {
    /// `kstamp agent`.
    Agent(Box<AgentConfig>),
    /// `kstamp reflect`.
    Reflect(Box<ReflectConfig>),
    /// `kstamp controller`.
    Controller(Box<ControllerConfig>),
    /// `kstamp ping`.
    Ping(Box<PingConfig>),
    /// `kstamp doctor`.
    Doctor(DoctorConfig),
    /// `kstamp compare`.
    Compare(Box<CompareConfig>),
    /// `kstamp calibrate`.
    Calibrate(CalibrateConfig),
}

impl Command {
    /// Whether the kernel programs are to log, and their lines to be shown.
    pub fn wants_program_log(&self) -> bool {
        match self {
            Self::Agent(config) => config.station.port.log_level != 0,
            Self::Reflect(config) => config.station.port.log_level != 0,
            Self::Ping(_) | Self::Controller(_) | Self::Doctor(_) | Self::Compare(_) | Self::Calibrate(_) => false,
        }
    }
}

/// What `kstamp agent` and `kstamp reflect` have in common: an interface, and how others are answered there.
#[derive(Debug, Clone)]
pub struct StationConfig {
    /// What peers are told.
    pub name: String,
    /// The interface.
    pub port: PortConfig,
    /// Who stamps.
    pub stamping: StampingConfig,
    /// Each family was asked for, by a flag that names it: the interface must have an address of each.
    pub families_required: bool,
    /// Who to be once everything is opened and attached; `None` for no change.
    pub user: Option<String>,
    /// How urgently processes answer; `None` if they do not. With a key nobody is told where they would.
    pub echo: Option<Priority>,
}

/// `kstamp agent`.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Where, and how others are answered.
    pub station: StationConfig,
    /// Whom to probe and how.
    pub core: ProbeConfig,
    /// Whether to ask agents of the older kind.
    pub echo_peers: bool,
    /// How long to run; `None` until a signal comes.
    pub duration_ns: Option<u64>,
    /// Where results go.
    pub output: OutputConfig,
}

/// `kstamp reflect`.
#[derive(Debug, Clone)]
pub struct ReflectConfig {
    /// Where and how.
    pub station: StationConfig,
    /// Time between two reports.
    pub report: Duration,
    /// How long to run; `None` until a signal comes.
    pub duration: Option<Duration>,
    /// Where results go.
    pub output: OutputConfig,
}

/// `kstamp doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoctorConfig {
    /// An interface to look at too.
    pub interface: Option<String>,
}

/// Where results go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputConfig {
    /// In which form.
    pub format: Format,
    /// To which file; `None` for standard output.
    pub output: Option<PathBuf>,
    /// To which file every single probe goes, if to any.
    pub samples: Option<PathBuf>,
}

impl AgentConfig {
    /// Leaves out the families of which the interface has no address, unless they are required or a peer was named that
    /// has one. If none is left, nothing is left out, and opening the port says what is missing.
    pub fn limit_to(&mut self, present: Families) {
        if self.station.families_required {
            return;
        }
        let peers = families_of(&self.core.static_peers);
        let wanted = Families {
            v4: present.v4 || peers.v4,
            v6: present.v6 || peers.v6,
        };
        let groups = &mut self.station.port.groups;
        limit(groups, wanted);
        let probed = families_of(groups);
        self.core.group.v4 &= probed.v4;
        self.core.group.v6 &= probed.v6;
    }
}

impl ReflectConfig {
    /// As [`AgentConfig::limit_to`].
    pub fn limit_to(&mut self, present: Families) {
        if !self.station.families_required {
            limit(&mut self.station.port.groups, present);
        }
    }
}

/// The meaning of a command line.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn validate(cli: Cli) -> Result<Command, ConfigError> {
    match cli.command {
        CommandArgs::Agent(args) => agent(args).map(Box::new).map(Command::Agent),
        CommandArgs::Reflect(args) => reflect(args).map(Box::new).map(Command::Reflect),
        CommandArgs::Controller(args) => controller::validate(args).map(Box::new).map(Command::Controller),
        CommandArgs::Ping(args) => ping::ping(args).map(Box::new).map(Command::Ping),
        CommandArgs::Doctor(args) => doctor(args).map(Command::Doctor),
        CommandArgs::Compare(args) => compare::compare(args).map(Box::new).map(Command::Compare),
        CommandArgs::Calibrate(args) => compare::calibrate(&args).map(Command::Calibrate),
    }
}

fn agent(args: AgentArgs) -> Result<AgentConfig, ConfigError> {
    let common = port(args.port, true)?;
    let interval_ns = values::interval_ns(&args.interval)?;
    let timeout_ns = values::duration_ns("--timeout", &args.timeout)?;
    let peer_expiry_ns = values::duration_ns("--peer-expiry", &args.peer_expiry)?;
    if peer_expiry_ns < timeout_ns {
        return wrong(format!(
            "--peer-expiry {} is shorter than --timeout {}, so that an answer in time could come from a peer that is \
             down; make it at least as long",
            args.peer_expiry, args.timeout
        ));
    }
    let static_peers = values::peers(&args.peer, &common.station.port.interface)?;
    let families = families_of(&common.station.port.groups);
    if let Some(peer) = static_peers.iter().find(|peer| !has(families, Family::of(**peer))) {
        return wrong(format!(
            "--peer {peer} is {}, which --family or --group leaves out; add --family both",
            Family::of(*peer)
        ));
    }
    if args.no_group && static_peers.is_empty() {
        return wrong("--no-group leaves nobody to probe; name a peer with --peer, or use `kstamp reflect`".to_owned());
    }
    let group = if args.no_group {
        Families { v4: false, v6: false }
    } else {
        families
    };
    let groups = u64::from(group.v4) + u64::from(group.v6);
    let sessions = groups + static_peers.len() as u64;
    let waiting = timeout_ns.saturating_add(GRACE_NS).div_ceil(interval_ns);
    let in_flight = waiting.saturating_mul(sessions);
    if in_flight > u64::from(MAX_IN_FLIGHT) {
        return wrong(format!(
            "--timeout {} at --interval {} keeps {in_flight} probes waiting, and the kernel remembers {MAX_IN_FLIGHT}; \
             use a longer interval or a shorter timeout",
            args.timeout, args.interval
        ));
    }
    let count = args.count.as_deref().map(values::count).transpose()?;
    let samples = args.samples;
    if samples.as_ref().is_some_and(|path| path.as_os_str() == STANDARD_OUTPUT) {
        return wrong("--samples needs a file of its own; standard output has the results".to_owned());
    }
    if samples.is_some() && samples == common.output.output {
        return wrong("--samples and --output name the same file; give each its own".to_owned());
    }
    Ok(AgentConfig {
        station: common.station,
        echo_peers: args.echo_peers,
        core: ProbeConfig {
            interval_ns,
            timeout_ns,
            report_ns: common.report_ns,
            peer_expiry_ns,
            count,
            group,
            unicast: true,
            static_peers,
            first_ssid: first_ssid(process::id()),
            max_peers: max_peers(waiting, groups),
            samples: samples.is_some(),
        },
        duration_ns: common.duration_ns,
        output: OutputConfig {
            samples,
            ..common.output
        },
    })
}

/// Peers, each in a session of its own beside the groups', whose probes the kernel can remember all at once.
fn max_peers(waiting: u64, groups: u64) -> usize {
    let sessions = u64::from(MAX_IN_FLIGHT) / waiting.max(1);
    usize::try_from(sessions.saturating_sub(groups)).map_or(MAX_PEERS, |peers| peers.min(MAX_PEERS))
}

fn reflect(args: ReflectArgs) -> Result<ReflectConfig, ConfigError> {
    let common = port(args.port, false)?;
    Ok(ReflectConfig {
        station: common.station,
        report: Duration::from_nanos(common.report_ns),
        duration: common.duration_ns.map(Duration::from_nanos),
        output: common.output,
    })
}

fn doctor(args: DoctorArgs) -> Result<DoctorConfig, ConfigError> {
    if let Some(interface) = &args.iface {
        check_name(interface).map_err(ConfigError::Interface)?;
    }
    Ok(DoctorConfig { interface: args.iface })
}

/// What the flags of `agent` and `reflect` have in common.
struct Common {
    station: StationConfig,
    report_ns: u64,
    duration_ns: Option<u64>,
    output: OutputConfig,
}

fn port(args: PortArgs, probing: bool) -> Result<Common, ConfigError> {
    check_name(&args.iface).map_err(ConfigError::Interface)?;
    let given = values::groups(&args.group)?;
    let stamping = stamping::stamping(&args)?;
    let echo = match args.echo {
        EchoArg::On => Some(Priority::Normal),
        EchoArg::Realtime => Some(Priority::Realtime),
        EchoArg::Off => None,
    };
    Ok(Common {
        station: StationConfig {
            name: match args.name {
                Some(name) => values::name(name)?,
                None => default_agent_name(&args.iface),
            },
            families_required: args.family.is_some() || !given.is_empty(),
            port: PortConfig {
                test_port: values::port(&args.port)?,
                groups: groups(&given, args.family)?,
                choice: choice(args.attach),
                probing,
                log_level: if args.log_bpf { LOG_EVERYTHING } else { 0 },
                answering: Answering {
                    allow: values::prefixes(&args.allow)?,
                    rates: Rates {
                        port: values::rate("--rate", &args.rate)?,
                        source: values::rate("--rate-source", &args.rate_source)?,
                        group: values::rate("--rate-group", &args.rate_group)?,
                    },
                },
                interface: args.iface,
            },
            user: args.user.map(values::user).transpose()?,
            echo: echo.filter(|_| stamping.key.is_none()),
            stamping,
        },
        report_ns: values::duration_ns("--report", &args.report)?,
        duration_ns: args
            .duration
            .map(|duration| values::duration_ns("--duration", &duration))
            .transpose()?,
        output: OutputConfig {
            format: format(args.format),
            output: args.output.filter(|path| path.as_os_str() != STANDARD_OUTPUT),
            samples: None,
        },
    })
}

fn format(format: FormatArg) -> Format {
    match format {
        FormatArg::Text => Format::Text,
        FormatArg::Jsonl => Format::Jsonl,
    }
}

fn choice(attach: AttachArg) -> Choice {
    match attach {
        AttachArg::Auto => Choice::Auto,
        AttachArg::XdpNative => Choice::Only(ReceiveMode::XdpNative),
        AttachArg::XdpGeneric => Choice::Only(ReceiveMode::XdpGeneric),
        AttachArg::Tc => Choice::Only(ReceiveMode::Tc),
    }
}

/// Differs from run to run, so that a reflector that counts replies by session does not go on where an earlier run
/// ended. Never 0, which stands for no session (RFC 8972 §3).
fn first_ssid(process_id: u32) -> u16 {
    (process_id % u32::from(u16::MAX)) as u16 + 1
}

fn wrong<T>(message: String) -> Result<T, ConfigError> {
    Err(ConfigError::Flag(message))
}

#[cfg(test)]
mod tests;
