//! Debian 13's VictoriaMetrics, which receives OTLP. Debian builds Prometheus without it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::exec;
use crate::setup::unpack::{Closure, Source, unpack};
use crate::workspace;

const NAME: &str = "victoria-metrics";

/// Finds or unpacks it; nothing is installed.
///
/// # Errors
/// If it can be neither found nor downloaded, or does not run here.
pub fn ensure_victoria_metrics() -> Result<PathBuf> {
    if let Ok(installed) = which::which(NAME) {
        return Ok(installed);
    }
    let directory = workspace::target_directory().join(NAME);
    let program = directory.join("usr/bin").join(NAME);
    if !program.is_file() {
        unpack(Source::Debian13, || Ok(NAME.to_owned()), Closure::Package, &directory)?;
    }
    exec::capture(Command::new(&program).arg("--version"))?;
    Ok(program)
}
