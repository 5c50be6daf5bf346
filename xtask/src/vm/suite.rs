//! The suite that runs in a guest: test binaries, built here, in the order in which they run there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::package::{self, Format, Package};
use crate::vm::guest::{Run, Userland};
use crate::{exec, workspace};

/// A test binary.
#[derive(Debug)]
struct Part {
    test: &'static str,
    /// Whether its tests build the lab.
    in_lab: bool,
    /// Whether its tests run one after another.
    in_turn: bool,
    userland: Userland,
}

/// Test binaries of `probe-io/tests`, `probe-user/tests` and `xtask/tests` that run in every guest.
static PARTS: [Part; 20] = [
    // The emulator may run a breakpoint that the kernel has just removed from its XDP dispatcher (`text_poke_bp`), if one
    // program is tested while another takes its place there.
    in_turn("programs"),
    in_lab("kernel_datapath"),
    in_lab("upcalls"),
    in_lab("hops"),
    in_lab("netem"),
    in_lab("attach_matrix"),
    in_lab("churn"),
    in_lab("link_delay"),
    alone("attach"),
    alone("clsact"),
    alone("detached"),
    alone("trouble"),
    alone("privileges"),
    alone("policy"),
    alone("tap"),
    in_turn("service"),
    in_turn("volley"),
    in_turn("volley_programs"),
    in_turn("observers"),
    Part {
        userland: Userland::Debian,
        ..in_turn("systemd")
    },
];

/// There can be one lab only.
const fn in_lab(test: &'static str) -> Part {
    Part {
        in_lab: true,
        ..in_turn(test)
    }
}

const fn in_turn(test: &'static str) -> Part {
    Part {
        in_turn: true,
        ..alone(test)
    }
}

const fn alone(test: &'static str) -> Part {
    Part {
        test,
        in_lab: false,
        in_turn: false,
        userland: Userland::Bare,
    }
}

/// A version of the package before the first.
const OLDER: &str = "0.0.1";

#[derive(Debug)]
pub(super) struct Suite {
    runs: Vec<Run>,
    binaries: Vec<Binary>,
    xtask: PathBuf,
    /// Packages of kstamp, the older first.
    packages: Vec<PathBuf>,
}

/// A file that must be in the guest.
#[derive(Debug)]
pub(super) struct Binary {
    /// The path, which is the same in the guest.
    pub(super) path: PathBuf,
    /// A copy without debug information.
    pub(super) stripped: PathBuf,
}

impl Binary {
    fn strip(path: PathBuf, directory: &Path) -> Result<Self> {
        let stripped = directory.join(path.file_name().unwrap_or_default());
        exec::capture(Command::new("strip").arg("-o").arg(&stripped).arg(&path))?;
        Ok(Self { path, stripped })
    }
}

impl Suite {
    /// Builds the test binaries and the programs that they start. Copies without debug information go to `stripped`. Only
    /// tests whose name contains `filter` will run.
    pub(super) fn build(filter: Option<&str>, stripped: &Path) -> Result<Self> {
        let mut command = workspace::cargo();
        // A release build, because emulated processors are slow.
        command.args("test --quiet --no-run --message-format=json-render-diagnostics --release --bins".split(' '));
        command.args("--package probe-io --package probe-user --package xtask".split(' '));
        command.args(PARTS.iter().flat_map(|part| ["--test", part.test]));
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start `{}`", exec::line(&command)))?;
        if !output.status.success() {
            bail!("`{}` failed: {}", exec::line(&command), output.status);
        }
        let built = Built::read(&String::from_utf8_lossy(&output.stdout));
        let mut runs = Vec::new();
        for part in &PARTS {
            let program = built.test(part.test)?;
            if let Some(filter) = filter
                && !exec::capture(Command::new(program).args(["--list", "--format=terse", filter]))?.contains(": test")
            {
                continue;
            }
            runs.push(Run {
                name: part.test.to_owned(),
                program: program.to_owned(),
                arguments: arguments(part, filter),
                in_lab: part.in_lab,
                userland: part.userland,
            });
        }
        let mut binaries: Vec<_> = runs.iter().map(|run| run.program.clone()).collect();
        // Tests start these two by their paths.
        let xtask = workspace::kstamp_binary().with_file_name("xtask");
        binaries.extend([workspace::kstamp_binary(), xtask.clone()]);
        let packages = if runs.iter().any(|run| run.userland == Userland::Debian) {
            build_packages(&workspace::kstamp_binary())?
        } else {
            Vec::new()
        };
        // Binaries of earlier builds have other names.
        let _ = fs::remove_dir_all(stripped);
        fs::create_dir_all(stripped).with_context(|| format!("cannot make {}", stripped.display()))?;
        let strip = |path| Binary::strip(path, stripped);
        Ok(Self {
            runs,
            binaries: binaries.into_iter().map(strip).collect::<Result<_>>()?,
            xtask,
            packages,
        })
    }

    /// The program that runs as the guest's first process.
    pub(super) fn first_process(&self) -> &Path {
        &self.xtask
    }

    /// Whether anything runs in this userland.
    pub(super) fn runs_in(&self, userland: Userland) -> bool {
        self.runs.iter().any(|run| run.userland == userland)
    }

    /// Files that must be in the guest.
    pub(super) fn binaries(&self) -> &[Binary] {
        &self.binaries
    }

    pub(super) fn packages(&self) -> &[PathBuf] {
        &self.packages
    }

    /// The contents of [`guest::SUITE`](super::guest::SUITE).
    pub(super) fn description(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.runs).context("cannot describe the suite")
    }
}

/// Builds the package, and the one that it upgrades.
fn build_packages(kstamp: &Path) -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for version in [OLDER, package::VERSION] {
        let package = Package {
            binary: kstamp.to_owned(),
            version: version.to_owned(),
            output: workspace::target_directory().join("vm/packages"),
        };
        packages.extend(package.build(&[Format::Deb])?);
    }
    Ok(packages)
}

fn arguments(part: &Part, filter: Option<&str>) -> Vec<String> {
    let turns = part.in_turn.then_some("--test-threads=1");
    let all = ["--show-output"].into_iter().chain(turns).chain(filter);
    all.map(str::to_owned).collect()
}

/// Cargo's messages about executables.
struct Built(Vec<Value>);

impl Built {
    fn read(messages: &str) -> Self {
        let messages = messages.lines().filter_map(|line| serde_json::from_str(line).ok());
        Self(
            messages
                .filter(|message: &Value| message["executable"].is_string())
                .collect(),
        )
    }

    fn test(&self, name: &str) -> Result<&Path> {
        let is_it = |message: &&Value| message["target"]["name"] == name && message["target"]["kind"][0] == "test";
        let found = self
            .0
            .iter()
            .find(is_it)
            .and_then(|message| message["executable"].as_str());
        found
            .map(Path::new)
            .with_context(|| format!("cargo did not build the test {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_binary_is_found_by_its_name() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"attach"},"executable":"/t/attach"}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"attach"},"executable":"/t/deps/attach-1"}
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"xtask"},"executable":null}
{"reason":"build-finished","success":true}"#;
        let built = Built::read(messages);
        assert_eq!(built.test("attach").unwrap(), Path::new("/t/deps/attach-1"));
        assert!(built.test("xtask").is_err());
    }
}
