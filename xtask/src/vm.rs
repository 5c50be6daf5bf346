//! `cargo xtask test --vm`: the suite on stock Debian kernels, in virtual machines.
//!
//! A kernel package is fetched and unpacked ([`kernel`]). The test binaries and all that they call are packed into an
//! archive ([`image`]), with which the kernel is booted ([`machine`]). Inside, xtask is the first process ([`guest`]):
//! it runs the suite ([`suite`]) and reports over a serial line. Tests of services run in a second guest of each kernel,
//! where systemd is the first process of Debian ([`disk`], [`debian`]). Processors are always emulated in software (TCG):
//! slower than hardware virtualization, but the same on every machine.

mod archive;
mod debian;
mod disk;
mod emulator;
mod failing;
pub mod guest;
mod image;
mod kernel;
mod machine;
mod suite;
pub mod table;

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use crate::vm::emulator::Emulator;
pub use crate::vm::guest::Userland;
pub use crate::vm::kernel::Kernel;
use crate::vm::kernel::Unpacked;
pub use crate::vm::machine::Listener;
use crate::vm::machine::System;
use crate::vm::suite::Suite;
use crate::{setup, workspace};

/// Which kernels to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Debian 12's.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's.
    #[value(name = "6.12")]
    V6_12,
    /// Both, one after the other.
    All,
}

impl Choice {
    pub fn kernels(self) -> &'static [Kernel] {
        match self {
            Self::V6_1 => &[Kernel::V6_1],
            Self::V6_12 => &[Kernel::V6_12],
            Self::All => &[Kernel::V6_1, Kernel::V6_12],
        }
    }
}

/// A guest that runs a part of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    pub kernel: Kernel,
    pub userland: Userland,
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.userland {
            Userland::Bare => write!(f, "Linux {}", self.kernel.series()),
            Userland::Debian => write!(f, "Debian {}", self.kernel.debian().1),
        }
    }
}

/// Kernels with the suite, which is built once for all of them.
pub struct Guests {
    emulator: Emulator,
    kernels: Vec<(Kernel, Unpacked)>,
    suite: Suite,
}

impl Guests {
    /// Fetches emulator, kernels and disks, and builds the suite. Only tests whose name contains `filter` will run.
    pub fn prepare(kernels: &[Kernel], filter: Option<&str>) -> Result<Self> {
        setup::prepare_for_guests()?;
        let emulator = Emulator::get(directory().join("emulator"))?;
        let suite = Suite::build(filter, &directory().join("stripped"))?;
        let fetch = |&kernel: &Kernel| {
            if suite.runs_in(Userland::Debian) {
                disk::ensure(kernel, &disk(kernel))?;
            }
            let directory = directory().join("kernels").join(kernel.series());
            let unpacked = kernel::fetch(kernel, &directory)?;
            image::write(&archive(kernel), &unpacked, &suite)?;
            Ok((kernel, unpacked))
        };
        Ok(Self {
            emulator,
            kernels: kernels.iter().map(fetch).collect::<Result<_>>()?,
            suite,
        })
    }

    /// Boots every kernel and runs the suite on it, one after the other: two guests on two processors would delay each
    /// other's packets. Returns the listener of each guest.
    pub fn run<L: Listener>(&self, listener: impl Fn(Guest) -> L) -> Vec<L> {
        let mut listeners = Vec::new();
        for (kernel, unpacked) in &self.kernels {
            for userland in [Userland::Bare, Userland::Debian] {
                if self.suite.runs_in(userland) {
                    let guest = Guest {
                        kernel: *kernel,
                        userland,
                    };
                    let mut listener = listener(guest);
                    let outcome = self.boot(guest, unpacked, &mut listener);
                    listener.end(outcome);
                    listeners.push(listener);
                }
            }
        }
        listeners
    }

    fn boot(&self, guest: Guest, unpacked: &Unpacked, listener: &mut dyn Listener) -> Result<()> {
        let Guest { kernel, userland } = guest;
        let disk = disk(kernel);
        let system = System {
            emulator: &self.emulator,
            kernel: &unpacked.image,
            archive: &archive(kernel),
            disk: (userland == Userland::Debian).then_some(&disk),
            arguments: userland.arguments(),
        };
        let logs = directory().join(kernel.series()).join(userland.name());
        machine::boot(system, &logs, machine::LIMITS, listener)
    }

    /// Boots guests that fail on purpose, on the last kernel. Returns, by name, whether each failure was noticed and
    /// reported.
    pub fn fail_on_purpose(&self) -> Vec<(&'static str, Result<()>)> {
        let Some((kernel, unpacked)) = self.kernels.last() else {
            return Vec::new();
        };
        let system = System {
            emulator: &self.emulator,
            kernel: &unpacked.image,
            archive: &archive(*kernel),
            disk: None,
            arguments: "",
        };
        failing::boot_all(system, &directory().join("failing"))
    }
}

/// Whether `filter` selects any of the guests that fail on purpose.
pub fn fails_on_purpose(filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| failing::names().any(|name| name.contains(filter)))
}

/// The initial file system of a kernel's guest.
fn archive(kernel: Kernel) -> PathBuf {
    directory().join(kernel.series()).join("initramfs")
}

/// The image of a kernel's Debian.
fn disk(kernel: Kernel) -> PathBuf {
    directory().join("disks").join(kernel.debian().0).with_extension("ext4")
}

/// Where the emulator, kernels, archives and logs are kept.
fn directory() -> PathBuf {
    workspace::target_directory().join("vm")
}
