//! The test binaries of the workspace: built by one `cargo test`, so that nothing is compiled twice, then run one by one.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::tally::Tally;
use crate::{exec, privilege, workspace};

/// Which tests to run, and how.
pub(super) struct Suite<'a> {
    /// Only tests whose name contains this.
    pub(super) filter: Option<&'a str>,
    /// Only those inside of crates, which need neither root nor a lab.
    pub(super) only_units: bool,
    /// Those that need root are skipped.
    pub(super) no_root: bool,
}

impl Suite<'_> {
    /// Builds all test binaries.
    pub(super) fn build(&self) -> Result<Vec<Binary>> {
        let mut command = workspace::cargo();
        command.args(["test", "--no-run", "--message-format=json-render-diagnostics"]);
        command.args(["--workspace", "--exclude", "probe-ebpf"]);
        if self.only_units {
            command.args(["--lib", "--bins"]);
        }
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start `{}`", exec::line(&command)))?;
        if !output.status.success() {
            bail!("the tests do not build");
        }
        Ok(binaries(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Runs one: its output is shown as it comes, and read along.
    pub(super) fn run(&self, binary: &Binary) -> Result<Tally> {
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
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", exec::line(&command)))?;
        let mut tally = Tally::default();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n') {
                let line = line.context("cannot read what the tests print")?;
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                tally.read(&line);
            }
        }
        let status = child.wait().context("cannot wait for the tests")?;
        tally.finish(&binary.name, status.success());
        Ok(tally)
    }
}

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

/// The test binaries that cargo says it has built.
fn binaries(messages: &str) -> Vec<Binary> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str(line).ok());
    messages.filter_map(|message| binary(&message)).collect()
}

fn binary(message: &Value) -> Option<Binary> {
    if message["profile"]["test"] != true {
        return None;
    }
    let directory = Path::new(message["manifest_path"].as_str()?).parent()?;
    let package = directory.file_name()?.to_str()?;
    let target = &message["target"];
    Some(Binary {
        name: format!("{package}: {}", target["name"].as_str()?),
        program: message["executable"].as_str()?.into(),
        directory: directory.to_owned(),
        in_lab: package == "xtask" && target["kind"][0] == "test",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_binaries_are_told_from_other_artifacts() {
        let message = |package: &str, kind: &str, is_test: bool, executable: &str| {
            format!(
                r#"{{"manifest_path":"/w/{package}/Cargo.toml","target":{{"kind":["{kind}"],"name":"t"}},"profile":{{"test":{is_test}}},"executable":{executable}}}"#
            )
        };
        let cases = [
            (
                message("probe-core", "lib", true, r#""/t/a""#),
                Some(("probe-core: t", false)),
            ),
            (message("xtask", "test", true, r#""/t/a""#), Some(("xtask: t", true))),
            (message("xtask", "lib", true, r#""/t/a""#), Some(("xtask: t", false))),
            (message("xtask", "bin", false, r#""/t/a""#), None),
            (message("probe-core", "lib", false, "null"), None),
            (r#"{"reason":"build-finished","success":true}"#.to_owned(), None),
        ];
        for (message, want) in cases {
            let found = binaries(&message);
            let found = found.first().map(|binary| (binary.name.as_str(), binary.in_lab));
            assert_eq!(found, want, "{message}");
        }
    }
}
