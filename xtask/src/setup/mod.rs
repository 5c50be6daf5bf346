//! `cargo xtask setup`: finds or installs what building and the lab need, and says of each thing why.

mod compared;
mod linker;
mod packages;
mod rust;
pub(crate) mod tool;
mod toolchain;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

pub use compared::{Foreign, ensure_foreign, ensure_stamp_suite};
pub(crate) use compared::{bench_tools, stamp_suite};
pub(crate) use rust::ensure_checkers;

/// Whether to install.
#[derive(Clone, Debug, Args)]
pub struct SetupArguments {
    /// Only report; exit with 1 if something is missing.
    #[arg(long)]
    check: bool,
}

impl SetupArguments {
    /// Sets up, or reports.
    ///
    /// # Errors
    /// If something is missing and cannot be installed.
    pub fn run(&self) -> Result<ExitCode> {
        if !self.check {
            prepare()?;
            return Ok(ExitCode::SUCCESS);
        }
        let missing = perform(Mode::Check)?;
        if missing == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("setup: {missing} missing; cargo xtask setup installs it");
        Ok(ExitCode::FAILURE)
    }
}

/// Installs what is missing; does nothing where all is there.
///
/// # Errors
/// If something cannot be installed.
pub fn prepare() -> Result<()> {
    perform(Mode::Install).map(drop)
}

/// Installs what tests can use but do without where it cannot be had: they are skipped then, and say so.
pub(crate) fn wanted_by_tests() {
    packages::want(&packages::WANTED_BY_TESTS);
}

/// Installs what booting guests needs.
///
/// # Errors
/// If something cannot be installed.
pub(crate) fn prepare_for_guests() -> Result<()> {
    prepare()?;
    packages::ensure(&packages::NEEDS_OF_GUESTS, Mode::Install).map(drop)
}

/// Installs what building fuzz targets needs.
///
/// # Errors
/// If it cannot be installed.
pub(crate) fn needed_by_fuzzing() -> Result<()> {
    packages::ensure(&packages::NEEDS_OF_FUZZING, Mode::Install).map(drop)
}

/// Has apt learn which packages there are now.
///
/// # Errors
/// If it cannot.
pub(crate) fn refresh_packages() -> Result<()> {
    packages::apt(&["update", "-qq"])
}

/// The toolchain that builds the eBPF programs, as set-up chose it.
///
/// # Errors
/// If set-up has not run.
pub fn ebpf_toolchain() -> Result<String> {
    toolchain::chosen().ok_or_else(|| anyhow::anyhow!("no eBPF toolchain is chosen: run cargo xtask setup"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Install,
    Check,
}

/// Goes through all steps; how many things are missing (when only checking).
fn perform(mode: Mode) -> Result<usize> {
    let mut missing = rust::check()?;
    missing += packages::ensure(&packages::NEEDS, mode)?;
    missing += toolchain::ensure(mode)?;
    missing += linker::ensure(mode)?;
    Ok(missing)
}

/// One line about one thing, on stderr.
fn say(what: &str, how: &str) {
    eprintln!("setup: {what}: {how}");
}
