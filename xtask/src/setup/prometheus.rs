//! A Prometheus that receives OTLP, which Debian 12's does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::exec;
use crate::setup::tools::{Foreign, ensure_foreign};
use crate::setup::unpack::{self, Closure};
use crate::workspace;

/// Debian 13's packages, signed by the keys of this Debian.
const SOURCE: &str = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
                      http://deb.debian.org/debian trixie main\n";

/// The first minor version of Prometheus 2 with an OTLP receiver and native histograms in it.
const FIRST: u32 = 48;

/// Finds or unpacks a Prometheus that receives OTLP. `promtool` is that of [`Foreign::Prometheus`].
///
/// # Errors
/// If neither the installed one does, nor Debian 13's can be downloaded or run here.
pub fn ensure_otlp_prometheus() -> Result<PathBuf> {
    ensure_foreign(Foreign::Prometheus)?;
    let installed = PathBuf::from("prometheus");
    if receives_otlp(&installed) {
        return Ok(installed);
    }
    let directory = workspace::target_directory().join("prometheus-otlp");
    let program = directory.join("usr/bin/prometheus");
    if !program.is_file() {
        fetch(&directory)?;
    }
    ensure!(receives_otlp(&program), "{}: it does not run here", program.display());
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
    unpack::unpack_by(&options, || Ok("prometheus".to_owned()), Closure::Package, directory)
}

fn receives_otlp(program: &Path) -> bool {
    let printed = exec::capture(Command::new(program).arg("--version")).unwrap_or_default();
    is_new(&printed)
}

fn is_new(printed: &str) -> bool {
    let version = printed.split_whitespace().skip_while(|word| *word != "version").nth(1);
    let mut numbers = version
        .unwrap_or_default()
        .split('.')
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // Version 3 has other flags.
    major == 2 && minor >= FIRST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_tells_whether_otlp_is_received() {
        for (printed, want) in [
            ("prometheus, version 2.42.0+ds (branch: debian/sid)", false),
            ("prometheus, version 2.53.3+ds1 (branch: debian/sid)", true),
            ("prometheus, version 3.1.0", false),
            ("", false),
        ] {
            assert_eq!(is_new(printed), want, "{printed}");
        }
    }
}
