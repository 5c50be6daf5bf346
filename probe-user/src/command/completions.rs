//! `kstamp completions` and `kstamp man`: what shells and `man` know about the command line.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::command::Cli;
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

/// Prints the script.
pub fn run(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kstamp", &mut script);
    Ok(print(&String::from_utf8_lossy(&script))?)
}

/// Writes the pages.
pub fn write_manual(args: &ManArgs) -> Result<()> {
    let directory = &args.directory;
    clap_mangen::generate_to(Cli::command(), directory)
        .with_context(|| format!("cannot write man pages to {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    #[test]
    fn each_visible_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        write_manual(&ManArgs {
            directory: directory.path().to_owned(),
        })
        .unwrap();
        let entries = fs::read_dir(directory.path()).unwrap().flatten();
        let pages: BTreeSet<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        let command = Cli::command();
        let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
        for name in visible.map(|command| format!("kstamp-{}.1", command.get_name())) {
            assert!(pages.contains(&name), "{name} is not in {pages:?}");
        }
        assert!(
            pages.contains("kstamp.1") && !pages.contains("kstamp-man.1"),
            "{pages:?}"
        );
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = write_manual(&ManArgs {
            directory: "/nowhere".into(),
        });
        let error = format!("{:#}", error.unwrap_err());
        assert!(
            error.starts_with("cannot write man pages to /nowhere: No such file"),
            "{error}"
        );
    }
}
