//! `cargo xtask test --vm`: the suite on stock Debian kernels, in a virtual machine.
//!
//! A kernel package is fetched and unpacked ([`kernel`]), packed with the test binaries and all that they call into an
//! archive ([`image`]), and booted ([`machine`]). Inside, this very program is the first process ([`guest`]): it runs
//! the suite ([`suite`]) and its word goes out by a serial line. Emulation is always software (TCG): slower than the
//! processor's own, but the same on every machine.

mod archive;
mod failing;
pub mod guest;
mod image;
mod kernel;
mod machine;
mod modules;
mod suite;
pub mod table;

use std::{path::PathBuf, thread};

use anyhow::Result;
use clap::ValueEnum;

pub use kernel::Kernel;

use crate::{setup, workspace};
use machine::System;

/// Which kernels to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Debian 12's.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's.
    #[value(name = "6.12")]
    V6_12,
    /// Both, at the same time.
    All,
}

impl Choice {
    /// The kernels.
    pub fn kernels(self) -> &'static [Kernel] {
        match self {
            Self::V6_1 => &[Kernel::V6_1],
            Self::V6_12 => &[Kernel::V6_12],
            Self::All => &[Kernel::V6_1, Kernel::V6_12],
        }
    }
}

/// What a guest says, and how it ended.
pub trait Listener: Send {
    /// One line that a test or the guest printed.
    fn line(&mut self, line: &str);
    /// One part of the suite has ended.
    fn part(&mut self, name: &str, success: bool);
    /// The guest has ended: with its suite, or because it could not be booted, panicked or fell silent.
    fn end(&mut self, outcome: Result<()>);
}

/// Kernels, and what runs on them: built once, for all.
pub struct Guests {
    kernels: Vec<(Kernel, kernel::Unpacked)>,
    suite: suite::Suite,
}

impl Guests {
    /// Installs what booting needs, fetches the kernels, and builds what is to run inside; only tests whose name contains
    /// `filter`.
    ///
    /// # Errors
    /// If something is missing and cannot be installed or fetched, or does not build.
    pub fn prepare(kernels: &[Kernel], filter: Option<&str>) -> Result<Self> {
        setup::prepare_for_guests()?;
        let kernels = kernels.iter().map(|&kernel| Ok((kernel, kernel::fetch(kernel)?)));
        Ok(Self {
            kernels: kernels.collect::<Result<_>>()?,
            suite: suite::Suite::build(filter)?,
        })
    }

    /// Boots every kernel and runs the suite on it, all at the same time: most of it is waiting. Each has a listener, in
    /// the order of the kernels.
    pub fn run<L: Listener>(&self, listeners: &mut [L]) {
        thread::scope(|scope| {
            for ((kernel, unpacked), listener) in self.kernels.iter().zip(listeners) {
                scope.spawn(move || {
                    let outcome = self.boot(*kernel, unpacked, listener);
                    listener.end(outcome);
                });
            }
        });
    }

    fn boot(&self, kernel: Kernel, unpacked: &kernel::Unpacked, listener: &mut dyn Listener) -> Result<()> {
        let directory = directory().join(kernel.series());
        let archive = archive(kernel);
        image::write(&archive, unpacked, &self.suite)?;
        let system = System {
            kernel: &unpacked.image,
            archive: &archive,
            arguments: "guest",
        };
        machine::boot(system, &directory, machine::LIMITS, listener)
    }

    /// Boots guests that fail on purpose, with what [`Guests::run`] has left for the last kernel: whether each was found
    /// to fail as it did, by name.
    pub fn fail_on_purpose(&self) -> Vec<(&'static str, Result<()>)> {
        let Some((kernel, unpacked)) = self.kernels.last() else {
            return Vec::new();
        };
        failing::boot_all(&unpacked.image, &archive(*kernel), &directory().join("failing"))
    }
}

/// Whether `filter` leaves any guest that fails on purpose.
pub fn fails_on_purpose(filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| failing::names().any(|name| name.contains(filter)))
}

/// The first file system of a kernel's guest.
fn archive(kernel: Kernel) -> PathBuf {
    directory().join(kernel.series()).join("initramfs")
}

/// Where kernels, archives and what guests said are kept.
fn directory() -> PathBuf {
    workspace::target_directory().join("vm")
}
