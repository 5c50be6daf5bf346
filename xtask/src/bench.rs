//! `cargo xtask bench`: figures of one run, as ratios; never a test.

use std::{ffi::OsString, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Subcommand;

use crate::{exec, privilege, setup, workspace};

/// What is to be measured.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Nanoseconds per packet of each kernel program, beside an empty program and bare clock reads.
    Programs {
        /// Further arguments for the bench, such as --json FILE.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

impl BenchCommand {
    /// Measures, and prints.
    ///
    /// # Errors
    /// If setting up or building fails, or the bench does.
    pub fn run(&self) -> Result<ExitCode> {
        let Self::Programs { arguments } = self;
        setup::prepare()?;
        let mut command = workspace::cargo();
        command
            .args(["bench", "--quiet", "-p", "probe-user", "--bench", "programs", "--"])
            .args(arguments);
        if !privilege::is_root() {
            command.env(exec::runner_variable()?, "sudo -E --");
        }
        let status = command
            .status()
            .with_context(|| format!("cannot start `{}`", exec::line(&command)))?;
        Ok(if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
