//! Load: processes that do nothing but use a core each, until they are dropped.

use std::{
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result};

use crate::lab::end_with_parent;

/// Busy processes; dropping them ends them, and the kernel does if this process is killed.
#[derive(Debug)]
pub(super) struct Busy(Vec<Child>);

impl Busy {
    /// Starts `number` of them.
    pub(super) fn start(number: usize) -> Result<Self> {
        let mut busy = Self(Vec::new());
        for _ in 0..number {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
            end_with_parent(&mut command);
            busy.0.push(command.spawn().context("cannot start a busy process")?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Both fail if it has ended, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Twice the cores.
pub(super) fn default_number() -> usize {
    2 * cores()
}

/// How many cores there are.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
