//! Debian packages: a package is installed only if the program or file that it provides is missing.

use std::env;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::setup::report::{Mode, say};
use crate::{exec, privilege};

/// A program or file that a package provides.
#[derive(Clone, Copy)]
pub(super) struct Need {
    /// A program, or a file if it starts with `/`.
    pub(super) what: &'static str,
    /// The Debian packages that provide it, separated by spaces.
    pub(super) packages: &'static str,
    pub(super) why: &'static str,
}

/// Programs that building and the lab always need.
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
        why: "checks when the lab is usable",
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

const STRIP: Need = Need {
    what: "strip",
    packages: "binutils",
    why: "makes binaries small, for guests and packages",
};

pub(super) const DEBOOTSTRAP: Need = Need {
    what: "debootstrap",
    packages: "debootstrap",
    why: "installs clean Debian systems, in which tests install the package",
};

/// Programs for booting guests, except the emulator: see `vm::emulator`.
pub(super) const GUEST_NEEDS: [Need; 5] = [
    Need {
        what: "apt-get",
        packages: "apt",
        why: "fetches Debian's kernels and the emulator",
    },
    Need {
        what: "depmod",
        packages: "kmod",
        why: "lists a guest's kernel modules",
    },
    STRIP,
    DEBOOTSTRAP,
    Need {
        what: "mkfs.ext4",
        packages: "e2fsprogs",
        why: "makes the disk of a guest with systemd",
    },
];

/// Also needed to build fuzz targets.
pub(super) const FUZZING_NEEDS: [Need; 1] = [Need {
    what: "c++",
    packages: "g++",
    why: "compiles libFuzzer",
}];

/// Programs that make packages.
pub(super) const PACKAGING_NEEDS: [Need; 4] = [
    STRIP,
    Need {
        what: "dpkg-shlibdeps",
        packages: "dpkg-dev",
        why: "finds the packages that a Debian package depends on",
    },
    Need {
        what: "rpmbuild",
        packages: "rpm",
        why: "makes the RPM",
    },
    Need {
        what: "git",
        packages: "git",
        why: "tells the time of the source",
    },
];

/// Optional programs of tests, such as a browser of a hundred megabytes for one page.
pub(super) const OPTIONAL_TEST_NEEDS: [Need; 1] = [Need {
    what: "chromium",
    packages: "chromium fonts-dejavu-core",
    why: "shows whether the page of kstamp compare renders",
}];

/// Options of every installation: fail rather than remove a package.
pub(super) const INSTALL: [&str; 4] = ["install", "-y", "--no-install-recommends", "--no-remove"];

/// Installs optional packages. A failure is reported and is no error.
pub(super) fn install_optional(needs: &[Need]) {
    for need in needs {
        if let Err(error) = ensure(std::slice::from_ref(need), Mode::Install) {
            say(need.what, &format!("not installed: {error:#}"));
        }
    }
}

/// Installs the packages of unmet needs. Returns how many needs are unmet (always 0 in [`Mode::Install`]).
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

pub(super) fn is_met(need: &Need) -> bool {
    if need.what.starts_with('/') {
        return Path::new(need.what).exists();
    }
    // System programs are not in every user's PATH.
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    env::join_paths(directories).is_ok_and(|all| which::which_in(need.what, Some(all), "/").is_ok())
}

fn install(needs: &[Need]) -> Result<()> {
    let packages = names(needs);
    let list = packages.join(" ");
    if which::which("apt-get").is_err() {
        bail!("no apt-get here: install what Debian calls {list} with this system's package manager");
    }
    say("apt-get", &format!("installing {list}"));
    refresh()?;
    apt(&[&["-qq"], &INSTALL[..], &packages].concat())
}

/// Updates apt's lists of packages.
pub(super) fn refresh() -> Result<()> {
    apt(&["update", "-qq"])
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = privilege::as_root("env")?;
    command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
        .args(arguments);
    // Stdout is for results.
    command.stdout(std::io::stderr());
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", exec::line(&command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", exec::line(&command));
    }
    Ok(())
}

pub(super) fn names(needs: &[Need]) -> Vec<&str> {
    needs.iter().flat_map(|need| need.packages.split(' ')).collect()
}
