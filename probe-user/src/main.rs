//! The `kstamp` binary: arguments to exit code.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use env_logger::{Target, WriteStyle};
use log::LevelFilter;
use nix::sys::signal::{SigHandler, Signal, signal};
use probe_io::compare::load;
use probe_user::command::top::run::AgentFailed;
use probe_user::command::{self, ParseError};
use probe_user::config::System;
use probe_user::inherit_descriptors;
use probe_user::output::diagnostics::{self, Diagnostics};
use probe_user::output::file::{OutputError, print};

/// The command line is wrong.
const USAGE: u8 = 2;
/// The command failed.
const FAILURE: u8 = 1;

/// Crates whose diagnostics `-v` shows.
const CRATES: [&str; 6] = [
    "probe_user",
    "probe_core",
    "probe_host",
    "probe_io",
    "probe_controller",
    "probe_hub",
];

fn main() -> ExitCode {
    if let Some(limit) = load::asked_to_be_busy(std::env::args_os()) {
        load::be_busy(limit);
        return ExitCode::SUCCESS;
    }
    // A file that has reached its largest size is an error of that file, and not the end of the process.
    // SAFETY: no handler runs.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.ok();
    let arguments: Vec<_> = std::env::args_os().collect();
    let loaded = match command::load(&arguments, &System::of_process()) {
        Ok(loaded) => loaded,
        Err(ParseError::Help(text)) => {
            return outcome(print(&text).map_err(Into::into));
        }
        Err(ParseError::Usage(line)) => return fail(USAGE, &line),
        Err(ParseError::Several(lines)) => {
            lines.iter().for_each(|line| diagnostics::last(line));
            return ExitCode::from(USAGE);
        }
    };
    start_logging(loaded.verbose, loaded.command.wants_program_log());
    // SAFETY: nothing that was opened so far is still open.
    unsafe { inherit_descriptors() };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILURE, &format!("cannot start: {error}")),
    };
    outcome(runtime.block_on(command::run(loaded)))
}

fn outcome(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if let Some(failed) = error.downcast_ref::<AgentFailed>() {
        return fail(failed.code, &failed.to_string());
    }
    match error.downcast_ref::<OutputError>() {
        Some(output) if output.is_reader_left() => ExitCode::SUCCESS,
        Some(output) if output.is_usage() => fail(USAGE, &one_line(&error)),
        _ => fail(FAILURE, &one_line(&error)),
    }
}

/// The error and its causes, without those that its text already contains.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        let text = cause.split(" (os error").next().unwrap_or(&cause);
        if !line.contains(text) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

fn fail(code: u8, line: &str) -> ExitCode {
    diagnostics::last(line);
    ExitCode::from(code)
}

/// Diagnostics go to standard error: warnings, more with `-v`, and the log of the kernel programs on request.
fn start_logging(verbosity: u8, programs: bool) {
    let level = match verbosity {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let mut logger = env_logger::Builder::new();
    logger.filter_level(LevelFilter::Warn).format_timestamp_millis();
    let has_colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    logger.target(Target::Pipe(Box::new(Diagnostics::default())));
    logger.write_style(if has_colours {
        WriteStyle::Always
    } else {
        WriteStyle::Never
    });
    for name in CRATES {
        logger.filter_module(name, level);
    }
    if programs {
        logger.filter_module("probe_ebpf", LevelFilter::Trace);
    }
    logger.init();
}
