//! Debian 13's VictoriaMetrics, which receives OTLP. Debian builds Prometheus without it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::exec;
use crate::setup::unpack::{self, Closure};
use crate::workspace;

const NAME: &str = "victoria-metrics";

/// Debian 13's packages, signed by the keys of this Debian.
const SOURCE: &str = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
                      http://deb.debian.org/debian trixie main\n";

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
        fetch(&directory)?;
    }
    exec::capture(Command::new(&program).arg("--version"))?;
    Ok(program)
}

fn fetch(directory: &Path) -> Result<()> {
    let lists = PathBuf::from(format!("{}-lists", directory.display()));
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(lists.join(part)).with_context(|| format!("cannot make {}", lists.display()))?;
    }
    let sources = lists.join("sources.list");
    fs::write(&sources, SOURCE).with_context(|| format!("cannot write {}", sources.display()))?;
    // This machine's own sources and lists stay as they are.
    let options = [
        format!("Dir::Etc::sourcelist={}", sources.display()),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        format!("Dir::State::lists={}", lists.join("lists").display()),
        format!("Dir::Cache={}", lists.join("cache").display()),
        "Acquire::Languages=none".to_owned(),
    ];
    let mut update = Command::new("apt-get");
    exec::capture(
        update
            .args(["update", "-qq"])
            .args(options.iter().flat_map(|option| ["-o", option])),
    )?;
    unpack::unpack_by(&options, || Ok(NAME.to_owned()), Closure::Package, directory)
}
