//! `cargo xtask bench`: figures of one run, as ratios; never a test.

mod accuracy;
mod busy;
mod figures;
mod place;
mod programs;
mod rate;
mod session;
mod tools;

use std::{ffi::OsString, fs::File, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

/// What is to be measured.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Nanoseconds per packet of each kernel program, beside an empty program and bare clock reads.
    Programs {
        /// Further arguments for the bench, such as --json FILE.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Round trips as kstamp and as other tools report them, in turn over one veth pair, idle and loaded.
    Accuracy(AccuracyArguments),
    /// The highest probe rate that kstamp and other tools sustain, and the CPU time of a probe.
    Rate(RateArguments),
}

/// `bench accuracy`.
#[derive(Clone, Debug, Args)]
pub struct AccuracyArguments {
    /// Time between two probes. Below 10 ms ping spins instead of sleeping, which keeps processor and caches warm.
    #[arg(long, value_name = "TIME", default_value = "20ms")]
    interval: humantime::Duration,
    /// Probes of each tool in each round.
    #[arg(long, value_name = "NUMBER", default_value_t = 250, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    count: u32,
    /// Rounds: in each, every tool has its turn.
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Busy processes in the loaded phase [default: twice the cores].
    #[arg(long, value_name = "NUMBER")]
    stress: Option<usize>,
    #[command(flatten)]
    common: Common,
}

/// `bench rate`.
#[derive(Clone, Debug, Args)]
pub struct RateArguments {
    #[command(flatten)]
    common: Common,
}

/// What both have.
#[derive(Clone, Debug, Args)]
struct Common {
    /// Only these tools, and kstamp; may be repeated.
    #[arg(long, value_name = "TOOL")]
    tool: Vec<String>,
    /// Write the figures to this file, one JSON object per line.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A kstamp that is already built; set-up and building are skipped.
    #[arg(long, hide = true)]
    built: Option<PathBuf>,
}

impl Common {
    /// Makes or empties the file of `--json`, before anything is measured.
    fn open_json(&self) -> Result<Option<File>> {
        let open = |path: &PathBuf| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        self.json.as_ref().map(open).transpose()
    }
}

impl BenchCommand {
    /// Measures, and prints.
    ///
    /// # Errors
    /// If setting up or building fails, or the bench does.
    pub fn run(&self) -> Result<ExitCode> {
        match self {
            Self::Programs { arguments } => programs::run(arguments),
            Self::Accuracy(arguments) => accuracy::run(arguments),
            Self::Rate(arguments) => rate::run(arguments),
        }
    }
}
