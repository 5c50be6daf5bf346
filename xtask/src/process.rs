//! Facts about another process, from `/proc`.

use std::fs;

use anyhow::{Context as _, Result};

/// A field of `/proc/PID/status`, such as `VmRSS:`.
pub(crate) fn status_kib(pid: u32, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.with_context(|| format!("no {name} of process {pid}"))
}

/// The number of its open file descriptors.
pub(crate) fn descriptors(pid: u32) -> Result<usize> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).context("kstamp has ended")?;
    Ok(entries.count())
}
