//! Boots a guest under QEMU, passes on what it says, and does not wait for ever.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{Listener, guest::Word};
use crate::exec;

const QEMU: &str = "qemu-system-x86_64";

/// What a guest is not waited for longer than.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The whole of its life.
    pub(super) life: Duration,
    /// The longest time in which it says nothing.
    pub(super) silence: Duration,
}

/// Of a guest that runs the suite: its longest test takes less than the silence.
pub(super) const LIMITS: Limits = Limits {
    life: Duration::from_secs(900),
    silence: Duration::from_secs(90),
};

/// An old one: with what newer ones have (AVX, `rep movsb` for copies, SMAP) the kernel does what costs an emulated
/// processor more; the verifier then takes 1.7 times as long.
const CPU: &str = "Nehalem,+rdrand";

/// How long it may take to switch off when it has said that it is done.
const GOODBYE: Duration = Duration::from_secs(10);

/// The guest's priority among processes.
const NICENESS: libc::c_int = -10;

/// How many lines of the console are shown when a guest fails.
const TAIL: usize = 40;

/// What the kernel is told. `panic=-1` with QEMU's `-no-reboot` ends the machine when it panics. Under emulation the
/// kernel would find the time stamp counter unstable, and then every clock read is slow. What is no parameter of the
/// kernel's becomes the first process's environment; what stands behind `--`, its arguments, follows.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 quiet loglevel=4 mitigations=off random.trust_cpu=on \
                            tsc=reliable clocksource=tsc PATH=/usr/sbin:/usr/bin --";

/// What is booted.
#[derive(Clone, Copy, Debug)]
pub(super) struct System<'a> {
    /// The kernel.
    pub(super) kernel: &'a Path,
    /// Its first file system, whose first process is this program.
    pub(super) archive: &'a Path,
    /// The arguments of that.
    pub(super) arguments: &'a str,
}

/// Boots `system`, and hears it to its end, or to its limits. The console's and the suite's words are kept in
/// `directory`.
pub(super) fn boot(system: System, directory: &Path, limits: Limits, listener: &mut dyn Listener) -> Result<()> {
    let console = directory.join("console.log");
    let path = directory.join("suite.log");
    let mut log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut machine = Machine::start(&mut emulator(system, &console))?;
    let outcome = machine.hear(limits, |line| {
        // Only a copy: the listener has the line in any case.
        let _ = writeln!(log, "{line}");
        listener.line(line);
        if let Some(Word::End(name, success)) = Word::read(line) {
            listener.part(&name, success);
        }
    });
    outcome.with_context(|| {
        format!(
            "the guest failed; the end of {}:\n{}",
            console.display(),
            tail(&console)
        )
    })
}

struct Machine {
    child: Child,
    lines: Receiver<String>,
}

/// QEMU's command line.
fn emulator(system: System, console: &Path) -> Command {
    let mut command = Command::new(QEMU);
    command.args([
        "-M",
        "q35",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        CPU,
        "-smp",
        "2",
        "-m",
        "1536",
    ]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    // The first serial line is the kernel's console, the second the suite's.
    command.arg("-serial").arg(format!("file:{}", console.display()));
    command.args(["-serial", "stdio"]);
    command
        .arg("-kernel")
        .arg(system.kernel)
        .arg("-initrd")
        .arg(system.archive);
    command
        .arg("-append")
        .arg(format!("{COMMAND_LINE} {}", system.arguments));
    command
}

impl Machine {
    fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        crate::lab::end_with_parent(command);
        prefer(command);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start `{}`", exec::line(command)))?;
        prefer_group(&child);
        let stdout = child.stdout.take().context("QEMU has no output")?;
        Ok(Self {
            child,
            lines: read_lines(stdout),
        })
    }

    /// Passes lines on until the guest says that it is done.
    fn hear(&mut self, limits: Limits, mut pass_on: impl FnMut(&str)) -> Result<()> {
        let Limits { life, silence } = limits;
        let deadline = Instant::now() + life;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Some never pause.
            if left.is_zero() {
                bail!("it was not done after {life:?}");
            }
            match self.lines.recv_timeout(left.min(silence)) {
                Ok(line) => {
                    pass_on(&line);
                    if Word::read(&line) == Some(Word::Done) {
                        return self.switched_off();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => bail!("it ended before its suite did"),
                Err(RecvTimeoutError::Timeout) if left <= silence => bail!("it was not done after {life:?}"),
                Err(RecvTimeoutError::Timeout) => bail!("it said nothing for {silence:?}"),
            }
        }
    }

    fn switched_off(&mut self) -> Result<()> {
        match exec::wait_within(&mut self.child, GOODBYE)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{QEMU} failed: {status}"),
            None => bail!("it did not switch off"),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts the guest before whatever else runs here: what keeps it waiting is delay to those who measure inside. Where
/// that is not permitted, its timing is coarser.
fn prefer(command: &mut Command) {
    // SAFETY: two system calls between fork and exec, no memory touched.
    unsafe {
        command.pre_exec(|| {
            // Its own session is a scheduling group of its own, see `prefer_group`.
            libc::setsid();
            libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
            Ok(())
        });
    }
}

/// With `CONFIG_SCHED_AUTOGROUP` a process's priority counts within its session only, and sessions have priorities of
/// their own (`sched(7)`); without it there is no such file.
fn prefer_group(child: &Child) {
    let _ = fs::write(format!("/proc/{}/autogroup", child.id()), NICENESS.to_string());
}

/// The lines of `stdout` as they come.
fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// The last lines of a file.
fn tail(path: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a machine that is this shell script ends, within two seconds in all and one of silence.
    fn end_of(script: &str) -> Result<()> {
        let limits = Limits {
            life: Duration::from_secs(2),
            silence: Duration::from_secs(1),
        };
        Machine::start(Command::new("sh").args(["-c", script]))?.hear(limits, |_| {})
    }

    #[test]
    fn a_machine_that_is_done_and_ends_has_succeeded() {
        end_of("echo guest: begin x; echo guest: done").unwrap();
    }

    #[test]
    fn a_machine_is_not_waited_for_for_ever() {
        for (script, end) in [
            ("echo guest: begin x", "it ended before its suite did"),
            ("exec sleep 60", "it said nothing for 1s"),
            ("while :; do echo .; sleep 0.1; done", "it was not done after 2s"),
            ("exec yes", "it was not done after 2s"),
            ("echo guest: done; exit 3", "qemu-system-x86_64 failed: exit status: 3"),
        ] {
            assert_eq!(end_of(script).unwrap_err().to_string(), end, "{script}");
        }
    }
}
