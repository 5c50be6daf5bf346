//! `kstamp hub export` and `kstamp hub import`: the state of a hub, for another machine.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use probe_hub::enrol::{Export, StateDirectory};

use crate::command::hub::config::{ExportConfig, ImportConfig};
use crate::command::hub::enroll::create;
use crate::config::guarded::{self, Guard};
use crate::output::diagnostics;
use crate::output::file::print;
use crate::output::quantity::count;

/// Longest export, in bytes: room for about 100,000 hosts.
const MAX_EXPORT: u64 = 64 << 20;

pub fn export(config: &ExportConfig) -> Result<()> {
    let text = StateDirectory::export(&config.state)?.write();
    let Some(path) = &config.output else {
        return Ok(print(&text)?);
    };
    let mut file = create(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        fs::remove_file(path).ok();
    }
    written.with_context(|| format!("--output: cannot write {}", path.display()))
}

pub fn import(config: &ImportConfig) -> Result<()> {
    let text = match &config.file {
        Some(path) => String::from_utf8_lossy(&guarded::read(path, Guard::Secret, MAX_EXPORT)?).into_owned(),
        None => standard_input()?,
    };
    let source = config.file.as_deref().unwrap_or(Path::new("standard input"));
    let export =
        Export::read(&text).map_err(|why| anyhow!("{} is no file of `kstamp hub export`: {why}", source.display()))?;
    StateDirectory::import(&config.state, &export)?;
    diagnostics::line(&format!(
        "{} has the keys of the fleet, and {} enrolled",
        config.state.display(),
        count(export.enrolled() as u64, "name")
    ));
    Ok(())
}

fn standard_input() -> Result<String> {
    let mut text = String::new();
    let read = io::stdin().take(MAX_EXPORT + 1).read_to_string(&mut text);
    let length = read.context("cannot read standard input")?;
    if length as u64 > MAX_EXPORT {
        bail!("standard input is too long for an export");
    }
    Ok(text)
}
