//! Inside the guest: the first process, which prepares the system, runs the suite and switches off.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use nix::{
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{exec, workspace};

/// Where the guest finds what it has to run.
pub(super) const SUITE: &str = "/suite.json";

/// The line by which it tells, apart from the console, so that no kernel message tears a line in two.
const REPORT: &str = "/dev/ttyS1";

/// The beginning of lines that are the guest's own.
const MARK: &str = "guest: ";

/// Open vSwitch 3.1 takes a machine that has been up for less than 10 s for one without processors
/// (`lib/ovs-thread.c`, `count_cpu_cores`: the time of the last count starts at zero), and then handles no upcalls.
const UP_LONG_ENOUGH: Duration = Duration::from_secs(11);

/// One test binary to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// Whether its tests make the lab, and so start Open vSwitch.
    pub(super) in_lab: bool,
}

/// What the guest says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A part begins.
    Begin(String),
    /// A part has ended.
    End(String, bool),
    /// All parts have.
    Done,
}

impl Word {
    fn line(&self) -> String {
        match self {
            Self::Begin(name) => format!("{MARK}begin {name}"),
            Self::End(name, true) => format!("{MARK}passed {name}"),
            Self::End(name, false) => format!("{MARK}failed {name}"),
            Self::Done => format!("{MARK}done"),
        }
    }

    /// The guest's word in a line, if it is one.
    pub(super) fn read(line: &str) -> Option<Self> {
        let (what, name) = line
            .strip_prefix(MARK)?
            .split_once(' ')
            .unwrap_or((&line[MARK.len()..], ""));
        match what {
            "begin" => Some(Self::Begin(name.to_owned())),
            "passed" => Some(Self::End(name.to_owned(), true)),
            "failed" => Some(Self::End(name.to_owned(), false)),
            "done" => Some(Self::Done),
            _ => None,
        }
    }
}

/// What a guest does that shall be noticed by those who wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Failure {
    /// The kernel panics: its first process ends.
    Panic,
    /// It says nothing more.
    Silence,
    /// It talks on and on.
    Endless,
}

/// Runs as a guest's first process.
#[derive(Clone, Debug, Args)]
pub struct GuestArguments {
    /// Fail on purpose instead of running the suite.
    #[arg(long, value_enum, value_name = "HOW")]
    fail: Option<Failure>,
}

impl GuestArguments {
    /// Prepares, runs, switches the machine off.
    ///
    /// # Errors
    /// If this is not the first process of a guest; whatever else goes wrong is said on the console.
    pub fn run(&self) -> Result<()> {
        anyhow::ensure!(
            Pid::this().as_raw() == 1 && Path::new(SUITE).exists(),
            "this is for the inside of `cargo xtask test --vm`"
        );
        let outcome = prepare().and_then(|()| match self.fail {
            None => run_suite(&mut report()?),
            Some(failure) => fail(failure, &mut report()?),
        });
        if let Err(error) = outcome {
            println!("{MARK}{error:#}");
        }
        // What is still in the line's buffer comes out before the machine goes.
        let _ = exec::run("sleep", ["0.3"]);
        reboot(RebootMode::RB_POWER_OFF).context("cannot switch off").map(drop)
    }
}

fn prepare() -> Result<()> {
    let mounts = [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("bpf", "/sys/fs/bpf"),
    ];
    for (kind, path) in mounts {
        mount(Some(kind), path, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {path}"))?;
    }
    // devtmpfs brings no links.
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        symlink(target, Path::new("/dev").join(link)).with_context(|| format!("cannot make /dev/{link}"))?;
    }
    nix::unistd::sethostname("guest").context("cannot set the host name")?;
    exec::run("ip", ["link", "set", "lo", "up"])?;
    // Not all of them are loaded by those who need them.
    exec::run("modprobe", ["-a", "tun", "8021q"])?;
    Ok(())
}

/// The line by which to tell, on which the guest has said by now that it is there.
fn report() -> Result<File> {
    let mut report = OpenOptions::new()
        .write(true)
        .open(REPORT)
        .with_context(|| format!("cannot open {REPORT}"))?;
    let release = nix::sys::utsname::uname().context("cannot tell the kernel")?;
    writeln!(
        report,
        "guest is up after {:.1?}: Linux {}",
        uptime()?,
        release.release().display()
    )?;
    Ok(report)
}

fn fail(failure: Failure, report: &mut File) -> Result<()> {
    match failure {
        // Without its first process a kernel panics.
        Failure::Panic => process::exit(1),
        Failure::Silence => loop {
            thread::park();
        },
        Failure::Endless => loop {
            writeln!(report, "guest goes on")?;
        },
    }
}

fn run_suite(report: &mut File) -> Result<()> {
    let text = fs::read(SUITE).with_context(|| format!("cannot read {SUITE}"))?;
    let runs: Vec<Run> = serde_json::from_slice(&text).with_context(|| format!("{SUITE} is damaged"))?;
    for run in runs {
        if run.in_lab {
            thread::sleep(UP_LONG_ENOUGH.saturating_sub(uptime()?));
        }
        writeln!(report, "{}", Word::Begin(run.name.clone()).line())?;
        let output = || -> io::Result<Stdio> { Ok(report.try_clone()?.into()) };
        let status = Command::new(&run.program)
            .args(&run.arguments)
            .env(BUILT, workspace::kstamp_binary())
            .env(PACKETS.0, PACKETS.1)
            .stdin(Stdio::null())
            .stdout(output()?)
            .stderr(output()?)
            .status();
        if let Err(error) = &status {
            writeln!(report, "{}: {error}", run.program.display())?;
        }
        let success = status.is_ok_and(|status| status.success());
        writeln!(report, "{}", Word::End(run.name, success).line())?;
    }
    writeln!(report, "{}", Word::Done.line())?;
    Ok(())
}

/// Names a kstamp that is already built: in a guest there is no cargo.
pub const BUILT: &str = "KSTAMP_BUILT";

/// How many mutated packets the programs get here, where processors are emulated.
const PACKETS: (&str, &str) = ("KSTAMP_PACKETS", "2500");

fn uptime() -> Result<Duration> {
    let text = fs::read_to_string("/proc/uptime").context("cannot read /proc/uptime")?;
    let seconds = text.split(' ').next().and_then(|word| word.parse().ok());
    Ok(Duration::from_secs_f64(seconds.context("/proc/uptime has no number")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_as_it_was_said() {
        for word in [
            Word::Begin("a".into()),
            Word::End("a b".into(), true),
            Word::End("c".into(), false),
            Word::Done,
        ] {
            assert_eq!(Word::read(&word.line()), Some(word));
        }
        for line in ["test a ... ok", "guest: ", "guest: nothing", ""] {
            assert_eq!(Word::read(line), None, "{line}");
        }
    }
}
