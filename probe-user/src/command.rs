//! The command line: one folder for each subcommand, over what several of them share.

pub mod agent;
pub mod compare;
pub mod completions;
pub mod config;
pub mod controller;
pub mod doctor;
pub mod hub;
pub mod path;
pub mod ping;
pub mod reflect;
pub mod report;
mod shared;
pub mod top;
pub mod volley;

use std::env;
use std::ffi::OsString;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory as _, Parser, Subcommand};
use probe_host::limits::raise_open_files;

use crate::command::agent::args::AgentArgs;
use crate::command::agent::config::AgentConfig;
use crate::command::compare::args::{CalibrateArgs, CompareArgs};
use crate::command::compare::config::{CalibrateConfig, CompareConfig};
use crate::command::completions::{CompletionsArgs, ManArgs};
use crate::command::config::ConfigArgs;
use crate::command::controller::args::ControllerArgs;
use crate::command::controller::config::ControllerConfig;
use crate::command::doctor::{DoctorArgs, DoctorConfig};
use crate::command::hub::args::HubArgs;
use crate::command::hub::config::HubCommand;
use crate::command::path::args::PathArgs;
use crate::command::path::config::PathConfig;
use crate::command::ping::args::PingArgs;
use crate::command::ping::config::PingConfig;
use crate::command::reflect::{ReflectArgs, ReflectConfig};
use crate::command::report::args::ReportArgs;
use crate::command::report::config::ReportConfig;
use crate::command::shared::reload::Reloader;
use crate::command::shared::values::ConfigError;
use crate::command::top::args::TopArgs;
use crate::command::top::config::TopConfig;
use crate::command::volley::args::VolleyArgs;
use crate::command::volley::config::VolleyConfig;
use crate::config::System;
use crate::config::settings::Settings;
use crate::config::sources::Sources;
use crate::output::file::print;

/// Measures delay and loss between Open vSwitch ports, with timestamps taken in the kernel.
#[derive(Debug, Clone, Parser)]
#[command(name = "kstamp", version, arg_required_else_help = false)]
pub struct Cli {
    /// More diagnostics on standard error (-vv: still more)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    #[command(subcommand)]
    command: CommandArgs,
}

#[derive(Debug, Clone, Subcommand)]
enum CommandArgs {
    /// Discover peers, probe them, answer their probes, report delay and loss
    Agent(Box<AgentArgs>),
    /// Show an agent live on a terminal: its own with the flags of `kstamp agent`, or a running one
    Top(TopArgs),
    /// Answer probes, send none
    Reflect(ReflectArgs),
    /// OpenFlow controller: discover links, measure the delay of each, route by delay
    Controller(ControllerArgs),
    /// Coordinate a fleet of agents beyond one multicast domain, take their results and show them
    Hub(Box<HubArgs>),
    /// Probe one STAMP reflector of any make
    Ping(PingArgs),
    /// Show where round trips to one peer spend their time, device by device, and where probes are lost
    Path(PathArgs),
    /// Check whether kstamp can run on this host
    Doctor(DoctorArgs),
    /// Compare three methods on one path: process timestamps, socket timestamps, kernel programs
    Compare(CompareArgs),
    /// Measure the noise floor of this host
    Calibrate(CalibrateArgs),
    /// Look at one path up to a million times a second, by probes that the kernel sends and turns around
    Volley(VolleyArgs),
    /// Put saved results of one or several agents together: a page with a matrix, plots, losses and events
    Report(ReportArgs),
    /// Print a script that completes commands and flags in a shell
    Completions(CompletionsArgs),
    /// Write man pages, for packages
    #[command(hide = true)]
    Man(ManArgs),
    /// Check, show and write configuration files of agent, reflect, controller and hub
    #[command(subcommand)]
    Config(ConfigArgs),
}

