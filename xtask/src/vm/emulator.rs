//! QEMU: the one on PATH, else Debian's, unpacked below `target/vm`.
//!
//! It is never installed: Debian's package may conflict with what is installed, such as a newer `qemu-utils`.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::exec;
use crate::setup::{self, Closure};

pub(super) const PROGRAM: &str = "qemu-system-x86_64";

const PACKAGE: &str = "qemu-system-x86";

/// Where Debian's packages have libraries, below the root.
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// Where Debian's packages have the BIOS and the firmware that loads a kernel, below the root.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// A QEMU that emulates processors.
#[derive(Clone, Debug)]
pub(super) enum Emulator {
    OnPath,
    /// Debian's, with its libraries, unpacked into this directory.
    Unpacked(PathBuf),
}

impl Emulator {
    /// Finds QEMU, or unpacks it into `directory`.
    pub(super) fn get(directory: PathBuf) -> Result<Self> {
        let unpacked = Self::Unpacked(directory.clone());
        if let Some(found) = [Self::OnPath, unpacked.clone()].into_iter().find(Self::works) {
            return Ok(found);
        }
        setup::unpack(|| Ok(PACKAGE.to_owned()), Closure::Dependencies, &directory)?;
        ensure!(
            unpacked.works(),
            "the {PROGRAM} in {} does not run, or cannot emulate: install one by hand",
            directory.display()
        );
        Ok(unpacked)
    }

    /// Whether it runs and can emulate.
    fn works(&self) -> bool {
        let accelerators = self
            .command()
            .and_then(|mut command| exec::capture(command.args(["-accel", "help"])));
        accelerators.is_ok_and(|list| list.lines().any(|line| line == "tcg"))
    }

    /// Starts QEMU; its arguments are the caller's.
    pub(super) fn command(&self) -> Result<Command> {
        let Self::Unpacked(root) = self else {
            return Ok(Command::new(PROGRAM));
        };
        let libraries = LIBRARIES.map(|directory| root.join(directory));
        // The C library works with its own loader only.
        let loader = libraries
            .iter()
            .map(|directory| directory.join("ld-linux-x86-64.so.2"))
            .find(|path| path.is_file())
            .with_context(|| format!("no loader in {}", root.display()))?;
        let mut command = Command::new(loader);
        command.arg("--library-path").arg(env::join_paths(&libraries)?);
        command.arg(root.join("usr/bin").join(PROGRAM));
        command.env("QEMU_MODULE_DIR", root.join("usr/lib/x86_64-linux-gnu/qemu"));
        for directory in FIRMWARE {
            command.arg("-L").arg(root.join(directory));
        }
        Ok(command)
    }
}
