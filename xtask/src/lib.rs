//! Set-up, lab, tests, benches and packages of kstamp: the binary is `cargo xtask`, and tests build their labs with [`lab::Lab`].

pub mod bench;
pub mod check;
pub mod cli;
pub mod docs;
pub mod exec;
pub mod fleet;
pub mod forward;
pub mod fuzz;
pub mod lab;
pub mod mutants;
pub mod package;
pub mod privilege;
mod process;
pub mod relay;
pub mod release;
pub mod run;
pub mod setup;
pub mod signals;
pub mod soak;
pub mod stall;
mod timing;
pub mod vm;
pub mod workspace;

/// An error in the command line; the exit code is 2.
#[derive(Debug)]
pub struct UsageError(String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// The command-line spelling of a choice.
pub(crate) fn name_of(choice: &impl clap::ValueEnum) -> String {
    let value = choice.to_possible_value();
    value.map(|value| value.get_name().to_owned()).unwrap_or_default()
}
