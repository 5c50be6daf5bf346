//! Arguments of `cargo xtask run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::UsageError;
use crate::lab::{ControlDelay, Families, Hurt, Lab, Topology};

/// What to run, and where.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// How the agents are connected [default: vxlan; veth with --compare].
    #[arg(long, value_enum)]
    topology: Option<Topology>,
    /// IP versions to probe.
    #[arg(long, value_enum, default_value = "v4")]
    pub(super) family: Families,
    /// How long to measure; with --compare, each phase [default: 20s; 10s with --compare; 30s in a fleet].
    #[arg(long, value_name = "TIME")]
    duration: Option<humantime::Duration>,
    /// Number of hosts (topology fleet) [default: 20].
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=200))]
    hosts: Option<u8>,
    /// Format of the results.
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: Format,
    /// Time between probes.
    #[arg(long, value_name = "TIME")]
    pub(super) interval: Option<humantime::Duration>,
    /// Delay a switch's control channel (topologies line, triangle, arpanet), such as s2:10ms:30ms; repeatable.
    #[arg(long, value_name = "SWITCH:UP:DOWN")]
    pub(super) control_delay: Vec<ControlDelay>,
    /// Stamp probes at the devices of both hosts, and split each round trip (topology vxlan).
    #[arg(long, conflicts_with = "compare")]
    pub(super) hops: bool,
    /// Hurt a segment of the path from agent1 to agent2 (topology vxlan), such as underlay:5ms, far-switch:loss=1% or
    /// own-switch:stall=50ms; repeatable.
    #[arg(long, value_name = "SEGMENT:HARM")]
    pub(super) hurt: Vec<Hurt>,
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
    /// Further arguments of each `kstamp agent`, of `kstamp compare` or of `kstamp controller`.
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
        let is_fleet = self.topology() == Topology::Fleet;
        if self.hosts.is_some() && !is_fleet {
            bail!(UsageError(format!("--hosts: only with --topology fleet, not {name}")));
        }
        if self.hops && self.topology() != Topology::Vxlan {
            bail!(UsageError(format!("--hops: only with --topology vxlan, not {name}")));
        }
        if self.compare && is_fleet {
            bail!(UsageError(
                "--compare: only with two agents, not with --topology fleet".to_owned()
            ));
        }
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
        let default = match (self.topology(), self.compare) {
            (Topology::Fleet, _) => 30,
            (_, true) => 10,
            (_, false) => 20,
        };
        self.duration.map_or(Duration::from_secs(default), Duration::from)
    }

    /// Agents of the lab.
    pub(super) fn agents(&self) -> u8 {
        match self.topology() {
            Topology::Fleet => self.hosts.unwrap_or(20),
            _ => 2,
        }
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

/// The value of the option `name` (`--samples`) in `arguments`, behind it or joined by `=`.
pub(super) fn option(arguments: &[OsString], name: &str) -> Option<String> {
    let texts: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let separate = texts.iter().zip(texts.iter().skip(1));
    let separate = separate
        .filter(|(option, _)| *option == name)
        .map(|(_, value)| &**value);
    let joined = texts
        .iter()
        .filter_map(|text| text.strip_prefix(name)?.strip_prefix('='));
    separate.chain(joined).last().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_is_there_with_its_value_apart_or_not() {
        for (given, is_there) in [
            ("--ovsdb none", true),
            ("--cold 5 --ovsdb=none", true),
            ("--ovsdbs none", false),
            ("none", false),
        ] {
            let given: Vec<_> = given.split(' ').map(OsString::from).collect();
            assert_eq!(option(&given, "--ovsdb").is_some(), is_there, "{given:?}");
        }
    }
}
