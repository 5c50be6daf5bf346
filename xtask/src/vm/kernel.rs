//! Debian's kernel packages: fetched by apt, unpacked under `target/vm`, never installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::directory;
use crate::{exec, setup};

/// A kernel that is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Debian 12's: the oldest that kstamp runs on, without TCX.
    V6_1,
    /// Debian 13's, with TCX.
    V6_12,
}

impl Kernel {
    /// The series, as people call it.
    pub fn series(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }
}

/// A kernel package, unpacked.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// The kernel itself.
    pub(super) image: PathBuf,
    /// `6.1.0-32-cloud-amd64`.
    pub(super) release: String,
    /// Its `lib/modules/RELEASE`.
    pub(super) modules: PathBuf,
}

/// Gets `kernel`, from `target/vm` if it is there already (remove that to get the newest one).
pub(super) fn fetch(kernel: Kernel) -> Result<Unpacked> {
    let directory = directory().join("kernels").join(kernel.series());
    if let Some(unpacked) = find(&directory) {
        return Ok(unpacked);
    }
    // On a new machine apt knows no packages yet, and on an old one those that it knows may be gone.
    let package = download(kernel, &directory)
        .or_else(|_| setup::refresh_packages().and_then(|()| download(kernel, &directory)))?;
    exec::run("dpkg-deb", [Path::new("-x"), &package, &directory])?;
    fs::remove_file(&package).with_context(|| format!("cannot remove {}", package.display()))?;
    find(&directory).with_context(|| format!("{}: no kernel in it", package.display()))
}

/// Downloads the package into `directory`; where it is then.
fn download(kernel: Kernel, directory: &Path) -> Result<PathBuf> {
    let name = package_name(kernel)?;
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    eprintln!("vm: downloading {name}");
    exec::capture(
        Command::new("apt-get")
            .args(["download", "-qq", &name])
            .current_dir(directory),
    )?;
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .with_context(|| format!("apt-get download {name} left nothing"))
}

/// The package with the newest kernel of the series. Which package leads to it depends on Debian's release.
fn package_name(kernel: Kernel) -> Result<String> {
    let series = kernel.series();
    let leading = [
        format!("linux-image-{series}-cloud-amd64"),
        "linux-image-cloud-amd64".to_owned(),
    ];
    for package in &leading {
        let depends = exec::run("apt-cache", ["depends", "--important", package]).unwrap_or_default();
        if let Some(name) = dependency(&depends, series) {
            return Ok(name.to_owned());
        }
    }
    bail!(
        "apt knows no Linux {series} (asked for {}): Debian 12 has both, with its updates and security archives",
        leading.join(", ")
    );
}

/// The kernel package of `series` in what `apt-cache depends` prints.
fn dependency<'a>(depends: &'a str, series: &str) -> Option<&'a str> {
    let prefix = format!("linux-image-{series}.");
    let mut packages = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    packages.find(|package| package.starts_with(&prefix))
}

/// What a package unpacked into `directory` holds. Modules are below `lib` or, since Debian 13, `usr/lib`.
fn find(directory: &Path) -> Option<Unpacked> {
    let boot = fs::read_dir(directory.join("boot")).ok()?;
    let mut names = boot.flatten().map(|entry| entry.file_name());
    let release = names.find_map(|name| Some(name.to_str()?.strip_prefix("vmlinuz-")?.to_owned()))?;
    let libraries = ["lib/modules", "usr/lib/modules"].map(|library| directory.join(library).join(&release));
    Some(Unpacked {
        image: directory.join("boot").join(format!("vmlinuz-{release}")),
        modules: libraries.into_iter().find(|path| path.is_dir())?,
        release,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_its_leading_package_depends_on() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-32-cloud-amd64\n";
        assert_eq!(dependency(depends, "6.1"), Some("linux-image-6.1.0-32-cloud-amd64"));
        assert_eq!(dependency(depends, "6.12"), None);
        let newer = "x\n  Depends: linux-image-6.12.9+deb12-cloud-amd64\n";
        assert_eq!(dependency(newer, "6.1"), None, "6.12 is not of the series 6.1");
        assert_eq!(dependency("", "6.1"), None);
    }
}
