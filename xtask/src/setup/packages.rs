//! Debian packages: looked for by what they bring, installed only if that is missing.

use std::{env, path::Path};

use anyhow::{Context as _, Result, bail};

use super::{Mode, say};
use crate::{exec, privilege};

/// Something that a package brings.
#[derive(Clone, Copy)]
pub(super) struct Need {
    /// A program, or a file if it starts with `/`.
    pub(super) what: &'static str,
    /// The Debian packages that bring it.
    pub(super) packages: &'static str,
    /// What it is for.
    pub(super) why: &'static str,
}

/// What building and the lab need in any case.
pub(super) const NEEDS: [Need; 6] = [
    Need {
        what: "cc",
        packages: "gcc libc6-dev",
        why: "links every Rust program",
    },
    Need {
        what: "ip",
        packages: "iproute2",
        why: "makes the lab's namespaces and links",
    },
    Need {
        what: "ovs-vswitchd",
        packages: "openvswitch-switch",
        why: "the switch that the lab measures",
    },
    Need {
        what: "ping",
        packages: "iputils-ping",
        why: "tells when the lab is usable",
    },
    Need {
        what: "sysctl",
        packages: "procps",
        why: "is called by tests, as kill and pgrep are",
    },
    Need {
        what: "setpriv",
        packages: "util-linux",
        why: "is called by tests",
    },
];

/// What booting guests needs besides.
pub(super) const NEEDS_OF_GUESTS: [Need; 4] = [
    Need {
        what: "qemu-system-x86_64",
        packages: "qemu-system-x86",
        why: "emulates the machine that a guest is",
    },
    Need {
        what: "apt-get",
        packages: "apt",
        why: "fetches Debian's kernels",
    },
    Need {
        what: "depmod",
        packages: "kmod",
        why: "lists a guest's kernel modules",
    },
    Need {
        what: "strip",
        packages: "binutils",
        why: "makes a guest's binaries small",
    },
];

/// What fuzzing needs besides.
pub(super) const NEEDS_OF_FUZZING: [Need; 1] = [Need {
    what: "c++",
    packages: "g++",
    why: "compiles libFuzzer",
}];

/// What tests can use, and are done without where it is not to be had: a hundred megabytes to look at one page.
pub(super) const WANTED_BY_TESTS: [Need; 1] = [Need {
    what: "chromium",
    packages: "chromium fonts-dejavu-core",
    why: "shows whether the page of kstamp compare renders",
}];

/// Installs what can be installed; what cannot is said, and no failure.
pub(super) fn want(needs: &[Need]) {
    for need in needs {
        if let Err(error) = ensure(std::slice::from_ref(need), Mode::Install) {
            say(need.what, &format!("not installed: {error:#}"));
        }
    }
}

/// Installs the packages of those needs that are not met; how many are not (when only checking).
pub(super) fn ensure(needs: &[Need], mode: Mode) -> Result<usize> {
    let mut missing = Vec::new();
    for need in needs {
        if is_met(need) {
            say(need.what, &format!("found ({})", need.why));
        } else {
            say(need.what, &format!("missing ({}); package {}", need.why, need.packages));
            missing.push(*need);
        }
    }
    if mode == Mode::Check || missing.is_empty() {
        return Ok(missing.len());
    }
    install(&missing)?;
    if let Some(need) = missing.iter().find(|need| !is_met(need)) {
        bail!("{} is still missing after installing {}", need.what, need.packages);
    }
    Ok(0)
}

/// Whether what the package brings is there.
pub(super) fn is_met(need: &Need) -> bool {
    if need.what.starts_with('/') {
        return Path::new(need.what).exists();
    }
    // Not everybody's PATH names the directories of system programs.
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    env::join_paths(directories).is_ok_and(|all| which::which_in(need.what, Some(all), "/").is_ok())
}

fn install(needs: &[Need]) -> Result<()> {
    let packages: Vec<_> = needs.iter().flat_map(|need| need.packages.split(' ')).collect();
    let list = packages.join(" ");
    if which::which("apt-get").is_err() {
        bail!("no apt-get here: install what Debian calls {list} with this system's package manager");
    }
    say("apt-get", &format!("installing {list}"));
    apt(&["update", "-qq"])?;
    // Rather fail than take something away.
    let options = ["install", "-y", "-qq", "--no-install-recommends", "--no-remove"];
    apt(&options.into_iter().chain(packages).collect::<Vec<_>>())
}

pub(super) fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = privilege::as_root("env")?;
    command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
        .args(arguments);
    // Its chatter is no result of ours.
    command.stdout(std::io::stderr());
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", exec::line(&command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", exec::line(&command));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_met_by_a_program_or_a_file() {
        let need = |what| Need {
            what,
            packages: "",
            why: "",
        };
        assert!(is_met(&need("sh")));
        assert!(is_met(&need("/bin/sh")));
        assert!(!is_met(&need("kstamp-no-such-program")));
        assert!(!is_met(&need("/kstamp/no/such/file")));
    }
}
