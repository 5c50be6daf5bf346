//! The test binaries of the workspace: one build compiles and lints all of them, then they run one by one.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::check::tally::Tally;
use crate::vm::guest::BUILT;
use crate::{exec, privilege, setup, workspace};

/// Which tests to run, and how.
pub(super) struct Suite<'a> {
    /// Only tests whose name contains this.
    pub(super) filter: Option<&'a str>,
    /// Only those inside of crates, which need neither root nor a lab.
    pub(super) only_units: bool,
    /// Those that need root are skipped.
    pub(super) no_root: bool,
    /// The release binary, if it is built.
    pub(super) kstamp: Option<PathBuf>,
    pub(super) nats_server: Option<PathBuf>,
}

#[derive(Default)]
pub(super) struct Built {
    pub(super) binaries: Vec<Binary>,
    /// The kstamp beside them.
    kstamp: Option<PathBuf>,
    /// Diagnostics of the compiler and lints, without repetition.
    pub(super) warnings: BTreeSet<String>,
}

impl Suite<'_> {
    /// Builds all test binaries; warnings are shown as they come.
    pub(super) fn build(&self) -> Result<Built> {
        let mut command = workspace::cargo();
        command.args("test --no-run --message-format=json --workspace --exclude probe-ebpf".split(' '));
        command.args(if self.only_units {
            &["--lib", "--bins"][..]
        } else {
            &["--all-targets"]
        });
        // Clippy compiles as it lints: `cargo clippy` would read every crate once more, and its dependencies too.
        command.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver");
        let mut built = Built::default();
        let success = exec::read_lines(&mut command, |line| {
            let Ok(message) = serde_json::from_str(line) else {
                return;
            };
            built.binaries.extend(binary(&message));
            if message["target"]["name"] == "kstamp" && message["profile"]["test"] == false {
                built.kstamp = message["executable"].as_str().map(PathBuf::from);
            }
            if let Some(warning) = message["message"]["rendered"].as_str()
                && built.warnings.insert(warning.to_owned())
            {
                eprint!("{warning}");
            }
        })?;
        ensure!(success, "the tests do not build");
        Ok(built)
    }

    /// Runs one of `built`, and prints and reads its output.
    pub(super) fn run(&self, binary: &Binary, built: &Built) -> Result<Tally> {
        let mut command = if self.no_root || self.only_units || privilege::is_root() {
            Command::new(&binary.program)
        } else {
            privilege::as_root(&binary.program)?
        };
        command
            .current_dir(&binary.directory)
            .arg("--show-output")
            .args(self.filter);
        if binary.in_lab {
            // There is one lab on a machine: its tests take turns.
            command.arg("--test-threads=1");
        }
        if self.no_root {
            command.env(privilege::NO_ROOT, "1");
        }
        if !self.only_units && env::var_os(CASES).is_none() {
            command.env(CASES, "256");
        }
        // A lab runs any kstamp; tests of cost run no other than the release binary.
        let beside = built.kstamp.as_ref().filter(|_| binary.in_lab);
        if let Some(kstamp) = self.kstamp.as_ref().or(beside) {
            command.env(BUILT, kstamp);
        }
        if let Some(nats_server) = &self.nats_server {
            command.env(setup::NATS_SERVER, nats_server);
        }
        let mut tally = Tally::default();
        let success = exec::read_lines(&mut command, |line| {
            println!("{line}");
            tally.read(line);
        })?;
        tally.finish(&binary.name, success);
        Ok(tally)
    }
}

/// How many cases property tests try. By themselves, the costly ones try few.
const CASES: &str = "PROPTEST_CASES";

/// A test binary.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binary {
    /// Package and target.
    pub(super) name: String,
    program: PathBuf,
    /// Where tests expect to run.
    directory: PathBuf,
    in_lab: bool,
}

/// The test binary in a message of cargo.
fn binary(message: &Value) -> Option<Binary> {
    let target = &message["target"];
    let kind = target["kind"][0].as_str()?;
    if message["profile"]["test"] != true || kind == "bench" {
        return None;
    }
    let directory = Path::new(message["manifest_path"].as_str()?).parent()?;
    let package = directory.file_name()?.to_str()?;
    Some(Binary {
        name: format!("{package}: {}", target["name"].as_str()?),
        program: message["executable"].as_str()?.into(),
        directory: directory.to_owned(),
        in_lab: package == "xtask" && kind == "test",
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn test_binaries_are_distinguished_from_other_artifacts() {
        let cases = [
            ("probe-core", "lib", true, Some(("probe-core: t", false))),
            ("xtask", "test", true, Some(("xtask: t", true))),
            ("xtask", "lib", true, Some(("xtask: t", false))),
            ("xtask", "bin", false, None),
            ("probe-io", "bench", true, None),
        ];
        for (package, kind, is_test, want) in cases {
            let message = json!({
                "manifest_path": format!("/w/{package}/Cargo.toml"),
                "target": {"kind": [kind], "name": "t"},
                "profile": {"test": is_test},
                "executable": "/t/a",
            });
            let found = binary(&message);
            let found = found.as_ref().map(|binary| (binary.name.as_str(), binary.in_lab));
            assert_eq!(found, want, "{message}");
        }
        assert_eq!(binary(&json!({"reason": "build-finished", "success": true})), None);
    }
}
