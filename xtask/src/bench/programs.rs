//! `cargo xtask bench programs`: what the kernel programs cost a packet.

use std::{ffi::OsString, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{exec, privilege, setup, workspace};

/// Runs the bench of probe-io.
pub(super) fn run(arguments: &[OsString]) -> Result<ExitCode> {
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
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
