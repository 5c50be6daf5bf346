//! `cargo xtask mutants`: changes the code, one place at a time, and reports changes that no unit test notices.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::Value;

use crate::setup::{self, cargo_tool};
use crate::workspace;

/// What to mutate. Mutants that behave like the original are listed in `.cargo/mutants.toml`.
#[derive(Clone, Debug, Args)]
pub struct MutantsArguments {
    /// Only this crate.
    #[arg(short, long, value_name = "CRATE")]
    package: Option<String>,
    /// Only files that match this, such as `session.rs` or `probe-core/src/stats/**`.
    #[arg(short, long, value_name = "GLOB")]
    file: Vec<String>,
    /// Mutants to try at the same time.
    #[arg(short, long, default_value_t = 1)]
    jobs: u32,
    /// Only list the mutants.
    #[arg(long)]
    list: bool,
}

impl MutantsArguments {
    /// Tries the mutants, prints the survivors and the share of caught ones; fails if any survives.
    pub fn run(&self) -> Result<ExitCode> {
        setup::prepare()?;
        let program = cargo_tool::CARGO_MUTANTS.ensure()?;
        let directory = workspace::target_directory().join("mutants");
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let mut command = Command::new(program);
        command.current_dir(workspace::root()).arg("mutants");
        command.args(self.package.iter().flat_map(|package| ["--package", package]));
        command.args(self.file.iter().flat_map(|file| ["--file", file]));
        if self.list {
            command.arg("--list");
        } else {
            command
                .arg("--output")
                .arg(&directory)
                .args(["--jobs", &self.jobs.to_string()]);
            // Without the tests in `tests`, which need root or a lab and take minutes for each mutant.
            command.args(["--", "--lib", "--bins"]);
        }
        // A mutant is noticed by few random cases or by none, and how small a case can be is of no interest.
        command.envs([("PROPTEST_CASES", "8"), ("PROPTEST_MAX_SHRINK_ITERS", "0")]);
        // Each mutant is linked again, which takes half the time without it.
        command.env("CARGO_PROFILE_DEV_DEBUG", "none");
        // The copy in which mutants are built has no `target`, where the choice is kept.
        command.env("KSTAMP_EBPF_TOOLCHAIN", setup::ebpf_toolchain()?);
        let status = command.status().context("cannot start cargo-mutants")?;
        if let Ok(outcomes) = fs::read_to_string(directory.join("mutants.out/outcomes.json"))
            && !self.list
        {
            println!("{}", share(&serde_json::from_str(&outcomes)?));
        }
        Ok(ExitCode::from(u8::from(!status.success())))
    }
}

/// How many of the mutants that compile were noticed.
fn share(outcomes: &Value) -> String {
    let count = |name: &str| outcomes[name].as_u64().unwrap_or(0);
    let caught = count("caught") + count("timeout");
    let viable = caught + count("missed");
    let percent = 100.0 * caught as f64 / viable.max(1) as f64;
    format!("{caught} of {viable} viable mutants caught: {percent:.1} %")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mutants_that_do_not_compile_do_not_count() {
        let outcomes = json!({"caught": 7, "timeout": 2, "missed": 1, "unviable": 5});
        assert_eq!(share(&outcomes), "9 of 10 viable mutants caught: 90.0 %");
        assert_eq!(share(&json!({})), "0 of 0 viable mutants caught: 0.0 %");
    }
}
