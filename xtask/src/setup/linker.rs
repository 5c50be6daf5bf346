//! bpf-linker: links rustc's output into a BPF object.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::exec;
use crate::setup::cargo_tool;
use crate::setup::packages::{self, Need};
use crate::setup::report::{Mode, say};

/// The LLVM that bpf-linker is built against; rustc must have the same.
pub(super) const LLVM: u32 = 22;

/// The oldest accepted version, and the installed one.
const VERSION: &str = "0.13.0";

/// Where Debian installs LLVM.
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";

pub(super) const NEEDS: [Need; 1] = [Need {
    what: "/usr/lib/llvm-22/lib/libLLVM.so",
    packages: "llvm-22-dev",
    why: "bpf-linker is linked to it",
}];

/// Installs bpf-linker unless a suitable one is present. Returns 1 if it is missing (always 0 in [`Mode::Install`]).
pub(super) fn ensure(mode: Mode) -> Result<usize> {
    let why = match installed() {
        Some((path, version)) => match unsuitable(&path, &version) {
            None => {
                say("bpf-linker", &format!("{version}, {}", path.display()));
                return Ok(0);
            }
            Some(why) => why,
        },
        None => "missing".to_owned(),
    };
    say("bpf-linker", &format!("{why}; it links the eBPF programs"));
    if mode == Mode::Check {
        return Ok(1);
    }
    let prefix = match env::var_os("LLVM_PREFIX") {
        Some(prefix) => PathBuf::from(prefix),
        None => {
            packages::ensure(&NEEDS, mode)?;
            PathBuf::from(DEBIAN_LLVM)
        }
    };
    install(&prefix)?;
    match installed() {
        Some((path, version)) if unsuitable(&path, &version).is_none() => Ok(0),
        Some((path, version)) => {
            bail!(
                "{} ({version}) comes before the bpf-linker just installed: remove it, or put ~/.cargo/bin first in PATH",
                path.display()
            )
        }
        None => bail!("bpf-linker was installed but is not found: put ~/.cargo/bin in PATH"),
    }
}

fn install(prefix: &Path) -> Result<()> {
    say(
        "bpf-linker",
        &format!("building {VERSION} with {} (a minute or two)", prefix.display()),
    );
    let feature = format!("llvm-{LLVM}");
    let mut command = cargo_tool::install("bpf-linker", VERSION);
    command.args(["--no-default-features", "--features", &feature]);
    command.env("LLVM_PREFIX", prefix);
    cargo_tool::run(&mut command)
}

/// Where bpf-linker is, and its version.
fn installed() -> Option<(PathBuf, String)> {
    let path = which::which("bpf-linker").ok()?;
    let text = exec::capture(Command::new(&path).arg("--version")).ok()?;
    Some((path, text.trim().trim_start_matches("bpf-linker ").to_owned()))
}

/// Why this bpf-linker is unsuitable, if it is.
fn unsuitable(path: &Path, version: &str) -> Option<String> {
    if number(version) < number(VERSION) {
        return Some(format!("{version} is too old"));
    }
    // A statically linked LLVM has an unknown version; the build fails if it is wrong.
    let libraries = exec::capture(Command::new("ldd").arg(path)).unwrap_or_default();
    let llvm = libraries
        .split("libLLVM.so.")
        .nth(1)?
        .split('.')
        .next()?
        .split_whitespace()
        .next()?;
    let llvm: u32 = llvm.parse().ok()?;
    (llvm < LLVM).then(|| format!("{version} is linked to LLVM {llvm}, {LLVM} is needed"))
}

fn number(version: &str) -> Vec<u32> {
    version.split(['.', '-']).map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(number("0.9.14") < number(VERSION));
        assert!(number("0.13.0") >= number(VERSION));
        assert!(number("0.13.1") >= number(VERSION));
    }
}
