//! Why kernel programs cannot be loaded, used or attached.

use std::error::Error;
use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

/// The programs could not be loaded or used.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Built with `AYA_BUILD_SKIP`.
    #[error(
        "this kstamp was built without its kernel programs; build it with `cargo xtask setup && cargo build --release`"
    )]
    Stub,
    #[error("cannot load the kernel programs: {}", root_cause(.0))]
    Load(#[from] Box<EbpfError>),
    /// The verifier or aya refused a program.
    #[error("cannot load the program {name}: {}", root_cause(.source))]
    Program {
        name: &'static str,
        source: Box<ProgramError>,
    },
    /// The object and this library are not of one build.
    #[error("the kernel programs have no {0}; they are of another version of kstamp, rebuild both")]
    Missing(&'static str),
    #[error("the map {name}: {source}")]
    Map { name: &'static str, source: MapError },
    #[error("cannot map the memory of {name}: {source}; `ulimit -v` may be too low")]
    Mapping { name: &'static str, source: io::Error },
    #[error("cannot read the number of processors: {0}; is /sys mounted?")]
    Processors(io::Error),
    #[error("cannot watch the ring buffer: {0}")]
    Ring(io::Error),
    #[error("cannot watch the system clock (timerfd): {0}")]
    Clock(io::Error),
    #[error("cannot read what the programs log: {0}")]
    Log(io::Error),
}

impl ObjectError {
    pub(crate) fn program(name: &'static str) -> impl Fn(ProgramError) -> Self {
        move |source| Self::Program {
            name,
            source: Box::new(source),
        }
    }

    pub(crate) fn map(name: &'static str) -> impl Fn(MapError) -> Self {
        move |source| Self::Map { name, source }
    }
}

/// A program could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("cannot attach {program} to {interface}: {}", root_cause(.source))]
    Refused {
        program: String,
        interface: String,
        source: Box<ProgramError>,
    },
}

/// The likely causes if a process that has the capabilities is refused bpf(2).
const REFUSED: &str = "the capabilities are there, so seccomp (of a container, or SystemCallFilter= of a service) or an \
    LSM (SELinux, AppArmor, lockdown) refuses it: see `grep Seccomp /proc/self/status` there, and `journalctl -k`";

/// The innermost error of a chain, which is the kernel's, in one line.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let errno = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    match errno {
        // Missing capabilities are found before anything is loaded.
        Some(libc::EPERM) => format!("{line}; {REFUSED}"),
        _ => line.to_owned(),
    }
}
