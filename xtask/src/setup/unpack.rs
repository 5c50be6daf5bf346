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

/// Where packages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The archives of this machine.
    Machine,
    /// Debian 13's.
    Debian13,
}

/// Debian 13's packages. The keys of this Debian verify them.
const DEBIAN_13: &str = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
                         http://deb.debian.org/debian trixie main\n";

impl Source {
    /// Options of apt (`NAME=VALUE`), for which files are written into `directory`.
    fn options(self, directory: &Path) -> Result<Vec<String>> {
        if self == Self::Machine {
            return Ok(Vec::new());
        }
        for part in ["lists/partial", "cache/archives/partial"] {
            make(&directory.join(part))?;
        }
        let sources = directory.join("sources.list");
        fs::write(&sources, DEBIAN_13).with_context(|| format!("cannot write {}", sources.display()))?;
        // This machine's own sources and lists stay as they are.
        let options = vec![
            format!("Dir::Etc::sourcelist={}", sources.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={}", directory.join("lists").display()),
            format!("Dir::Cache={}", directory.join("cache").display()),
            "Acquire::Languages=none".to_owned(),
        ];
        let mut update = Command::new("apt-get");
        update.args(["update", "-qq"]).args(in_words(&options));
        exec::capture(&mut update)?;
        Ok(options)
    }
}

fn in_words(options: &[String]) -> impl Iterator<Item = &str> {
    options.iter().flat_map(|option| ["-o", option])
}

/// Unpacks the package that `find` names into `directory`, in the newest version of `source`.
///
/// The directory appears complete or not at all.
pub(crate) fn unpack(
    source: Source,
    find: impl Fn() -> Result<String>,
    closure: Closure,
    directory: &Path,
) -> Result<()> {
    let work = PathBuf::from(format!("{}-unpacking", directory.display()));
    let (archives, root) = (work.join("archives"), work.join("root"));
    remove(&work)?;
    [&archives, &root]
        .into_iter()
        .try_for_each(|directory| make(directory))?;
    let options = source.options(&work.join("apt"))?;
    let attempt = || download(&options, &find()?, closure, &archives);
    match source {
        // A new machine has no lists of packages, and old lists name packages that are no longer in the archive.
        Source::Machine => attempt().or_else(|_| packages::refresh().and_then(|()| attempt()))?,
        // Its lists are new.
        Source::Debian13 => attempt()?,
    }
    let entries = fs::read_dir(&archives).with_context(|| format!("cannot read {}", archives.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    for archive in paths.filter(|path| path.extension().is_some_and(|extension| extension == "deb")) {
        exec::run("dpkg-deb", [Path::new("-x"), &archive, &root])?;
    }
    remove(directory)?;
    fs::rename(&root, directory).with_context(|| format!("cannot make {}", directory.display()))?;
    remove(&work)
}

fn make(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))
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
    command.args(in_words(options));
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
