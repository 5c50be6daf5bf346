//! The `kstamp` command: subcommands, and the results that they report.

pub mod command;
pub mod output;
