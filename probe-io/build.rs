//! Builds the eBPF objects that this crate embeds.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, Result, anyhow};
use aya_build::{Package, Toolchain};

/// The package of the programs.
const PROGRAMS: &str = "probe-ebpf";

/// Where `cargo xtask setup` writes the name of the toolchain that it chose.
const CHOICE: &str = "../target/ebpf-toolchain";

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed=KSTAMP_EBPF_TOOLCHAIN");
    println!("cargo:rerun-if-changed={CHOICE}");
    println!("cargo:rerun-if-changed=../probe-common/src");
    let toolchain = toolchain();
    if !toolchain.starts_with("nightly") {
        // SAFETY: build scripts have one thread. aya-build takes this as leave to use `-Z build-std`.
        unsafe { env::set_var("RUSTC_BOOTSTRAP", "1") };
    }
    // SAFETY: as above. Cargo's messages, even progress, would become warnings of this build.
    unsafe { env::set_var("CARGO_TERM_QUIET", "true") };
    // No path of this machine gets into the programs, so they are the same wherever they are built.
    for (variable, value) in [
        ("CARGO_UNSTABLE_TRIM_PATHS", "true"),
        ("CARGO_PROFILE_RELEASE_TRIM_PATHS", "all"),
    ] {
        // SAFETY: as above.
        unsafe { env::set_var(variable, value) };
    }
    let root = env::var("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR")?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR")?);
    share_programs(&out_dir)?;
    let package = Package {
        name: PROGRAMS,
        root_dir: &format!("{root}/../probe-ebpf"),
        ..Package::default()
    };
    aya_build::build_ebpf([package], Toolchain::Custom(&toolchain)).map_err(|error| {
        anyhow!("building the eBPF programs with toolchain '{toolchain}': {error:#}; run `cargo xtask setup`")
    })?;
    leave_a_stub_if_skipped(&out_dir)
}

/// Lets all profiles build the programs in one directory: they are the same programs, and take two minutes of CPU time.
fn share_programs(out_dir: &Path) -> Result<()> {
    let is_build = |directory: &&Path| directory.ends_with("build");
    let profile = out_dir.ancestors().find(is_build).and_then(Path::parent);
    let shared = profile
        .and_then(Path::parent)
        .context("OUT_DIR is not in a target directory")?
        .join("ebpf");
    // The directory in which aya-build builds.
    let own = out_dir.join("aya-build/target").join(PROGRAMS);
    if own.read_link().is_ok_and(|target| target == shared) {
        return Ok(());
    }
    // A link of a checkout that was moved, or a directory of an older build.
    let removed = match own.is_symlink() {
        true => fs::remove_file(&own),
        false if own.is_dir() => fs::remove_dir_all(&own),
        false => Ok(()),
    };
    removed.with_context(|| format!("cannot remove {}", own.display()))?;
    for directory in [Some(shared.as_path()), own.parent()].into_iter().flatten() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    symlink(&shared, &own).with_context(|| format!("cannot link {} to {}", own.display(), shared.display()))
}

/// `KSTAMP_EBPF_TOOLCHAIN`, else what set-up chose, else `nightly`.
fn toolchain() -> String {
    env::var("KSTAMP_EBPF_TOOLCHAIN")
        .ok()
        .or_else(|| fs::read_to_string(CHOICE).ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "nightly".to_owned())
}

/// With `AYA_BUILD_SKIP` there are no objects: empty ones let the crate compile, and are refused when they are loaded.
fn leave_a_stub_if_skipped(out_dir: &Path) -> Result<()> {
    for name in [
        "kstamp-programs",
        "kstamp-tap-programs",
        "kstamp-anatomy-programs",
        "kstamp-volley-programs",
        "kstamp-hops-programs",
        "kstamp-upcalls-programs",
    ] {
        let object = out_dir.join(name);
        if env::var_os("AYA_BUILD_SKIP").is_some() && !object.exists() {
            fs::write(&object, []).with_context(|| format!("cannot write {}", object.display()))?;
        }
    }
    Ok(())
}
