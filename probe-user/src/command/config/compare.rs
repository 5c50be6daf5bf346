//! What `kstamp compare` and `kstamp calibrate` are told, checked.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process;
use std::time::Duration;

use probe_host::link::check_name;
use probe_io::backend::ebpf::plan::{Choice, ReceiveMode};
use probe_io::backend::ebpf::{Answering, PortConfig};
use probe_io::compare::priority::Priority;

use crate::command::args::FamilyArg;
use crate::command::compare::args::{CalibrateArgs, CompareArgs};
use crate::command::config::families::groups;
use crate::command::config::{ConfigError, STANDARD_OUTPUT, choice, first_ssid, format, values, wrong};
use crate::output::Format;

/// Below this, three methods leave no room for the wake-up of a process between two probes.
const MIN_INTERVAL_NS: u64 = 1_000_000;
/// More would not fit the slots in which the times of sending are kept.
const MAX_PROBES: u64 = 2_000_000;
const MAX_BUSY: u32 = 1024;

/// `kstamp compare`.
#[derive(Debug, Clone)]
pub struct CompareConfig {
    /// The interface.
    pub port: PortConfig,
    /// The other end.
    pub peer: IpAddr,
    /// Session of the kernel's probes.
    pub ssid: u16,
    /// Time between two probes of one method.
    pub interval_ns: u64,
    /// Length of a phase.
    pub duration_ns: u64,
    /// When a probe is lost.
    pub timeout_ns: u64,
    /// Whether to measure under load too.
    pub stress: Option<Stress>,
    /// Of the near threads of the process-bound methods.
    pub priority: Priority,
    /// Remarks that are to stand beside the results.
    pub notes: Vec<String>,
    /// Where the page goes.
    pub html: Option<PathBuf>,
    /// In which form results are written.
    pub format: Format,
    /// To which file; `None` for standard output.
    pub output: Option<PathBuf>,
}

/// How many busy processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stress {
    /// Two for each CPU.
    PerCpu,
    /// So many.
    Processes(u32),
}

/// `kstamp calibrate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CalibrateConfig {
    /// How to receive.
    pub mode: ReceiveMode,
    /// Probes, a millisecond apart.
    pub probes: u32,
    /// In which form the result is written.
    pub format: Format,
}

pub(super) fn compare(args: CompareArgs) -> Result<CompareConfig, ConfigError> {
    check_name(&args.iface).map_err(ConfigError::Interface)?;
    let [peer] = values::peers(&[args.peer], &args.iface)?[..] else {
        return wrong("--peer names the one other end".to_owned());
    };
    let family = if peer.is_ipv4() { FamilyArg::V4 } else { FamilyArg::V6 };
    let interval_ns = values::duration_ns("--interval", &args.interval)?;
    if interval_ns < MIN_INTERVAL_NS {
        return wrong(format!(
            "--interval {} leaves no time to wake a process between two probes; use 1ms or more",
            args.interval
        ));
    }
    let duration_ns = values::duration_ns("--duration", &args.duration)?;
    if duration_ns / interval_ns > MAX_PROBES {
        return wrong(format!(
            "--duration {} at --interval {} are more than {MAX_PROBES} probes of each method; use a longer interval",
            args.duration, args.interval
        ));
    }
    if args.html.is_some() && args.html == args.output {
        return wrong("--html and --output name the same file; give each its own".to_owned());
    }
    if args
        .html
        .as_ref()
        .is_some_and(|path| path.as_os_str() == STANDARD_OUTPUT)
    {
        return wrong("--html needs a file of its own; standard output has the tables".to_owned());
    }
    Ok(CompareConfig {
        ssid: first_ssid(process::id()),
        port: PortConfig {
            test_port: values::port(&args.port)?,
            groups: groups(&[], Some(family))?,
            choice: choice(args.attach),
            probing: true,
            log_level: 0,
            answering: Answering::default(),
            interface: args.iface,
        },
        peer,
        interval_ns,
        duration_ns,
        timeout_ns: values::duration_ns("--timeout", &args.timeout)?,
        stress: args.stress.as_deref().map(stress).transpose()?.flatten(),
        priority: if args.realtime {
            Priority::Realtime
        } else {
            Priority::Normal
        },
        notes: args.note,
        html: args.html,
        format: format(args.format),
        output: args.output.filter(|path| path.as_os_str() != STANDARD_OUTPUT),
    })
}

fn stress(text: &str) -> Result<Option<Stress>, ConfigError> {
    match text.parse() {
        _ if text == "auto" => Ok(Some(Stress::PerCpu)),
        Ok(0) => Ok(None),
        Ok(number) if number <= MAX_BUSY => Ok(Some(Stress::Processes(number))),
        _ => wrong(format!(
            "--stress '{text}' is not a number of processes; use 0 to {MAX_BUSY}"
        )),
    }
}

pub(super) fn calibrate(args: &CalibrateArgs) -> Result<CalibrateConfig, ConfigError> {
    let duration = Duration::from_nanos(values::duration_ns("--duration", &args.duration)?);
    let Some(probes) = u32::try_from(duration.as_millis())
        .ok()
        .filter(|probes| (100..=600_000).contains(probes))
    else {
        return wrong(format!("--duration {} is not between 100ms and 10m", args.duration));
    };
    Ok(CalibrateConfig {
        mode: match choice(args.attach) {
            Choice::Auto => ReceiveMode::XdpNative,
            Choice::Only(mode) => mode,
        },
        probes,
        format: format(args.format),
    })
}
