//! Arguments of `cargo xtask run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::UsageError;
use crate::lab::{ControlDelay, Families, Lab, Topology};

/// What to run, and where.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// How the agents are connected [default: vxlan; veth with --compare].
    #[arg(long, value_enum)]
    topology: Option<Topology>,
    /// IP versions to probe.
    #[arg(long, value_enum, default_value = "v4")]
    pub(super) family: Families,
    /// How long to measure; with --compare, each phase [default: 20s; 10s with --compare].
    #[arg(long, value_name = "TIME")]
    duration: Option<humantime::Duration>,
    /// Format of the results.
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: Format,
    /// Time between probes.
    #[arg(long, value_name = "TIME")]
    pub(super) interval: Option<humantime::Duration>,
    /// Delay a switch's control channel (topologies line, triangle, arpanet), such as s2:10ms:30ms; repeatable.
    #[arg(long, value_name = "SWITCH:UP:DOWN")]
    pub(super) control_delay: Vec<ControlDelay>,
    /// Compare kstamp with probes of processes, idle and under load: `kstamp compare`.
    #[arg(long)]
    pub(super) compare: bool,
    /// Number of busy processes in the loaded phase; 0 for no such phase [default: 2 per CPU].
    #[arg(long, value_name = "NUMBER", requires = "compare")]
    pub(super) stress: Option<u32>,
    /// Run the threads of the processes at SCHED_FIFO, at both ends.
    #[arg(long, requires = "compare")]
    pub(super) realtime: bool,
    /// Write a page with plots to this file.
    #[arg(long, value_name = "FILE", requires = "compare")]
    pub(super) html: Option<PathBuf>,
    /// Leave the lab up afterwards.
    #[arg(long)]
    pub(super) keep: bool,
    /// Path of a built kstamp; set-up and building are skipped.
    #[arg(long, hide = true)]
    pub(super) built: Option<PathBuf>,
    /// Further arguments of both `kstamp agent`, of `kstamp compare` or of `kstamp controller`.
    #[arg(last = true)]
    pub(super) extra: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Jsonl,
}

impl RunArguments {
    /// Fails if they do not fit the topology.
    pub(super) fn check(&self) -> Result<()> {
        let name = self.topology().name();
        if self.topology().network().is_none() {
            if !self.control_delay.is_empty() {
                bail!(UsageError(format!("topology {name} has no control channels")));
            }
            return Ok(());
        }
        for (option, is_given) in [("--interval", self.interval.is_some()), ("--compare", self.compare)] {
            if is_given {
                bail!(UsageError(format!(
                    "{option} does not apply to topology {name}, which runs a controller: its arguments come after --"
                )));
            }
        }
        Ok(())
    }

    pub(super) fn topology(&self) -> Topology {
        let default = if self.compare { Topology::Veth } else { Topology::Vxlan };
        self.topology.unwrap_or(default)
    }

    pub(super) fn duration(&self) -> Duration {
        let default = Duration::from_secs(if self.compare { 10 } else { 20 });
        self.duration.map_or(default, Duration::from)
    }
}

/// On a bare veth pair native XDP needs a program at both ends, so the first agent cannot choose it by itself.
pub(super) fn attach_options(lab: &Lab) -> &'static [&'static str] {
    if lab.topology().has_switch() {
        &[]
    } else {
        &["--attach", "xdp-native"]
    }
}
