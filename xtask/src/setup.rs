//! `cargo xtask setup`: finds or installs the programs that building and the lab need, and reports the use of each.

pub(crate) mod cargo_tool;
mod debian;
mod linker;
mod nats_server;
mod packages;
mod report;
mod rust;
mod toolchain;
mod tools;
mod unpack;
mod victoria_metrics;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

pub use crate::setup::debian::ensure_debian;
pub(crate) use crate::setup::debian::install as install_debian;
pub use crate::setup::nats_server::{NATS_SERVER, ensure_nats_server, ensure_old_nats_server};
use crate::setup::report::Mode;
pub(crate) use crate::setup::rust::ensure_checkers;
pub use crate::setup::tools::{
    Foreign, ensure_foreign, ensure_manifest_checkers, ensure_schemathesis, ensure_stamp_suite_for_tests,
};
pub(crate) use crate::setup::tools::{bench_tools, stamp_suite};
pub(crate) use crate::setup::unpack::{Closure, Source, unpack};
pub use crate::setup::victoria_metrics::ensure_victoria_metrics;

/// Whether to install.
#[derive(Clone, Debug, Args)]
pub struct SetupArguments {
    /// Report only; exit with 1 if something is missing.
    #[arg(long)]
    check: bool,
}

impl SetupArguments {
    pub fn run(&self) -> Result<ExitCode> {
        if !self.check {
            prepare()?;
            return Ok(ExitCode::SUCCESS);
        }
        let missing = perform(Mode::Check)?;
        if missing == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("setup: {missing} missing; cargo xtask setup installs it");
        Ok(ExitCode::FAILURE)
    }
}

/// Installs missing programs that building and the lab need.
pub fn prepare() -> Result<()> {
    perform(Mode::Install).map(drop)
}

/// Installs programs that some tests use. Without them those tests are skipped.
pub(crate) fn wanted_by_tests() {
    packages::install_optional(&packages::OPTIONAL_TEST_NEEDS);
}

/// Installs the programs that building guests needs.
pub(crate) fn prepare_for_guests() -> Result<()> {
    prepare()?;
    packages::ensure(&packages::GUEST_NEEDS, Mode::Install).map(drop)
}

/// Installs the programs that building fuzz targets needs.
pub(crate) fn prepare_for_fuzzing() -> Result<()> {
    packages::ensure(&packages::FUZZING_NEEDS, Mode::Install).map(drop)
}

/// Installs the programs that make packages.
pub(crate) fn prepare_for_packages() -> Result<()> {
    packages::ensure(&packages::PACKAGING_NEEDS, Mode::Install).map(drop)
}

/// The toolchain for the eBPF programs that set-up chose.
pub fn ebpf_toolchain() -> Result<String> {
    toolchain::chosen().ok_or_else(|| anyhow::anyhow!("no eBPF toolchain is chosen: run cargo xtask setup"))
}

/// Goes through all steps. Returns how many things are missing (always 0 in [`Mode::Install`]).
fn perform(mode: Mode) -> Result<usize> {
    let mut missing = rust::check()?;
    missing += packages::ensure(&packages::NEEDS, mode)?;
    missing += toolchain::ensure(mode)?;
    missing += linker::ensure(mode)?;
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::process::Command;

    use super::packages::Need;
    use super::*;
    use crate::exec;

    const EMULATOR: &str = "qemu-system-x86";

    /// The list of installed packages of a machine that has a newer `qemu-utils` than its release.
    const STATUS: &str = "Package: qemu-utils\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:99\n\
                          Maintainer: x <x@localhost>\nBreaks: qemu-system-common\nDescription: x\n";

    #[test]
    fn nothing_is_removed_where_the_emulator_conflicts_with_what_is_installed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        let settings =
            format!("Dir::State::status \"{path}/status\";\nDir::Cache \"{path}\";\nDebug::NoLocking \"true\";\n");
        for (name, contents) in [("status", STATUS), ("apt.conf", &settings)] {
            fs::write(directory.path().join(name), contents).unwrap();
        }
        let apt = |command: &mut Command| {
            // A machine's own settings may turn this cache off.
            command.args(["-o", "Dir::Cache::srcpkgcache=archive.bin"]);
            exec::capture(command.env("APT_CONFIG", directory.path().join("apt.conf")))
        };
        let known = apt(Command::new("apt-cache").arg("pkgnames")).unwrap_or_default();
        let known: BTreeSet<_> = known.lines().collect();
        if !known.contains(EMULATOR) {
            println!("SKIPPED: apt knows no {EMULATOR}");
            return;
        }
        // Prints what it would download, and downloads nothing.
        let install = |packages: &[&str]| {
            let mut command = Command::new("apt-get");
            apt(command.args(packages::INSTALL).arg("--print-uris").args(packages))
        };

        let refusal = install(&[EMULATOR]).unwrap_err().to_string();
        assert!(refusal.contains("Packages need to be removed"), "{refusal}");

        let needs: [&[Need]; 13] = [
            &packages::NEEDS,
            &packages::GUEST_NEEDS,
            &packages::FUZZING_NEEDS,
            &packages::PACKAGING_NEEDS,
            &packages::OPTIONAL_TEST_NEEDS,
            &tools::TOOLS,
            &[tools::TSHARK],
            &[tools::PROMETHEUS],
            &[tools::CHROMIUM],
            &[tools::LINTIAN, tools::RPMLINT, tools::BUILDAH],
            &[tools::ANSIBLE],
            &linker::NEEDS,
            &toolchain::DEBIAN_NEEDS,
        ];
        let needs = needs.concat();
        let mut needs = packages::names(&needs);
        needs.retain(|package| known.contains(package));
        install(&needs).unwrap();

        let mut download = unpack::download_with_dependencies(EMULATOR, directory.path());
        let archives = apt(download.arg("--print-uris")).unwrap();
        for package in ["qemu-system-x86_", "qemu-system-common_", "seabios_", "libc6_"] {
            assert!(archives.contains(package), "{package} is not in {archives}");
        }
    }
}