/// A subcommand with its checked configuration.
#[derive(Debug, Clone)]
pub enum Command {
    Agent(Box<AgentConfig>),
    Top(TopConfig),
    Reflect(Box<ReflectConfig>),
    Controller(Box<ControllerConfig>),
    Hub(HubCommand),
    Ping(Box<PingConfig>),
    Path(Box<PathConfig>),
    Doctor(DoctorConfig),
    Compare(Box<CompareConfig>),
    Calibrate(CalibrateConfig),
    Volley(Box<VolleyConfig>),
    Report(ReportConfig),
    Completions(CompletionsArgs),
    Man(ManArgs),
    /// A text about a configuration.
    Config(String),
}

impl Command {
    /// Whether the kernel programs are to log, and their lines to be shown.
    pub fn wants_program_log(&self) -> bool {
        match self {
            Self::Agent(config) => config.endpoint.port.log_level != 0,
            Self::Reflect(config) => config.endpoint.port.log_level != 0,
            Self::Top(_)
            | Self::Ping(_)
            | Self::Path(_)
            | Self::Controller(_)
            | Self::Hub(_)
            | Self::Doctor(_)
            | Self::Compare(_)
            | Self::Calibrate(_)
            | Self::Volley(_)
            | Self::Report(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Config(_) => false,
        }
    }
}

/// Why parsing ended without arguments.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// `--help` or `--version`: text for standard output; exit with success.
    #[error("{0}")]
    Help(String),
    /// A usage error, as one line.
    #[error("{0}")]
    Usage(String),
    /// Errors of configurations, a line each.
    #[error("{}", .0.join("\n"))]
    Several(Vec<String>),
}

/// Parses a command line, program name first.
pub fn parse<I>(arguments: I) -> Result<Cli, ParseError>
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    Cli::try_parse_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ParseError::Help(error.to_string()),
        _ => ParseError::Usage(one_line(&error.to_string())),
    })
}

/// A command, ready to run.
#[derive(Debug)]
pub struct Loaded {
    pub verbose: u8,
    pub command: Command,
    /// Its flags, if files may have these.
    settings: Settings,
}

/// Parses and validates a command line, program name first, with the values that files and the environment add.
pub fn load(arguments: &[OsString], system: &System) -> Result<Loaded, ParseError> {
    let settings = settings(arguments, system).map_err(ParseError::Usage)?;
    let (verbose, command) = match &settings {
        Some(settings) => accept_settings(settings, system).map_err(ParseError::Usage)?,
        None => accept(arguments, system)?,
    };
    Ok(Loaded {
        verbose,
        command,
        settings: settings.unwrap_or_default(),
    })
}

/// The flags of a command with those that files and the environment add; `None` if they add nothing to this command, or if
/// the command line is wrong.
fn settings(arguments: &[OsString], system: &System) -> Result<Option<Settings>, String> {
    let mut cli = Cli::command();
    cli.build();
    let Some(sources) = Sources::read(&cli, arguments, system) else {
        return Ok(None);
    };
    match sources.problems.first() {
        Some(problem) => Err(problem.clone()),
        None => sources.settings().map(Some),
    }
}

/// As [`accept`]. An error names the place of the value that is wrong.
fn accept_settings(settings: &Settings, system: &System) -> Result<(u8, Command), String> {
    let check = |words: &[OsString]| check(words, system);
    accept(&settings.words(), system).map_err(|error| settings.placed(&error.to_string(), &check))
}

/// Reads the configuration of this process again; `pick` takes it out of its command.
fn reloader<T: 'static>(current: Settings, pick: fn(Command) -> Option<Box<T>>) -> Reloader<T> {
    let read = || {
        let arguments: Vec<_> = env::args_os().collect();
        settings(&arguments, &System::of_process()).map(Option::unwrap_or_default)
    };
    let validate = move |settings: &Settings| {
        let (_, command) = accept_settings(settings, &System::of_process())?;
        pick(command)
            .map(|config| *config)
            .ok_or_else(|| "the command has changed".to_owned())
    };
    Reloader::new(current, read, validate)
}

