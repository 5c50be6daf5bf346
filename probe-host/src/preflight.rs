//! Whether kstamp can run here: what is missing, why that matters, and how to fix it.

use std::path::Path;
use std::{fmt, fs, io};

use nix::sys::utsname::uname;

use crate::limits::{self, LOADING_MEMORY, MemoryLimit};

/// The oldest kernel that has everything that the programs use.
pub const MINIMUM_KERNEL: (u32, u32) = (6, 1);

const STATUS: &str = "/proc/self/status";
const USER_NAMESPACE_MAP: &str = "/proc/self/uid_map";
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// A capability by its number in `linux/capability.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Capability {
    number: u32,
    name: &'static str,
    needed_for: &'static str,
    /// CAP_SYS_ADMIN includes it: it was split off in Linux 5.8.
    is_in_sys_admin: bool,
}

const CAP_SYS_ADMIN: u32 = 21;

const NEEDED: [Capability; 4] = [
    Capability {
        number: 39,
        name: "CAP_BPF",
        needed_for: "loading eBPF programs",
        is_in_sys_admin: true,
    },
    Capability {
        number: 38,
        name: "CAP_PERFMON",
        needed_for: "reading packets in eBPF",
        is_in_sys_admin: true,
    },
    Capability {
        number: 12,
        name: "CAP_NET_ADMIN",
        needed_for: "attaching to an interface",
        is_in_sys_admin: false,
    },
    Capability {
        number: 13,
        name: "CAP_NET_RAW",
        needed_for: "binding to an interface",
        is_in_sys_admin: false,
    },
];

/// The input of [`check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Such as `6.1.0-32-amd64`.
    pub kernel_release: String,
    /// The kernel has BTF for its own types.
    pub btf: bool,
    /// Effective capabilities, one bit each.
    pub capabilities: u64,
    /// The smallest limit on this process's memory.
    pub memory: Option<MemoryLimit>,
    /// In other user namespaces, capabilities do not cover eBPF.
    pub initial_user_namespace: bool,
}

/// A fact could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    #[error("cannot ask for the kernel's release: {0}")]
    Release(#[source] nix::Error),
    #[error("cannot read {path}: {source}; is /proc mounted?")]
    Read { path: &'static str, source: io::Error },
    #[error("cannot find the effective capabilities in {STATUS}")]
    Capabilities,
}

impl Facts {
    /// Reads the facts of this process and machine.
    pub fn collect() -> Result<Self, FactsError> {
        let read = |path| fs::read_to_string(path).map_err(|source| FactsError::Read { path, source });
        Ok(Self {
            kernel_release: uname()
                .map_err(FactsError::Release)?
                .release()
                .to_string_lossy()
                .into_owned(),
            btf: Path::new(BTF).exists(),
            capabilities: effective_capabilities(&read(STATUS)?).ok_or(FactsError::Capabilities)?,
            memory: limits::memory(),
            initial_user_namespace: is_initial_map(&read(USER_NAMESPACE_MAP)?),
        })
    }

    fn has(&self, number: u32) -> bool {
        self.capabilities & (1 << number) != 0
    }
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

/// The initial user namespace maps every id to itself.
fn is_initial_map(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// A missing requirement. Displayed as one line: what; why; how to fix it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    pub why: String,
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.what, self.why, self.remedy)
    }
}

/// Everything that keeps kstamp from running here; empty if it can run.
pub fn check(facts: &Facts) -> Vec<Finding> {
    [
        kernel(facts),
        btf(facts),
        user_namespace(facts),
        capabilities(facts),
        memory(facts),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn memory(facts: &Facts) -> Option<Finding> {
    const MIB: u64 = 1 << 20;
    let limit = facts.memory.filter(|limit| limit.bytes < LOADING_MEMORY)?;
    let needed = LOADING_MEMORY / MIB;
    Some(Finding {
        what: format!("this process may have {} MiB of memory", limit.bytes / MIB),
        why: format!("loading the programs needs {needed} MiB"),
        remedy: format!("raise {} to {needed} MiB or more", limit.set_by),
    })
}

fn kernel(facts: &Facts) -> Option<Finding> {
    let (major, minor) = MINIMUM_KERNEL;
    let release = &facts.kernel_release;
    let what = match version(release) {
        Some(version) if version >= MINIMUM_KERNEL => return None,
        Some(_) => format!("kernel {release} is too old"),
        None => format!("kernel release '{release}' has no version in it"),
    };
    Some(Finding {
        what,
        why: format!("kstamp needs {major}.{minor} (bpf_xdp_load_bytes, XDP links, BTF)"),
        remedy: "boot a newer kernel (Debian 12 has 6.1)".to_owned(),
    })
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn btf(facts: &Facts) -> Option<Finding> {
    (!facts.btf).then(|| Finding {
        what: format!("{BTF} is missing"),
        why: "the kernel does not describe its types, so that eBPF programs cannot be checked against it".to_owned(),
        remedy: "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (distribution kernels are), or mount /sys".to_owned(),
    })
}

fn user_namespace(facts: &Facts) -> Option<Finding> {
    (!facts.initial_user_namespace).then(|| Finding {
        what: "this process is in a user namespace".to_owned(),
        why: "the kernel loads no eBPF programs from there, not even for root".to_owned(),
        remedy: "run kstamp outside of it (not in a rootless container)".to_owned(),
    })
}

fn capabilities(facts: &Facts) -> Option<Finding> {
    let has = |needed: &Capability| facts.has(needed.number) || (needed.is_in_sys_admin && facts.has(CAP_SYS_ADMIN));
    let missing: Vec<Capability> = NEEDED.into_iter().filter(|needed| !has(needed)).collect();
    if missing.is_empty() {
        return None;
    }
    let names = missing
        .iter()
        .map(|capability| capability.name)
        .collect::<Vec<_>>()
        .join(", ");
    let uses = missing
        .iter()
        .map(|capability| capability.needed_for)
        .collect::<Vec<_>>()
        .join(", ");
    let container: String = missing
        .iter()
        .map(|capability| format!(" --cap-add {}", capability.name))
        .collect();
    Some(Finding {
        what: if missing.len() == NEEDED.len() {
            format!("not privileged, {names} are missing")
        } else {
            format!("{names} {} missing", if missing.len() == 1 { "is" } else { "are" })
        },
        why: format!("needed for {uses}"),
        remedy: format!("run kstamp as root (sudo kstamp …), or its container with{container}"),
    })
}

#[cfg(test)]
mod tests;
