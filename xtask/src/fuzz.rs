//! `cargo xtask fuzz`: runs the libFuzzer targets of `fuzz/`.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::setup::{self, cargo_tool};
use crate::workspace;

/// What to fuzz, and for how long.
#[derive(Clone, Debug, Args)]
pub struct FuzzArguments {
    /// A target (default: all, one after the other).
    target: Option<String>,
    /// How long each target runs (0: until it is stopped).
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

impl FuzzArguments {
    /// Builds and runs; stops at the first target that fails.
    pub fn run(&self) -> Result<ExitCode> {
        let mut targets = targets()?;
        if let Some(target) = &self.target {
            if !targets.contains(target) {
                bail!("no fuzz target `{target}`: there are {}", targets.join(", "));
            }
            targets.retain(|known| known == target);
        }
        setup::prepare_for_fuzzing()?;
        let program = cargo_tool::CARGO_FUZZ.ensure()?;
        for target in targets {
            println!("\n== {target} ==");
            let mut command = std::process::Command::new(&program);
            command.current_dir(workspace::root().join("fuzz"));
            command.args(["fuzz", "run", "--fuzz-dir", ".", &target, "--"]);
            command.arg(format!("-max_total_time={}", self.seconds));
            // Allows the sanitizer's unstable flags with a stable compiler.
            command.env("RUSTC_BOOTSTRAP", "1");
            if !command.status().context("cannot start cargo-fuzz")?.success() {
                println!("failed: {target}");
                return Ok(ExitCode::FAILURE);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The names of the targets, sorted.
fn targets() -> Result<Vec<String>> {
    let directory = workspace::root().join("fuzz/fuzz_targets");
    let files = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let names = files.filter_map(|file| Some(file.ok()?.path().file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_in_the_manifest() {
        let manifest = fs::read_to_string(workspace::root().join("fuzz/Cargo.toml")).unwrap();
        for target in targets().unwrap() {
            assert!(
                manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")),
                "{target}"
            );
        }
    }
}
