//! A process that outlives the lab's owner by one duty: if the owner is killed, it removes the lab.

use std::{
    fs::File,
    io::Read as _,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::state::State;
use crate::workspace;

/// The owner's end: while it is open, the guard waits.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
}

impl Guard {
    /// Starts the guard of lab `id`. It holds the lock too, so that nobody builds before it has removed.
    pub(crate) fn start(id: &str, lock: &File) -> Result<Self> {
        let lock = lock.try_clone().context("cannot share the lock")?;
        let mut command = Command::new(workspace::xtask_binary()?);
        command
            .args(["lab", "guard", id])
            .stdin(Stdio::piped())
            .stdout(Stdio::from(lock));
        // SAFETY: one system call between fork and exec: a session of its own, out of reach of the terminal's Ctrl-C.
        unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) };
        let child = command.spawn().context("cannot start the lab's guard")?;
        Ok(Self { child })
    }

    /// Sends the guard home: the lab is removed or is to stay.
    pub(crate) fn dismiss(mut self) {
        drop(self.child.stdin.take());
        // It only ends; how is of no interest.
        let _ = self.child.wait();
    }
}

/// What the guard does: waits until its owner is gone, and removes lab `id` if it still stands.
///
/// # Errors
/// If something of the lab cannot be removed.
pub(crate) fn watch(id: &str) -> Result<()> {
    let mut nothing = Vec::new();
    std::io::stdin()
        .read_to_end(&mut nothing)
        .context("cannot watch the lab's owner")?;
    let Some(mut state) = State::load()? else {
        return Ok(());
    };
    if state.id != id || state.kept {
        return Ok(());
    }
    eprintln!("lab: process {} has gone; removing its lab", state.owner);
    state.undo()
}
