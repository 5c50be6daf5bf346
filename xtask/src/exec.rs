//! Runs other programs with captured output and bounded waiting; a failure is one line.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::ops::{Deref, DerefMut};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context as _, Result, bail};

const POLL: Duration = Duration::from_millis(10);

/// Runs `program` to its end and returns its stdout.
///
/// It runs in a process group of its own: Ctrl-C reaches the caller, which decides what to do, and does not interrupt
/// a step half-way.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<String> {
    capture(Command::new(program).args(arguments))
}

/// As [`run`], for a command that needs more than arguments.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!("{}", failure(command, &output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` to its end, whatever its status, in a process group of its own.
pub fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .process_group(0)
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))
}

/// Runs `command` to its end, and passes on each line of its output. Returns whether it succeeded.
pub fn read_lines(command: &mut Command, mut read: impl FnMut(&str)) -> Result<bool> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    for output in child
        .stdout
        .take()
        .into_iter()
        .flat_map(|stdout| BufReader::new(stdout).split(b'\n'))
    {
        let output = output.with_context(|| format!("cannot read the output of `{}`", line(command)))?;
        read(&String::from_utf8_lossy(&output));
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{}`", line(command)))?;
    Ok(status.success())
}

/// Runs `command` for at most `limit`; `None` if it had to be killed.
pub fn status_within(command: &mut Command, limit: Duration) -> Result<Option<ExitStatus>> {
    let mut child = KillOnDrop(spawn(command.stdin(Stdio::null()))?);
    wait_within(&mut child, limit)
}

pub fn spawn(command: &mut Command) -> Result<Child> {
    command
        .spawn()
        .with_context(|| format!("cannot start `{}`", line(command)))
}

/// Waits for `child` for at most `limit`; `None` if it still runs.
pub fn wait_within(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a child")? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Polls `condition` until it holds or `limit` is over, and returns whether it held.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}

#[derive(Debug)]
pub struct KillOnDrop(pub Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Deref for KillOnDrop {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for KillOnDrop {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// A command as one would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// One line: the command and the last line of its stderr, or its status.
pub fn failure(command: &Command, output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty());
    let reason = last.map_or_else(|| output.status.to_string(), |last| last.trim().to_owned());
    format!("`{}` failed: {reason}", line(command))
}

/// The exit code of a shell for `status`: 128 + the signal if there was one.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// The variable that sets cargo's runner of tests and benches.
pub fn runner_variable() -> Result<String> {
    let version = run(&env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()), ["-vV"])?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc does not report its host")?;
    Ok(format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_")))
}
