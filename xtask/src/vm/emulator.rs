//! QEMU: the one on PATH, else Debian 13's, unpacked below `target/vm`.
//!
//! It is never installed: Debian's package may conflict with what is installed, such as a newer `qemu-utils`.
//!
//! Before 8.1, QEMU may translate code while another processor changes it, and keep the stale translation. Linux changes its code
//! while packets pass, for instance when a socket wants timestamps. Such a guest panics now and then: "Oops: int3".

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::exec;
use crate::setup::{self, Closure, Source};

pub(super) const PROGRAM: &str = "qemu-system-x86_64";

const PACKAGE: &str = "qemu-system-x86";

/// The first version (major, minor) with the commit deba78709ae8, "accel/tcg: Always lock pages before translation".
const OLDEST: (u32, u32) = (8, 1);

/// Where Debian's packages have libraries, below the root.
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// Where Debian's packages have the BIOS and the firmware that loads a kernel, below the root.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// A QEMU that emulates processors.
#[derive(Clone, Debug)]
pub(super) enum Emulator {
    OnPath,
    /// Debian 13's, with its libraries, unpacked into this directory.
    Unpacked(PathBuf),
}

impl Emulator {
    /// Finds QEMU, or unpacks it into `directory`.
    pub(super) fn get(directory: PathBuf) -> Result<Self> {
        let unpacked = Self::Unpacked(directory.clone());
        if let Some(found) = [Self::OnPath, unpacked.clone()].into_iter().find(Self::works) {
            return Ok(found);
        }
        setup::unpack(
            Source::Debian13,
            || Ok(PACKAGE.to_owned()),
            Closure::Dependencies,
            &directory,
        )?;
        ensure!(
            unpacked.works(),
            "the {PROGRAM} in {} does not run, or cannot emulate: install one by hand",
            directory.display()
        );
        Ok(unpacked)
    }

    /// Whether it runs, is new enough and can emulate.
    fn works(&self) -> bool {
        let says = |arguments: &[&str]| {
            self.command()
                .and_then(|mut command| exec::capture(command.args(arguments)))
                .unwrap_or_default()
        };
        let can_emulate = says(&["-accel", "help"]).lines().any(|line| line == "tcg");
        can_emulate && version(&says(&["--version"])).is_some_and(|version| version >= OLDEST)
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

/// The major and minor version in `QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("QEMU emulator version ")?.split('.');
    let mut number = || numbers.next()?.parse().ok();
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_version_is_recognised() {
        let cases = [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)",
                Some((7, 2)),
            ),
            ("QEMU emulator version 8.1.0", Some((8, 1))),
            ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)", Some((10, 0))),
            ("QEMU emulator version 10", None),
            ("", None),
        ];
        for (text, want) in cases {
            assert_eq!(version(text), want, "{text}");
        }
        assert!((7, 2) < OLDEST && OLDEST < (10, 0));
    }
}
