//! `cargo xtask test --vm`: the suite on stock Debian kernels, in virtual machines.
//!
//! A kernel package is fetched and unpacked ([`kernel`]). The test binaries and all that they call are packed into an
//! archive ([`image`]), with which the kernel is booted ([`machine`]). Inside, xtask is the first process ([`guest`]):
//! it runs the suite ([`suite`]) and reports over a serial line. Processors are always emulated in software (TCG):
//! slower than hardware virtualization, but the same on every machine.

mod archive;
mod emulator;
mod failing;
pub mod guest;
mod image;
mod kernel;
mod machine;
mod suite;
pub mod table;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use crate::vm::emulator::Emulator;
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

/// Kernels with the suite, which is built once for all of them.
pub struct Guests {
    emulator: Emulator,
    kernels: Vec<(Kernel, Unpacked)>,
    suite: Suite,
}

impl Guests {
    /// Fetches emulator and kernels, and builds the suite. Only tests whose name contains `filter` will run.
    pub fn prepare(kernels: &[Kernel], filter: Option<&str>) -> Result<Self> {
        setup::prepare_for_guests()?;
        let emulator = Emulator::get(directory().join("emulator"))?;
        let fetch = |&kernel: &Kernel| {
            let directory = directory().join("kernels").join(kernel.series());
            Ok((kernel, kernel::fetch(kernel, &directory)?))
        };
        Ok(Self {
            emulator,
            kernels: kernels.iter().map(fetch).collect::<Result<_>>()?,
            suite: Suite::build(filter, &directory().join("stripped"))?,
        })
    }

    /// Boots every kernel and runs the suite on it, one after the other: two guests on two processors would delay each
    /// other's packets. Returns the listener of each.
    pub fn run<L: Listener>(&self, listener: impl Fn(Kernel) -> L) -> Vec<L> {
        let run = |(kernel, unpacked): &(Kernel, Unpacked)| {
            let mut listener = listener(*kernel);
            let outcome = self.boot(*kernel, unpacked, &mut listener);
            listener.end(outcome);
            listener
        };
        self.kernels.iter().map(run).collect()
    }

    fn boot(&self, kernel: Kernel, unpacked: &Unpacked, listener: &mut dyn Listener) -> Result<()> {
        let archive = archive(kernel);
        image::write(&archive, unpacked, &self.suite)?;
        let system = System {
            emulator: &self.emulator,
            kernel: &unpacked.image,
            archive: &archive,
            arguments: "guest",
        };
        machine::boot(system, &directory().join(kernel.series()), machine::LIMITS, listener)
    }

    /// Boots guests that fail on purpose, with the archive that [`Guests::run`] wrote for the last kernel. Returns, by
    /// name, whether each failure was noticed and reported.
    pub fn fail_on_purpose(&self) -> Vec<(&'static str, Result<()>)> {
        let Some((kernel, unpacked)) = self.kernels.last() else {
            return Vec::new();
        };
        let system = System {
            emulator: &self.emulator,
            kernel: &unpacked.image,
            archive: &archive(*kernel),
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

/// Where the emulator, kernels, archives and logs are kept.
fn directory() -> PathBuf {
    workspace::target_directory().join("vm")
}
