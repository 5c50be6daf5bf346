//! `cargo xtask test --vm`: the suite on stock Debian kernels, in a virtual machine.
//!
//! A kernel package is fetched and unpacked ([`kernel`]), packed with the test binaries and all that they call into an
//! archive ([`image`]), and booted ([`machine`]). Inside, this very program is the first process ([`guest`]): it runs
//! the suite ([`suite`]) and its word goes out by a serial line. Emulation is always software (TCG): slower than the
//! processor's own, but the same on every machine.

mod archive;
pub mod guest;
mod image;
mod kernel;
mod machine;
mod modules;
mod suite;
pub mod table;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::ValueEnum;

pub use kernel::Kernel;

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
pub trait Listener {
    /// One line that a test or the guest printed.
    fn line(&mut self, line: &str);
    /// One part of the suite has ended.
    fn part(&mut self, name: &str, success: bool);
}

/// What guests run: built once, for all kernels.
pub struct Guests {
    suite: suite::Suite,
}

impl Guests {
    /// Installs what booting needs, and builds what is to run inside; only tests whose name contains `filter`.
    ///
    /// # Errors
    /// If something is missing and cannot be installed, or does not build.
    pub fn prepare(filter: Option<&str>) -> Result<Self> {
        setup::prepare_for_guests()?;
        let suite = suite::Suite::build(filter)?;
        Ok(Self { suite })
    }

    /// Boots `kernel` and runs the suite on it; how long that took.
    ///
    /// # Errors
    /// If the kernel cannot be fetched or booted, panics, falls silent or does not come to its end.
    pub fn run(&self, kernel: Kernel, listener: &mut dyn Listener) -> Result<Duration> {
        let begin = Instant::now();
        let unpacked = kernel::fetch(kernel)?;
        let directory = directory().join(kernel.series());
        let archive = directory.join("initramfs");
        image::write(&archive, &unpacked, &self.suite)?;
        machine::boot(&unpacked.image, &archive, &directory, listener)?;
        Ok(begin.elapsed())
    }
}

/// Where kernels, archives and what guests said are kept.
fn directory() -> PathBuf {
    workspace::target_directory().join("vm")
}
