//! The `kstamp` binary: arguments to exit code.

use std::process::ExitCode;

use log::LevelFilter;
use probe_io::compare::load;
use probe_user::command::{self, ParseError};
use probe_user::output::sink::OutputError;

/// The command line is wrong.
const USAGE: u8 = 2;
/// The command failed.
const FAILURE: u8 = 1;

/// Crates whose diagnostics `-v` shows.
const CRATES: [&str; 5] = ["probe_user", "probe_core", "probe_host", "probe_io", "probe_controller"];

fn main() -> ExitCode {
    if let Some(limit) = load::asked_to_be_busy(std::env::args_os()) {
        load::be_busy(limit);
        return ExitCode::SUCCESS;
    }
    let cli = match command::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(ParseError::Help(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(ParseError::Usage(line)) => return fail(USAGE, &line),
    };
    let verbosity = cli.verbose;
    let command = match command::validate(cli) {
        Ok(command) => command,
        Err(error) => return fail(USAGE, &error.to_string()),
    };
    start_logging(verbosity, command.wants_program_log());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILURE, &format!("cannot start: {error}")),
    };
    match runtime.block_on(command::run(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error)
            if error
                .downcast_ref::<OutputError>()
                .is_some_and(OutputError::is_reader_left) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => fail(FAILURE, &one_line(&error)),
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
    eprintln!("kstamp: {line}");
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
    for name in CRATES {
        logger.filter_module(name, level);
    }
    if programs {
        logger.filter_module("probe_ebpf", LevelFilter::Trace);
    }
    logger.init();
}
