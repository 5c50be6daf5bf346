//! Configuration of `kstamp compare` and `kstamp calibrate`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use probe_core::attach::AttachMode;
use probe_core::rings::Rings;
use probe_io::compare::priority::Priority;
use probe_io::port::{Answering, Choice, PortConfig};

use crate::command::compare::args::{CalibrateArgs, CompareArgs};
use crate::command::shared::args::FamilyArg;
use crate::command::shared::families::groups;
use crate::command::shared::values::{self, ConfigError, wrong};
use crate::output::Format;

/// Three methods need this much, or a process cannot be woken between two probes.
const MIN_INTERVAL_NS: u64 = 1_000_000;
/// Send times are kept in this many slots.
const MAX_PROBES: u64 = 2_000_000;
const MAX_BUSY: u32 = 1024;

#[derive(Debug, Clone)]
pub struct CompareConfig {
    pub port: PortConfig,
    pub peer: IpAddr,
    /// Session of the method kernel.
    pub ssid: u16,
    /// Between two probes of one method.
    pub interval_ns: u64,
    /// Of a phase.
    pub duration_ns: u64,
    pub timeout_ns: u64,
    /// Load of the second phase; `None` for no second phase.
    pub stress: Option<Stress>,
    /// Of the local threads of the methods userspace and socket.
    pub priority: Priority,
    pub notes: Vec<String>,
    pub html: Option<PathBuf>,
    pub format: Format,
    /// `None` for standard output.
    pub output: Option<PathBuf>,
}

/// Number of busy processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stress {
    /// Two per CPU.
    PerCpu,
    Processes(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CalibrateConfig {
    pub mode: AttachMode,
    /// Probes, a millisecond apart.
    pub probes: u32,
    pub format: Format,
}

pub fn validate(args: CompareArgs) -> Result<CompareConfig, ConfigError> {
    values::interface(&args.iface)?;
    let [peer] = values::peers(&[args.peer], &args.iface)?[..] else {
        return wrong("--peer must be one address");
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
            "--duration {} at --interval {} is more than {MAX_PROBES} probes of each method; use a longer interval",
            args.duration, args.interval
        ));
    }
    let output = values::output(args.output.output);
    let html = values::other_output("--html", args.html, output.as_ref())?;
    Ok(CompareConfig {
        ssid: values::first_ssid(),
        port: PortConfig {
            test_port: values::port(&args.port)?,
            other_ports: vec![],
            other_ports_are_optional: false,
            groups: groups(&[], Some(family))?,
            late: Vec::new(),
            choice: values::choice(args.attach),
            probing: true,
            rings: Rings::ONE,
            log_level: 0,
            cold: false,
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
        html,
        format: args.output.format,
        output,
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

pub fn validate_calibrate(args: &CalibrateArgs) -> Result<CalibrateConfig, ConfigError> {
    let duration = Duration::from_nanos(values::duration_ns("--duration", &args.duration)?);
    let Some(probes) = u32::try_from(duration.as_millis())
        .ok()
        .filter(|probes| (100..=600_000).contains(probes))
    else {
        return wrong(format!("--duration {} is not between 100ms and 10m", args.duration));
    };
    Ok(CalibrateConfig {
        mode: match values::choice(args.attach) {
            Choice::Auto => AttachMode::XdpNative,
            Choice::Only(mode) => mode,
        },
        probes,
        format: args.format,
    })
}

#[cfg(test)]
mod tests;