/// The verbosity and the command of a command line that is complete.
fn accept(words: &[OsString], system: &System) -> Result<(u8, Command), ParseError> {
    let cli = parse(words)?;
    let verbose = cli.verbose;
    let command = validate(cli, system).map_err(|error| match error {
        ConfigError::Several(lines) => ParseError::Several(lines),
        error => ParseError::Usage(error.to_string()),
    })?;
    Ok((verbose, command))
}

/// Fails with the message that [`accept`] would give.
fn check(words: &[OsString], system: &System) -> Result<(), String> {
    match accept(words, system) {
        Ok(_) => Ok(()),
        Err(ParseError::Help(_)) => Err("--help prints a page and configures nothing; leave it out".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Joins the paragraphs of a clap error, without the usage: problem; tip; see --help.
fn one_line(error: &str) -> String {
    error
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|paragraph| !paragraph.is_empty() && !paragraph.starts_with("Usage:"))
        .filter(|paragraph| !paragraph.starts_with("For more information"))
        .map(|paragraph| {
            let text = paragraph.trim_start_matches("error: ").trim_start_matches("tip: ");
            format!("{text}; ")
        })
        .chain(["see --help".to_owned()])
        .collect()
}

/// Checks a command line as a whole, before anything is opened. Fails with the first error found.
pub fn validate(cli: Cli, system: &System) -> Result<Command, ConfigError> {
    Ok(match cli.command {
        CommandArgs::Agent(args) => Command::Agent(Box::new(agent::config::validate(*args)?)),
        CommandArgs::Top(args) => Command::Top(top::config::validate(args)?),
        CommandArgs::Reflect(args) => Command::Reflect(Box::new(reflect::validate(args)?)),
        CommandArgs::Controller(args) => Command::Controller(Box::new(controller::config::validate(args)?)),
        CommandArgs::Hub(args) => Command::Hub(hub::config::validate(*args)?),
        CommandArgs::Ping(args) => Command::Ping(Box::new(ping::config::validate(args)?)),
        CommandArgs::Path(args) => Command::Path(Box::new(path::config::validate(args)?)),
        CommandArgs::Doctor(args) => Command::Doctor(doctor::validate(args)?),
        CommandArgs::Compare(args) => Command::Compare(Box::new(compare::config::validate(args)?)),
        CommandArgs::Calibrate(args) => Command::Calibrate(compare::config::validate_calibrate(&args)?),
        CommandArgs::Volley(args) => Command::Volley(Box::new(volley::config::validate(args)?)),
        CommandArgs::Report(args) => Command::Report(report::config::validate(args)?),
        CommandArgs::Completions(args) => Command::Completions(args),
        CommandArgs::Man(args) => Command::Man(args),
        CommandArgs::Config(args) => Command::Config(config(args, system)?),
    })
}

fn config(args: ConfigArgs, system: &System) -> Result<String, ConfigError> {
    let mut cli = Cli::command();
    cli.build();
    let check = |words: &[OsString]| check(words, system);
    config::run(args, &cli, system, &check).map_err(ConfigError::Several)
}

/// Runs a command to its end.
pub async fn run(loaded: Loaded) -> Result<()> {
    raise_open_files()?;
    let Loaded { command, settings, .. } = loaded;
    match command {
        Command::Agent(config) => {
            let pick = |command| match command {
                Command::Agent(config) => Some(config),
                _ => None,
            };
            agent::run::run(*config, reloader(settings, pick)).await
        }
        Command::Top(config) => top::run::run(config).await,
        Command::Reflect(config) => {
            let pick = |command| match command {
                Command::Reflect(config) => Some(config),
                _ => None,
            };
            reflect::run(*config, reloader(settings, pick)).await
        }
        Command::Controller(config) => {
            let pick = |command| match command {
                Command::Controller(config) => Some(config),
                _ => None,
            };
            controller::run::run(*config, reloader(settings, pick)).await
        }
        Command::Hub(HubCommand::Run(config)) => {
            let pick = |command| match command {
                Command::Hub(HubCommand::Run(config)) => Some(config),
                _ => None,
            };
            hub::run::run(*config, reloader(settings, pick)).await
        }
        Command::Hub(HubCommand::Enroll(config)) => hub::enroll::enroll(&config),
        Command::Hub(HubCommand::Revoke { fleet, host }) => hub::enroll::revoke(&fleet, &host),
        Command::Hub(HubCommand::Export(config)) => hub::export::export(&config),
        Command::Hub(HubCommand::Import(config)) => hub::export::import(&config),
        Command::Hub(HubCommand::Status(config)) => hub::status::status(&config).await,
        Command::Ping(config) => ping::run::run(*config).await,
        Command::Path(config) => path::run::run(*config).await,
        Command::Doctor(config) => doctor::run(config).await,
        Command::Compare(config) => compare::run::run(*config).await,
        Command::Calibrate(config) => compare::calibrate::run(config).await,
        Command::Volley(config) => volley::run::run(*config).await,
        Command::Report(config) => report::run::run(&config),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Man(args) => completions::write_manual(&args, Cli::command()),
        Command::Config(text) => Ok(print(&text)?),
    }
}

/// Parses and validates a command line; `_` stands for a space within a word.
#[cfg(test)]
fn read(line: &str) -> Result<Command, String> {
    let words = line.split_whitespace().map(|word| word.replace('_', " "));
    let cli = parse(std::iter::once("kstamp".to_owned()).chain(words)).map_err(|error| error.to_string())?;
    validate(cli, &System::default()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_the_definitions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn doctor_takes_an_optional_interface() {
        for (line, expected) in [("doctor", None), ("doctor --iface p1", Some("p1"))] {
            match read(line) {
                Ok(Command::Doctor(config)) => assert_eq!(config.interface.as_deref(), expected),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn verbosity_is_counted_before_and_after_the_subcommand() {
        for (line, verbose) in [
            ("doctor", 0),
            ("-v doctor", 1),
            ("doctor -vv", 2),
            ("doctor --verbose", 1),
        ] {
            let words = std::iter::once("kstamp").chain(line.split_whitespace());
            assert_eq!(parse(words).unwrap().verbose, verbose, "{line}");
        }
    }

    #[test]
    fn help_and_version_are_not_usage_errors() {
        for line in ["kstamp --help", "kstamp --version", "kstamp agent --help"] {
            assert!(
                matches!(parse(line.split_whitespace()), Err(ParseError::Help(_))),
                "{line}"
            );
        }
    }

    #[test]
    fn each_bad_line_has_its_message() {
        let table = [
            (
                "agent",
                "the following required arguments were not provided: --iface <IFACE>; see --help",
            ),
            (
                "agent --iface a/b",
                "--iface: 'a/b' cannot be an interface name: '/', ':', spaces, '.' and '..' are not allowed; `ip link` \
                 lists the interfaces",
            ),
            (
                "doctor --iface a23456789012345x",
                "--iface: 'a23456789012345x' is too long for an interface name, which has at most 15 bytes; `ip link` \
                 lists the interfaces",
            ),
            (
                "reflect --iface p1 --count 3",
                "unexpected argument '--count' found; a similar argument exists: '--output'; see --help",
            ),
            (
                "reflect --iface p1 --format csv",
                "--format csv has a row for each window of an agent, and a reflector has none; use --format jsonl",
            ),
            (
                "",
                "'kstamp' requires a subcommand but one was not provided [subcommands: agent, top, reflect, controller, hub, ping, path, doctor, compare, calibrate, volley, report, completions, man, config, help]; see --help",
            ),
        ];
        for (line, expected) in table {
            assert_eq!(read(line).unwrap_err(), expected);
        }
    }
}
