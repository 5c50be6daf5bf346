//! `cargo xtask bench`: figures of one run, as ratios; never a test.

mod accuracy;
mod fleet;
mod metrics;
mod peers;
mod place;
mod rate;
mod session;
mod tool;
mod tools;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Subcommand;

use crate::{exec, privilege, setup, workspace};

#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Nanoseconds per packet of each kernel program, of an empty program and of clock reads.
    Programs {
        /// Further arguments of the bench, such as --json FILE.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Round trips reported by kstamp and by other tools, in turn on one veth pair, idle and loaded.
    Accuracy(accuracy::AccuracyArguments),
    /// The highest probe rate that kstamp and other tools sustain, and the CPU time per probe.
    Rate(rate::RateArguments),
    /// Memory and CPU time of an agent with 1,000 and with 10,000 peers.
    Peers(peers::PeersArguments),
    /// Size and time of a scrape of 2,000 series sets, and what scrapes do to the times of sending.
    Metrics(metrics::MetricsArguments),
    /// CPU time, memory and bytes of a hub and its nats-server with 10,000 simulated ports.
    Fleet(fleet::FleetArguments),
}

impl BenchCommand {
    pub fn run(&self) -> Result<ExitCode> {
        match self {
            Self::Programs { arguments } => programs(arguments),
            Self::Accuracy(arguments) => accuracy::run(arguments),
            Self::Rate(arguments) => rate::run(arguments),
            Self::Peers(arguments) => peers::run(arguments),
            Self::Metrics(arguments) => metrics::run(arguments),
            Self::Fleet(arguments) => fleet::run(arguments),
        }
    }
}

fn programs(arguments: &[OsString]) -> Result<ExitCode> {
    setup::prepare()?;
    let mut command = workspace::cargo();
    command
        .args(["bench", "--quiet", "-p", "probe-io", "--bench", "programs", "--"])
        .args(arguments);
    if !privilege::is_root() {
        command.env(exec::runner_variable()?, "sudo -E --");
    }
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", exec::line(&command)))?;
    Ok(ExitCode::from(u8::from(!status.success())))
}
