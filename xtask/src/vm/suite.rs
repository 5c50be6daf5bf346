//! What runs in a guest: the parts of the suite, built here, in the order in which they run there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{directory, guest::Run};
use crate::{exec, workspace};

/// A test binary.
#[derive(Debug)]
struct Part {
    test: &'static str,
    /// Whether its tests make the lab, of which there is one: then they take turns.
    in_lab: bool,
}

/// The test binaries, of `probe-io/tests`, `probe-user/tests` and `xtask/tests`. One that is named here runs in every guest.
static PARTS: [Part; 12] = [
    alone("programs"),
    in_lab("kernel_datapath"),
    in_lab("netem"),
    in_lab("attach_matrix"),
    in_lab("churn"),
    in_lab("link_delay"),
    alone("attach"),
    alone("clsact"),
    alone("trouble"),
    alone("privileges"),
    alone("policy"),
    alone("tap"),
];

const fn in_lab(test: &'static str) -> Part {
    Part {
        in_lab: true,
        ..alone(test)
    }
}

const fn alone(test: &'static str) -> Part {
    Part { test, in_lab: false }
}

/// What was built.
#[derive(Debug)]
pub(super) struct Suite {
    runs: Vec<Run>,
    binaries: Vec<Binary>,
    xtask: PathBuf,
}

/// A file that must be in the guest.
#[derive(Debug)]
pub(super) struct Binary {
    /// Where: the same path as here.
    pub(super) path: PathBuf,
    /// Without what only a debugger reads.
    pub(super) stripped: PathBuf,
}

impl Binary {
    fn strip(path: PathBuf) -> Result<Self> {
        let directory = directory().join("stripped");
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let stripped = directory.join(path.file_name().unwrap_or_default());
        exec::capture(Command::new("strip").arg("-o").arg(&stripped).arg(&path))?;
        Ok(Self { path, stripped })
    }
}

impl Suite {
    /// Builds all parts, and the binaries that they start; only tests whose name contains `filter` are to run.
    pub(super) fn build(filter: Option<&str>) -> Result<Self> {
        let mut command = workspace::cargo();
        command.args([
            "test",
            "--quiet",
            "--no-run",
            "--message-format=json-render-diagnostics",
            // Emulated processors are slow enough.
            "--release",
        ]);
        command.args([
            "--package",
            "probe-io",
            "--package",
            "probe-user",
            "--package",
            "xtask",
            "--bins",
        ]);
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
            let run = Run {
                name: part.test.to_owned(),
                program: built.test(part.test)?.to_owned(),
                arguments: arguments(part, filter),
                in_lab: part.in_lab,
            };
            runs.push(run);
        }
        let mut binaries: Vec<_> = runs.iter().map(|run| run.program.clone()).collect();
        // Tests know these two by their paths.
        let xtask = workspace::kstamp_binary().with_file_name("xtask");
        binaries.extend([workspace::kstamp_binary(), xtask.clone()]);
        // Those of earlier builds have other names.
        let _ = fs::remove_dir_all(directory().join("stripped"));
        Ok(Self {
            runs,
            binaries: binaries.into_iter().map(Binary::strip).collect::<Result<_>>()?,
            xtask,
        })
    }

    /// What is to run as the guest's first process.
    pub(super) fn first_process(&self) -> &Path {
        &self.xtask
    }

    /// Files that must be in the guest.
    pub(super) fn binaries(&self) -> &[Binary] {
        &self.binaries
    }

    /// The runs, as the guest reads them.
    pub(super) fn description(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.runs).context("cannot describe the suite")
    }
}

fn arguments(part: &Part, filter: Option<&str>) -> Vec<String> {
    let turns = part.in_lab.then_some("--test-threads=1");
    let all = ["--show-output"].into_iter().chain(turns).chain(filter);
    all.map(str::to_owned).collect()
}

/// What cargo says it has built.
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
            .with_context(|| format!("cargo has not built the test {name}"))
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
