//! The owner of a lab. A lock allows one lab on a machine, because names are the machine's. A guard, a process that
//! outlives the owner, removes the lab if the owner is killed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context as _, Result, bail};

use crate::lab::state::State;
use crate::{signals, workspace};

const LOCK: &str = "/run/kstamp-lab.lock";

/// Takes the lock, waiting for at most `limit`. It is held as long as the file or a copy of it is open.
pub(crate) fn lock(limit: Duration) -> Result<File> {
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(LOCK)
        .with_context(|| format!("cannot open {LOCK}"))?;
    let deadline = Instant::now() + limit;
    let mut announced = false;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the lab"),
        }
        let mut holder = String::new();
        file.rewind()?;
        file.read_to_string(&mut holder)?;
        if Instant::now() >= deadline {
            bail!("a lab is in use by {}: stop that first", holder.trim());
        }
        if !std::mem::replace(&mut announced, true) {
            eprintln!("lab: waiting for {}, which uses the lab", holder.trim());
        }
        signals::check()?;
        thread::sleep(Duration::from_millis(100));
    }
    let command = env::args().collect::<Vec<_>>().join(" ");
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {} ({command})", std::process::id())?;
    Ok(file)
}

/// The guard of a lab; it waits as long as the pipe to its stdin is open.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    /// Starts the guard of lab `id`. It holds the lock too, so the next lab is built after it has removed this one.
    pub(crate) fn start(id: &str, lock: &File) -> Result<Self> {
        let lock = lock.try_clone().context("cannot share the lock")?;
        let mut command = Command::new(workspace::xtask_binary()?);
        command
            .args(["lab", "guard", id])
            .stdin(Stdio::piped())
            .stdout(Stdio::from(lock));
        // SAFETY: one system call between fork and exec. A session of its own keeps the terminal's Ctrl-C away.
        unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) };
        command.spawn().context("cannot start the lab's guard").map(Self)
    }

    /// Ends the guard of a lab that is removed or kept.
    pub(crate) fn dismiss(mut self) {
        drop(self.0.stdin.take());
        // Failures do no harm.
        let _ = self.0.wait();
    }
}

/// The guard process: waits until its owner has ended, and removes lab `id` if it is still up.
pub(crate) fn guard(id: &str) -> Result<()> {
    let mut nothing = Vec::new();
    io::stdin()
        .read_to_end(&mut nothing)
        .context("cannot watch the lab's owner")?;
    let Some(mut state) = State::load()? else {
        return Ok(());
    };
    if state.id != id || state.kept {
        return Ok(());
    }
    eprintln!("lab: process {} has ended; removing its lab", state.owner);
    state.undo()
}
