//! `kstamp completions` and `kstamp man`: what shells and `man` know about the command line.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Command};
use clap_complete::Shell;

use crate::output::file::print;

#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell that reads the script
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Write a page for kstamp and one for each subcommand into this directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Prints the script for this command line.
pub fn run(args: &CompletionsArgs, mut cli: Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli, "kstamp", &mut script);
    Ok(print(&String::from_utf8_lossy(&script))?)
}

/// Writes the pages.
pub fn write_manual(args: &ManArgs, cli: Command) -> Result<()> {
    let directory = &args.directory;
    clap_mangen::generate_to(cli, directory)
        .with_context(|| format!("cannot write man pages to {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    fn write_to(directory: &str) -> Result<()> {
        let cli = Command::new("kstamp")
            .subcommand(Command::new("agent"))
            .subcommand(Command::new("man").hide(true));
        let directory = directory.into();
        write_manual(&ManArgs { directory }, cli)
    }

    #[test]
    fn each_visible_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        write_to(directory.path().to_str().unwrap()).unwrap();
        let entries = fs::read_dir(directory.path()).unwrap().flatten();
        let pages: BTreeSet<_> = entries.map(|entry| entry.file_name()).collect();
        assert_eq!(pages, ["kstamp.1", "kstamp-agent.1"].map(Into::into).into());
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = format!("{:#}", write_to("/nowhere").unwrap_err());
        assert!(
            error.starts_with("cannot write man pages to /nowhere: No such file"),
            "{error}"
        );
    }
}
