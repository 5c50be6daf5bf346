//! Unpacks Debian packages into a directory, without installing them and without root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use anyhow::{Context as _, Result};

use crate::exec;
use crate::setup::packages;

/// Which packages to unpack.
#[derive(Clone, Copy)]
pub(crate) enum Closure {
    /// The named package only.
    Package,
    /// The named package with all its dependencies, down to the C library, because installed packages may conflict or have
    /// other versions.
    Dependencies,
}

/// Unpacks the package that `find` names into `directory`, in the newest version that apt knows.
///
/// The directory appears complete or not at all.
pub(crate) fn unpack(find: impl Fn() -> Result<String>, closure: Closure, directory: &Path) -> Result<()> {
    unpack_by(&[], find, closure, directory)
}

/// As [`unpack`], with these options of apt (`NAME=VALUE`).
pub(super) fn unpack_by(
    options: &[String],
    find: impl Fn() -> Result<String>,
    closure: Closure,
    directory: &Path,
) -> Result<()> {
    let work = PathBuf::from(format!("{}-unpacking", directory.display()));
    let (archives, root) = (work.join("archives"), work.join("root"));
    remove(&work)?;
    for directory in [&archives, &root] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let attempt = || download(options, &find()?, closure, &archives);
    // A new machine has no lists of packages, and old lists name packages that are no longer in the archive.
    attempt().or_else(|_| packages::refresh().and_then(|()| attempt()))?;
    let entries = fs::read_dir(&archives).with_context(|| format!("cannot read {}", archives.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    for archive in paths.filter(|path| path.extension().is_some_and(|extension| extension == "deb")) {
        exec::run("dpkg-deb", [Path::new("-x"), &archive, &root])?;
    }
    remove(directory)?;
    fs::rename(&root, directory).with_context(|| format!("cannot make {}", directory.display()))?;
    remove(&work)
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Downloads packages (`*.deb`) into `archives`.
fn download(options: &[String], package: &str, closure: Closure, archives: &Path) -> Result<()> {
    eprintln!("setup: downloading {package}");
    let mut command = match closure {
        Closure::Package => {
            let mut command = Command::new("apt-get");
            command.args(["download", "-qq", package]).current_dir(archives);
            command
        }
        Closure::Dependencies => download_with_dependencies(package, archives),
    };
    command.args(options.iter().flat_map(|option| ["-o", option]));
    exec::capture(&mut command).map(drop)
}

/// Has apt resolve dependencies as on a machine where nothing is installed.
pub(super) fn download_with_dependencies(package: &str, archives: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args("install -y -qq --download-only --no-install-recommends".split(' '))
        .arg(package);
    for option in [
        "Dir::State::status=/dev/null",
        // A cache would be one of a machine without packages: apt must not keep it.
        "Dir::Cache::pkgcache=",
        "Debug::NoLocking=true",
    ] {
        command.args(["-o", option]);
    }
    command
        .arg("-o")
        .arg(format!("Dir::Cache::archives={}", archives.display()));
    command
}
