//! The cost of the kernel programs per packet, in nanoseconds, and that of an empty program in the same run.
//!
//! `cargo bench -p probe-io --bench programs [-- --json FILE]`, as root.
//!
//! Every subject runs in every round, one after the other, so that a disturbance of the machine affects all of them. A
//! figure is a difference within a round; the median and the minimum over the rounds are printed.

mod bench;
mod figures;
mod report;
mod softirqs;
mod subject;

use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::bench::Bench;
use crate::report::Report;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let json = json_file()?;
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: needs root");
        return Ok(());
    }
    stay_on_one_cpu()?;
    let mut bench = Bench::new()?;
    let rounds = bench.rounds()?;
    let singles = bench.singles()?;
    let softirqs = softirqs::rounds(&mut bench)?;
    let report = Report::new(&bench.subjects, &rounds, &singles, &softirqs);
    report.print();
    if let Some((path, mut file)) = json {
        writeln!(file, "{:#}", report.json()).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

/// The file behind `--json`, created before anything is measured. `cargo bench` itself adds `--bench`.
fn json_file() -> Result<Option<(String, File)>> {
    let mut file = None;
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--json", Some(path)) => {
                let created = File::create(&path).with_context(|| format!("cannot create {path}"))?;
                file = Some((path, created));
            }
            _ => bail!("usage: cargo bench --bench programs [-- --json FILE]"),
        }
    }
    Ok(file)
}

fn stay_on_one_cpu() -> Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let last = (0..CpuSet::count())
        .rev()
        .find(|&cpu| allowed.is_set(cpu).unwrap_or(false))
        .context("no CPU")?;
    let mut only = CpuSet::new();
    only.set(last)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &only)?)
}
