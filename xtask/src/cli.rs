//! The command line of `cargo xtask`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::bench::BenchCommand;
use crate::check::{TestArguments, structure};
use crate::docs::DocsArguments;
use crate::forward::ForwardArguments;
use crate::fuzz::FuzzArguments;
use crate::lab::LabCommand;
use crate::mutants::MutantsArguments;
use crate::package::PackageArguments;
use crate::relay::RelayArguments;
use crate::release::ReleaseArguments;
use crate::run::RunArguments;
use crate::setup::SetupArguments;
use crate::soak::SoakArguments;
use crate::stall::StallArguments;
use crate::vm::guest::GuestArguments;

/// Set-up, lab, tests, benches and packages of kstamp.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Clone, Debug, Subcommand)]
enum Task {
    /// Install the programs that building and the lab need.
    Setup(SetupArguments),
    /// Build kstamp, run it in each of two namespaces of a new lab, and remove the lab.
    Run(RunArguments),
    /// Check formatting and lints, and run every test; the last line is the count.
    Test(TestArguments),
    /// Find modules that import each other and crates that use one below them.
    Structure,
    /// Run fuzz targets.
    Fuzz(FuzzArguments),
    /// Change the code and find the changes that no unit test notices.
    Mutants(MutantsArguments),
    /// Write the reference pages, render the book and check its links.
    Docs(DocsArguments),
    /// Build packages of kstamp: Debian package, RPM, tarball, OCI image.
    Package(PackageArguments),
    /// Check the source, build all that a release consists of, and tag it.
    Release(ReleaseArguments),
    /// Build and use a lab of namespaces and Open vSwitch instances by hand.
    #[command(subcommand)]
    Lab(LabCommand),
    /// Run benches; figures are ratios within one run.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Run two agents for a day, or a day's probes in minutes: memory, descriptors and rotated files must be right.
    Soak(SoakArguments),
    /// Join two interfaces by a delay line.
    #[command(hide = true)]
    Forward(ForwardArguments),
    /// Relay TCP connections with a delay.
    #[command(hide = true)]
    Relay(RelayArguments),
    /// Stop a process for a while, over and over.
    #[command(hide = true)]
    Stall(StallArguments),
    /// Run as the first process of a virtual machine.
    #[command(hide = true)]
    Guest(GuestArguments),
}

impl Arguments {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        match &self.task {
            Task::Setup(arguments) => arguments.run(),
            Task::Run(arguments) => arguments.run(),
            Task::Test(arguments) => arguments.run(),
            Task::Structure => structure::check().map(|()| ExitCode::SUCCESS),
            Task::Fuzz(arguments) => arguments.run(),
            Task::Mutants(arguments) => arguments.run(),
            Task::Docs(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
            Task::Package(arguments) => arguments.run(),
            Task::Release(arguments) => arguments.run(),
            Task::Lab(command) => command.run(),
            Task::Bench(command) => command.run(),
            Task::Soak(arguments) => arguments.run(),
            Task::Forward(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
            Task::Relay(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
            Task::Stall(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
            Task::Guest(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
        }
    }
}
