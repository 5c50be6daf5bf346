//! `cargo xtask test`: formatting, lints and every test, added up; the last line is the count.

mod guests;
mod tally;

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    exec, privilege, setup,
    vm::{self, Guests, Kernel},
    workspace,
};
use guests::Heard;
use tally::Tally;

/// Which tests to run.
#[derive(Clone, Debug, Args)]
pub struct TestArguments {
    /// Only tests whose name contains this; formatting and lints are left out then.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Leave out what needs root: those tests are skipped.
    #[arg(long)]
    no_root: bool,
    /// Run the suite on stock Debian kernels in a virtual machine instead of on this one.
    #[arg(long, value_enum, value_name = "KERNEL", num_args = 0..=1, default_missing_value = "all")]
    vm: Option<vm::Choice>,
    /// Write the attach matrix that was found into docs/src/reference/kernels.md.
    #[arg(long, requires = "vm")]
    write_table: bool,
    /// Run it here and on every kernel, with one count.
    #[arg(long, conflicts_with_all = ["vm", "no_root"])]
    everywhere: bool,
}

impl TestArguments {
    /// Runs all of it, whatever fails on the way, and prints the count; fails if anything has.
    ///
    /// # Errors
    /// None so far.
    pub fn run(&self) -> Result<ExitCode> {
        let mut total = Tally::default();
        if self.vm.is_none()
            && let Err(error) = self.here(&mut total)
        {
            // The count comes in any case.
            total.fail(&format!("{error:#}"));
        }
        if let Some(choice) = self.vm.or(self.everywhere.then_some(vm::Choice::All)) {
            self.in_guests(&mut total, choice.kernels());
        }
        heading("result");
        total.failures().iter().for_each(|name| println!("failed: {name}"));
        println!("{total}");
        Ok(if total.failed() == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Formatting, lints and tests on this machine.
    fn here(&self, total: &mut Tally) -> Result<()> {
        heading("setup");
        if let Err(error) = setup::prepare() {
            eprintln!("xtask: {error:#}");
            total.fail("setup");
        }
        if !self.no_root {
            setup::wanted_by_tests();
        }
        if self.filter.is_none() {
            if let Err(error) = setup::ensure_checkers() {
                eprintln!("xtask: {error:#}");
                total.fail("setup");
            }
            step(total, "format", workspace::cargo().args(["fmt", "--all", "--check"]))?;
            let lint = [
                "clippy",
                "--workspace",
                "--all-targets",
                "--exclude",
                "probe-ebpf",
                "--",
                "-D",
                "warnings",
            ];
            step(total, "lint", workspace::cargo().args(lint))?;
            lint_programs(total)?;
        }
        let rest = ["--workspace", "--exclude", "probe-ebpf", "--exclude", "xtask"];
        self.tests(total, "tests", &rest, &[])?;
        // There is one lab on a machine: its tests take turns.
        self.tests(total, "lab tests", &["--package", "xtask"], &["--test-threads=1"])?;
        Ok(())
    }

    /// The suite on each kernel, in a virtual machine.
    fn in_guests(&self, total: &mut Tally, kernels: &[Kernel]) {
        heading("virtual machines");
        let guests = match Guests::prepare(kernels, self.filter.as_deref()) {
            Ok(guests) => guests,
            Err(error) => return total.fail(&format!("virtual machines: {error:#}")),
        };
        let heard = kernels.iter().map(|&kernel| Heard::new(kernel, self.write_table));
        let mut heard: Vec<_> = heard.collect();
        guests.run(&mut heard);
        heard.into_iter().for_each(|heard| total.add(heard.total()));
        if vm::fails_on_purpose(self.filter.as_deref()) {
            heading("virtual machines that fail on purpose");
            for (name, outcome) in guests.fail_on_purpose() {
                match outcome {
                    Ok(()) => {
                        println!("{name} ... ok");
                        total.pass();
                    }
                    Err(error) => {
                        println!("{name} ... FAILED: {error:#}");
                        total.fail(name);
                    }
                }
            }
        }
    }

    /// One `cargo test`: its output is shown as it comes, and read along.
    fn tests(&self, total: &mut Tally, name: &str, packages: &[&str], options: &[&str]) -> Result<()> {
        heading(name);
        let mut command = workspace::cargo();
        command
            .arg("test")
            .args(packages)
            .arg("--no-fail-fast")
            .args(&self.filter);
        command.args(["--", "--show-output"]).args(options);
        if self.no_root {
            command.env(privilege::NO_ROOT, "1");
        } else if !privilege::is_root() {
            command.env(exec::runner_variable()?, "sudo -E --");
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
        tally.finish(name, status.success());
        total.add(tally);
        Ok(())
    }
}

/// Lints the eBPF programs, which only their own toolchain can compile; Debian's has no clippy.
fn lint_programs(total: &mut Tally) -> Result<()> {
    let toolchain = setup::ebpf_toolchain().unwrap_or_default();
    if !toolchain.starts_with("nightly") || !has_clippy(&toolchain) {
        heading("lint of the eBPF programs");
        println!("SKIPPED: the eBPF toolchain ({toolchain}) has no clippy");
        total.skip();
        return Ok(());
    }
    let mut command = Command::new("rustup");
    command.current_dir(workspace::root());
    command.args([
        "run",
        &toolchain,
        "cargo",
        "clippy",
        "--package",
        "probe-ebpf",
        "--release",
    ]);
    command.args([
        "--target",
        "bpfel-unknown-none",
        "-Z",
        "build-std=core",
        "--",
        "-D",
        "warnings",
    ]);
    // Its own directory: another compiler would throw away what this one has built.
    command.env("CARGO_TARGET_DIR", workspace::target_directory().join("lint-programs"));
    step(total, "lint of the eBPF programs", &mut command)
}

fn has_clippy(toolchain: &str) -> bool {
    exec::capture(Command::new("rustup").args(["run", toolchain, "cargo", "clippy", "--version"])).is_ok()
}

/// One step that passes or fails as a whole.
fn step(total: &mut Tally, name: &str, command: &mut Command) -> Result<()> {
    heading(name);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", exec::line(command)))?;
    if status.success() {
        total.pass();
    } else {
        total.fail(name);
    }
    Ok(())
}

fn heading(name: &str) {
    println!("\n== {name} ==");
}
