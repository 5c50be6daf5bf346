//! Third-party programs that benches and tests run beside kstamp.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::setup::cargo_tool;
use crate::setup::packages::{self, Need};
use crate::setup::report::{Mode, say};
use crate::{exec, workspace};

/// Packages from PyPI.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
const MANIFEST_CHECKERS: [&str; 2] = [
    "kubernetes-validate==1.37.0",
    "cloudcoil.models.prometheus_operator==0.80.1.0",
];

pub(super) const TOOLS: [Need; 4] = [
    Need {
        what: "fping",
        packages: "fping",
        why: "compared in benches",
    },
    Need {
        what: "irtt",
        packages: "irtt",
        why: "compared in benches",
    },
    Need {
        what: "sockperf",
        packages: "sockperf",
        why: "compared in benches",
    },
    PYTHON,
];

const PYTHON: Need = Need {
    what: "python3",
    packages: "python3",
    why: "runs the asyncio agent that is compared in benches and tests",
};

const PYTHON_VENV: Need = Need {
    what: "python3-venv",
    packages: "python3-venv",
    why: "makes environments for programs from PyPI that tests run",
};

pub(super) const TSHARK: Need = Need {
    what: "tshark",
    packages: "tshark",
    why: "decodes kstamp's packets in tests",
};

/// Its service starts with the package, where there is systemd; the tests run their own.
pub(super) const PROMETHEUS: Need = Need {
    what: "prometheus",
    packages: "prometheus",
    why: "scrapes agents in tests, with promtool, which checks the rules in deploy/",
};

pub(super) const ANSIBLE: Need = Need {
    what: "ansible-lint",
    packages: "ansible-lint ansible-core",
    why: "checks and runs the playbook in deploy/ in tests",
};

pub(super) const CHROMIUM: Need = Need {
    what: "chromedriver",
    packages: "chromium chromium-driver fonts-dejavu-core",
    why: "shows the pages of --listen in tests",
};

pub(super) const LINTIAN: Need = Need {
    what: "lintian",
    packages: "lintian",
    why: "checks the Debian package",
};

pub(super) const RPMLINT: Need = Need {
    what: "rpmlint",
    packages: "rpmlint",
    why: "checks the RPM",
};

pub(super) const BUILDAH: Need = Need {
    what: "buildah",
    packages: "buildah",
    why: "runs the image in tests",
};

/// Installs the tools that benches compare kstamp with. A bench skips missing tools.
pub(crate) fn bench_tools() {
    packages::install_optional(&TOOLS);
    if let Err(error) = ensure_stamp_suite() {
        say("stamp-suite", &format!("not installed: {error:#}"));
    }
}

/// The stamp-suite that set-up built below the target directory, if it did.
pub(crate) fn stamp_suite() -> Option<PathBuf> {
    let path = root().join("bin/stamp-suite");
    path.is_file().then_some(path)
}

/// Path of an optimised stamp-suite; builds it if it is missing.
fn ensure_stamp_suite() -> Result<PathBuf> {
    if let Some(path) = which::which("stamp-suite").ok().or_else(stamp_suite) {
        return Ok(path);
    }
    say("stamp-suite", "building it, for benches (a minute or two)");
    let mut command = cargo_tool::STAMP_SUITE.install();
    command.arg("--root").arg(root());
    cargo_tool::run(&mut command)?;
    stamp_suite().context("it was built but is not there")
}

/// Finds schemathesis, or installs it. Returns its path.
pub fn ensure_schemathesis() -> Result<PathBuf> {
    Ok(ensure_python_packages(&[SCHEMATHESIS])?.join("schemathesis"))
}

/// Finds the packages that check Kubernetes manifests, or installs them. Returns the path of a Python that has them.
pub fn ensure_manifest_checkers() -> Result<PathBuf> {
    Ok(ensure_python_packages(&MANIFEST_CHECKERS)?.join("python3"))
}

/// Finds packages from PyPI, or installs them into a directory below the target directory. Returns the path of its programs.
pub(super) fn ensure_python_packages(names: &[&str]) -> Result<PathBuf> {
    let directory = workspace::target_directory().join("python").join(names.join("+"));
    let programs = directory.join("bin");
    let complete = directory.join("complete");
    if complete.is_file() {
        return Ok(programs);
    }
    say("python3", &format!("installing {} from PyPI", names.join(", ")));
    packages::ensure(&[PYTHON], Mode::Install)?;
    let path = directory.to_string_lossy();
    let environment = ["-m", "venv", "--clear", &path];
    if exec::run("python3", environment).is_err() {
        // Debian's Python has `venv` in a package of its own.
        packages::ensure(&[PYTHON_VENV], Mode::Install)?;
        exec::run("python3", environment)?;
    }
    exec::run(&format!("{path}/bin/pip"), [&["install", "--quiet"], names].concat())?;
    fs::write(&complete, "").with_context(|| format!("cannot write {}", complete.display()))?;
    Ok(programs)
}

/// Path of a stamp-suite, which need not be fast; builds it if it is missing.
pub fn ensure_stamp_suite_for_tests() -> Result<PathBuf> {
    match which::which("stamp-suite").ok().or_else(stamp_suite) {
        Some(path) => Ok(path),
        None => cargo_tool::STAMP_SUITE.ensure(),
    }
}

fn root() -> PathBuf {
    workspace::target_directory().join("compared")
}

/// Installs a program that tests of interoperation run, unless it is there.
pub fn ensure_foreign(program: Foreign) -> Result<()> {
    let need = match program {
        Foreign::Tshark => TSHARK,
        Foreign::Python => PYTHON,
        Foreign::Prometheus => PROMETHEUS,
        Foreign::Chromium => CHROMIUM,
        Foreign::Lintian => LINTIAN,
        Foreign::Rpmlint => RPMLINT,
        Foreign::Buildah => BUILDAH,
        Foreign::Ansible => ANSIBLE,
    };
    packages::ensure(&[need], Mode::Install).map(drop)
}

/// A third-party program that tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Wireshark's decoder.
    Tshark,
    /// For the legacy agents.
    Python,
    /// With promtool.
    Prometheus,
    /// With chromedriver.
    Chromium,
    /// Debian's checks of packages.
    Lintian,
    /// Checks of RPMs.
    Rpmlint,
    /// For images.
    Buildah,
    /// With ansible-lint.
    Ansible,
}
