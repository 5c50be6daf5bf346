//! A disk image with a Debian that boots: its first process is systemd, and packages can be installed in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::vm::kernel::Kernel;
use crate::{exec, privilege, setup};

/// Beside the essential packages and apt.
const PACKAGES: &str = "systemd,systemd-sysv,udev,iproute2,kmod,procps,bpftool";

/// Caches and lists of apt, and names that are this machine's, in the directory of the new system.
const NOT_NEEDED: [&str; 4] = ["var/cache/apt", "var/lib/apt/lists", "etc/hostname", "etc/resolv.conf"];

/// The file is sparse.
const SIZE: &str = "1G";

/// Makes `image` with the Debian that `kernel` belongs to, unless it is there already.
pub(super) fn ensure(kernel: Kernel, image: &Path) -> Result<()> {
    if image.is_file() {
        return Ok(());
    }
    let (release, _) = kernel.debian();
    let directory = image.parent().unwrap_or(image);
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let (tree, unfinished) = (directory.join(release), image.with_extension("unfinished"));
    let remove = |paths: &[PathBuf]| {
        let mut command = privilege::as_root("rm")?;
        exec::capture(command.args(["-rf", "--one-file-system"]).args(paths)).map(drop)
    };
    remove(std::slice::from_ref(&tree))?;
    setup::install_debian(release, PACKAGES, &tree)?;
    remove(&NOT_NEEDED.map(|path| tree.join(path)))?;
    // Nothing is kept after a guest's end, so a journal has no use.
    let mut make = privilege::as_root("mkfs.ext4")?;
    make.args("-q -F -O ^has_journal -d".split(' '));
    exec::capture(make.arg(&tree).arg(&unfinished).arg(SIZE))?;
    remove(&[tree])?;
    fs::rename(&unfinished, image).with_context(|| format!("cannot make {}", image.display()))
}
