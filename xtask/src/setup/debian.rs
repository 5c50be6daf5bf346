//! Clean Debian systems in directories of their own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::setup::packages::{self, DEBOOTSTRAP};
use crate::setup::report::{Mode, say};
use crate::{exec, privilege, workspace};

/// Installs `release` into the directory `tree`, with `packages`, separated by commas, beside the essential ones and apt.
pub(crate) fn install(release: &str, packages: &str, tree: &Path) -> Result<()> {
    packages::ensure(&[DEBOOTSTRAP], Mode::Install)?;
    say(
        "debootstrap",
        &format!("installing a clean {release} (a minute or two)"),
    );
    let packages = format!("--include={packages}");
    let mut debootstrap = privilege::as_root("debootstrap")?;
    exec::capture(debootstrap.args(["--variant=minbase", &packages, release]).arg(tree)).map(drop)
}

/// A directory with a clean Debian of this release, and what tests of packages need in it. Made once; needs root.
pub fn ensure_debian(release: &str) -> Result<PathBuf> {
    let directory = workspace::target_directory().join("debian");
    let (tree, unfinished) = (directory.join(release), directory.join(format!("{release}-unfinished")));
    if !tree.is_dir() {
        exec::run("rm", ["-rf".as_ref(), unfinished.as_path()])?;
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        install(release, "procps,bash-completion,iproute2,man-db", &unfinished)?;
        fs::rename(&unfinished, &tree).with_context(|| format!("cannot make {}", tree.display()))?;
    }
    Ok(tree)
}
