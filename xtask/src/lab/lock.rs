//! One lab at a time on a machine: the names are the machine's, so the lock is too.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::signals;

const PATH: &str = "/run/kstamp-lab.lock";

/// Takes the lock, waiting for at most `patience`. It is held for as long as the file, or a copy of it, is open.
pub(crate) fn acquire(patience: Duration) -> Result<File> {
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(PATH)
        .with_context(|| format!("cannot open {PATH}"))?;
    let deadline = Instant::now() + patience;
    let mut told = false;
    while !try_lock(&file)? {
        let mut holder = String::new();
        file.rewind()?;
        file.read_to_string(&mut holder)?;
        if Instant::now() >= deadline {
            bail!("a lab is in use by {}: stop that first", holder.trim());
        }
        if !std::mem::replace(&mut told, true) {
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

fn try_lock(file: &File) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => Err(error).context("cannot lock the lab"),
    }
}
