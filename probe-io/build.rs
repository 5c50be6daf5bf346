//! Builds the eBPF objects that this crate embeds.

use std::path::Path;
use std::{env, fs};

use anyhow::{Context as _, Result, anyhow};
use aya_build::{Package, Toolchain};

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
    let root = env::var("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR")?;
    let package = Package {
        name: "probe-ebpf",
        root_dir: &format!("{root}/../probe-ebpf"),
        ..Package::default()
    };
    aya_build::build_ebpf([package], Toolchain::Custom(&toolchain)).map_err(|error| {
        anyhow!("building the eBPF programs with toolchain '{toolchain}': {error:#}; run `cargo xtask setup`")
    })?;
    leave_a_stub_if_skipped()
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
fn leave_a_stub_if_skipped() -> Result<()> {
    let out_dir = env::var("OUT_DIR").context("OUT_DIR")?;
    for name in ["kstamp-programs", "kstamp-tap-programs", "kstamp-anatomy-programs"] {
        let object = Path::new(&out_dir).join(name);
        if env::var_os("AYA_BUILD_SKIP").is_some() && !object.exists() {
            fs::write(&object, []).with_context(|| format!("cannot write {}", object.display()))?;
        }
    }
    Ok(())
}
