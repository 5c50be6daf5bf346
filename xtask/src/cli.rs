//! The command line of `cargo xtask`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    bench::BenchCommand,
    check::{TestArguments, structure},
    docs::DocsArguments,
    forward::ForwardArguments,
    fuzz::FuzzArguments,
    lab::LabCommand,
    mutants::MutantsArguments,
    relay::RelayArguments,
    run::RunArguments,
    setup::SetupArguments,
    vm::guest::GuestArguments,
};

/// Set-up, lab, tests and benches of kstamp.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Clone, Debug, Subcommand)]
enum Task {
    /// Find or install what building and the lab need.
    Setup(SetupArguments),
    /// Build, bring a lab up, run one kstamp in each of two namespaces, take the lab down.
    Run(RunArguments),
    /// Check formatting, lint and run every test; the last line is the count.
    Test(TestArguments),
    /// Find modules that import each other and crates that use one below them.
    Structure,
    /// Run fuzz targets.
    Fuzz(FuzzArguments),
    /// Change the code and find the changes that no unit test notices.
    Mutants(MutantsArguments),
    /// Write the reference pages, render the book and check its links.
    Docs(DocsArguments),
    /// Namespaces and Open vSwitch instances to work in by hand.
    #[command(subcommand)]
    Lab(LabCommand),
    /// Measure, as ratios within one run.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Join two interfaces by a delay line.
    #[command(hide = true)]
    Forward(ForwardArguments),
    /// Carry TCP connections on, later.
    #[command(hide = true)]
    Relay(RelayArguments),
    /// Be the first process of a virtual machine.
    #[command(hide = true)]
    Guest(GuestArguments),
}

impl Arguments {
    /// Does what the arguments say.
    ///
    /// # Errors
    /// One line: what was wrong, where, what to do.
    pub fn run(&self) -> Result<ExitCode> {
        match &self.task {
            Task::Setup(arguments) => arguments.run(),
            Task::Run(arguments) => arguments.run(),
            Task::Test(arguments) => arguments.run(),
            Task::Structure => structure::check().map(|()| ExitCode::SUCCESS),
            Task::Fuzz(arguments) => arguments.run(),
            Task::Mutants(arguments) => arguments.run(),
            Task::Docs(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
            Task::Lab(command) => command.run(),
            Task::Bench(command) => command.run(),
            Task::Forward(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
            Task::Relay(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
            Task::Guest(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
        }
    }
}
