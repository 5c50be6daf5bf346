//! The toolchain that compiles the eBPF programs.
//!
//! bpf-linker reads bitcode of its own LLVM version only, so rustc must have the same. There is no compiled `core` for
//! BPF, so its source is needed. A nightly and Debian's packages have both.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use crate::setup::linker::LLVM;
use crate::setup::packages::{self, Need};
use crate::setup::report::{Mode, say};
use crate::setup::rust::Version;
use crate::{exec, workspace};

/// Forces the choice: `debian`, or the name of a toolchain that rustup knows.
const FORCE: &str = "KSTAMP_EBPF_TOOLCHAIN";

/// A nightly that is known to have the right LLVM.
const PINNED: &str = "nightly-2026-05-20";

/// rustup's name for Debian's toolchain.
const DEBIAN: &str = "debian";

/// How long a download may take, so that it fails soon without a network.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(120);

pub(super) const DEBIAN_NEEDS: [Need; 3] = [
    Need {
        what: "/var/lib/dpkg/info/rustc-web.list",
        packages: "rustc-web",
        why: "rustc with the LLVM of bpf-linker",
    },
    Need {
        what: "/var/lib/dpkg/info/cargo-web.list",
        packages: "cargo-web",
        why: "the cargo that goes with it",
    },
    Need {
        what: "/var/lib/dpkg/info/rust-web-src.list",
        packages: "rust-web-src",
        why: "the source of core, built for BPF",
    },
];

