//! Programs and templates that packages are made with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{exec, workspace};

/// A directory where there is room, which goes with the value.
pub(crate) fn scratch() -> Result<TempDir> {
    tempfile::tempdir_in(workspace::target_directory()).context("cannot make a directory in target")
}

/// Archives all below `directory`, in the order of names, with owners and modes that depend on neither user nor umask. `rename`
/// is an expression of sed for names, which begin with a dot.
pub(super) fn tar(directory: &Path, epoch: u64, rename: &str, archive: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command
        .args("--sort=name --format=gnu --mode=a=rX,u+w --owner=0 --group=0 --numeric-owner --transform".split(' '))
        .args([rename, &format!("--mtime=@{epoch}"), "--create", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(directory)
        .arg(".");
    exec::capture(&mut command).map(drop)
}

/// Makes `NAME.tar.gz`, in which all is below a directory `NAME`. Returns its path.
pub(crate) fn tarball(directory: &Path, epoch: u64, name: &str, output: &Path) -> Result<PathBuf> {
    let archive = output.join(format!("{name}.tar"));
    tar(directory, epoch, &format!("s,^\\.,{name},"), &archive)?;
    gzip(&archive)
}

/// Replaces a file by its compressed form, without name and time. Returns the new path.
pub(super) fn gzip(path: &Path) -> Result<PathBuf> {
    exec::run("gzip", ["-9nf".as_ref(), path])?;
    Ok(PathBuf::from(format!("{}.gz", path.display())))
}

/// The hash of a file, as hexadecimal digits.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A file of `deploy/package`, whose `@NAMES@` have become values.
pub(super) fn filled(name: &str, values: &[(&str, String)]) -> Result<String> {
    let path = workspace::root().join("deploy/package").join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(values
        .iter()
        .fold(text, |text, (name, value)| text.replace(&format!("@{name}@"), value)))
}

/// A time as date reads it (`2026-11-27`, or `@SECONDS`), as a `+FORMAT` of date or `--rfc-email`.
pub(super) fn date(time: &str, format: &str) -> Result<String> {
    let mut command = Command::new("date");
    command.env("LC_ALL", "C").args(["--utc", "--date", time, format]);
    Ok(exec::capture(&mut command)?.trim().to_owned())
}
