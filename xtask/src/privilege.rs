//! Who we are, and how to do as root what needs root.

use std::{env, ffi::OsStr, process::Command};

use anyhow::{Result, bail};

/// Whether this process is root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// If set, tests that need root are skipped even by root.
pub const NO_ROOT: &str = "KSTAMP_NO_ROOT";

/// Why a test that needs root cannot run here, if it cannot.
pub fn why_no_root_tests() -> Option<&'static str> {
    if env::var_os(NO_ROOT).is_some() {
        return Some("tests that need root were not asked for");
    }
    (!is_root()).then_some("root is needed")
}

/// A command that runs `program` as root: by itself if we are, else through sudo, with the environment kept.
///
/// # Errors
/// If we are not root and there is no sudo.
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
