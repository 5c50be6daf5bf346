//! Programs from crates.io for some tasks: each is built once, at a fixed version, under `target/tools`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::setup::report::say;
use crate::{exec, workspace};

/// A program, and the package of the same name.
pub(crate) struct Tool {
    package: &'static str,
    version: &'static str,
    /// Further arguments of `cargo install`.
    options: &'static [&'static str],
    why: &'static str,
}

/// Runs fuzz targets.
pub(crate) const CARGO_FUZZ: Tool = Tool {
    package: "cargo-fuzz",
    version: "0.13.2",
    options: &[],
    why: "runs the fuzz targets",
};

/// Finds code that no test notices.
pub(crate) const CARGO_MUTANTS: Tool = Tool {
    package: "cargo-mutants",
    version: "27.1.0",
    options: &[],
    why: "changes the code and checks whether a test notices",
};

/// Lists the components of a release.
pub(crate) const CARGO_CYCLONEDX: Tool = Tool {
    package: "cargo-cyclonedx",
    version: "0.5.9",
    options: &[],
    why: "lists what kstamp is made of",
};

/// Renders the book.
pub(crate) const MDBOOK: Tool = Tool {
    package: "mdbook",
    version: "0.5.4",
    options: &["--no-default-features", "--features", "search"],
    why: "renders the book",
};

/// Another implementation of STAMP, which tests exchange probes with.
pub(super) const STAMP_SUITE: Tool = Tool {
    package: "stamp-suite",
    version: "1.0.0",
    options: &["--features", "hwtstamp"],
    why: "exchanges probes with kstamp",
};

impl Tool {
    /// Path of the program; builds it if it is missing.
    pub(crate) fn ensure(&self) -> Result<PathBuf> {
        let Self { package, version, .. } = self;
        let directory = workspace::target_directory().join(format!("tools/{package}-{version}"));
        let program = directory.join("bin").join(package);
        if !program.exists() {
            say(
                package,
                &format!("building {version} (a minute or two): it {}", self.why),
            );
            // An optimised program would save less time than its compilation takes.
            let mut command = self.install();
            command.args(["--debug", "--root"]).arg(&directory);
            run(&mut command)?;
        }
        Ok(program)
    }

    pub(super) fn install(&self) -> Command {
        let mut command = install(self.package, self.version);
        command.args(self.options);
        command
    }
}

pub(super) fn install(package: &str, version: &str) -> Command {
    let mut command = Command::new("cargo");
    command.args([
        "install",
        package,
        "--version",
        version,
        "--locked",
        "--quiet",
        "--force",
    ]);
    command
}

/// Runs `cargo install`, whose progress is shown.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`{}` failed: {status}", exec::line(command));
    }
    Ok(())
}