/// The choice of set-up, if it ran.
pub(super) fn chosen() -> Option<String> {
    let name = fs::read_to_string(file()).ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Chooses a toolchain, or installs one. Returns 1 if none is suitable (always 0 in [`Mode::Install`]).
pub(super) fn ensure(mode: Mode) -> Result<usize> {
    let found = match env::var(FORCE).ok().filter(|name| !name.is_empty()) {
        Some(name) => forced(&name, mode)?,
        None => installed().map_or_else(|| obtain(mode), |found| Ok(Some(found)))?,
    };
    let Some((name, reason)) = found else {
        say(
            "eBPF toolchain",
            &format!("missing: a nightly with LLVM {LLVM} and rust-src, or Debian's rustc-web"),
        );
        return Ok(1);
    };
    say("eBPF toolchain", &format!("{name} ({reason})"));
    if mode == Mode::Install && chosen().as_deref() != Some(name.as_str()) {
        let path = file();
        fs::create_dir_all(path.parent().unwrap_or(&path)).context("cannot make the target directory")?;
        fs::write(&path, format!("{name}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(0)
}

/// A toolchain's name, and why it was chosen.
type Choice = (String, String);

fn forced(name: &str, mode: Mode) -> Result<Option<Choice>> {
    if name == DEBIAN {
        return debian(mode, &format!("{FORCE} asks for it"));
    }
    if mode == Mode::Install {
        add_source(name);
    }
    match unsuitable(name) {
        None => Ok(Some((name.to_owned(), format!("{FORCE} asks for it")))),
        Some(reason) => bail!("{FORCE}={name}: {reason}"),
    }
}

/// The earlier choice if it is still suitable, else a suitable installed nightly.
fn installed() -> Option<Choice> {
    if let Some(name) = chosen().filter(|name| unsuitable(name).is_none()) {
        return Some((name, "chosen before".to_owned()));
    }
    let name = nightlies().into_iter().find(|name| unsuitable(name).is_none())?;
    Some((name, format!("installed, has LLVM {LLVM} and the source of core")))
}

fn obtain(mode: Mode) -> Result<Option<Choice>> {
    if mode == Mode::Check {
        return debian(mode, "already installed");
    }
    // A nightly with the right LLVM may lack the source only: a download of a few megabytes.
    for name in nightlies() {
        if has_right_llvm(&name) {
            add_source(&name);
            if unsuitable(&name).is_none() {
                return Ok(Some((name, "installed, rust-src was added".to_owned())));
            }
        }
    }
    say(
        "eBPF toolchain",
        &format!("trying to install {PINNED}, which has LLVM {LLVM}"),
    );
    let install = format!("toolchain install {PINNED} --profile minimal --component rust-src");
    if rustup(&install) && unsuitable(PINNED).is_none() {
        return Ok(Some((PINNED.to_owned(), format!("just installed, has LLVM {LLVM}"))));
    }
    debian(
        mode,
        "no nightly can be installed here; Debian's rustc has the right LLVM too",
    )
}

fn debian(mode: Mode, reason: &str) -> Result<Option<Choice>> {
    // Debian's packages are not reported as missing, because a nightly is enough.
    if mode == Mode::Check && !DEBIAN_NEEDS.iter().all(packages::is_met) {
        return Ok(None);
    }
    packages::ensure(&DEBIAN_NEEDS, mode)?;
    if !toolchains().iter().any(|name| name == DEBIAN) {
        if mode == Mode::Check {
            return Ok(None);
        }
        exec::run("rustup", ["toolchain", "link", DEBIAN, "/usr"])?;
    }
    match unsuitable(DEBIAN) {
        None => Ok(Some((DEBIAN.to_owned(), reason.to_owned()))),
        Some(reason) => bail!("Debian's toolchain does not suit: {reason}"),
    }
}

/// Why the toolchain is unsuitable, if it is.
fn unsuitable(name: &str) -> Option<String> {
    if !toolchains()
        .iter()
        .any(|known| known == name || known.starts_with(&format!("{name}-")))
    {
        return Some("rustup does not know it".to_owned());
    }
    let version = match Version::of_toolchain(name) {
        Ok(version) => version,
        Err(error) => return Some(format!("{error:#}")),
    };
    if version.llvm != Some(LLVM) {
        return Some(format!("rustc {} is not built with LLVM {LLVM}", version.release));
    }
    if !version.is_new_enough() {
        return Some(format!("rustc {} is too old", version.release));
    }
    (!has_source(name)).then(|| "it lacks the source of core (rust-src)".to_owned())
}

fn has_right_llvm(name: &str) -> bool {
    Version::of_toolchain(name).is_ok_and(|version| version.llvm == Some(LLVM))
}

fn has_source(name: &str) -> bool {
    let root = exec::capture(Command::new("rustup").args(["run", name, "rustc", "--print", "sysroot"]));
    root.is_ok_and(|root| {
        Path::new(root.trim())
            .join("lib/rustlib/src/rust/library/core")
            .exists()
    })
}

fn add_source(name: &str) {
    if !has_source(name) {
        say("eBPF toolchain", &format!("adding rust-src to {name}"));
        rustup(&format!("component add rust-src --toolchain {name}"));
    }
}

/// Runs rustup for a limited time. A failure is only reported, because there is an alternative.
fn rustup(arguments: &str) -> bool {
    let mut command = Command::new("rustup");
    command.args(arguments.split(' ')).stdout(Stdio::null());
    let outcome = exec::status_within(&mut command, DOWNLOAD_TIMEOUT);
    let done = matches!(&outcome, Ok(Some(status)) if status.success());
    if !done {
        let why = if matches!(outcome, Ok(None)) {
            "took too long"
        } else {
            "failed"
        };
        say("note", &format!("`{}` {why}", exec::line(&command)));
    }
    done
}

/// The nightlies that rustup has, the known one first.
fn nightlies() -> Vec<String> {
    let mut names: Vec<_> = toolchains()
        .into_iter()
        .filter(|name| name.starts_with("nightly"))
        .collect();
    names.sort_by_key(|name| !name.starts_with(PINNED));
    names
}

fn toolchains() -> Vec<String> {
    let list = exec::run("rustup", ["toolchain", "list"]).unwrap_or_default();
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// The file with the choice, which `probe-io/build.rs` reads.
fn file() -> PathBuf {
    workspace::root().join("target/ebpf-toolchain")
}
