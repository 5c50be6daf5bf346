//! Runs commands as root.

use std::env;
use std::ffi::OsStr;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{exec, workspace};

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// If set, tests that need root are skipped even by root.
pub const NO_ROOT: &str = "KSTAMP_NO_ROOT";

/// The reason why tests that need root cannot run here, if they cannot.
pub fn why_no_root_tests() -> Option<&'static str> {
    if env::var_os(NO_ROOT).is_some() {
        return Some("tests that need root were not requested");
    }
    (!is_root()).then_some("root is needed")
}

/// A command that runs `program` as root, through sudo if needed, with the same environment.
pub fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if which::which("sudo").is_err() {
        bail!(
            "`{}` needs root, and there is no sudo: run this as root",
            program.as_ref().display()
        );
    }
    let mut command = Command::new("sudo");
    command.arg("-E").arg("--").arg(program);
    Ok(command)
}

/// Runs this `cargo xtask TASK …` again as root, with `more` arguments after TASK.
pub(crate) fn rerun_as_root(task: &str, more: &[&OsStr]) -> Result<ExitCode> {
    let mut command = as_root(workspace::xtask_binary()?)?;
    command.arg(task).args(more);
    command.args(env::args_os().skip_while(|argument| argument != task).skip(1));
    eprintln!("{task}: needs root; continuing with sudo");
    let status = command.status().context("cannot start sudo")?;
    Ok(exec::exit_code(status))
}
