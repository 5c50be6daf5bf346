//! Paths of the workspace, its target directory and its binaries.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The directory of the workspace's `Cargo.toml`.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Cargo's target directory: `CARGO_TARGET_DIR`, else `target`.
pub fn target_directory() -> PathBuf {
    let chosen = env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty());
    root().join(chosen.map_or_else(|| PathBuf::from("target"), PathBuf::from))
}

/// The `kstamp` binary as `cargo build --release` leaves it.
pub fn kstamp_binary() -> PathBuf {
    target_directory().join("release/kstamp")
}

/// A `cargo` command in the workspace, with the toolchain of this process.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The `xtask` binary: this process or, in a test, the binary that cargo built beside it.
pub fn xtask_binary() -> Result<PathBuf> {
    let this = env::current_exe().context("cannot find the path of this program")?;
    let beside = this
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("xtask"));
    let mut candidates = std::iter::once(this.clone()).chain(beside);
    let is_xtask = |path: &PathBuf| path.file_name().is_some_and(|name| name == "xtask") && path.is_file();
    if let Some(found) = candidates.find(is_xtask) {
        return Ok(found);
    }
    // It was rebuilt while it runs: only the file is gone.
    if this
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("xtask (deleted)"))
    {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    bail!(
        "no xtask binary beside {}: build it (cargo build -p xtask)",
        this.display()
    );
}
