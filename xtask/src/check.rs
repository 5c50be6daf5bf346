//! `cargo xtask test`: formatting, structure, lints and every test, added up; the last line is the count.

mod guests;
pub(crate) mod structure;
mod suite;
mod tally;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::check::guests::Output;
use crate::check::suite::Suite;
use crate::check::tally::Tally;
use crate::setup::{self, cargo_tool};
use crate::vm::{self, Guests};
use crate::{docs, exec, workspace};

/// Which tests to run.
#[derive(Clone, Debug, Args)]
pub struct TestArguments {
    /// Only the fast part without root and lab: formatting, structure, lints and the tests inside of crates.
    #[arg(long, conflicts_with_all = ["vm", "everywhere"])]
    quick: bool,
    /// Run only tests whose name contains this, and no other check.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Skip tests that need root.
    #[arg(long)]
    no_root: bool,
    /// Run the suite on stock Debian kernels in virtual machines instead of on this machine.
    #[arg(long, value_enum, value_name = "KERNEL", num_args = 0..=1, default_missing_value = "all")]
    vm: Option<vm::Choice>,
    /// Write the measured attach matrix into docs/src/reference/kernels.md.
    #[arg(long, requires = "vm")]
    write_table: bool,
    /// Run the suite here and on every kernel, with one count.
    #[arg(long, conflicts_with_all = ["vm", "no_root"])]
    everywhere: bool,
}

impl TestArguments {
    /// Runs all steps even if one fails, and prints the count. Fails if a step failed.
    pub fn run(&self) -> Result<ExitCode> {
        let mut total = Tally::default();
        let choice = self.vm.or(self.everywhere.then_some(vm::Choice::All));
        let kernels = choice.map(vm::Choice::kernels).unwrap_or_default();
        // First, because the tests here run the kstamp of the guests.
        let guests = (!kernels.is_empty()).then(|| {
            step(&mut total, "build for virtual machines", || {
                Guests::prepare(kernels, self.filter.as_deref())
            })
        });
        if self.vm.is_none() {
            let kstamp = matches!(guests, Some(Some(_))).then(workspace::kstamp_binary);
            self.here(&mut total, kstamp);
        }
        if let Some(Some(guests)) = guests {
            self.in_guests(&mut total, &guests);
        }
        heading("result");
        total.failures().iter().for_each(|failure| println!("{failure}"));
        println!("{total}");
        Ok(ExitCode::from(u8::from(total.failed() > 0)))
    }

    /// The checks of this machine. `kstamp` is the release binary, if it is already built.
    fn here(&self, total: &mut Tally, kstamp: Option<PathBuf>) {
        step(total, "setup", || self.prepare());
        if self.filter.is_none() {
            step(total, "format", || {
                succeeds(workspace::cargo().args(["fmt", "--all", "--check"]))
            });
            step(total, "structure", structure::check);
            if !self.quick {
                lint_programs(total);
                check_docs(total);
            }
        }
        self.tests(total, kstamp);
    }

    fn prepare(&self) -> Result<()> {
        setup::prepare()?;
        if !self.no_root && !self.quick {
            setup::wanted_by_tests();
        }
        setup::ensure_checkers()
    }

    fn tests(&self, total: &mut Tally, kstamp: Option<PathBuf>) {
        let suite = Suite {
            filter: self.filter.as_deref(),
            only_units: self.quick,
            no_root: self.no_root,
            kstamp,
            nats_server: nats_server(),
        };
        let Some(built) = step(total, "build of the tests", || suite.build()) else {
            return;
        };
        if self.filter.is_none() {
            step(total, "lint", || match built.warnings.len() {
                0 => Ok(()),
                count => bail!("{count} warnings, shown above"),
            });
        }
        for binary in &built.binaries {
            heading(&binary.name);
            match suite.run(binary, &built) {
                Ok(tally) => total.add(tally),
                Err(error) => total.fail(&binary.name, &format!("{error:#}")),
            }
        }
    }

    /// The suite on each kernel, in a virtual machine.
    fn in_guests(&self, total: &mut Tally, guests: &Guests) {
        heading("virtual machines");
        for output in guests.run(|guest| Output::new(guest, self.write_table)) {
            total.add(output.total());
        }
        if vm::fails_on_purpose(self.filter.as_deref()) {
            heading("virtual machines that fail on purpose");
            for (name, outcome) in guests.fail_on_purpose() {
                match outcome {
                    Ok(()) => {
                        println!("{name} ... ok");
                        total.pass();
                    }
                    Err(error) => {
                        println!("{name} ... FAILED");
                        total.fail(name, &format!("{error:#}"));
                    }
                }
            }
        }
    }
}

/// The nats-server of tests. Those that need it are skipped if it cannot be installed.
fn nats_server() -> Option<PathBuf> {
    let found = setup::ensure_nats_server();
    found.inspect_err(|error| println!("nats-server: {error:#}")).ok()
}

/// Lints the eBPF programs, by the toolchain that compiles them.
fn lint_programs(total: &mut Tally) {
    let name = "lint of the eBPF programs";
    let toolchain = setup::ebpf_toolchain().unwrap_or_default();
    let clippy = |options: &[&str]| {
        let mut command = Command::new("rustup");
        command.args(["run", &toolchain, "cargo", "clippy"]).args(options);
        command.current_dir(workspace::root());
        command
    };
    // Debian's toolchain has no clippy.
    if !toolchain.starts_with("nightly") || exec::capture(&mut clippy(&["--version"])).is_err() {
        heading(name);
        println!("SKIPPED: the eBPF toolchain ({toolchain}) has no clippy");
        return total.skip();
    }
    let programs = ["--package", "probe-ebpf", "--release", "--target", "bpfel-unknown-none"];
    let mut command = clippy(&programs);
    command.args(["-Z", "build-std=core", "--", "-D", "warnings"]);
    // In a directory of its own, because the compilers would discard each other's results.
    command.env("CARGO_TARGET_DIR", workspace::target_directory().join("lint-programs"));
    step(total, name, || succeeds(&mut command));
}

/// Renders the book and checks its links, if the renderer can be installed.
fn check_docs(total: &mut Tally) {
    match cargo_tool::MDBOOK.ensure() {
        Ok(mdbook) => drop(step(total, "docs", || docs::check(&mdbook))),
        Err(error) => {
            heading("docs");
            println!("SKIPPED: {error:#}");
            total.skip();
        }
    }
}

/// Runs one step, which passes or fails as a whole. Returns its result if it passes.
fn step<T>(total: &mut Tally, name: &str, step: impl FnOnce() -> Result<T>) -> Option<T> {
    heading(name);
    let begin = Instant::now();
    let outcome = step();
    println!("{name} took {:.1} s", begin.elapsed().as_secs_f64());
    match outcome {
        Ok(done) => {
            total.pass();
            Some(done)
        }
        Err(error) => {
            let why = format!("{error:#}");
            println!("{why}");
            total.fail(name, &why);
            None
        }
    }
}

/// Runs a command, whose output is shown; an error if it fails.
fn succeeds(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", exec::line(command)))?;
    ensure!(status.success(), "`{}` failed: {status}", exec::line(command));
    Ok(())
}

fn heading(name: &str) {
    println!("\n== {name} ==");
}
