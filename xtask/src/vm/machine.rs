//! Boots a guest under QEMU and passes its output on, within limits of time.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::exec;
use crate::vm::emulator::{self, Emulator};
use crate::vm::guest::Progress;

/// Receives what a guest prints, and how it ended.
pub trait Listener {
    /// One line that a test or the guest printed.
    fn line(&mut self, line: &str);
    /// One test binary has ended.
    fn part(&mut self, name: &str, success: bool);
    /// The guest has ended: after its suite, or by a failure to boot, a panic or silence.
    fn end(&mut self, outcome: Result<()>);
}

/// Time limits of a guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// From its start to its first line.
    pub(super) boot: Duration,
    /// From its first line to its end.
    pub(super) life: Duration,
    /// The longest time between two lines.
    pub(super) silence: Duration,
}

/// The limits of a guest that runs the suite, whose tests print a line more often than the silence.
pub(super) const LIMITS: Limits = Limits {
    boot: BOOT_TIMEOUT,
    life: Duration::from_secs(1200),
    silence: Duration::from_secs(90),
};

/// How long a guest may take until it prints its first line: ten times what it takes on two cores.
pub(super) const BOOT_TIMEOUT: Duration = Duration::from_secs(90);

/// An old processor. On a newer one the kernel uses AVX, `rep movsb` and SMAP, which are slow to emulate: the verifier then
/// takes 1.7 times as long.
const CPU: &str = "Nehalem,+rdrand";

/// How long a guest may take to switch off when its suite is done.
const SWITCH_OFF_TIMEOUT: Duration = Duration::from_secs(10);

/// The emulator's.
const NICENESS: libc::c_int = -10;

/// How many lines of the console are shown when a guest fails.
const TAIL: usize = 40;

/// The kernel's command line; the arguments of the first process are appended. With `panic=-1` and QEMU's `-no-reboot` a
/// panic ends the machine. `tsc=reliable` is needed because an emulated time stamp counter looks unstable, and reading
/// another clock is slow. PATH is no parameter of the kernel, so it goes to the first process's environment.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 quiet loglevel=4 mitigations=off random.trust_cpu=on \
                            tsc=reliable clocksource=tsc PATH=/usr/sbin:/usr/bin --";

#[derive(Clone, Copy, Debug)]
pub(super) struct System<'a> {
    pub(super) emulator: &'a Emulator,
    pub(super) kernel: &'a Path,
    /// The initial file system, whose first process is xtask.
    pub(super) archive: &'a Path,
    /// The image of a disk, which is read only: changes are dropped with the machine.
    pub(super) disk: Option<&'a Path>,
    /// The arguments of the first process.
    pub(super) arguments: &'a str,
}

/// Boots `system` and waits for its end, within `limits`. Logs of the console and of the suite go to `directory`.
pub(super) fn boot(system: System, directory: &Path, limits: Limits, listener: &mut dyn Listener) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let console = directory.join("console.log");
    let path = directory.join("suite.log");
    let mut log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut machine = Machine::start(&mut command(system, &console)?)?;
    let outcome = machine.follow(limits, |line| {
        // The log is only a copy for people.
        let _ = writeln!(log, "{line}");
        listener.line(line);
        if let Some(Progress::End(name, success)) = Progress::parse(line) {
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

fn command(system: System, console: &Path) -> Result<Command> {
    let mut command = system.emulator.command()?;
    command
        .args("-M q35 -accel tcg,thread=multi -smp 2 -m 1536 -cpu".split(' '))
        .arg(CPU);
    command.args("-nodefaults -no-user-config -display none -no-reboot".split(' '));
    // The first serial line is the kernel's console, the second the suite's.
    command.arg("-serial").arg(format!("file:{}", console.display()));
    command.args(["-serial", "stdio"]);
    command
        .arg("-kernel")
        .arg(system.kernel)
        .arg("-initrd")
        .arg(system.archive);
    if let Some(disk) = system.disk {
        command
            .arg("-drive")
            .arg(format!("file={},format=raw,if=virtio,snapshot=on", disk.display()));
    }
    command
        .arg("-append")
        .arg(format!("{COMMAND_LINE} {}", system.arguments));
    Ok(command)
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

    /// Passes lines on until the guest reports that it is done.
    fn follow(&mut self, limits: Limits, mut pass_on: impl FnMut(&str)) -> Result<()> {
        let Limits { boot, life, silence } = limits;
        let mut line = self
            .line_within(boot)?
            .with_context(|| format!("it was not up after {boot:?}"))?;
        let deadline = Instant::now() + life;
        loop {
            pass_on(&line);
            if Progress::parse(&line) == Some(Progress::Done) {
                return self.switched_off();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let next = self.line_within(left.min(silence))?;
            // A guest that prints without pause is never silent, but its time ends too.
            if left.is_zero() || (next.is_none() && left <= silence) {
                bail!("it was not done after {life:?}");
            }
            line = next.with_context(|| format!("it printed nothing for {silence:?}"))?;
        }
    }

    /// The next line; `None` if there is none within `limit`.
    fn line_within(&self, limit: Duration) -> Result<Option<String>> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("it ended before its suite did"),
        }
    }

    fn switched_off(&mut self) -> Result<()> {
        match exec::wait_within(&mut self.child, SWITCH_OFF_TIMEOUT)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{} failed: {status}", emulator::PROGRAM),
            None => bail!("it did not switch off"),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gives the emulator precedence over other processes, whose share of the processor is delay to measurements inside.
/// Where that is not permitted, timing is coarser.
fn prefer(command: &mut Command) {
    // SAFETY: two system calls between fork and exec, no memory touched.
    unsafe {
        command.pre_exec(|| {
            // A session is a scheduling group, see `prefer_group`.
            libc::setsid();
            libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
            Ok(())
        });
    }
}

/// With `CONFIG_SCHED_AUTOGROUP` a process's priority counts within its session only, and the session has its own
/// (`sched(7)`). Without it the file does not exist.
fn prefer_group(child: &Child) {
    let _ = fs::write(format!("/proc/{}/autogroup", child.id()), NICENESS.to_string());
}

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

fn tail(path: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a machine ends that is this shell script, with two seconds to live and one second of silence.
    fn end_of(script: &str) -> Result<()> {
        let limits = Limits {
            boot: Duration::from_secs(3),
            life: Duration::from_secs(2),
            silence: Duration::from_secs(1),
        };
        Machine::start(Command::new("sh").args(["-c", script]))?.follow(limits, |_| {})
    }

    #[test]
    fn a_machine_that_is_done_and_ends_has_succeeded() {
        end_of("echo guest: begin x; echo guest: done").unwrap();
        end_of("sleep 2; echo guest: done").unwrap();
    }

    #[test]
    fn waiting_for_a_machine_has_limits() {
        for (script, end) in [
            ("echo guest: begin x", "it ended before its suite did"),
            ("exec sleep 60", "it was not up after 3s"),
            ("echo guest: begin x; exec sleep 60", "it printed nothing for 1s"),
            ("while :; do echo .; sleep 0.1; done", "it was not done after 2s"),
            ("exec yes", "it was not done after 2s"),
            ("echo guest: done; exit 3", "qemu-system-x86_64 failed: exit status: 3"),
        ] {
            assert_eq!(end_of(script).unwrap_err().to_string(), end, "{script}");
        }
    }
}
