//! The Rust toolchain of the workspace, and rustup, which finds the one for eBPF.

use std::process::Command;

use anyhow::{Result, bail};

use crate::exec;
use crate::setup::report::say;

/// The workspace's `rust-version`.
const NEEDED: &str = env!("CARGO_PKG_RUST_VERSION");

/// Parts of the output of `rustc -vV`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// `1.95.0`, `1.97.0-nightly`.
    pub(super) release: String,
    /// The LLVM major version.
    pub(super) llvm: Option<u32>,
}

impl Version {
    /// The version of a toolchain that rustup knows.
    pub(super) fn of_toolchain(name: &str) -> Result<Self> {
        exec::capture(Command::new("rustup").args(["run", name, "rustc", "-vV"])).map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let llvm = field("LLVM version:").and_then(|version| version.split('.').next()?.parse().ok());
        Self {
            release: field("release:").unwrap_or("unknown").to_owned(),
            llvm,
        }
    }

    /// Whether it can compile the workspace.
    pub(super) fn is_new_enough(&self) -> bool {
        number(&self.release) >= number(NEEDED)
    }
}

/// Fails if Rust is too old or rustup is missing. Set-up installs neither.
pub(super) fn check() -> Result<usize> {
    let version = Version::parse(&exec::run("rustc", ["-vV"])?);
    if !version.is_new_enough() {
        bail!(
            "rustc {} is too old: {NEEDED} or newer is needed; run rustup update stable",
            version.release
        );
    }
    say(
        "rust",
        &format!("rustc {} ({NEEDED} or newer is needed)", version.release),
    );
    match exec::run("rustup", ["--version"]) {
        Ok(text) => say("rustup", text.trim()),
        Err(_) => {
            bail!("rustup is not installed: it finds the toolchain for eBPF; see https://rustup.rs")
        }
    }
    Ok(0)
}

/// Installs rustfmt and clippy, which a minimal toolchain lacks.
pub(crate) fn ensure_checkers() -> Result<()> {
    for (program, component) in [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        // The programs always exist with rustup, and fail if the component is missing.
        if exec::run(program, ["--version"]).is_err() {
            say(component, "missing; asking rustup for it");
            exec::run("rustup", ["component", "add", component])?;
        }
    }
    Ok(())
}

/// `1.97.0-nightly` as (1, 97).
fn number(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_and_llvm_are_parsed() {
        let text = "rustc 1.97.0-nightly\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        let version = Version::parse(text);
        assert_eq!(
            version,
            Version {
                release: "1.97.0-nightly".into(),
                llvm: Some(22)
            }
        );
        assert!(version.is_new_enough());
        let old = Version {
            release: "1.63.0".into(),
            llvm: Some(14),
        };
        assert!(!old.is_new_enough());
        assert!(!Version::parse("").is_new_enough());
    }
}
