//! The tools that `cargo xtask bench` compares kstamp with: installed if possible, done without if not.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{
    Mode,
    packages::{self, Need},
    say,
};
use crate::{exec, workspace};

const STAMP_SUITE: &str = "1.0.0";

const TOOLS: [Need; 4] = [
    Need {
        what: "fping",
        packages: "fping",
        why: "compared in benches",
    },
    Need {
        what: "irtt",
        packages: "irtt",
        why: "compared in benches",
    },
    Need {
        what: "sockperf",
        packages: "sockperf",
        why: "compared in benches",
    },
    Need {
        what: "python3",
        packages: "python3",
        why: "runs the asyncio agent that is compared in benches and tests",
    },
];

/// Installs what can be installed; what cannot is said, and the bench goes on without it.
pub(crate) fn bench_tools() {
    for need in &TOOLS {
        if let Err(error) = packages::ensure(std::slice::from_ref(need), Mode::Install) {
            say(need.what, &format!("not installed: {error:#}"));
        }
    }
    if let Err(error) = ensure_stamp_suite() {
        say("stamp-suite", &format!("not installed: {error:#}"));
    }
}

/// Where set-up puts stamp-suite, if it has: below the target directory, not among the user's programs.
pub(crate) fn stamp_suite() -> Option<PathBuf> {
    let path = root().join("bin/stamp-suite");
    path.is_file().then_some(path)
}

/// Builds stamp-suite with the kernel's socket stamps, unless it is there; where it is.
///
/// # Errors
/// If it cannot be built.
pub fn ensure_stamp_suite() -> Result<PathBuf> {
    if let Some(path) = which::which("stamp-suite").ok().or_else(stamp_suite) {
        return Ok(path);
    }
    say("stamp-suite", &format!("building {STAMP_SUITE} (a minute or two)"));
    let mut command = Command::new("cargo");
    command.args([
        "install",
        "stamp-suite",
        "--version",
        STAMP_SUITE,
        "--features",
        "hwtstamp",
    ]);
    command.args(["--locked", "--quiet", "--root"]).arg(root());
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`{}` failed: {status}", exec::line(&command));
    }
    stamp_suite().context("it was built but is not there")
}

fn root() -> PathBuf {
    workspace::target_directory().join("compared")
}

/// Installs what tests of interoperation run beside stamp-suite: a program and the package that brings it.
///
/// # Errors
/// If it is missing and cannot be installed.
pub fn ensure_foreign(program: Foreign) -> Result<()> {
    let need = match program {
        Foreign::Tshark => Need {
            what: "tshark",
            packages: "tshark",
            why: "decodes kstamp's packets in tests",
        },
        Foreign::Python => TOOLS[3],
    };
    packages::ensure(&[need], Mode::Install).map(drop)
}

/// A program of others that tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Wireshark's decoder for terminals.
    Tshark,
    /// For the older agents.
    Python,
}
