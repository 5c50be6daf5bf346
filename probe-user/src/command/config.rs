//! `kstamp config`: checks, shows and writes configurations.

pub mod default;
pub mod show;

use std::ffi::OsString;

use clap::{Subcommand, ValueEnum};

use crate::config::System;
use crate::config::schema::INTERFACE;
use crate::config::settings::{Accept, Place, Settings, keys_in};
use crate::config::sources::Sources;

/// Stands for an interface that is chosen when the command starts.
const ANY_INTERFACE: &str = "IFACE";

#[derive(Debug, Clone, Subcommand)]
pub enum ConfigArgs {
    /// Check the configuration of a command, or of all commands: each error with its file and line
    Check {
        /// Command to check [default: all of them]
        #[arg(value_enum)]
        command: Option<Configured>,

        /// Flags of the command, such as --config FILE
        #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<OsString>,
    },
    /// Show each value of a command, and where it comes from
    Show {
        /// Command to show
        #[arg(value_enum)]
        command: Configured,

        /// Flags of the command, such as --config FILE and --iface IFACE
        #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<OsString>,
    },
    /// Print a configuration file with all keys and their defaults, commented out
    Default {
        /// Command that reads the file
        #[arg(value_enum)]
        command: Configured,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Configured {
    /// `kstamp agent`
    Agent,
    /// `kstamp reflect`
    Reflect,
    /// `kstamp controller`
    Controller,
    /// `kstamp hub`
    Hub,
}

impl Configured {
    fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Reflect => "reflect",
            Self::Controller => "controller",
            Self::Hub => "hub",
        }
    }

    fn line(self, flags: Vec<OsString>) -> Vec<OsString> {
        ["kstamp", self.name()]
            .map(OsString::from)
            .into_iter()
            .chain(flags)
            .collect()
    }
}

/// Returns the text to print, or all errors. `cli` is built.
pub fn run(args: ConfigArgs, cli: &clap::Command, system: &System, accept: Accept<'_>) -> Result<String, Vec<String>> {
    match args {
        ConfigArgs::Check { command, flags } => {
            let commands: Vec<_> =
                command.map_or_else(|| Configured::value_variants().to_vec(), |command| vec![command]);
            let mut valid = String::new();
            let mut problems = Vec::new();
            for command in commands {
                match check(&command.line(flags.clone()), cli, system, accept) {
                    Ok(line) => valid += &format!("{}: {line}\n", command.name()),
                    Err(found) => problems.extend(found),
                }
            }
            if problems.is_empty() { Ok(valid) } else { Err(problems) }
        }
        ConfigArgs::Show { command, flags } => {
            let line = command.line(flags);
            show(&line, cli, system, accept).map_err(|problem| vec![problem])
        }
        ConfigArgs::Default { command } => Ok(default::text(cli, command.name())),
    }
}

fn show(line: &[OsString], cli: &clap::Command, system: &System, accept: Accept<'_>) -> Result<String, String> {
    let Some(sources) = Sources::read(cli, line, system) else {
        return accept(line).map(|()| String::new());
    };
    if let Some(problem) = sources.problems.first() {
        return Err(problem.clone());
    }
    Ok(show::text(sources.schema, &sources.settings()?))
}

/// Returns what was checked, or all errors.
fn check(line: &[OsString], cli: &clap::Command, system: &System, accept: Accept<'_>) -> Result<String, Vec<String>> {
    let Some(sources) = Sources::read(cli, line, system) else {
        return accept(line).map(|()| String::new()).map_err(|problem| vec![problem]);
    };
    let interfaces = sources.all_interfaces();
    let mut problems = sources.problems.clone();
    let candidates: Vec<Option<&str>> = match &*interfaces {
        [] if sources.schema.has_interfaces() => vec![Some(ANY_INTERFACE)],
        [] => vec![None],
        names => names.iter().map(|name| Some(name.as_str())).collect(),
    };
    for interface in candidates {
        for problem in refusals(sources.settings_of(interface), accept) {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let files: Vec<_> = sources.files.iter().map(|path| path.display().to_string()).collect();
    let read = if files.is_empty() {
        "no file".to_owned()
    } else {
        files.join(", ")
    };
    Ok(match &*interfaces {
        [] => format!("{read}: valid"),
        names => format!("{read}: valid, with {}", names.join(", ")),
    })
}

/// Each reason why the settings are refused: the setting to blame is left out, and the rest tried again.
fn refusals(mut settings: Settings, accept: Accept<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut left_out: Vec<String> = Vec::new();
    while let Err(message) = accept(&settings.words()) {
        let is_consequence = keys_in(&message).any(|key| left_out.iter().any(|left_out| left_out == key));
        if !is_consequence {
            problems.push(settings.placed(&message, accept));
        }
        let Some(key) = settings.blamed(&message, accept).map(ToOwned::to_owned) else {
            break;
        };
        if key == INTERFACE {
            if let Some(setting) = settings.by_key.get_mut(INTERFACE) {
                (setting.values, setting.place) = (vec![ANY_INTERFACE.into()], Place::CommandLine);
            }
            if !left_out.iter().all(|key| key != INTERFACE) {
                break;
            }
        } else {
            settings.by_key.remove(&key);
        }
        left_out.push(key);
    }
    problems
}
